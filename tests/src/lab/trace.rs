//! The system calls of the agent, judged: did it change anything?
//!
//! strace(1) writes one file for each thread, so that no line is interrupted by another. A call
//! that failed changed nothing; of the others, those that can change something must be of the
//! few that only read: netlink messages that ask (`RTM_GET*` and its like of nftables and IPsec),
//! and bpf commands that get, look up or query.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::agent;
use super::namespace::{Namespace, Outcome};
use super::wait_until;

/// Where the traces of a run are, in the test's folder.
const FOLDER: &str = "trace";

/// Calls that change something whatever their arguments are.
const CHANGING: [&str; 33] = [
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "creat",
    "truncate",
    "ftruncate",
    "fallocate",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "fchownat",
    "utimensat",
    "setxattr",
    "fsetxattr",
    "mount",
    "umount2",
    "move_mount",
    "sethostname",
    "init_module",
    "fsync",
];

/// bpf(2) commands that only read.
const READING: [&str; 11] = [
    "BPF_MAP_LOOKUP_ELEM",
    "BPF_MAP_GET_NEXT_KEY",
    "BPF_MAP_LOOKUP_BATCH",
    "BPF_OBJ_GET",
    "BPF_OBJ_GET_INFO_BY_FD",
    "BPF_PROG_QUERY",
    "BPF_PROG_GET_FD_BY_ID",
    "BPF_MAP_GET_FD_BY_ID",
    "BPF_LINK_GET_FD_BY_ID",
    "BPF_PROG_GET_NEXT_ID",
    "BPF_LINK_GET_NEXT_ID",
];

/// Messages that only ask, as numbers: of nftables (`linux/netfilter/nf_tables.h`: the subsystem, and
/// GETTABLE, GETCHAIN, GETRULE, GETSET, GETSETELEM, GETGEN), and of IPsec (`linux/xfrm.h`: GETSA,
/// GETPOLICY, GETSPDINFO).
const ASKING_NETFILTER: [u16; 6] = [0xa01, 0xa04, 0xa07, 0xa0a, 0xa0d, 0xa10];
const ASKING_XFRM: [u16; 3] = [0x12, 0x15, 0x25];

/// Knows sockets that are not of rtnetlink, by how strace names them.
#[derive(Debug, Default)]
struct Sockets {
    netfilter: BTreeSet<String>,
    xfrm: BTreeSet<String>,
}

/// Runs the agent under strace and returns how it ended, with every call that changed something.
pub fn changes_of(place: &Namespace, folder: &Path, line: &str) -> (Outcome, Vec<String>) {
    let outcome = place.execute(&mut traced(folder, line));
    (outcome, changes(folder))
}

/// Returns the agent under strace, which stays in the background: the process is the agent itself.
pub fn traced(folder: &Path, line: &str) -> Command {
    let folder = folder.join(FOLDER);
    drop(fs::remove_dir_all(&folder));
    fs::create_dir(&folder).expect("make a folder for the trace");
    let mut command = Command::new("strace");
    command
        .args(["-D", "-ff", "-y", "-s", "256", "-v", "-o"])
        .arg(folder.join("thread"))
        .arg(agent::binary())
        .args(line.split_whitespace());
    command
}

/// Returns every call that changed something, of an agent that has ended.
pub fn changes(folder: &Path) -> Vec<String> {
    let folder = folder.join(FOLDER);
    wait_until("strace has seen the end", || {
        texts(&folder).iter().all(|text| text.contains("+++ "))
    });
    let texts = texts(&folder);
    let lines = || texts.iter().flat_map(|text| text.lines());
    assert!(
        lines().count() > 50,
        "strace should have seen the agent at work"
    );
    let sockets = Sockets::of(lines());
    let changes = lines().filter(|line| is_change(line, &sockets));
    changes.map(str::to_owned).collect()
}

/// Returns the name of every system call that succeeded, of an agent that has ended.
pub fn calls(folder: &Path) -> Vec<String> {
    let folder = folder.join(FOLDER);
    wait_until("strace has seen the end", || {
        texts(&folder).iter().all(|text| text.contains("+++ "))
    });
    let texts = texts(&folder);
    let lines = texts.iter().flat_map(|text| text.lines());
    let succeeded = lines.filter(|line| !line.contains(") = -1 "));
    let calls = succeeded.filter_map(|line| Some(line.split_once('(')?.0.to_owned()));
    calls.collect()
}

/// Returns the traces of all threads.
fn texts(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).expect("list the traces") {
        let text = fs::read(entry.expect("list the traces").path()).expect("read a trace");
        texts.push(String::from_utf8_lossy(&text).into_owned());
    }
    texts
}

impl Sockets {
    /// Finds them where they are opened.
    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut sockets = Self::default();
        for line in lines.filter(|line| line.starts_with("socket(AF_NETLINK")) {
            let name = name(line.rsplit_once(" = ").map_or("", |(_, result)| result));
            if line.contains("NETLINK_NETFILTER") {
                sockets.netfilter.insert(name);
            } else if line.contains("NETLINK_XFRM") {
                sockets.xfrm.insert(name);
            }
        }
        sockets
    }
}

/// Returns the name behind a descriptor: `socket:[5]` of `3<socket:[5]>`.
fn name(descriptor: &str) -> String {
    let name = descriptor.split(['<', '>']).nth(1);
    name.unwrap_or_default().to_owned()
}

fn is_change(line: &str, sockets: &Sockets) -> bool {
    let Some((call, arguments)) = line.split_once('(') else {
        return false;
    };
    if arguments
        .rsplit_once(" = ")
        .is_some_and(|(_, result)| result.starts_with('-'))
    {
        return false;
    }
    match call {
        "open" | "openat" | "openat2" => ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"]
            .iter()
            .any(|flag| arguments.contains(flag)),
        "write" | "writev" | "pwrite64" | "pwritev" => !["1<", "2<"]
            .iter()
            .any(|output| arguments.starts_with(output)),
        "sendto" | "sendmsg" | "sendmmsg" => !is_question(arguments, sockets),
        "bpf" => !READING
            .iter()
            .any(|command| arguments.starts_with(&format!("{command},"))),
        "ioctl" => arguments.contains("SIOCS"),
        _ => CHANGING.contains(&call),
    }
}

/// Tells whether all netlink messages of a call ask for something.
fn is_question(arguments: &str, sockets: &Sockets) -> bool {
    let mut kinds = arguments.split("nlmsg_type=").skip(1).peekable();
    let name = name(arguments);
    let asks = |kind: &str| {
        if sockets.netfilter.contains(&name) {
            number(kind).is_some_and(|number| ASKING_NETFILTER.contains(&number))
        } else if sockets.xfrm.contains(&name) {
            number(kind).is_some_and(|number| ASKING_XFRM.contains(&number))
        } else {
            is_get(kind)
        }
    };
    kinds.peek().is_some() && kinds.all(asks)
}

/// Tells whether a kind of message is `RTM_GET*`. Where strace cannot tell the protocol of a
/// socket it shows a number: of each four in a row from 16 on, the third asks (rtnetlink(7)).
fn is_get(kind: &str) -> bool {
    let is_asking = |number| number >= 16 && number % 4 == 2;
    kind.starts_with("RTM_GET") || number(kind).is_some_and(is_asking)
}

/// Returns the number that a kind of message is shown as.
fn number(kind: &str) -> Option<u16> {
    let digits = kind.strip_prefix("0x")?;
    let end = digits.find(|digit: char| !digit.is_ascii_hexdigit());
    u16::from_str_radix(&digits[..end.unwrap_or(digits.len())], 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{Sockets, is_change};

    /// Opens a socket of each protocol.
    fn sockets() -> Sockets {
        let lines = [
            "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 3<socket:[5]>",
            "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_NETFILTER) = 4<socket:[6]>",
            "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_XFRM) = 4<socket:[7]>",
        ];
        Sockets::of(lines.into_iter())
    }

    #[test]
    fn questions_are_no_changes() {
        for line in [
            r#"openat(AT_FDCWD, "/run/ciliate/edge-1/lock", O_RDONLY|O_CLOEXEC) = 3</run/x>"#,
            r#"mkdir("/run/ciliate", 0777) = -1 EEXIST (File exists)"#,
            r#"write(1<pipe:[5]>, "Nothing", 7) = 7"#,
            r"sendto(3<NETLINK:[5]>, [{nlmsg_len=40, nlmsg_type=RTM_GETLINK, nlmsg_flags=0}], 40, 0, NULL, 0) = 40",
            r"sendto(3<socket:[5]>, [{nlmsg_len=40, nlmsg_type=0x1a /* ? */, nlmsg_flags=0}], 40, 0, NULL, 0) = 40",
            r"sendto(4<socket:[6]>, [{nlmsg_len=20, nlmsg_type=0xa04 /* ? */, nlmsg_flags=0}], 20, 0, NULL, 0) = 20",
            r"sendto(4<socket:[7]>, [{nlmsg_len=80, nlmsg_type=0x15 /* ? */, nlmsg_flags=0}], 80, 0, NULL, 0) = 80",
            r#"bpf(BPF_OBJ_GET, {pathname="/sys/fs/bpf/x"}, 168) = 4"#,
        ] {
            assert!(!is_change(line, &sockets()), "{line}");
        }
    }

    #[test]
    fn whatever_writes_is_a_change() {
        for line in [
            r#"openat(AT_FDCWD, "/proc/sys/net/x", O_WRONLY|O_CLOEXEC) = 3</proc/sys/net/x>"#,
            r#"mkdir("/run/ciliate", 0777) = 0"#,
            r#"write(5</run/ciliate/x>, "Nothing", 7) = 7"#,
            r"sendto(3<NETLINK:[5]>, [{nlmsg_len=40, nlmsg_type=RTM_NEWLINK, nlmsg_flags=0}], 40, 0, NULL, 0) = 40",
            r"sendto(3<socket:[5]>, [{nlmsg_len=40, nlmsg_type=0x19 /* ? */, nlmsg_flags=0}], 40, 0, NULL, 0) = 40",
            r"sendto(3<socket:[5]>, [{nlmsg_len=80, nlmsg_type=0x15 /* ? */, nlmsg_flags=0}], 80, 0, NULL, 0) = 80",
            r"sendto(4<socket:[6]>, [{nlmsg_len=20, nlmsg_type=0xa06 /* ? */, nlmsg_flags=0}], 20, 0, NULL, 0) = 20",
            r"sendto(4<socket:[7]>, [{nlmsg_len=80, nlmsg_type=0x13 /* ? */, nlmsg_flags=0}], 80, 0, NULL, 0) = 80",
            r"bpf(BPF_MAP_UPDATE_ELEM, {map_fd=4}, 168) = 0",
        ] {
            assert!(is_change(line, &sockets()), "{line}");
        }
    }
}
