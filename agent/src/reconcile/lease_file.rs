//! What DHCP servers lent to the devices of a node, in `<state-dir>/<node>/leases.json`.
//!
//! Whoever speaks with servers writes it: the resident agent, or an `apply` where none runs. Every
//! run reads it, for a lease that is valid is part of what is desired. Its moments count from the
//! start of the machine, so a file of an earlier start tells only what to ask for again.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FileError;
use crate::host::clock;
use crate::plan::lease::{Lease, Moment};

const NAME: &str = "leases.json";
const TEMPORARY: &str = "leases.json.tmp";

/// Is the file of one node.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    content: Content,
    /// Whether it was written since the machine started.
    is_of_this_boot: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    /// Tells one start of the machine from the next.
    boot: String,
    /// By name of the device; `None` for one that waits for a lease.
    leases: BTreeMap<String, Option<Lease>>,
}

impl LeaseFile {
    /// Reads the file in a node's folder; one that is missing or damaged holds no lease.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(NAME);
        let content: Content = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Content::default(),
            other => {
                let bytes = other.map_err(FileError::at("read leases", &path))?;
                serde_json::from_slice(&bytes).unwrap_or_default()
            }
        };
        Ok(Self {
            is_of_this_boot: content.boot == clock::boot(),
            path,
            content,
        })
    }

    /// Removes the file, if there is one.
    pub fn remove(folder: &Path) {
        for name in [NAME, TEMPORARY] {
            // What stays keeps its folder, which tells.
            drop(fs::remove_file(folder.join(name)));
        }
    }

    /// Returns the leases that are valid at a moment.
    pub fn valid(&self, now: Moment) -> BTreeMap<String, Lease> {
        let names = self.content.leases.keys();
        let leases = names.filter_map(|name| Some((name.clone(), self.last(name, now)?)));
        let valid = leases.filter(|(_, (_, is_valid))| *is_valid);
        valid.map(|(name, (lease, _))| (name, lease)).collect()
    }

    /// Returns what was lent to a device last, and whether that is valid at a moment.
    pub fn last(&self, device: &str, now: Moment) -> Option<(Lease, bool)> {
        let lease = self.content.leases.get(device)?.as_ref()?;
        let is_valid = self.is_of_this_boot && lease.is_valid(now);
        Some((lease.clone(), is_valid))
    }

    /// Tells whether there is a file.
    pub fn is_there(folder: &Path) -> bool {
        folder.join(NAME).exists()
    }

    /// Tells whether a device has a lease or waits for one.
    pub fn waits(&self, device: &str) -> bool {
        self.content.leases.contains_key(device)
    }

    /// Records what was lent to a device; `None` forgets it.
    ///
    /// # Errors
    /// If the file cannot be written; the next reader sees what was there before then.
    pub fn set(&mut self, device: &str, lease: Option<Lease>) -> Result<(), FileError> {
        let mut content = self.content.clone();
        if !self.is_of_this_boot {
            // What is left is of no use beside one that was got since.
            content.leases.values_mut().for_each(|lease| *lease = None);
            content.boot = clock::boot();
        }
        content.leases.insert(device.to_owned(), lease);
        self.replace(content)
    }

    fn replace(&mut self, content: Content) -> Result<(), FileError> {
        if content == self.content {
            return Ok(());
        }
        let failed = FileError::at("write leases", &self.path);
        let text = serde_json::to_vec(&content).map_err(|error| failed(error.into()))?;
        // A reader sees the old or the new content.
        let temporary = self.path.with_file_name(TEMPORARY);
        fs::write(&temporary, text).map_err(FileError::at("write leases", &temporary))?;
        fs::rename(&temporary, &self.path).map_err(FileError::at("write leases", &self.path))?;
        self.is_of_this_boot = content.boot == clock::boot();
        self.content = content;
        Ok(())
    }

    /// Forgets all devices but these, which have a lease or wait for one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn retain(&mut self, devices: &[String]) -> Result<(), FileError> {
        let mut content = self.content.clone();
        content.leases.retain(|name, _| devices.contains(name));
        for device in devices {
            content.leases.entry(device.clone()).or_default();
        }
        self.replace(content)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::plan::lease::Term;
    use crate::plan::object::Mac;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease() -> Lease {
        Lease {
            address: "192.0.2.7/24".parse().unwrap(),
            server: Ipv4Addr::new(192, 0, 2, 1),
            server_mac: Mac::default(),
            routes: Vec::new(),
            mtu: None,
            name_servers: Vec::new(),
            domain: None,
            obtained: SECOND,
            term: Some(Term {
                secs: 8,
                renew: 5 * SECOND,
                rebind: 8 * SECOND,
                expires: 9 * SECOND,
            }),
        }
    }

    #[test]
    fn lease_is_found_by_the_next_run_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LeaseFile::load(folder.path()).unwrap();
        file.set("eth0", Some(lease())).unwrap();

        let file = LeaseFile::load(folder.path()).unwrap();

        assert_eq!(
            file.valid(8 * SECOND),
            BTreeMap::from([("eth0".into(), lease())])
        );
        assert_eq!(file.valid(9 * SECOND), BTreeMap::new());
        assert_eq!(file.last("eth0", 9 * SECOND), Some((lease(), false)));
    }

    #[test]
    fn lease_of_an_earlier_start_of_the_machine_is_not_valid() {
        let folder = tempfile::tempdir().unwrap();
        let content = Content {
            boot: "another".into(),
            leases: BTreeMap::from([("eth0".into(), Some(lease()))]),
        };
        let text = serde_json::to_vec(&content).unwrap();
        fs::write(folder.path().join(NAME), text).unwrap();

        let file = LeaseFile::load(folder.path()).unwrap();

        assert_eq!(file.valid(SECOND), BTreeMap::new());
        assert_eq!(file.last("eth0", SECOND), Some((lease(), false)));
    }

    #[test]
    fn leases_of_other_devices_are_forgotten_and_damage_is_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LeaseFile::load(folder.path()).unwrap();
        file.set("eth0", Some(lease())).unwrap();
        file.set("eth1", Some(lease())).unwrap();

        file.retain(&["eth1".to_owned()]).unwrap();

        let file = LeaseFile::load(folder.path()).unwrap();
        let names: Vec<_> = file.valid(SECOND).into_keys().collect();
        assert_eq!(names, ["eth1"]);
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert_eq!(
            LeaseFile::load(folder.path()).unwrap().valid(SECOND).len(),
            0
        );
    }
}
