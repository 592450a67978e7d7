//! Reads the files of a configuration, and turns everything that is wrong with them into one text.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Config;
use super::diagnostic::Diagnostic;
use super::folder;
use super::source::Source;
use super::trust::{Exposure, Reader};

/// Largest file that is read, in bytes: far above what the limits on endpoints allow for.
const FILE_MAX: u64 = 16 << 20;

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

/// Reads, parses and validates a file and its drop-ins.
///
/// # Errors
/// If one cannot be read, or everything that is wrong with them.
pub fn load(path: &Path) -> Result<(Config, Source), Report> {
    read_all(path)?.parse()
}

/// Does the same, and tells who else can write the files.
///
/// # Errors
/// As [`load`].
pub fn load_with_exposures(path: &Path) -> Result<(Config, Source, Vec<Exposure>), Report> {
    let read = read_all(path)?;
    let (config, source) = read.parse()?;
    Ok((config, source, read.exposures))
}

/// Does the same for who acts on it.
///
/// # Errors
/// As [`load`], and if somebody else can write one of the files.
pub fn load_trusted(path: &Path) -> Result<(Config, Source), Report> {
    let read = read_all(path)?;
    if read.exposures.is_empty() {
        return read.parse();
    }
    let faults = read.exposures.iter().map(Exposure::error).collect();
    Err(Report { faults })
}

/// Holds what was read.
#[derive(Default)]
struct Files {
    contents: Vec<(String, Vec<u8>)>,
    exposures: Vec<Exposure>,
}

impl Files {
    fn parse(&self) -> Result<(Config, Source), Report> {
        let contents = self.contents.iter();
        let contents = contents.map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let source = Source::from_files(contents)
            .map_err(|(source, errors)| Report::new(&source, &errors))?;
        match Config::read(&source) {
            Ok(config) => Ok((config, source)),
            Err(errors) => Err(Report::new(&source, &errors)),
        }
    }
}

/// Reads a file and its drop-ins; everything that cannot be read is reported.
fn read_all(path: &Path) -> Result<Files, Report> {
    let paths = folder::files(path)
        .map_err(|(folder, error)| Report::whole(&folder, &format!("list folder: {error}")))?;
    let reader = Reader::own();
    let (mut files, mut faults) = (Files::default(), Vec::new());
    for (number, path) in paths.iter().enumerate() {
        let is_drop_in = number > 0;
        match read(path, &reader) {
            Ok((bytes, exposures)) => {
                files.contents.push((path.display().to_string(), bytes));
                files.exposures.extend(exposures);
            }
            // It was removed since the folder was listed.
            Err(_) if is_drop_in && fs::symlink_metadata(path).is_err() => {}
            Err(error) => {
                let mut message = format!("read file: {error}");
                if error.kind() == ErrorKind::NotFound && !is_drop_in {
                    message += "\n  = help: `ciliate init` prints one for this machine";
                }
                faults.extend(Report::whole(path, &message).faults);
            }
        }
    }
    if !faults.is_empty() {
        return Err(Report { faults });
    }
    for folder in folders(&paths) {
        if let Ok(metadata) = fs::metadata(&folder) {
            files.exposures.extend(reader.judge(&folder, &metadata));
        }
    }
    Ok(files)
}

/// Returns the folders in which somebody could put other files in the place of these: those that
/// the paths name, and those that symbolic links lead to. What is no file is not looked for there.
fn folders(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in paths.iter().filter(|path| path.is_file()) {
        let absolute = std::path::absolute(path).ok();
        let real = path.canonicalize().ok();
        let parents = [absolute, real].into_iter().flatten();
        folders.extend(parents.filter_map(|path| path.parent().map(Path::to_owned)));
    }
    folders
}

/// Reads a file, and tells who else can write it: of the file that was read.
fn read(path: &Path, reader: &Reader) -> io::Result<(Vec<u8>, Vec<Exposure>)> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let exposures = if metadata.is_file() {
        reader.judge(path, &metadata)
    } else {
        Vec::new()
    };
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it has more than {} MiB", FILE_MAX >> 20),
        ));
    }
    Ok((bytes, exposures))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const NODE: &str = "[[node]]\nname = \"edge-1\"\n";

    /// A folder with these files.
    fn place(files: &[(&str, &str)]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join(folder::DROP_INS)).unwrap();
        for (name, text) in files {
            fs::write(place.path().join(name), text).unwrap();
        }
        place
    }

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
    fn drop_ins_are_merged_in_their_order() {
        let place = place(&[
            ("a.toml", NODE),
            ("conf.d/20.toml", "[routing]\nhost_routing = \"legacy\"\n"),
            (
                "conf.d/10.toml",
                "[routing]\nhost_routing = \"bpf\"\nendpoint_routes = true\n",
            ),
            ("conf.d/30.toml", "[[node]]\nname = \"edge-2\"\n"),
        ]);

        let (config, source) = load(&place.path().join("a.toml")).unwrap();

        assert_eq!(config.host_routing, crate::config::HostRouting::Legacy);
        assert!(config.endpoint_routes);
        assert_eq!(config.nodes.len(), 2);
        assert_eq!(source.files().len(), 4);
    }

    #[test]
    fn all_files_that_cannot_be_read_are_named() {
        let place = place(&[("a.toml", NODE)]);
        fs::create_dir(place.path().join("conf.d/folder.toml")).unwrap();
        symlink("nowhere", place.path().join("conf.d/link.toml")).unwrap();

        let report = load(&place.path().join("a.toml")).unwrap_err();

        assert_eq!(report.count(), 2, "{report}");
        let text = report.to_string();
        assert!(
            text.contains("conf.d/folder.toml: error: read file: "),
            "{text}"
        );
        assert!(
            text.contains("conf.d/link.toml: error: read file: "),
            "{text}"
        );
    }

    #[test]
    fn who_acts_on_files_does_not_take_those_that_others_can_write() {
        let place = place(&[("a.toml", NODE), ("conf.d/10.toml", "")]);
        let file = place.path().join("a.toml");
        assert!(load_trusted(&file).is_ok(), "nobody else can write them");
        let set = |name: &str, mode| {
            fs::set_permissions(place.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };

        for (name, good, bad) in [
            ("a.toml", 0o600, 0o660),
            ("conf.d/10.toml", 0o644, 0o646),
            ("conf.d", 0o755, 0o777),
            ("", 0o700, 0o770),
        ] {
            set(name, bad);
            let report = load_trusted(&file).expect_err(name);
            assert_eq!(report.count(), 1, "{report}");
            assert!(report.to_string().contains(": error: "), "{report}");
            let (_, _, exposures) = load_with_exposures(&file).unwrap();
            assert_eq!(exposures.len(), 1, "{exposures:?}");
            set(name, good);
        }
        assert!(load_trusted(&file).is_ok(), "all is well again");
    }

    #[test]
    fn folder_that_a_symbolic_link_leads_to_counts() {
        let place = place(&[("conf.d/a.toml", NODE)]);
        fs::create_dir(place.path().join("etc")).unwrap();
        let file = place.path().join("etc/a.toml");
        symlink("../conf.d/a.toml", &file).unwrap();
        assert!(load_trusted(&file).is_ok());

        let mode = fs::Permissions::from_mode(0o777);
        fs::set_permissions(place.path().join("conf.d"), mode).unwrap();

        assert!(load_trusted(&file).is_err());
    }
}
