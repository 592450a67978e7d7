//! The file that tells programs their name servers (resolv.conf(5)).
//!
//! A file of ours begins with our mark. What was there before, a symbolic link included, is kept
//! beside it under another name, and comes back when ours goes; a reader sees the one or the other.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::error::{Error, Result};
use crate::plan::object::NameServers;

/// The first line of a file of ours.
const MARK: &str =
    "# Written by ciliate from a DHCP lease; what was here before comes back with it.";

/// What is added to the name of what was there before, and of a file that is not finished.
const BEFORE: &str = "before-ciliate";
const UNFINISHED: &str = "ciliate-tmp";

/// Reads a file of ours; `None` if there is none.
///
/// # Errors
/// If it is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<NameServers>> {
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with(MARK) => Ok(Some(parse(&text))),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
            Ok(None)
        }
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Tells whether a file can be replaced: its folder can be written to, and it is no mount of its
/// own, as in containers.
pub fn is_replaceable(path: &Path) -> bool {
    let Some(folder) = path.parent() else {
        return false;
    };
    let device = |path: &Path| fs::symlink_metadata(path).map(|found| found.dev());
    let is_own = match (device(path), device(folder)) {
        (Ok(file), Ok(folder)) => file == folder,
        _ => true,
    };
    is_own && access(folder, AccessFlags::W_OK).is_ok()
}

/// Puts a file of ours in the place of what is there, which is kept.
///
/// # Errors
/// If a file cannot be written; what was there stays then.
pub fn write(path: &Path, name_servers: &NameServers) -> Result<()> {
    let is_ours = read(path)?.is_some();
    let unfinished = beside(path, UNFINISHED);
    let put = || -> io::Result<()> {
        let mut file = fs::File::create(&unfinished)?;
        file.write_all(render(name_servers).as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        if !is_ours {
            keep(path)?;
        }
        fs::rename(&unfinished, path)
    };
    put().map_err(|error| {
        // What is left of it would tell nobody anything.
        drop(fs::remove_file(&unfinished));
        failed("write", path, &error)
    })
}

/// Removes a file of ours, and brings back what was there before. What somebody else put there
/// since stays.
///
/// # Errors
/// If the file cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let before = beside(path, BEFORE);
    if read(path)?.is_none() {
        drop(fs::remove_file(before));
        return Ok(());
    }
    let result = match fs::rename(&before, path) {
        Err(error) if error.kind() == ErrorKind::NotFound => fs::remove_file(path),
        other => other,
    };
    result.map_err(|error| failed("remove", path, &error))
}

/// Gives what is there a second name. A symbolic link is kept as one.
fn keep(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        // Somebody removed ours: what was there before it still comes back.
        return Ok(());
    }
    let before = beside(path, BEFORE);
    drop(fs::remove_file(&before));
    match fs::hard_link(path, before) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn render(name_servers: &NameServers) -> String {
    let mut text = format!("{MARK}\n");
    for server in &name_servers.servers {
        text += &format!("nameserver {server}\n");
    }
    if let Some(domain) = &name_servers.domain {
        text += &format!("search {domain}\n");
    }
    text
}

fn parse(text: &str) -> NameServers {
    let values = |key: &'static str| {
        let lines = text.lines().filter_map(move |line| line.split_once(' '));
        lines.filter_map(move |(found, value)| (found == key).then_some(value))
    };
    NameServers {
        servers: values("nameserver")
            .filter_map(|text| text.parse::<Ipv4Addr>().ok())
            .collect(),
        domain: values("search").next().map(ToOwned::to_owned),
    }
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

fn failed(operation: &str, path: &Path, error: &io::Error) -> Error {
    Error::file(format!("{operation} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_lease() -> NameServers {
        NameServers {
            servers: vec![Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)],
            domain: Some("example.net".to_owned()),
        }
    }

    #[test]
    fn file_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");

        write(&path, &of_lease()).unwrap();

        assert_eq!(read(&path).unwrap(), Some(of_lease()));
    }

    #[test]
    fn only_what_is_in_a_folder_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();

        assert!(is_replaceable(&folder.path().join("resolv.conf")));
        assert!(!is_replaceable(Path::new("/proc/resolv.conf/none")));
        assert!(!is_replaceable(&folder.path().join("missing/resolv.conf")));
    }

    #[test]
    fn file_that_was_removed_does_not_cost_what_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        fs::write(&path, "nameserver 127.0.0.1\n").unwrap();

        write(&path, &of_lease()).unwrap();
        fs::remove_file(&path).unwrap();
        write(&path, &of_lease()).unwrap();
        remove(&path).unwrap();

        assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 127.0.0.1\n");
    }

    #[test]
    fn what_was_there_comes_back_also_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let [path, target] = ["resolv.conf", "stub"].map(|name| folder.path().join(name));
        fs::write(&target, "nameserver 127.0.0.53\n").unwrap();
        std::os::unix::fs::symlink("stub", &path).unwrap();

        write(&path, &of_lease()).unwrap();
        write(&path, &NameServers::default()).unwrap();
        assert_eq!(
            fs::read_to_string(&target).unwrap(),
            "nameserver 127.0.0.53\n"
        );
        remove(&path).unwrap();

        assert_eq!(fs::read_link(&path).unwrap(), Path::new("stub"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn file_goes_where_there_was_none_and_what_others_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");

        write(&path, &of_lease()).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
        remove(&path).unwrap();

        assert_eq!(read(&path).unwrap(), None);
        assert!(path.exists());
    }
}
