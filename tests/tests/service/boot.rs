//! The agent as a child of the first process of a machine that has next to nothing.
//!
//! The machine is namespaces for processes, mounts and network, with a root of its own: the agent, its
//! libraries, busybox and the file. busybox's `init` is process 1 and reads the `inittab` that is
//! shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::lab::agent;
use tests::lab::machine::Machine;
use tests::lab::namespace::Namespace;
use tests::lab::node::answers;
use tests::lab::wait_until;

/// A node with one endpoint, whose namespace is a file of the machine.
const FILE: &str = r#"
[[node]]
name = "edge-1"
ipv4 = "10.0.1.0/24"

[[endpoint]]
name = "web"
ipv4 = "10.0.1.10"
netns = "/ns/web"
"#;

/// Is a machine with a root of its own.
struct Bare {
    machine: Machine,
    web: Namespace,
    root: PathBuf,
}

impl Bare {
    fn new() -> Self {
        let machine = Machine::without_bpffs();
        let web = Namespace::add("web");
        let root = machine.folder.join("root");
        for folder in [
            "bin",
            "dev",
            "etc/ciliate",
            "lib",
            "lib64",
            "ns",
            "proc",
            "run",
            "sys",
            "usr/bin",
            "usr/lib",
        ] {
            fs::create_dir_all(root.join(folder)).expect("make a folder");
        }
        for file in [
            "dev/null",
            "dev/console",
            "ns/web",
            "bin/busybox",
            "usr/bin/ciliate",
        ] {
            fs::write(root.join(file), "").expect("make a file");
        }
        fs::write(root.join("etc/ciliate/ciliate.toml"), FILE).expect("write the file");
        let inittab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/init/busybox/inittab");
        fs::copy(inittab, root.join("etc/inittab")).expect("copy the inittab");
        std::os::unix::fs::symlink("busybox", root.join("bin/mount")).expect("make a link");
        Self { machine, web, root }
    }

    /// Runs a command as process 1 of the machine. `before` is done by a shell in its mounts.
    fn boot(&self, before: &str, command: &str) -> Child {
        let root = self.root.display();
        let binary = agent::binary();
        let script = format!(
            "set -e
             mount --rbind {root} {root}
             mount --bind /usr/bin/busybox {root}/bin/busybox
             mount --bind {binary} {root}/usr/bin/ciliate
             mount --bind /usr/lib {root}/usr/lib
             mount --bind /lib {root}/lib
             mount --bind /lib64 {root}/lib64
             mount --bind /dev/null {root}/dev/null
             mount --bind /dev/null {root}/dev/console
             mount --bind /run/netns/web {root}/ns/web
             {before}
             cd {root}
             exec chroot {root} {command}",
            binary = binary.display(),
        );
        let mut unshare = Command::new("unshare");
        unshare
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                &script,
            ])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null());
        self.machine
            .own
            .inside(|| unshare.spawn())
            .expect("start the machine")
    }

    /// Runs the agent as the only process, and returns its exit code with what it said.
    fn run(&self, before: &str, arguments: &str) -> (Option<i32>, String) {
        let log = self.machine.folder.join("said");
        let command = format!("/usr/bin/ciliate run {arguments} 2>{}", log.display());
        let mut child = self.boot(before, &command);
        let code = child.wait().expect("wait for the machine").code();
        (code, fs::read_to_string(log).expect("read what was said"))
    }

    fn expect_traffic(&self) {
        let web = "10.0.1.10".parse().expect("an address");
        wait_until("the endpoint answers", || answers(&self.machine.own, web));
    }
}

/// Ends the machine with all of its processes.
struct Running(Child);

impl Running {
    /// Finds the agent among the descendants.
    fn agent(&self) -> Option<Pid> {
        let mut found = vec![self.0.id().to_string()];
        while let Some(process) = found.pop() {
            let proc = PathBuf::from(format!("/proc/{process}"));
            if fs::read_to_string(proc.join("comm")).ok()?.trim() == "ciliate" {
                return process.parse().ok().map(Pid::from_raw);
            }
            let children = proc.join(format!("task/{process}/children"));
            let children = fs::read_to_string(children).ok()?;
            found.extend(children.split_whitespace().map(str::to_owned));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn busybox_init_starts_the_agent_on_a_read_only_root() {
    let bare = Bare::new();

    let _running = Running(bare.boot(
        &format!("mount -o remount,bind,ro {}", bare.root.display()),
        "/bin/busybox init",
    ));

    bare.expect_traffic();
    assert!(!bare.root.join("etc/machine-id").exists());
}

#[test]
fn agent_that_ends_is_started_again_by_busybox_init() {
    let bare = Bare::new();
    let running = Running(bare.boot("", "/bin/busybox init"));
    bare.expect_traffic();
    let first = running.agent().expect("the agent runs");

    kill(first, Signal::SIGKILL).expect("kill the agent");

    wait_until("another agent runs", || {
        running.agent().is_some_and(|agent| agent != first)
    });
    bare.web.run("ip link del eth0");
    bare.expect_traffic();
}

#[test]
fn agent_without_output_and_without_run_makes_its_folder() {
    let bare = Bare::new();
    fs::remove_dir(bare.root.join("run")).expect("remove /run");
    let root = bare.root.display();
    let before = format!("mount -t proc proc {root}/proc; mount -t sysfs sysfs {root}/sys");

    let _running = Running(bare.boot(&before, "/usr/bin/ciliate run <&- >&- 2>&-"));

    bare.expect_traffic();
    let state = bare.root.join("run/ciliate/edge-1/state.json");
    wait_until("the state is written", || state.exists());
}

#[test]
fn state_folder_that_cannot_be_made_is_told_with_what_to_do() {
    let bare = Bare::new();
    let root = bare.root.display();
    let before = format!(
        "mount -t proc proc {root}/proc; mount -t sysfs sysfs {root}/sys; mount -o remount,bind,ro {root}"
    );

    let (code, said) = bare.run(&before, "");

    assert_eq!(code, Some(71), "{said}");
    assert!(said.contains("create /run/ciliate/edge-1"), "{said}");
    assert!(said.contains("mount a tmpfs on /run"), "{said}");
    assert!(said.contains("--state-dir"), "{said}");
}

#[test]
fn missing_sys_is_told_with_what_to_do() {
    let bare = Bare::new();
    let root = bare.root.display();
    let before = format!(
        "mount -t proc proc {root}/proc; mount -t tmpfs tmpfs {root}/run; mount -o remount,bind,ro {root}"
    );

    let (code, said) = bare.run(&before, "");

    assert_eq!(code, Some(71), "{said}");
    assert!(said.contains("/sys/fs/bpf"), "{said}");
    assert!(said.contains("mount /sys"), "{said}");
}
