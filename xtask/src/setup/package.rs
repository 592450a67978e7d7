//! Debian packages for programs that are missing.
//!
//! A program that is found, wherever it came from, is not installed again; so other distributions do, with the programs in
//! place beforehand. Recommended packages are left out.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use super::{Group, announce, report};
use crate::privilege::{privileged, privileged_with};
use crate::process;

struct Need {
    program: &'static str,
    package: &'static str,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

const FOR_DEMO: [Need; 4] = [
    need("ip", "iproute2"),
    need("ping", "iputils-ping"),
    need("iperf3", "iperf3"),
    need("tcpdump", "tcpdump"),
];

const FOR_TEST: [Need; 15] = [
    need("busybox", "busybox-static"),
    need("curl", "curl"),
    need("dbus-daemon", "dbus"),
    need("dig", "bind9-dnsutils"),
    need("dnsmasq", "dnsmasq-base"),
    need("firewalld", "firewalld"),
    need("iptables", "iptables"),
    need("nft", "nftables"),
    need("tracepath", "iputils-tracepath"),
    need("traceroute", "traceroute"),
    need("ufw", "ufw"),
    need("radvd", "radvd"),
    need("strace", "strace"),
    need("systemd-analyze", "systemd"),
    need("qemu-system-x86_64", "qemu-system-x86"),
];

/// Packages whose service would at once begin to filter this machine's own packets, with the service. The tests run
/// the program in namespaces of their own.
const FILTERING: [(&str, &str); 1] = [("firewalld", "firewalld.service")];

/// Where the machine's administrator keeps units.
const UNITS: &str = "/etc/systemd/system";

/// Debian keeps administration programs here, outside the `PATH` of a user.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Installs the packages of the group's missing programs; returns whether any was missing.
pub(super) fn install_missing(group: Group) -> Result<bool> {
    let mut needs: Vec<&Need> = FOR_DEMO.iter().collect();
    if group != Group::Demo {
        needs.extend(&FOR_TEST);
    }
    let packages: Vec<&str> = needs
        .into_iter()
        .filter(|need| find_program(need.program).is_none())
        .map(|need| need.package)
        .collect();
    if packages.is_empty() {
        return Ok(false);
    }
    install(&packages)?;
    Ok(true)
}

fn install(packages: &[&str]) -> Result<()> {
    let what = format!("Debian packages {}", packages.join(", "));
    if find_program("apt-get").is_none() {
        bail!("install {what}: there is no apt-get here: install their programs by other means");
    }
    announce(&what);
    let start = Instant::now();
    for (_, service) in FILTERING
        .iter()
        .filter(|(package, _)| packages.contains(package))
    {
        keep_from_starting(service)?;
    }
    if !packages.iter().all(|package| is_offered(package)) {
        update_lists()?;
    }
    let told = apt_get_install(packages).or_else(|_| {
        // Lists that are older than the mirror name packages that it no longer has.
        update_lists()?;
        apt_get_install(packages)
    })?;
    report(&what, size_from(&told), start);
    Ok(())
}

/// Masks a service before its package enables and starts it; one that has a unit of the administrator's is left to that.
fn keep_from_starting(service: &str) -> Result<()> {
    let unit = Path::new(UNITS).join(service);
    if unit.symlink_metadata().is_ok() {
        return Ok(());
    }
    println!(
        "set-up: mask {service}, which would filter this machine's packets; `systemctl unmask {service}` undoes it"
    );
    process::capture(privileged("mkdir").args(["-p", UNITS]))?;
    process::capture(privileged("ln").args(["-s", "/dev/null"]).arg(&unit))?;
    Ok(())
}

fn apt_get_install(packages: &[&str]) -> Result<String> {
    process::capture(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
}

fn update_lists() -> Result<()> {
    println!("set-up: apt-get update");
    process::capture(apt_get().args(["update", "--quiet"]))?;
    Ok(())
}

fn apt_get() -> Command {
    // The language decides the words that `size_from` looks for.
    privileged_with(
        &[("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C")],
        "apt-get",
    )
}

/// Returns whether apt's lists know the package; an installation of Debian may start with empty lists.
fn is_offered(package: &str) -> bool {
    process::capture(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
        .is_ok_and(|shown| !shown.trim().is_empty())
}

/// Finds apt's own sentence about the size in what it told.
fn size_from(told: &str) -> &str {
    told.lines()
        .find_map(|line| line.strip_prefix("After this operation, "))
        .and_then(|line| line.strip_suffix(" of additional disk space will be used."))
        .unwrap_or("size unknown")
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| Path::is_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_what_apt_said() {
        let told = "Need to get 1 kB.\nAfter this operation, 6,144 B of additional disk space will be used.\nGet:1\n";

        assert_eq!(size_from(told), "6,144 B");
    }

    #[test]
    fn size_is_unknown_when_apt_said_nothing() {
        assert_eq!(size_from("Setting up iperf3\n"), "size unknown");
    }
}
