//! Namespaces with names, the sysctls of a namespace, and the BPF file system.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ciliate::host::{Executor, Names, Netlink, bpffs, link, named, netns, sysctl};
use ciliate::plan::object::{Key, Netns, Value};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::{Endpoint, LAB, isolated};

#[test]
fn created_namespace_is_marked_and_its_loopback_is_up() {
    isolated(|| {
        let endpoint = Endpoint::new();

        let lo = link::get(&mut endpoint.netlink(), "lo").unwrap().unwrap();
        assert!(lo.up);
        assert_eq!(named::lab_of(&endpoint.name).unwrap().as_deref(), Some(LAB));
        assert!(named::list().unwrap().contains(&endpoint.name));
    });
}

#[test]
fn creating_and_deleting_leaves_nothing() {
    isolated(|| {
        let endpoint = Endpoint::new();
        let path = Netns::Name(endpoint.name.clone()).path();

        named::delete(&endpoint.name, LAB).unwrap();
        named::delete(&endpoint.name, LAB).unwrap();

        assert!(!path.exists(), "the file should be gone");
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(&endpoint.name), "no mount should be left");
    });
}

#[test]
fn namespace_below_another_mount_of_all_names_is_deleted() {
    isolated(|| {
        // A machine whose /run is not shared, after somebody's `ip netns add`.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let (nothing, run) = (None::<&str>, "/run/netns");
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )
        .unwrap();
        mount(nothing, "/run", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
        let endpoint = Endpoint::new();
        mount(
            Some(run),
            run,
            nothing,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            nothing,
        )
        .unwrap();
        mount(
            nothing,
            run,
            nothing,
            MsFlags::MS_REC | MsFlags::MS_SHARED,
            nothing,
        )
        .unwrap();
        let theirs = Endpoint::new();

        named::delete(&endpoint.name, LAB).unwrap();

        let path = Netns::Name(endpoint.name.clone()).path();
        assert!(!path.exists(), "the file should be gone");
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(&endpoint.name), "no mount should be left");
        assert!(named::lab_of(&theirs.name).is_ok(), "others should stay");
        assert!(
            mounts.contains(run),
            "the mount on the directory should stay"
        );
    });
}

#[test]
fn taken_name_is_refused() {
    isolated(|| {
        let endpoint = Endpoint::new();

        let error = named::create(&endpoint.name, LAB).unwrap_err();

        assert!(error.is_exists(), "{error}");
    });
}

#[test]
fn empty_name_of_an_interrupted_creation_is_taken_over() {
    isolated(|| {
        let endpoint = Endpoint::new();
        named::delete(&endpoint.name, LAB).unwrap();
        fs::write(Netns::Name(endpoint.name.clone()).path(), "").unwrap();

        named::create(&endpoint.name, LAB).unwrap();

        assert_eq!(named::lab_of(&endpoint.name).unwrap().as_deref(), Some(LAB));
    });
}

#[test]
fn namespace_of_another_lab_is_not_deleted() {
    isolated(|| {
        let endpoint = Endpoint::new();

        let error = named::delete(&endpoint.name, "another").unwrap_err();

        assert!(error.to_string().contains("made by the lab"), "{error}");
        assert!(named::lab_of(&endpoint.name).is_ok());
    });
}

#[test]
fn unmarked_namespace_is_not_deleted() {
    isolated(|| {
        let endpoint = Endpoint::new();
        link::set_alias(&mut endpoint.netlink(), "lo", "theirs").unwrap();

        let error = named::delete(&endpoint.name, LAB).unwrap_err();
        link::set_alias(&mut endpoint.netlink(), "lo", "ciliate-lab:host-test").unwrap();

        assert!(error.to_string().contains("not made by a lab"), "{error}");
    });
}

#[test]
fn caller_stays_in_its_own_namespace() {
    isolated(|| {
        let endpoint = Endpoint::new();
        let own = || netns::identity(netns::open_own().unwrap()).unwrap();
        let before = own();

        let inside = netns::in_netns(endpoint.open(), own).unwrap();

        assert_eq!(inside, netns::identity(endpoint.open()).unwrap());
        assert_ne!(inside, before);
        assert_eq!(own(), before);
    });
}

#[test]
fn socket_of_a_namespace_works_from_outside() {
    isolated(|| {
        let endpoint = Endpoint::new();

        let mut inside = endpoint.netlink();

        let alias = link::get(&mut inside, "lo").unwrap().unwrap().alias;
        let own = link::get(&mut Netlink::open().unwrap(), "lo").unwrap();
        assert_eq!(alias.as_deref(), Some("ciliate-lab:host-test"));
        assert_eq!(own.unwrap().alias, None);
    });
}

#[test]
fn sysctl_is_written_and_verified() {
    isolated(|| {
        let path = "net/ipv4/conf/lo/forwarding";

        sysctl::write(path, "1").unwrap();

        assert_eq!(sysctl::read(path).unwrap().as_deref(), Some("1"));
        assert_eq!(
            sysctl::read("net/ipv4/conf/all/forwarding")
                .unwrap()
                .as_deref(),
            Some("0"),
            "another one should be untouched"
        );
    });
}

#[test]
fn forwarding_of_other_devices_comes_back_with_that_of_all() {
    isolated(|| {
        let [all, default, lo] =
            ["all", "default", "lo"].map(|device| format!("net/ipv6/conf/{device}/forwarding"));
        let value = |path: &String| sysctl::read(path).unwrap().unwrap();
        for (path, value) in [(&all, "0"), (&default, "1"), (&lo, "1")] {
            sysctl::write(path, value).unwrap();
        }
        let (key, ours) = (
            Key::Sysctl(all.clone()),
            Value::Sysctl { value: "1".into() },
        );
        let mut executor = Executor::new("edge", Names::default(), BTreeMap::new()).unwrap();

        executor.add(&key, &ours).unwrap();
        executor.remove(&key, &ours).unwrap();

        assert_eq!([&all, &default, &lo].map(value), ["0", "1", "1"]);
    });
}

#[test]
fn forwarding_that_somebody_switched_off_meanwhile_stays_off() {
    isolated(|| {
        let [all, lo] = ["all", "lo"].map(|device| format!("net/ipv6/conf/{device}/forwarding"));
        sysctl::write(&all, "0").unwrap();
        sysctl::write(&lo, "1").unwrap();
        let (key, ours) = (Key::Sysctl(all), Value::Sysctl { value: "1".into() });
        let mut executor = Executor::new("edge", Names::default(), BTreeMap::new()).unwrap();

        executor.add(&key, &ours).unwrap();
        sysctl::write(&lo, "0").unwrap();
        executor.remove(&key, &ours).unwrap();

        assert_eq!(sysctl::read(&lo).unwrap().as_deref(), Some("0"));
    });
}

#[test]
fn sysctl_that_does_not_keep_its_value_is_an_error() {
    isolated(|| {
        // Writing flushes the routes and stores nothing; reading is refused.
        let error = sysctl::write("net/ipv4/route/flush", "1").unwrap_err();

        assert!(
            error.to_string().contains("sysctl net/ipv4/route/flush"),
            "{error}"
        );
    });
}

#[test]
fn refused_sysctl_names_path_and_value() {
    isolated(|| {
        let error = sysctl::write("net/ipv4/conf/lo/rp_filter", "much").unwrap_err();

        assert_eq!(
            error.to_string(),
            "write sysctl net/ipv4/conf/lo/rp_filter = much: Invalid argument"
        );
        assert!(Path::new("/proc/sys/net/ipv4/conf/lo").exists());
    });
}

/// Gives the calling thread mounts that nobody else sees.
fn unshare_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, flags, nothing).unwrap();
}

#[test]
fn bpffs_that_we_mounted_is_unmounted_once_it_is_empty() {
    isolated(|| {
        unshare_mounts();
        let scratch = tempfile::tempdir().unwrap();
        let (path, pins) = (scratch.path(), scratch.path().join("ciliate"));
        assert!(!bpffs::is_bpffs(path).unwrap());

        bpffs::mount_on(path).unwrap();
        bpffs::mount_on(path).unwrap();
        fs::create_dir(&pins).unwrap();

        assert!(bpffs::is_bpffs(path).unwrap() && bpffs::is_ours(path).unwrap());
        assert!(!bpffs::unmount_if_empty(path).unwrap(), "has pins");
        fs::remove_dir(&pins).unwrap();
        assert!(bpffs::unmount_if_empty(path).unwrap());
        assert!(!bpffs::is_bpffs(path).unwrap());
    });
}

#[test]
fn bpffs_of_somebody_else_stays_mounted() {
    isolated(|| {
        unshare_mounts();
        let scratch = tempfile::tempdir().unwrap();
        let theirs = Some("bpf");
        mount(
            theirs,
            scratch.path(),
            theirs,
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();

        assert!(!bpffs::unmount_if_empty(scratch.path()).unwrap());

        assert!(bpffs::is_bpffs(scratch.path()).unwrap());
    });
}

#[test]
fn mount_on_a_relative_path_goes_with_the_folder_that_was_made_for_it() {
    isolated(|| {
        unshare_mounts();
        let folder = tempfile::tempdir().unwrap();
        // The thread has a working directory of its own since it has mounts of its own.
        std::env::set_current_dir(folder.path()).unwrap();

        bpffs::mount_on(Path::new("made")).unwrap();
        fs::create_dir("found").unwrap();
        bpffs::mount_on(Path::new("found")).unwrap();

        for (path, stays) in [("made", false), ("found", true)] {
            assert!(bpffs::is_ours(Path::new(path)).unwrap());
            assert!(bpffs::unmount_if_empty(Path::new(path)).unwrap());
            assert_eq!(folder.path().join(path).exists(), stays, "{path}");
        }
    });
}
