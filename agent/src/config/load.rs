//! Reads a file and turns everything that is wrong with it into one text.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Config;
use super::diagnostic::Diagnostic;
use super::source::Source;

/// Largest file that is read, in bytes: far above what the limits on endpoints allow for.
const FILE_MAX: u64 = 16 << 20;

/// Folder beside the file that later versions read as well.
const DROP_INS: &str = "conf.d";

/// Says what is wrong with a file, one text for each fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .faults.join("\n\n"))]
pub struct Report {
    faults: Vec<String>,
}

impl Report {
    /// Renders diagnostics of a source.
    pub fn new(source: &Source, diagnostics: &[Diagnostic]) -> Self {
        Self {
            faults: diagnostics
                .iter()
                .map(|diagnostic| diagnostic.render(source))
                .collect(),
        }
    }

    /// Returns the number of faults.
    pub fn count(&self) -> usize {
        self.faults.len()
    }

    /// Says something about a file that has no place in it.
    fn whole(path: &Path, message: &str) -> Self {
        Self {
            faults: vec![format!("{}: error: {message}", path.display())],
        }
    }
}

/// Reads, parses and validates a file.
///
/// # Errors
/// If it cannot be read, or everything that is wrong with it.
pub fn load(path: &Path) -> Result<(Config, Source), Report> {
    let bytes = read(path).map_err(|error| {
        let mut message = format!("read file: {error}");
        if error.kind() == io::ErrorKind::NotFound {
            message += "\n  = help: `ciliate init` prints one for this machine";
        }
        Report::whole(path, &message)
    })?;
    if let Some(drop_in) = drop_in(path) {
        let message = format!("drop-in files ({DROP_INS}) are not supported yet");
        return Err(Report::whole(&drop_in, &message));
    }
    let shown = path.display().to_string();
    let source = Source::from_bytes(&shown, &bytes)
        .map_err(|(source, error)| Report::new(&source, &[*error]))?;
    match Config::parse(&shown, source.text()) {
        Ok(config) => Ok((config, source)),
        Err(errors) => Err(Report::new(&source, &errors)),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {} MiB", FILE_MAX >> 20),
        ));
    }
    Ok(bytes)
}

/// Returns a file that the user may expect to be merged into this one.
fn drop_in(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?.join(DROP_INS);
    let mut files: Vec<_> = folder
        .read_dir()
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files.into_iter().next()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let report = load(Path::new("/nonexistent/a.toml")).expect_err("no such file");

        assert!(
            report
                .to_string()
                .starts_with("/nonexistent/a.toml: error: read file: "),
            "{report}"
        );
        assert_eq!(report.count(), 1);
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().expect("a folder");

        let report = load(folder.path()).expect_err("a folder");

        assert!(
            report.to_string().contains("error: read file: "),
            "{report}"
        );
    }

    #[test]
    fn drop_ins_are_refused_and_not_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ciliate.toml");
        fs::write(&file, "[[node]]\nname = \"edge-1\"\n").expect("write");
        assert!(load(&file).is_ok(), "the file alone is good");

        fs::create_dir(folder.path().join(DROP_INS)).expect("create folder");
        fs::write(folder.path().join("conf.d/10-more.toml"), "").expect("write");

        let report = load(&file).expect_err("drop-ins").to_string();
        assert!(
            report.contains("conf.d/10-more.toml: error: drop-in files"),
            "{report}"
        );
    }
}
