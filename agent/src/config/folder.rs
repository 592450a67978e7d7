//! Which files a configuration is made of: FILE, and `conf.d/*.toml` in the folder of FILE.
//!
//! Files of conf.d count in the order of their names, by bytes. What editors leave there (hidden
//! files, names that do not end in `.toml`) does not, and a FILE that is no file, as
//! `/dev/stdin`, stands alone.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Folder beside the file.
pub const DROP_INS: &str = "conf.d";

/// Returns the files in the order in which they are merged, FILE first.
///
/// # Errors
/// If there is a conf.d that cannot be listed; the path is that of conf.d.
pub fn files(file: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut files = vec![file.to_owned()];
    if !file.is_file() {
        return Ok(files);
    }
    let folder = drop_ins(file);
    let mut found = match list(&folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Vec::new()
        }
        other => other.map_err(|error| (folder, error))?,
    };
    found.sort();
    files.append(&mut found);
    Ok(files)
}

/// Returns where the drop-ins of a file are, if it has any.
pub fn drop_ins(file: &Path) -> PathBuf {
    file.with_file_name(DROP_INS)
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_drop_in(&entry.file_name()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Tells whether a file of conf.d counts, by its name.
fn is_drop_in(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".toml") && !name.starts_with(b".") && !name.starts_with(b"#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_come_in_the_order_of_their_names_and_without_leftovers_of_editors() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ciliate.toml");
        fs::write(&file, "").unwrap();
        fs::create_dir(folder.path().join(DROP_INS)).unwrap();
        for name in [
            "20-b.toml",
            "10-b.toml",
            "9.toml",
            ".10-b.toml.swp",
            ".hidden.toml",
            "10-b.toml~",
            "#10-b.toml#",
            "#x.toml",
            "10-b.toml.bak",
            "4913",
            "sedA1b2C3",
            "README",
        ] {
            fs::write(folder.path().join(DROP_INS).join(name), "").unwrap();
        }

        let found = files(&file).unwrap();

        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["ciliate.toml", "10-b.toml", "20-b.toml", "9.toml"]);
    }

    #[test]
    fn what_is_no_file_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(DROP_INS)).unwrap();
        fs::write(folder.path().join("conf.d/a.toml"), "").unwrap();

        for name in ["missing", "conf.d"] {
            let path = folder.path().join(name);
            assert_eq!(files(&path).unwrap(), [path]);
        }
    }
}
