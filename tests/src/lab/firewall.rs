//! The firewalls that machines have, each as its own programs set it up.
//!
//! All of them drop what is forwarded and what they do not know. They work on the machine of a
//! test: their files are copies there, and `/run` is the test's own.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::machine::Machine;
use super::wait_until;

/// The bus by which `firewall-cmd` speaks to `firewalld`: everybody may do everything.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
 <type>system</type>
 <listen>unix:path=/run/dbus/system_bus_socket</listen>
 <auth>EXTERNAL</auth>
 <policy context="default">
  <allow user="*"/>
  <allow own="*"/>
  <allow send_type="method_call"/>
  <allow send_type="method_return"/>
  <allow send_type="signal"/>
  <allow send_type="error"/>
  <allow receive_type="method_call"/>
  <allow receive_type="method_return"/>
  <allow receive_type="signal"/>
  <allow receive_type="error"/>
 </policy>
</busconfig>
"#;

/// Names a firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of nftables, as people write them.
    Nftables,
    /// The chains of Docker, by the `iptables` that stores its rules in nftables.
    Docker,
    /// The same by the old one.
    LegacyDocker,
    Ufw,
    Firewalld,
}

/// Is a firewall at work; its programs end with it.
#[derive(Debug)]
pub struct Firewall {
    programs: Vec<Child>,
}

impl Kind {
    /// Sets the firewall up on a machine.
    pub fn start(self, machine: &Machine) -> Firewall {
        let mut firewall = Firewall {
            programs: Vec::new(),
        };
        match self {
            Self::Nftables => nftables(machine),
            Self::Docker => docker(machine, ""),
            Self::LegacyDocker => docker(machine, "-legacy"),
            Self::Ufw => ufw(machine),
            Self::Firewalld => firewall.firewalld(machine),
        }
        firewall
    }
}

impl Firewall {
    fn firewalld(&mut self, machine: &Machine) {
        own_copy(machine, "/etc/firewalld");
        fs::create_dir_all("/run/dbus").expect("make a folder");
        let bus = machine.write("bus.conf", BUS);
        let bus = format!("--config-file={}", bus.display());
        self.spawn("dbus-daemon", &[&bus, "--nofork"]);
        wait_until("the bus is there", || {
            fs::exists("/run/dbus/system_bus_socket").unwrap_or_default()
        });
        self.spawn("firewalld", &["--nofork", "--nopid"]);
        wait_until("firewalld answers", || {
            machine.own.attempt("firewall-cmd --state").code == Some(0)
        });
    }

    fn spawn(&mut self, program: &str, options: &[&str]) {
        let mut command = Command::new(program);
        let quiet = command.args(options).stdin(Stdio::null());
        let quiet = quiet.stdout(Stdio::null()).stderr(Stdio::null());
        let child = quiet.spawn().expect("start a program of the firewall");
        self.programs.push(child);
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        for program in self.programs.iter_mut().rev() {
            // One that has ended is what is wanted.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

fn nftables(machine: &Machine) {
    let file = machine.write(
        "closed.nft",
        "table inet filter {
 chain forward {
  type filter hook forward priority 0; policy drop
  ct state established,related accept
 }
}
",
    );
    machine.own.run(&format!("nft -f {}", file.display()));
}

/// What Docker 28 does to the table `filter`; only IPv4 has a chain for rules of others here.
fn docker(machine: &Machine, flavour: &str) {
    for rule in [
        "-P FORWARD DROP",
        "-N DOCKER-USER",
        "-N DOCKER-FORWARD",
        "-N DOCKER-CT",
        "-N DOCKER",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j DOCKER-FORWARD",
        "-A DOCKER-FORWARD -j DOCKER-CT",
        "-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A DOCKER-FORWARD -o docker0 -j DOCKER",
        "-A DOCKER-FORWARD -i docker0 -j ACCEPT",
        "-A DOCKER ! -i docker0 -o docker0 -j DROP",
    ] {
        machine.own.run(&format!("iptables{flavour} {rule}"));
    }
    machine
        .own
        .run(&format!("ip6tables{flavour} -P FORWARD DROP"));
}

fn ufw(machine: &Machine) {
    own_copy(machine, "/etc/ufw");
    own_copy(machine, "/etc/default/ufw");
    machine.own.run("ufw --force enable");
}

/// Puts a copy in the place of a file or a folder, for this machine only.
fn own_copy(machine: &Machine, path: &str) {
    let copy = machine.folder.join(path.replace('/', "_"));
    let copy = copy.display();
    machine.own.run(&format!("cp -a {path} {copy}"));
    machine.own.run(&format!("mount --bind {copy} {path}"));
}
