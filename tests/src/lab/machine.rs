//! A machine of a test's own: network and mounts in which nobody else is.
//!
//! Both namespaces belong to the calling thread and what it starts, and vanish with them, however
//! the test ends. `/run` is an empty file system, and so is `/sys/fs/bpf`; everything else is the
//! real machine's. Where tests share a thread, each leaves its predecessor's machine.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::namespace::Namespace;

/// Where BPF objects are pinned.
pub const BPFFS: &str = "/sys/fs/bpf";

const NOTHING: Option<&str> = None;

/// Is where a test works.
#[derive(Debug)]
pub struct Machine {
    /// For files of the test.
    pub folder: PathBuf,
    /// The machine's own network namespace.
    pub own: Namespace,
}

impl Machine {
    /// Moves the calling thread into a new machine.
    #[expect(
        clippy::new_without_default,
        reason = "it changes the thread that calls it"
    )]
    pub fn new() -> Self {
        let machine = Self::without_bpffs();
        mount(Some("test"), BPFFS, Some("bpf"), MsFlags::empty(), NOTHING)
            .expect("mount a BPF file system");
        machine
    }

    /// Moves the calling thread into a new machine on which nobody has mounted a BPF file system.
    pub fn without_bpffs() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "needs root: run `cargo xtask test`, or `sudo -E cargo test -p tests`"
        );
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare namespaces");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NOTHING, "/", NOTHING, private, NOTHING).expect("keep mounts to this namespace");
        unmount_names();
        mount(
            Some("test"),
            "/run",
            Some("tmpfs"),
            MsFlags::empty(),
            NOTHING,
        )
        .expect("mount /run");
        while is_bpffs() {
            umount2(BPFFS, MntFlags::MNT_DETACH).expect("unmount the machine's BPF file system");
        }
        let folder = PathBuf::from("/run/test");
        fs::create_dir(&folder).expect("make a folder for the test");
        let own = Namespace::own();
        own.run("ip link set lo up");
        Self { folder, own }
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("write a file of the test");
        path
    }
}

/// Unmounts the real machine's namespaces in this one: else they would vanish from its table of
/// mounts whenever their owner deletes them.
fn unmount_names() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        // A name that went meanwhile, or on which nothing is mounted, is no obstacle.
        let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
    }
}

fn is_bpffs() -> bool {
    statfs(Path::new(BPFFS)).is_ok_and(|status| status.filesystem_type() == BPF_FS_MAGIC)
}
