//! Sysctls, as files below `/proc/sys`.
//!
//! What lies below `net/` belongs to the namespace of the calling thread. A value is read back
//! after it was written: some sysctls accept a write and keep their value.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::error::{Error, Result};
use crate::plan::desired::IPV6_FORWARDING;

/// Where IPv6 has a directory for each device.
const IPV6_CONF: &str = "net/ipv6/conf";

/// Reads a sysctl by its path below `/proc/sys`; `None` if there is none, because the kernel
/// lacks it or its link is gone.
///
/// # Errors
/// When the file exists but cannot be read.
pub fn read(path: &str) -> Result<Option<String>> {
    match fs::read_to_string(file(path)?) {
        Ok(text) => Ok(Some(normal(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(format!("read sysctl {path}"), &error)),
    }
}

/// Writes a sysctl unless it has the value already, and verifies it.
///
/// # Errors
/// When the kernel refuses the value or does not keep it.
pub fn write(path: &str, value: &str) -> Result<()> {
    let wanted = normal(value);
    if read(path)?.as_ref() == Some(&wanted) {
        return Ok(());
    }
    // An empty value needs a line of its own: a write of nothing does not reach the kernel.
    fs::write(file(path)?, format!("{wanted}\n"))
        .map_err(|error| Error::file(format!("write sysctl {path} = {wanted}"), &error))?;
    match read(path)? {
        Some(found) if found == wanted => Ok(()),
        found => Err(Error::SysctlIgnored {
            path: path.into(),
            wanted,
            found: found.unwrap_or_else(|| "nothing".into()),
        }),
    }
}

/// Lists the paths that the kernel overwrites when it writes one: `net/ipv6/conf/all/forwarding`
/// is copied to `default` and to every device, unlike the others below `all`.
///
/// # Errors
/// When the directory exists but cannot be read.
pub fn overwritten_by(path: &str) -> Result<Vec<String>> {
    if path != IPV6_FORWARDING {
        return Ok(Vec::new());
    }
    let failed = |error: io::Error| Error::file(format!("list sysctl {IPV6_CONF}"), &error);
    let entries = match fs::read_dir(file(IPV6_CONF)?) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let device = entry.map_err(failed)?.file_name();
        paths.push(format!(
            "{IPV6_CONF}/{}/forwarding",
            device.to_string_lossy()
        ));
    }
    paths.retain(|other| other != path);
    paths.sort();
    Ok(paths)
}

/// Returns the file of a sysctl, refusing paths that lead elsewhere.
fn file(path: &str) -> Result<PathBuf> {
    let relative = Path::new(path);
    let plain = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if plain && !path.is_empty() {
        Ok(Path::new("/proc/sys").join(relative))
    } else {
        Err(Error::system(format!("find sysctl {path}"), Errno::EINVAL))
    }
}

/// Lists of numbers are separated by tabs when read, and by anything blank when written.
fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_that_leaves_proc_sys_is_refused() {
        assert!(read("../../etc/hostname").is_err());
        assert!(read("/etc/hostname").is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn blanks_between_numbers_do_not_matter() {
        assert_eq!(normal("4096\t131072\t6291456\n"), "4096 131072 6291456");
    }

    #[test]
    fn missing_sysctl_is_none() {
        assert_eq!(read("net/ipv4/conf/no-such-link/forwarding").unwrap(), None);
    }
}
