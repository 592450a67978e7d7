//! A network namespace, a mount namespace and a BPF file system of a test's own.
//!
//! All three belong to a thread and vanish with it, however the test ends, so that nothing has
//! to be cleaned up and tests do not meet.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use ciliate::host::bpffs;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs `test` in namespaces of its own, with the path of an empty BPF file system.
pub fn isolated<T: Send>(test: impl FnOnce(&Path) -> T + Send) -> T {
    assert!(
        nix::unistd::geteuid().is_root(),
        "needs root: run `sudo -E cargo test -p tests`"
    );
    thread::scope(|scope| scope.spawn(|| inside(test)).join())
        .unwrap_or_else(|panic| resume_unwind(panic))
}

fn inside<T>(test: impl FnOnce(&Path) -> T) -> T {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare the namespaces");
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .expect("keep mounts to this namespace");
    let folder = tempfile::tempdir().expect("make a temporary folder");
    bpffs::mount_on(folder.path()).expect("mount a BPF file system");
    let result = test(folder.path());
    // The folder cannot be removed while something is mounted on it.
    nix::mount::umount2(folder.path(), nix::mount::MntFlags::MNT_DETACH)
        .expect("unmount the BPF file system");
    result
}
