//! What happens inside the guest: the modules it loads, the commands it runs, and the verdict.
//!
//! Commands are lines for busybox's shell, run one after the other by `init.sh`; one that fails does
//! not keep the next from running. Namespaces are entered with `nsenter`, for busybox's `ip` knows
//! none.

use anyhow::Result;

use crate::demo::Lab;
use crate::test::Tally;

/// Modules that a host has loaded or loads on demand; what they depend on comes along.
pub(super) const MODULES: [&str; 6] = [
    "veth",
    "bridge",
    "sch_ingress",
    "cls_bpf",
    "ipv6",
    "af_packet",
];

/// Test files of package `tests` that need no other program.
pub(super) const TESTS: [&str; 2] = ["packet_table", "verifier"];

/// Port of the transfer.
const PORT: u16 = 5201;

/// An address that no endpoint has (RFC 5737).
const FOREIGN: &str = "192.0.2.66";

/// One shell command in the guest.
pub(super) struct Command {
    pub(super) name: String,
    pub(super) shell: String,
}

impl Command {
    pub(super) fn new(name: &str, shell: &str) -> Self {
        Self {
            name: name.to_owned(),
            shell: shell.to_owned(),
        }
    }
}

/// Proves that the guest itself is sound, before anything of ours runs.
pub(super) fn kernel_commands() -> Vec<Command> {
    vec![
        Command::new("namespaces", "unshare -n nsenter --net=/proc/1/ns/net true"),
        Command::new("bpffs", "grep -q ' /sys/fs/bpf bpf ' /proc/mounts"),
    ]
}

/// The test programs, one test at a time: a guest has little of everything.
pub(super) fn test_commands() -> Vec<Command> {
    TESTS
        .iter()
        .map(|name| Command::new(name, &format!("/tests/{name} --test-threads=1")))
        .collect()
}

/// The demo's way through the lab, with busybox's tools.
pub(super) fn lab_commands(lab: &Lab) -> Result<Vec<Command>> {
    let (one, other) = lab.first_two()?;
    let node = &lab.node;
    let inside = |netns: &str| format!("nsenter --net=/run/netns/{netns}");
    let (sender, receiver) = (inside(&one.netns), inside(&other.netns));
    let address = |family: &str| {
        let show = format!("{receiver} ip -{family} -o address show dev eth0 scope global");
        format!("$({show} | sed -e 's/.*inet6* //' -e 's/[/ ].*//')")
    };
    let ping = |from: &str, family: &str| {
        let program = if family == "6" { "ping6" } else { "ping" };
        format!("{} {program} -c 3 -W 5 {}", inside(from), address(family))
    };
    // busybox's nc ends as soon as either side has nothing to say; the sleeps keep both talking.
    let transfer = format!(
        "dd if=/dev/urandom of=/tmp/sent bs=1M count=4 2>/dev/null; \
         sleep 5 | {receiver} nc -l -p {PORT} > /tmp/got & \
         sleep 1; (cat /tmp/sent; sleep 2) | {sender} nc {} {PORT}; wait; \
         cmp /tmp/sent /tmp/got",
        address("4")
    );
    let spoof = format!(
        "{sender} ip address add {FOREIGN}/32 dev eth0; \
         ! {sender} ping -c 1 -W 1 -I {FOREIGN} {} && \
         {sender} ip address del {FOREIGN}/32 dev eth0",
        address("4")
    );
    let status = format!("ciliate --node {node} status");
    Ok(vec![
        Command::new("lab up", "ciliate lab up /lab.toml"),
        Command::new("endpoint to endpoint, IPv4", &ping(&one.netns, "4")),
        Command::new("endpoint to endpoint, IPv6", &ping(&one.netns, "6")),
        Command::new("host to endpoint, IPv4", &ping(node, "4")),
        Command::new("host to endpoint, IPv6", &ping(node, "6")),
        Command::new("TCP transfer", &transfer),
        Command::new("a foreign source gets no answer", &spoof),
        Command::new("status", &status),
        Command::new(
            "the foreign source is counted",
            &format!("{status} | grep -q 'Invalid source ip'"),
        ),
        Command::new(
            "host routing is bpf",
            &format!(
                "{status} --json | tr -d ' \\n' | grep -q '\"host_routing\":{{[^}}]*\"mode\":\"bpf\"'"
            ),
        ),
        Command::new("flows", &format!("ciliate --node {node} flows")),
        Command::new("lab down", "ciliate lab down /lab.toml"),
        Command::new(
            "nothing is left behind",
            "test -z \"$(find /run/netns /run/ciliate /sys/fs/bpf -mindepth 1 2>/dev/null)\"",
        ),
        Command::new(
            "no link is left behind",
            "test \"$(ls /sys/class/net)\" = lo",
        ),
    ])
}

/// Compares the exit codes with the commands; one without a code has failed too.
pub(super) fn judge(commands: &[Command], results: &[(String, i32)]) -> Tally {
    let mut tally = Tally::default();
    for command in commands {
        let code = results
            .iter()
            .find(|(name, _)| *name == command.name)
            .map(|(_, code)| *code);
        let verdict = match code {
            Some(0) => "ok".to_owned(),
            Some(code) => format!("FAILED: exit code {code}"),
            None => "FAILED: never ended".to_owned(),
        };
        println!("guest: {} ... {verdict}", command.name);
        if code == Some(0) {
            tally.passed += 1;
        } else {
            tally.failed += 1;
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_without_an_exit_code_has_failed() {
        let commands = [
            Command::new("one", "true"),
            Command::new("two", "false"),
            Command::new("three", "true"),
        ];

        let tally = judge(&commands, &[("one".to_owned(), 0), ("two".to_owned(), 1)]);

        assert_eq!((tally.passed, tally.failed), (1, 2));
    }
}
