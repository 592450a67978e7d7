//! One node that a verb works on: its name, its topology, its folders.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::args::{Common, DEFAULT_FILE, File};
use super::check;
use super::failure::Failure;
use super::machine;
use crate::config::source::Part;
use crate::config::{self, Config, Report, Source, name};
use crate::datapath::pin::Pins;
use crate::host::Error;
use crate::host::lock::Lock;
use crate::host::netns;
use crate::reconcile::edition::{Edition, Text};
use crate::reconcile::{Journal, StateFile, System};
use crate::topology::{Resolver, Topology};

/// Files that make a folder the one of a node; a run that is killed leaves at least the last.
const TRACES: [&str; 3] = ["state.json", "journal", "lock"];

/// How long a run of another process is waited for: a repair of the agent, as a rule.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How often the lock is tried meanwhile.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Refuses a node on the command line that no file could have: its name becomes a folder.
///
/// # Errors
/// If it is none.
pub fn check_node(common: &Common) -> Result<(), Failure> {
    match &common.node {
        Some(node) if !name::is_valid(node) => Err(Failure::Usage(format!(
            "--node {node:?} is not a name: names are made of a-z, 0-9, `-` and `.`, begin and end \
             with a letter or a digit, and have at most {} characters",
            name::NAME_MAX
        ))),
        _ => Ok(()),
    }
}

/// Returns the file that a verb reads.
///
/// # Errors
/// If the command line names two different ones.
pub fn file(common: &Common, file: &File) -> Result<PathBuf, Failure> {
    match (&common.config, &file.file) {
        (Some(one), Some(other)) if !is_same(one, other) => Err(Failure::Usage(format!(
            "two different files: --config {} and {}",
            one.display(),
            other.display()
        ))),
        (Some(file), _) | (None, Some(file)) => Ok(file.clone()),
        (None, None) => Ok(PathBuf::from(DEFAULT_FILE)),
    }
}

/// Tells whether two paths lead to the same file; of one that is missing, the path counts.
fn is_same(one: &Path, other: &Path) -> bool {
    let found = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    one == other || found(one) == found(other)
}

/// Loads a file and validates all of its nodes.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<(Config, Source), Failure> {
    let (config, source) = load_to_look(path)?;
    check::validate(&Resolver::new(&config), &source, None)?;
    Ok((config, source))
}

/// Loads a file for who does not act on it: that others can write it is a warning.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_to_look(path: &Path) -> Result<(Config, Source), Report> {
    let (config, source, exposures) = config::load::load_with_exposures(path)?;
    for exposure in exposures {
        log::warn!("{exposure}");
    }
    Ok((config, source))
}

/// Resolves a file for the node that this machine plays, for who only looks.
///
/// # Errors
/// Everything that is wrong with the file, and a node that cannot be told.
pub fn topology(path: &Path, node: Option<&str>) -> Result<Topology, Failure> {
    let (config, source) = load_to_look(path)?;
    resolve(&config, &source, node)
}

/// Resolves a file for who makes the node what it says, and returns what the file said, too.
///
/// # Errors
/// As [`topology`], and if others can write the file.
pub fn read(path: &Path, node: Option<&str>) -> Result<(Topology, Edition), Failure> {
    let (config, source) = config::load::load_trusted(path)?;
    let topology = resolve(&config, &source, node)?;
    Ok((topology, edition(path, &source)?))
}

/// Resolves what a file said when it was applied.
///
/// # Errors
/// If the agent takes it for wrong, which it did not then.
pub fn reread(edition: &Edition, node: &str) -> Result<Topology, Failure> {
    if edition.texts.is_empty() {
        return Err(Failure::Unrecorded(node.to_owned()));
    }
    let texts = edition.texts.iter();
    let texts = texts.map(|text| (text.path.as_str(), text.text.as_bytes()));
    let source =
        Source::from_files(texts).map_err(|(source, errors)| Report::new(&source, &errors))?;
    let config = Config::read(&source).map_err(|errors| Report::new(&source, &errors))?;
    resolve(&config, &source, Some(node))
}

/// Returns what a file says, to be kept.
///
/// # Errors
/// If the present folder is not known.
pub fn edition(path: &Path, source: &Source) -> Result<Edition, Failure> {
    let text = |part: &Part| Text {
        path: part.path().to_owned(),
        text: part.text().to_owned(),
    };
    Ok(Edition {
        file: absolute(path)?,
        texts: source.files().iter().map(text).collect(),
    })
}

fn resolve(config: &Config, source: &Source, node: Option<&str>) -> Result<Topology, Failure> {
    let resolver = Resolver::new(config);
    check::validate(&resolver, source, None)?;
    resolver
        .resolve(node, machine::hostname().as_deref())
        .map_err(|errors| Report::new(source, &errors).into())
}

/// Returns what tells a topology from others, as long as the agent is the same.
pub fn fingerprint(topology: &Topology) -> String {
    let digest = hex::encode(Sha256::digest(format!("{topology:?}")));
    digest[..16].to_owned()
}

/// Returns the path that leads to a file from every folder.
///
/// # Errors
/// If the present folder is not known.
pub fn absolute(file: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(file).map_err(|source| Failure::Path {
        path: file.to_owned(),
        source,
    })
}

/// Knows the folders of one node.
#[derive(Clone, Debug)]
pub struct Instance {
    pub node: String,
    directory: PathBuf,
    bpffs: PathBuf,
}

impl Instance {
    /// Names the folders of a node.
    pub fn new(common: &Common, node: &str) -> Self {
        Self {
            node: node.to_owned(),
            directory: common.state_dir.join(node),
            bpffs: common.bpffs.clone(),
        }
    }

    /// Finds the node that was set up here, without a file.
    ///
    /// # Errors
    /// If there is none, or several and the command line names none of them.
    pub fn find(common: &Common) -> Result<Self, Failure> {
        if let Some(node) = &common.node {
            let instance = Self::new(common, node);
            return if instance.exists() {
                Ok(instance)
            } else {
                Err(Failure::NotSetUp(format!("node {node} is not set up here")))
            };
        }
        let nodes = nodes(common);
        match nodes.as_slice() {
            [] => Err(Failure::NotSetUp("no node is set up here".to_owned())),
            [node] => Ok(Self::new(common, node)),
            several => Err(Failure::Usage(format!(
                "several nodes are set up here: name one with --node ({})",
                several.join(", ")
            ))),
        }
    }

    /// Tells whether something of the node is here.
    pub fn exists(&self) -> bool {
        let is_file = |name| self.directory.join(name).is_file();
        TRACES.into_iter().any(is_file) || self.has_pins()
    }

    /// Tells whether the datapath of the node is pinned.
    pub fn has_pins(&self) -> bool {
        Pins::new(&self.bpffs, &self.node).exist()
    }

    /// Returns the folder of the node's state.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the mount point of the BPF file system.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Runs `work` in the network namespace that the node was set up in, or in the caller's if
    /// there is none yet or it is gone.
    ///
    /// # Errors
    /// If the namespace cannot be entered, and whatever `work` says.
    pub fn enter<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        match self.whereabouts()? {
            Whereabouts::Elsewhere(namespace) => netns::in_netns(&namespace, work)?,
            Whereabouts::Here | Whereabouts::Gone => work(),
        }
    }

    /// Finds the network namespace that the node was set up in.
    ///
    /// # Errors
    /// If the state file or a namespace cannot be read.
    pub fn whereabouts(&self) -> Result<Whereabouts, Failure> {
        let state = StateFile::load(&self.directory)?;
        let own = netns::identity(netns::open_own()?)?;
        let Some(namespace) = state.namespace().filter(|namespace| *namespace != own) else {
            return Ok(Whereabouts::Here);
        };
        let found = netns::find(namespace)?;
        Ok(found.map_or(Whereabouts::Gone, Whereabouts::Elsewhere))
    }

    /// Refuses to work in this namespace on a node that is alive in another one.
    ///
    /// # Errors
    /// If it is, and whatever [`Self::whereabouts`] says.
    pub fn expect_not_elsewhere(&self) -> Result<(), Failure> {
        match self.whereabouts()? {
            Whereabouts::Elsewhere(_) => Err(Failure::Elsewhere(self.node.clone())),
            Whereabouts::Here | Whereabouts::Gone => Ok(()),
        }
    }

    /// Prepares to read the node, in the namespace of this thread.
    ///
    /// # Errors
    /// If its state file cannot be read.
    pub fn system(&self) -> Result<System, Failure> {
        let mut system = self.system_to_look()?;
        system.state().warn_of_damage();
        Ok(system)
    }

    /// Prepares the same for who looks again and again: a damaged state file is not told.
    ///
    /// # Errors
    /// If its state file cannot be read.
    pub fn system_to_look(&self) -> Result<System, Failure> {
        let state = StateFile::load(&self.directory)?;
        Ok(System::new(&self.node, &self.bpffs, state))
    }

    /// Prepares to change the node, in the namespace of this thread.
    ///
    /// # Errors
    /// If its state file cannot be read, or not be set aside.
    pub fn system_to_change(&self) -> Result<System, Failure> {
        let mut state = StateFile::load(&self.directory)?;
        state.set_aside_if_damaged()?;
        Ok(System::new(&self.node, &self.bpffs, state))
    }

    /// Returns the journal of the node.
    pub fn journal(&self) -> Journal {
        Journal::new(&self.directory)
    }

    /// Tells whether a run was interrupted, or could not be undone.
    pub fn is_half_done(&self) -> bool {
        !matches!(self.journal().left_over(), Ok(None))
    }

    /// Takes the lock of the node.
    ///
    /// # Errors
    /// If another process holds it for a while.
    pub fn lock(&self) -> Result<Lock, Failure> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match Lock::take(&self.directory) {
                Err(Error::Locked { .. }) if Instant::now() < deadline => thread::sleep(LOCK_PAUSE),
                other => return Ok(other?),
            }
        }
    }

    /// Takes the lock of the node, unless another process holds it.
    ///
    /// # Errors
    /// If the lock cannot be tried.
    pub fn try_lock(&self) -> Result<Option<Lock>, Failure> {
        match Lock::take(&self.directory) {
            Err(Error::Locked { .. }) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// Removes the node's folder and the one of all nodes, as far as they are empty.
    pub fn remove_folders(&self) {
        for folder in [Some(self.directory.as_path()), self.directory.parent()] {
            // What somebody else put there keeps the folder.
            if folder.is_none_or(|folder| fs::remove_dir(folder).is_err()) {
                break;
            }
        }
    }
}

/// Tells which network namespace a node was set up in.
#[derive(Debug)]
pub enum Whereabouts {
    /// In the caller's, or in none yet.
    Here,
    /// In this one, which lives as long as somebody holds it.
    Elsewhere(OwnedFd),
    /// In one that nobody holds any more: its links went with it.
    Gone,
}

/// Lists the nodes that were set up here; what else lies beside their folders is not ours.
fn nodes(common: &Common) -> Vec<String> {
    let folders = fs::read_dir(&common.state_dir).into_iter().flatten();
    let folders = folders.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = folders
        .chain(Pins::nodes(&common.bpffs))
        .filter(|name| name::is_valid(name) && Instance::new(common, name).exists())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::Command;

    fn common(line: &[&str]) -> Common {
        let words = ["ciliate"].iter().chain(line).chain(&["status"]);
        Command::try_parse_from(words).expect("parse").common
    }

    #[test]
    fn node_that_could_lead_out_of_the_folder_is_refused() {
        for bad in ["/run/victim", "/", "", "..", ".", "a/b", "Edge"] {
            let verdict = check_node(&common(&["--node", bad]));
            assert!(matches!(verdict, Err(Failure::Usage(_))), "{bad:?}");
        }
        assert!(check_node(&common(&["--node", "edge-1"])).is_ok());
        assert!(check_node(&common(&[])).is_ok());
    }

    #[test]
    fn one_file_may_be_named_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, other] = ["a.toml", "./a.toml"].map(|name| folder.path().join(name));
        fs::write(&one, "").expect("write");

        assert!(is_same(&one, &other));
        assert!(is_same(Path::new("missing"), Path::new("missing")));
        assert!(!is_same(&one, Path::new("missing")));
    }

    #[test]
    fn only_folders_with_something_of_ours_are_nodes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (states, bpffs) = (folder.path().join("run"), folder.path().join("bpf"));
        for node in [
            "run/edge-1",
            "run/other",
            "run/Not-ours",
            "bpf/ciliate/edge-2",
        ] {
            fs::create_dir_all(folder.path().join(node)).expect("make a folder");
        }
        for file in ["edge-1/lock", "Not-ours/lock", "stray"] {
            fs::write(states.join(file), "").expect("write");
        }
        let mut common = common(&[]);
        (common.state_dir, common.bpffs) = (states, bpffs);

        assert_eq!(nodes(&common), ["edge-1", "edge-2"]);
        assert!(!Instance::new(&common, "other").exists());
    }
}
