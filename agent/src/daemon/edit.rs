//! Edits of the file and of conf.d, however an editor makes them.
//!
//! inotify(7) tells of the folders on the way to the file; symbolic links on it count too, so that
//! a folder that is swapped by a link, as `..data`, is an edit. What inotify cannot see (a mount, a
//! file on another machine) shows when the files are looked at again: their inodes and times.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use super::calm::Calm;
use super::folder::{Files, Folders};
use crate::config::folder;
use crate::host::Result;

/// Most symbolic links on the way to a file, as for the kernel.
const LINKS_MAX: usize = 40;

/// Watches a file.
pub struct Edits {
    file: PathBuf,
    folders: Folders,
    calm: Calm,
    /// What the files were like when they were read.
    seen: Signature,
}

impl Edits {
    /// Begins to watch a file, by its absolute path; do so before it is read.
    ///
    /// # Errors
    /// If the process may open no more files.
    pub fn watch(file: &Path) -> Result<Self> {
        let mut edits = Self {
            file: file.to_owned(),
            folders: Folders::open_for_contents()?,
            calm: Calm::default(),
            seen: Signature::of(file),
        };
        edits.folders.watch(places(file));
        Ok(edits)
    }

    /// Takes everything that happened.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&mut self, now: Instant) -> Result<()> {
        if self.folders.read()? {
            // A folder may have come in the place of another one.
            self.folders.watch(places(&self.file));
            self.calm.note(now);
        }
        Ok(())
    }

    /// Looks whether something was written that was not told.
    pub fn check(&mut self, now: Instant) {
        self.folders.watch(places(&self.file));
        if !self.calm.is_edited() && Signature::of(&self.file) != self.seen {
            self.calm.note(now);
        }
    }

    /// Returns when to read the file, if it was written.
    pub fn next(&self) -> Option<Instant> {
        self.calm.next()
    }

    /// Tells whether it is time to read the file.
    pub fn is_due(&self, now: Instant) -> bool {
        self.calm.is_due(now)
    }

    /// Notes that the file is about to be read, and what it is like.
    ///
    /// # Errors
    /// If what happened before cannot be read.
    pub fn begin(&mut self) -> Result<()> {
        if self.folders.read()? {
            self.folders.watch(places(&self.file));
        }
        self.calm.begin();
        self.seen = Signature::of(&self.file);
        Ok(())
    }

    /// Notes that the file was taken, or is wrong.
    pub fn end(&mut self) {
        self.calm.end();
    }

    /// Notes that the file is good and could not be taken.
    pub fn fail(&mut self, now: Instant) {
        self.calm.fail(now);
    }

    /// Watches another file from now on, which was read a moment ago.
    pub fn follow(&mut self, file: &Path, now: Instant) {
        if self.file != file {
            file.clone_into(&mut self.file);
            self.folders.watch(places(file));
            self.seen = Signature::of(file);
            // It may have been written between our look and now.
            self.calm = Calm::default();
            self.calm.note(now);
        }
    }
}

impl AsFd for Edits {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folders.as_fd()
    }
}

/// Is what the files of a configuration were like: which, and what `stat` said of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature(Vec<(PathBuf, Option<Stat>)>);

/// Device, inode, length, time of the last change in seconds and nanoseconds.
type Stat = (u64, u64, u64, i64, i64);

impl Signature {
    fn of(file: &Path) -> Self {
        let files = folder::files(file).unwrap_or_default();
        let stat = |metadata: Metadata| {
            (
                metadata.dev(),
                metadata.ino(),
                metadata.len(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            )
        };
        let stats = files.into_iter().map(|path| {
            let stat = fs::metadata(&path).ok().map(stat);
            (path, stat)
        });
        Self(stats.collect())
    }
}

/// Returns where a configuration is: the file and the links that lead to it, everything in conf.d,
/// and the folders of both, should they be replaced.
fn places(file: &Path) -> Files {
    let (mut single, real) = resolve(file);
    single.extend(real.parent().map(Path::to_owned));
    let (links, drop_ins) = resolve(&folder::drop_ins(file));
    single.extend(links);
    // What drop-ins link to by a link of a folder.
    let targets = folder::files(file).unwrap_or_default();
    for target in targets.iter().skip(1).filter(|path| path.is_symlink()) {
        single.extend(resolve(target).0);
    }
    Files {
        folders: BTreeSet::from([drop_ins]),
        single,
    }
}

/// Follows a path. Returns every name on it that leads elsewhere, the last name, and where the path
/// leads; their folders are none that a link leads to.
fn resolve(path: &Path) -> (BTreeSet<PathBuf>, PathBuf) {
    let mut names = BTreeSet::new();
    let mut at = PathBuf::from("/");
    let mut left: VecDeque<OsString> = components(path);
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let Ok(target) = fs::read_link(&next) else {
            at = next;
            continue;
        };
        names.insert(next);
        if names.len() > LINKS_MAX {
            break;
        }
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        for component in components(&target).into_iter().rev() {
            left.push_front(component);
        }
    }
    names.insert(at.clone());
    (names, at)
}

fn components(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    /// A folder with a file that is watched.
    fn watched() -> (tempfile::TempDir, PathBuf, Edits) {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.toml");
        fs::write(&file, "x").unwrap();
        let edits = Edits::watch(&file).unwrap();
        (place, file, edits)
    }

    /// Tells whether something happened since the last call.
    fn is_edited(edits: &mut Edits) -> bool {
        edits.read(Instant::now()).unwrap();
        let is_edited = edits.next().is_some();
        edits.begin().unwrap();
        is_edited
    }

    #[test]
    fn file_that_is_written_or_replaced_is_an_edit_and_its_neighbour_is_not() {
        let (place, file, mut edits) = watched();
        assert!(!is_edited(&mut edits));

        fs::write(&file, "y").unwrap();
        assert!(is_edited(&mut edits), "written");
        fs::write(place.path().join("b.toml"), "y").unwrap();
        assert!(!is_edited(&mut edits), "a neighbour");
        fs::rename(place.path().join("b.toml"), &file).unwrap();
        assert!(is_edited(&mut edits), "replaced");
        fs::remove_file(&file).unwrap();
        assert!(is_edited(&mut edits), "removed");
        fs::write(&file, "z").unwrap();
        assert!(is_edited(&mut edits), "there again");
    }

    #[test]
    fn drop_ins_that_come_change_and_go_are_edits() {
        let (place, _, mut edits) = watched();
        let folder = place.path().join("conf.d");

        fs::create_dir(&folder).unwrap();
        assert!(is_edited(&mut edits), "the folder came");
        fs::write(folder.join("a.toml"), "x").unwrap();
        assert!(is_edited(&mut edits), "a file came");
        fs::write(folder.join("a.toml"), "y").unwrap();
        assert!(is_edited(&mut edits), "it was written");
        fs::remove_dir_all(&folder).unwrap();
        assert!(is_edited(&mut edits), "all went");
    }

    #[test]
    fn folder_that_is_swapped_by_a_link_is_an_edit() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("a.toml"), version).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/a.toml", at("a.toml")).unwrap();
        let mut edits = Edits::watch(&at("a.toml")).unwrap();

        symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert!(is_edited(&mut edits), "swapped");
        fs::write(at("v2/a.toml"), "new").unwrap();
        assert!(is_edited(&mut edits), "the new one is watched");
    }

    #[test]
    fn folder_that_is_replaced_is_an_edit() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("etc")).unwrap();
        fs::write(at("etc/a.toml"), "x").unwrap();
        let mut edits = Edits::watch(&at("etc/a.toml")).unwrap();

        fs::rename(at("etc"), at("old")).unwrap();
        fs::create_dir(at("etc")).unwrap();
        assert!(is_edited(&mut edits), "replaced");
        fs::write(at("etc/a.toml"), "y").unwrap();
        assert!(is_edited(&mut edits), "the new one is watched");
    }

    #[test]
    fn what_was_not_told_is_found_by_a_look() {
        let (place, file, mut edits) = watched();
        let now = Instant::now();

        edits.check(now);
        assert_eq!(edits.next(), None, "nothing was written");
        // As a mount would do.
        edits.folders.watch(Files::default());
        fs::rename(&file, place.path().join("old")).unwrap();
        fs::write(&file, "longer").unwrap();
        edits.check(now);

        assert!(edits.is_due(now + Duration::from_secs(1)));
    }

    #[test]
    fn another_file_is_read_once_more() {
        let (place, file, mut edits) = watched();
        let other = place.path().join("b.toml");
        fs::write(&other, "x").unwrap();

        edits.follow(&file, Instant::now());
        assert_eq!(edits.next(), None, "it is the same");
        edits.follow(&other, Instant::now());
        assert!(edits.next().is_some());
        edits.begin().unwrap();
        fs::write(&other, "y").unwrap();
        assert!(is_edited(&mut edits));
        fs::write(&file, "y").unwrap();
        assert!(!is_edited(&mut edits), "the old one does not count");
    }
}
