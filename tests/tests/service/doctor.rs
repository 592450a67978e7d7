//! Each fault that `doctor` looks for, made on a machine of the test's own, found, and cured by the
//! very commands that are told.

use std::fs;
use std::path::Path;
use std::process::Command;

use aya::programs::{LinkOrder, TcAttachType};
use nix::mount::{MsFlags, mount};
use serde_json::Value;
use tests::lab::agent;
use tests::lab::machine::Machine;
use tests::lab::namespace::Outcome;
use tests::lab::node::OneNode;
use tests::lab::outside::Outside;
use tests::lab::program::Counter;

const NOTHING: Option<&str> = None;

/// Is a healthy node, on a machine whose `/etc` is empty.
struct Patient {
    net: Outside,
}

impl Patient {
    fn new() -> Self {
        hide("/etc");
        // As the package of iproute2 makes it.
        fs::create_dir("/etc/iproute2").expect("make a folder");
        let net = Outside::new();
        net.write("bpf");
        let patient = Self { net };
        patient.doctor(&[], 0);
        patient
    }

    fn doctor(&self, options: &[&str], code: i32) -> Outcome {
        let mut command = Command::new(agent::binary());
        command.arg("doctor").arg(&self.net.net.file).args(options);
        let outcome = self.net.net.host.execute(&mut command);
        assert_eq!(outcome.code, Some(code), "{outcome:#?}");
        outcome
    }

    /// Returns the commands for a finding, which must be there and have words that the manual knows.
    fn commands(&self, code: &str, words: &str) -> Vec<String> {
        let told = self.doctor(&["--json"], 1).stdout;
        let told: Value = serde_json::from_str(&told).expect("`--json` prints JSON");
        let findings = told["findings"].as_array().expect("a list").clone();
        let is_wanted = |finding: &&Value| {
            finding["code"] == code
                && finding["text"]
                    .as_str()
                    .is_some_and(|text| text.contains(words))
        };
        let found = findings.iter().find(is_wanted);
        let found = found.unwrap_or_else(|| panic!("{code} {words}: {told:#}"));
        agent::expect(&self.net.net.host, &format!("explain {code}"), 0);
        let commands = found["commands"].as_array().expect("a list");
        let commands = commands.iter().filter_map(Value::as_str);
        commands.map(str::to_owned).collect()
    }

    /// Finds a fault, does what is told, and finds nothing more.
    fn expect_cure(&self, code: &str, words: &str) {
        for command in self.commands(code, words) {
            if command.starts_with("ciliate doctor --fix") {
                self.doctor(&["--fix"], 0);
            } else {
                self.shell(&command);
            }
        }
        self.doctor(&[], 0);
    }

    fn shell(&self, line: &str) {
        let outcome = self
            .net
            .net
            .host
            .execute(Command::new("sh").args(["-c", line]));
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    }
}

/// Mounts an empty file system, for this test alone.
fn hide(path: &str) {
    // The thread may still be in the machine of an earlier test; the fixture that follows moves it.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare mounts");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NOTHING, "/", NOTHING, private, NOTHING).expect("keep mounts to this namespace");
    mount(Some("test"), path, Some("tmpfs"), MsFlags::empty(), NOTHING).expect("mount a tmpfs");
}

fn write(path: &str, text: &str) {
    let path = Path::new(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    fs::write(path, text).expect("write a file");
}

#[test]
fn filter_of_another_program_is_found() {
    let patient = Patient::new();
    patient.shell("tc qdisc add dev up0 clsact");
    patient.shell("tc filter add dev up0 ingress pref 5 u32 match u32 0 0 classid 1:1");

    patient.expect_cure("CIL0312", "a u32 filter on the ingress of up0, pref 5");
}

#[test]
fn tcx_program_of_another_program_is_found_beside_ours() {
    let patient = Patient::new();
    patient.net.net.apply();
    if patient.net.net.status()["devices"][0]["tc"]["kind"] != "tcx" {
        // Kernels before 6.6 have filters there, too: the test above is about those.
        return;
    }
    let mut counter = Counter::new();
    counter
        .program
        .attach_tcx("up0", TcAttachType::Egress, LinkOrder::first());

    let commands = patient.commands("CIL0312", "on the egress of up0");

    assert!(
        commands[0].starts_with("bpftool link detach id "),
        "{commands:?}"
    );
    drop(counter);
    patient.doctor(&[], 0);
}

#[test]
fn filters_of_our_own_are_no_finding() {
    let patient = Patient::new();
    patient.net.net.apply();

    patient.doctor(&[], 0);
}

#[test]
fn networkd_that_configures_our_links_is_found() {
    let patient = Patient::new();
    write("/run/systemd/netif/state", "");
    write(
        "/etc/systemd/network/50-all.network",
        "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n",
    );

    patient.commands("CIL0309", "removes the routes of others");
    patient.expect_cure(
        "CIL0308",
        "configures lxcweb as /etc/systemd/network/50-all.network",
    );
}

#[test]
fn network_manager_that_is_not_told_is_found() {
    let patient = Patient::new();
    fs::create_dir("/run/NetworkManager").expect("make a folder");

    patient.expect_cure("CIL0310", "leave lxcweb alone");
}

#[test]
fn forwarding_that_is_switched_off_at_boot_is_found() {
    let patient = Patient::new();
    write(
        "/etc/sysctl.d/50-hardening.conf",
        "net.ipv4.ip_forward = 0\nkernel.panic = 1\n",
    );

    patient.expect_cure(
        "CIL0311",
        "/etc/sysctl.d/50-hardening.conf sets net.ipv4.ip_forward = 0",
    );

    let left = fs::read_to_string("/etc/sysctl.d/50-hardening.conf").expect("the file");
    assert_eq!(left, "kernel.panic = 1\n");
}

#[test]
fn forwarding_that_this_boot_switches_off_is_overridden() {
    let patient = Patient::new();
    write(
        "/run/sysctl.d/50-vendor.conf",
        "net/ipv6/conf/all/forwarding=0\n",
    );
    fs::create_dir("/etc/sysctl.d").expect("make a folder");

    patient.expect_cure("CIL0311", "sets net.ipv6.conf.all.forwarding = 0");
}

#[test]
fn reverse_path_filter_of_all_links_is_found() {
    let patient = Patient::new();
    write(
        "/run/sysctl.d/50-vendor.conf",
        "net.ipv4.conf.*.rp_filter = 2\n",
    );

    patient.expect_cure("CIL0311", "sets net.ipv4.conf.cilium_host.rp_filter = 2");
}

#[test]
fn missing_bpf_file_system_is_found() {
    hide("/etc");
    let machine = Machine::without_bpffs();
    let node = OneNode::on(machine);
    let line = format!("doctor {}", node.file.display());

    let sick = agent::expect(&node.host, &line, 1).stdout;
    assert!(sick.contains("CIL0315"), "{sick}");
    for command in ["mkdir -p /sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf"] {
        assert!(sick.contains(command), "{sick}");
        node.host.run(command);
    }

    agent::expect(&node.host, &line, 0);
}

#[test]
fn bpf_for_everybody_is_found() {
    let patient = Patient::new();
    let open = patient.net.net.machine.write("open", "0\n");
    let place = "/proc/sys/kernel/unprivileged_bpf_disabled";
    mount(Some(&open), place, NOTHING, MsFlags::MS_BIND, NOTHING).expect("mount the value");

    patient.expect_cure("CIL0317", "unprivileged_bpf_disabled is 0");
}

#[test]
fn lockdown_for_confidentiality_is_told() {
    let patient = Patient::new();
    let place = "/sys/kernel/security";
    mount(
        Some("test"),
        place,
        Some("tmpfs"),
        MsFlags::empty(),
        NOTHING,
    )
    .expect("mount a tmpfs");
    write(
        "/sys/kernel/security/lockdown",
        "none [integrity] confidentiality\n",
    );
    patient.doctor(&[], 0);
    write(
        "/sys/kernel/security/lockdown",
        "none integrity [confidentiality]\n",
    );

    assert!(patient.commands("CIL0314", "locked down").is_empty());
}

#[test]
fn control_group_with_little_memory_is_found() {
    let patient = Patient::new();
    let own = fs::read_to_string("/proc/self/cgroup").expect("read the control group");
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.expect("a control group of version 2");
    let place = "/sys/fs/cgroup";
    mount(
        Some("test"),
        place,
        Some("tmpfs"),
        MsFlags::empty(),
        NOTHING,
    )
    .expect("mount a tmpfs");
    let limit = format!("{place}{own}/memory.max");
    write(&limit, "16777216\n");

    let commands = patient.commands("CIL0316", "allows 16 MiB");

    assert!(commands[0].contains("MemoryMax=128M"), "{commands:?}");
    write(&limit, "134217728\n");
    patient.doctor(&[], 0);
}

#[test]
fn fix_writes_what_is_missing_once_and_keeps_what_somebody_edited() {
    let patient = Patient::new();
    write("/run/systemd/netif/state", "");
    write("/etc/systemd/networkd.conf.d/10-ciliate.conf", "# mine\n");

    let first = patient.doctor(&["--fix"], 1).stdout;
    let second = patient.doctor(&["--fix", "--json"], 1).stdout;

    for told in [
        "Wrote /etc/systemd/network/10-ciliate.network; it counts after `networkctl reload`.",
        "Wrote /etc/sysctl.d/99-ciliate.conf; it counts after `sysctl --system`.",
        "Wrote /etc/iproute2/rt_protos.d/ciliate.conf.",
        "Left /etc/systemd/networkd.conf.d/10-ciliate.conf as it is: somebody edited it.",
        "CIL0309",
    ] {
        assert!(first.contains(told), "{told}: {first}");
    }
    let second: Value = serde_json::from_str(&second).expect("`--json` prints JSON");
    let outcomes = second["fixed"].as_array().expect("a list").iter();
    let outcomes: Vec<_> = outcomes.map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["present", "edited", "present", "present"]);
    let kept = fs::read_to_string("/etc/systemd/networkd.conf.d/10-ciliate.conf");
    assert_eq!(kept.expect("the file"), "# mine\n");
}

#[test]
fn routes_have_our_name_once_it_is_written() {
    let patient = Patient::new();
    patient.doctor(&["--fix"], 0);
    patient.net.net.apply();

    let routes = patient.net.net.host.run("ip route show proto ciliate");

    assert!(routes.contains("10.0.1.0/24"), "{routes}");
}
