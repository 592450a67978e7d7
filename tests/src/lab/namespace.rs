//! Named network namespaces, and commands and sockets inside them.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use ciliate::host::netns::in_netns;

/// Is a network namespace: a named one, or the one of the calling thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: Option<String>,
}

/// Is how a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub command: String,
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Namespace {
    /// Stands for the namespace of the calling thread.
    pub fn own() -> Self {
        Self { name: None }
    }

    /// Makes a namespace as an operator would, with `lo` up.
    pub fn add(name: &str) -> Self {
        Self::own().run(&format!("ip netns add {name}"));
        let added = Self::named(name);
        added.run("ip link set lo up");
        added
    }

    /// Stands for a namespace that is there.
    pub fn named(name: &str) -> Self {
        let name = Some(name.to_owned());
        Self { name }
    }

    /// Returns the file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        match &self.name {
            Some(name) => PathBuf::from("/run/netns").join(name),
            None => PathBuf::from("/proc/thread-self/ns/net"),
        }
    }

    /// Runs `work` inside; sockets that it opens stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if self.name.is_none() {
            return work();
        }
        let path = self.path();
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        in_netns(file, work).expect("enter a namespace")
    }

    /// Runs a command line (words are separated by blanks), which must succeed; returns what it
    /// printed.
    pub fn run(&self, line: &str) -> String {
        let outcome = self.attempt(line);
        assert_eq!(outcome.code, Some(0), "should succeed: {outcome:#?}");
        outcome.stdout
    }

    /// Runs a command line, which may fail.
    pub fn attempt(&self, line: &str) -> Outcome {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a command has words"));
        command.args(words);
        self.execute(&mut command)
    }

    /// Runs a command.
    pub fn execute(&self, command: &mut Command) -> Outcome {
        let Output {
            status,
            stdout,
            stderr,
        } = self
            .inside(|| command.stdin(Stdio::null()).output())
            .unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        Outcome {
            command: format!("{command:?}"),
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Reads a sysctl by its path below `/proc/sys`.
    pub fn sysctl(&self, path: &str) -> String {
        let file = format!("/proc/sys/{path}");
        let text = self.inside(|| fs::read_to_string(&file));
        text.unwrap_or_else(|error| panic!("read {file}: {error}"))
            .trim()
            .to_owned()
    }

    /// Writes a sysctl.
    pub fn set_sysctl(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/{path}");
        let result = self.inside(|| fs::write(&file, value));
        result.unwrap_or_else(|error| panic!("write {file}: {error}"));
    }

    /// Returns the index of a link.
    pub fn ifindex(&self, link: &str) -> u32 {
        let link = link.to_owned();
        self.inside(move || nix::net::if_::if_nametoindex(link.as_str()))
            .expect("find a link")
    }

    /// Returns the Ethernet address of a link.
    pub fn mac(&self, link: &str) -> [u8; 6] {
        let text = self.run(&format!("ip -o link show dev {link}"));
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "link/ether");
        let mac = words.nth(1).expect("the link has an Ethernet address");
        let mut bytes = [0; 6];
        for (byte, digits) in bytes.iter_mut().zip(mac.split(':')) {
            *byte = u8::from_str_radix(digits, 16).expect("two digits");
        }
        bytes
    }
}
