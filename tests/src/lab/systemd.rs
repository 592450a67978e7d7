//! A systemd that is process 1 of a machine of its own, beside the node's namespaces.
//!
//! The machine is namespaces for processes, mounts, control groups and names, with a root of its own
//! on which the real `/usr` is; its network is that of the test's node. The unit is the one that is
//! shipped, but for where the agent is. No bus runs there: `systemctl` speaks with systemd itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount, umount};

use super::machine::Machine;
use super::namespace::Outcome;
use super::node::OneNode;
use super::{agent, wait_until};

const NOTHING: Option<&str> = None;

/// Where the agent is in the machine: `/usr` is not ours to write.
const AGENT: &str = "/opt/ciliate";

/// Makes the root, and becomes systemd; the environment says where what is.
const BOOT: &str = r#"set -e
mount -t tmpfs tmpfs "$ROOT"
cd "$ROOT"
mkdir -p proc sys dev run tmp usr opt old root var/log var/tmp etc/systemd/system etc/systemd/network etc/iproute2 etc/ciliate
for folder in bin sbin lib lib64; do ln -s usr/$folder $folder; done
mount --bind /usr usr
cp /etc/passwd /etc/group /etc/ld.so.cache etc/
cp -a /etc/alternatives /etc/iproute2 etc/
: > etc/machine-id
touch opt/ciliate; mount --bind "$BINARY" opt/ciliate
cp "$UNIT" etc/systemd/system/ciliate.service
mount --bind "$CONFIG" etc/ciliate
printf '[Unit]\nWants=systemd-journald.service\n' > etc/systemd/system/test.target
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run; mkdir run/netns
for place in /run/netns/*; do
  touch "run/netns/${place##*/}"
  mount --bind "$place" "run/netns/${place##*/}"
done
mount -t tmpfs tmpfs dev
mkdir dev/pts dev/shm; mount -t devpts devpts dev/pts; ln -s pts/ptmx dev/ptmx
for device in null zero full random urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
touch dev/console; mount --bind /dev/null dev/console
pivot_root . old
umount -l /old
export container=other
exec /lib/systemd/systemd --unit=test.target --show-status=no
"#;

/// Is a machine on which systemd runs; it ends with this value.
#[derive(Debug)]
pub struct Booted {
    outer: Child,
    /// The process that is number 1 in the machine.
    first: u32,
    groups: PathBuf,
    own_group: PathBuf,
}

impl Booted {
    /// Starts systemd on the machine of a node, whose file is `/etc/ciliate/ciliate.toml` there.
    pub fn new(net: &OneNode) -> Self {
        let machine = &net.machine;
        let [root, groups, config] = ["root", "groups", "config"].map(|name| {
            let folder = machine.folder.join(name);
            fs::create_dir(&folder).expect("make a folder");
            folder
        });
        let unit = unit(machine);
        fs::copy(&net.file, config.join("ciliate.toml")).expect("copy the file");
        let kind = Some("cgroup2");
        mount(kind, &groups, kind, MsFlags::empty(), NOTHING).expect("mount control groups");
        let own_group = groups.join(format!("ciliate-test-{}", nix::unistd::gettid()));
        fs::create_dir(&own_group).expect("make a control group");

        let mut command = Command::new("sh");
        let isolate = "echo $$ > \"$GROUP/cgroup.procs\" && exec unshare --mount --pid --fork \
                       --kill-child --uts --ipc --cgroup sh -c \"$BOOT\"";
        command
            .args(["-c", isolate])
            .env("BOOT", BOOT)
            .env("ROOT", &root)
            .env("BINARY", agent::binary())
            .env("UNIT", unit)
            .env("CONFIG", &config)
            .env("GROUP", &own_group)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let outer = net.host.inside(|| command.spawn()).expect("start systemd");
        let mut booted = Self {
            outer,
            first: 0,
            groups,
            own_group,
        };
        wait_until("systemd runs", || booted.find_first());
        wait_until("systemd answers", || {
            booted.systemctl("is-active test.target").stdout == "active\n"
        });
        booted
    }

    /// Runs a command on the machine.
    pub fn run(&self, line: &str) -> Outcome {
        let first = self.first.to_string();
        let mut command = Command::new("nsenter");
        command.args([
            "-t", &first, "-m", "-p", "-n", "-u", "-i", "-C", "sh", "-c", line,
        ]);
        super::namespace::Namespace::own().execute(&mut command)
    }

    /// Runs `systemctl`.
    pub fn systemctl(&self, arguments: &str) -> Outcome {
        self.run(&format!("systemctl --no-pager {arguments}"))
    }

    /// Asks for a property of the agent's unit.
    pub fn property(&self, name: &str) -> String {
        let shown = self.systemctl(&format!("show --value --property={name} ciliate"));
        shown.stdout.trim().to_owned()
    }

    /// Replaces the file of the node.
    pub fn write(&self, net: &OneNode, text: &str) {
        let file = net.machine.folder.join("config/ciliate.toml");
        fs::write(file, text).expect("write the file");
    }

    fn find_first(&mut self) -> bool {
        let outer = self.outer.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
        let child = children.ok().and_then(|text| text.trim().parse().ok());
        let Some(child) = child else { return false };
        self.first = child;
        fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name == "systemd\n")
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // The first process goes with it, and everything else with that.
        drop(self.outer.kill());
        drop(self.outer.wait());
        wait_until("the control groups are empty", || remove(&self.own_group));
        // A process that ends holds its mounts for a moment.
        wait_until("control groups are unmounted", || {
            umount(&self.groups).is_ok()
        });
    }
}

/// Writes the unit that is shipped with the place of the agent.
fn unit(machine: &Machine) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/systemd/ciliate.service");
    let text = fs::read_to_string(shipped).expect("the unit is there");
    let logs = "[Service]\nStandardError=append:/run/agent.log";
    let text = text
        .replace("/usr/bin/ciliate", AGENT)
        .replace("[Service]", logs);
    machine.write("ciliate.service", &text)
}

/// Removes a control group with those below it; tells whether it is gone.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
