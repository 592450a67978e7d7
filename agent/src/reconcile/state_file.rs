//! What has to be remembered from one run to the next, in `<state-dir>/<node>/state.json`.
//!
//! The kernel tells everything else: which objects are ours can be read from their marks. A
//! sysctl has no mark, so its original value stands here, written before the sysctl is; and a
//! namespace that left the file has a name that only this file still knows.
//!
//! The file is replaced as a whole (a temporary file, then a rename), so that a reader sees the
//! old or the new content and never half of one, and only if the content changed. One that is
//! damaged all the same counts as empty, and is set aside as `state.json.bad` before another one
//! takes its place: a person may still read from it what was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FileError;
use crate::host::netns::Identity;
use crate::plan::host_routing::Choice;
use crate::plan::object::Netns;

const SCHEMA: u32 = 1;

/// Is the state file of one node, read once and written when it changes.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    content: Content,
    /// What is wrong with the file that is there.
    damage: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    schema: u32,
    /// The configuration file that was applied last.
    config: Option<PathBuf>,
    /// Tells the topologies apart that were applied.
    #[serde(default)]
    applied: Option<String>,
    /// Tells the topology that was tried last, and taken back, from others.
    #[serde(default)]
    rejected: Option<String>,
    /// Original values of the sysctls that are ours, by path below `/proc/sys`.
    sysctls: BTreeMap<String, String>,
    /// By path of a sysctl that is ours: original values of those that the kernel overwrites
    /// with it.
    #[serde(default)]
    bystanders: BTreeMap<String, BTreeMap<String, String>>,
    /// MTUs from before us of devices whose MTU is ours.
    #[serde(default)]
    mtus: BTreeMap<String, u32>,
    /// Files that we wrote name servers to.
    #[serde(default)]
    name_servers: BTreeSet<PathBuf>,
    /// Ports that we reserved, in the notation of the sysctl; others may add some of theirs.
    #[serde(default)]
    reserved: Option<String>,
    /// Where the links of endpoints were put, by name of the endpoint.
    #[serde(default)]
    netns: BTreeMap<String, Netns>,
    /// The network namespace that the node was set up in.
    #[serde(default)]
    namespace: Option<Identity>,
    /// How packets get from one device to the other, and why.
    #[serde(default)]
    host_routing: Option<Choice>,
    /// When policy is enforced, as the file that was applied last says.
    #[serde(default)]
    enforcement: Option<String>,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            config: None,
            applied: None,
            rejected: None,
            sysctls: BTreeMap::new(),
            bystanders: BTreeMap::new(),
            mtus: BTreeMap::new(),
            name_servers: BTreeSet::new(),
            reserved: None,
            netns: BTreeMap::new(),
            namespace: None,
            host_routing: None,
            enforcement: None,
        }
    }
}

impl StateFile {
    /// Reads the file in a node's state directory; one that is missing or damaged is empty.
    ///
    /// # Errors
    /// If the file is there and cannot be read, or if another version of ciliate wrote it.
    pub fn load(directory: &Path) -> Result<Self, FileError> {
        let path = directory.join("state.json");
        let (content, damage) = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => (Content::default(), None),
            other => {
                let bytes = other.map_err(FileError::at("read state", &path))?;
                expect_schema(&bytes).map_err(FileError::at("read state", &path))?;
                match serde_json::from_slice(&bytes) {
                    Ok(content) => (content, None),
                    Err(error) => (Content::default(), Some(error.to_string())),
                }
            }
        };
        Ok(Self {
            path,
            content,
            damage,
        })
    }

    /// Warns if the file is damaged; nothing is written.
    pub fn warn_of_damage(&self) {
        if let Some(damage) = &self.damage {
            log::warn!(
                "state {}: {damage}; taken as empty: the original values of sysctls and the \
                 network namespace of the node are not known",
                self.path.display()
            );
        }
    }

    /// Renames the file if it is damaged, with a warning that says what is lost.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn set_aside_if_damaged(&mut self) -> Result<(), FileError> {
        let Some(damage) = &self.damage else {
            return Ok(());
        };
        let aside = self.path.with_extension("json.bad");
        fs::rename(&self.path, &aside).map_err(FileError::at("set aside state", &self.path))?;
        log::warn!(
            "state {}: {damage}; kept as {}: sysctls stay as they are when the node goes, and \
             links in another network namespace than this one are not found",
            self.path.display(),
            aside.display()
        );
        self.damage = None;
        Ok(())
    }

    /// Returns the configuration file that was applied last.
    pub fn config(&self) -> Option<&Path> {
        self.content.config.as_deref()
    }

    /// Returns what tells the topology that was applied last from others.
    pub fn applied(&self) -> Option<&str> {
        self.content.applied.as_deref()
    }

    /// Records the configuration file that is applied, and what tells its topology from others.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_applied(&mut self, config: &Path, topology: &str) -> Result<(), FileError> {
        self.update(|content| {
            content.config = Some(config.to_owned());
            content.applied = Some(topology.to_owned());
            // Whoever applies what was taken back means it.
            content.rejected.take_if(|rejected| rejected == topology);
        })
    }

    /// Returns what tells the topology from others that was tried last and taken back.
    pub fn rejected(&self) -> Option<&str> {
        self.content.rejected.as_deref()
    }

    /// Records a topology that was tried and taken back.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_rejected(&mut self, topology: &str) -> Result<(), FileError> {
        self.update(|content| content.rejected = Some(topology.to_owned()))
    }

    /// Returns how packets get from one device to the other, and why.
    pub fn host_routing(&self) -> Option<&Choice> {
        self.content.host_routing.as_ref()
    }

    /// Returns when policy is enforced, if that is recorded.
    pub fn enforcement(&self) -> Option<&str> {
        self.content.enforcement.as_deref()
    }

    /// Records when policy is enforced: the kernel holds only what follows from it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_enforcement(&mut self, enforcement: &str) -> Result<(), FileError> {
        self.update(|content| content.enforcement = Some(enforcement.to_owned()))
    }

    /// Records how packets get from one device to the other: the kernel does not tell why.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_host_routing(&mut self, choice: Option<&Choice>) -> Result<(), FileError> {
        self.update(|content| content.host_routing = choice.cloned())
    }

    /// Returns the network namespace that the node was set up in.
    pub fn namespace(&self) -> Option<Identity> {
        self.content.namespace
    }

    /// Records the network namespace that the node is set up in.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_namespace(&mut self, namespace: Identity) -> Result<(), FileError> {
        self.update(|content| content.namespace = Some(namespace))
    }

    /// Returns the sysctls that are ours with their original values.
    pub fn sysctls(&self) -> &BTreeMap<String, String> {
        &self.content.sysctls
    }

    /// Records the value that a sysctl had before it became ours.
    ///
    /// Call it before the sysctl is written, and only if it is not ours yet.
    ///
    /// # Errors
    /// If the file cannot be written; the sysctl must then stay as it is.
    pub fn record_sysctl(&mut self, path: &str, original: &str) -> Result<(), FileError> {
        self.update(|content| {
            content.sysctls.insert(path.to_owned(), original.to_owned());
        })
    }

    /// Returns the original values that the kernel overwrites with sysctls that are ours.
    pub fn bystanders(&self) -> &BTreeMap<String, BTreeMap<String, String>> {
        &self.content.bystanders
    }

    /// Records the values that the kernel overwrites when a sysctl is written.
    ///
    /// Call it before [`Self::record_sysctl`], so that none of them is missing when the sysctl
    /// counts as ours.
    ///
    /// # Errors
    /// If the file cannot be written; the sysctl must then stay as it is.
    pub fn record_bystanders(
        &mut self,
        path: &str,
        originals: &BTreeMap<String, String>,
    ) -> Result<(), FileError> {
        self.update(|content| {
            if originals.is_empty() {
                content.bystanders.remove(path);
            } else {
                content
                    .bystanders
                    .insert(path.to_owned(), originals.clone());
            }
        })
    }

    /// Forgets a sysctl, after its original value is back or its link is gone.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn forget_sysctl(&mut self, path: &str) -> Result<(), FileError> {
        self.update(|content| {
            content.sysctls.remove(path);
            content.bystanders.remove(path);
        })
    }

    /// Returns the folder that the file is in: the node's.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Returns the devices whose MTU is ours, with their MTUs from before us.
    pub fn mtus(&self) -> &BTreeMap<String, u32> {
        &self.content.mtus
    }

    /// Records the MTU that a device had before it became ours, unless it is ours; call it before
    /// the MTU is set.
    ///
    /// # Errors
    /// If the file cannot be written; the MTU must then stay as it is.
    pub fn record_mtu(&mut self, device: &str, original: u32) -> Result<(), FileError> {
        self.update(|content| {
            content.mtus.entry(device.to_owned()).or_insert(original);
        })
    }

    /// Forgets the MTU of a device, after its original one is back.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn forget_mtu(&mut self, device: &str) -> Result<(), FileError> {
        self.update(|content| {
            content.mtus.remove(device);
        })
    }

    /// Returns the files that we wrote name servers to.
    pub fn name_servers(&self) -> &BTreeSet<PathBuf> {
        &self.content.name_servers
    }

    /// Records whether we wrote name servers to a file; call it before it is written, and after it
    /// is gone.
    ///
    /// # Errors
    /// If the state file cannot be written.
    pub fn set_name_servers(&mut self, path: &Path, are_ours: bool) -> Result<(), FileError> {
        self.update(|content| {
            if are_ours {
                content.name_servers.insert(path.to_owned());
            } else {
                content.name_servers.remove(path);
            }
        })
    }

    /// Returns the ports that we reserved from the host.
    pub fn reserved(&self) -> Option<&str> {
        self.content.reserved.as_deref()
    }

    /// Records the ports that we reserve from the host; call it before the sysctl is written.
    ///
    /// # Errors
    /// If the file cannot be written; the sysctl must then stay as it is.
    pub fn set_reserved(&mut self, ports: Option<String>) -> Result<(), FileError> {
        self.update(|content| content.reserved = ports)
    }

    /// Returns the namespace in which an endpoint's link was put.
    pub fn netns(&self, endpoint: &str) -> Option<&Netns> {
        self.content.netns.get(endpoint)
    }

    /// Records the namespaces of endpoints that have none recorded, all at once.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add_netns(&mut self, endpoints: BTreeMap<String, Netns>) -> Result<(), FileError> {
        self.update(|content| {
            for (endpoint, netns) in endpoints {
                content.netns.entry(endpoint).or_insert(netns);
            }
        })
    }

    /// Records the namespace in which an endpoint's link is put; `None` forgets it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_netns(&mut self, endpoint: &str, netns: Option<&Netns>) -> Result<(), FileError> {
        self.update(|content| match netns {
            Some(netns) => {
                content.netns.insert(endpoint.to_owned(), netns.clone());
            }
            None => {
                content.netns.remove(endpoint);
            }
        })
    }

    /// Removes the file, and the directories above it that are empty then: the node's and the
    /// one of all nodes.
    ///
    /// # Errors
    /// If the file is there and cannot be removed.
    pub fn remove(self) -> Result<(), FileError> {
        for path in [&self.path, &temporary(&self.path)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(FileError::at("remove state", path)(error));
                }
                _ => {}
            }
        }
        for directory in self.path.ancestors().skip(1).take(2) {
            // Another node or another file may be there: then the directory stays.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn update(&mut self, change: impl FnOnce(&mut Content)) -> Result<(), FileError> {
        let mut content = self.content.clone();
        change(&mut content);
        if content != self.content {
            self.set_aside_if_damaged()?;
            save(&self.path, &content)?;
            self.content = content;
        }
        Ok(())
    }
}

/// Refuses what another version wrote, however much of it can be read.
fn expect_schema(bytes: &[u8]) -> std::io::Result<()> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    match serde_json::from_slice(bytes) {
        Ok(Versioned { schema }) if schema != SCHEMA => {
            let text = format!("schema {schema} instead of {SCHEMA}");
            Err(std::io::Error::new(ErrorKind::InvalidData, text))
        }
        _ => Ok(()),
    }
}

fn save(path: &Path, content: &Content) -> Result<(), FileError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(FileError::at("create directory", directory))?;
    }
    let text = serde_json::to_vec_pretty(content).expect("the state is plain data");
    let temporary = temporary(path);
    // Not forced to a disk: what it tells of ends with the machine.
    fs::write(&temporary, text).map_err(FileError::at("write state", &temporary))?;
    fs::rename(&temporary, path).map_err(FileError::at("replace state", path))
}

/// Returns where a new content is written first; a killed run leaves it there.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension("json.tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

    #[test]
    fn original_of_a_sysctl_is_found_by_the_next_run() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("edge-1");

        let mut file = StateFile::load(&node).unwrap();
        file.record_sysctl(FORWARDING, "0").unwrap();

        let next = StateFile::load(&node).unwrap();
        assert_eq!(
            next.sysctls().get(FORWARDING).map(String::as_str),
            Some("0")
        );
        assert!(
            !node.join("state.json.tmp").exists(),
            "no temporary file should stay"
        );
    }

    #[test]
    fn bystanders_are_found_by_the_next_run_and_forgotten_with_their_sysctl() {
        let directory = tempfile::tempdir().unwrap();
        let others = BTreeMap::from([("net/ipv6/conf/d0/forwarding".into(), "1".into())]);

        let mut file = StateFile::load(directory.path()).unwrap();
        file.record_bystanders(FORWARDING, &others).unwrap();
        file.record_sysctl(FORWARDING, "0").unwrap();

        let mut next = StateFile::load(directory.path()).unwrap();
        assert_eq!(next.bystanders().get(FORWARDING), Some(&others));
        next.forget_sysctl(FORWARDING).unwrap();
        assert!(next.bystanders().is_empty(), "should be forgotten");
    }

    #[test]
    fn file_is_not_written_when_nothing_changes() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::load(directory.path()).unwrap();
        file.set_applied(Path::new("/etc/ciliate/ciliate.toml"), "1")
            .unwrap();
        fs::remove_file(directory.path().join("state.json")).unwrap();

        file.set_applied(Path::new("/etc/ciliate/ciliate.toml"), "1")
            .unwrap();
        file.forget_sysctl(FORWARDING).unwrap();

        assert!(
            !directory.path().join("state.json").exists(),
            "nothing should be written"
        );
    }

    #[test]
    fn what_was_taken_back_is_remembered_until_somebody_applies_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::load(directory.path()).unwrap();
        let config = Path::new("/etc/ciliate/ciliate.toml");

        file.set_rejected("2").unwrap();
        file.set_applied(config, "1").unwrap();
        assert_eq!(file.rejected(), Some("2"));

        file.set_applied(config, "2").unwrap();
        assert_eq!(file.rejected(), None);
    }

    #[test]
    fn removed_file_takes_its_empty_directories_along() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path().join("ciliate");
        let mut first = StateFile::load(&state_dir.join("edge-1")).unwrap();
        let mut second = StateFile::load(&state_dir.join("edge-2")).unwrap();
        first.record_sysctl(FORWARDING, "0").unwrap();
        second.record_sysctl(FORWARDING, "0").unwrap();

        first.remove().unwrap();
        assert!(
            !state_dir.join("edge-1").exists(),
            "the directory of the node should be gone"
        );
        assert!(
            state_dir.join("edge-2").exists(),
            "another node should be left alone"
        );

        second.remove().unwrap();
        assert!(
            !state_dir.exists(),
            "the last node should take the common directory along"
        );
    }

    #[test]
    fn half_written_file_of_a_killed_run_is_removed_with_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("ciliate/edge-1");
        let mut file = StateFile::load(&node).unwrap();
        file.record_sysctl(FORWARDING, "0").unwrap();
        fs::write(node.join("state.json.tmp"), "{").unwrap();

        file.remove().unwrap();

        assert!(!node.exists(), "nothing should be left");
    }

    #[test]
    fn damaged_file_counts_as_empty_and_is_set_aside_by_the_first_change() {
        for damaged in ["", "{", "\u{fffd}", r#"{"schema": 1}"#] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("state.json");
            fs::write(&path, damaged).unwrap();

            let mut file = StateFile::load(directory.path()).unwrap();
            file.warn_of_damage();
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged, "only read");
            file.record_sysctl(FORWARDING, "0").unwrap();

            let kept = fs::read_to_string(directory.path().join("state.json.bad"));
            assert_eq!(kept.unwrap(), damaged);
            let next = StateFile::load(directory.path()).unwrap();
            assert_eq!(next.sysctls().len(), 1);
        }
    }

    #[test]
    fn file_of_another_schema_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"{"schema": 2, "config": []}"#;
        fs::write(directory.path().join("state.json"), text).unwrap();

        let error = StateFile::load(directory.path()).unwrap_err().to_string();

        assert!(
            error.ends_with("state.json: schema 2 instead of 1"),
            "{error}"
        );
    }
}
