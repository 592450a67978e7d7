//! The privileges of a resident agent: given up after its start, and told by `status`.
//!
//! The reasons are in `<state-dir>/<node>/agent/privileges.json`, which the agent writes when they
//! change; what it holds is asked of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use caps::Capability;

use super::failure::Failure;
use super::instance::Instance;
use crate::daemon::privilege::{Need, needs, unmet};
use crate::daemon::warning::PRIVILEGE;
use crate::host::capability;
use crate::observe::status::Privilege;
use crate::topology::Topology;

const NAME: &str = "privileges.json";
const TEMPORARY: &str = "privileges.json.tmp";

/// Is what the agent of a node may do.
#[derive(Debug)]
pub struct Privileges {
    folder: PathBuf,
}

impl Privileges {
    /// Begins with all that the process has, in an agent's folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Refuses a topology for which something was given up.
    ///
    /// # Errors
    /// If there is such a thing.
    pub fn expect(&self, topology: &Topology) -> Result<(), Failure> {
        let unmet = unmet(needs(topology), &capability::held()?);
        if unmet.is_empty() {
            Ok(())
        } else {
            Err(Failure::Privilege(list(&unmet)))
        }
    }

    /// Keeps what a topology needs, and gives up the rest for good.
    pub fn keep(&self, topology: &Topology) -> Result<(), Failure> {
        let needs = needs(topology);
        capability::keep_only(&needs.iter().map(|need| need.capability).collect())?;
        let unmet = unmet(needs.clone(), &capability::held()?);
        if !unmet.is_empty() {
            // Whoever started us may know that it does not come to that.
            log::warn!(
                "{PRIVILEGE}: the agent has no {}: repairs that need it will fail",
                list(&unmet)
            );
        }
        if let Err(error) = self.record(&needs) {
            log::warn!(
                "{PRIVILEGE}: write {}: {error}",
                self.folder.join(NAME).display()
            );
        }
        Ok(())
    }

    /// Writes the reasons, unless they are written.
    fn record(&self, needs: &[Need]) -> std::io::Result<()> {
        let reasons: BTreeMap<String, &str> = needs
            .iter()
            .map(|need| (need.capability.to_string(), need.reason.as_str()))
            .collect();
        let text = serde_json::to_vec(&reasons)?;
        let (path, temporary) = (self.folder.join(NAME), self.folder.join(TEMPORARY));
        if fs::read(&path).is_ok_and(|found| found == text) {
            return Ok(());
        }
        fs::write(&temporary, text)?;
        fs::rename(temporary, path)
    }

    /// Removes the file, if there is one.
    pub fn remove(folder: &Path) {
        for name in [NAME, TEMPORARY] {
            // What stays keeps its folder, which tells.
            drop(fs::remove_file(folder.join(name)));
        }
    }
}

impl Instance {
    /// Returns what the agent of the node may do; nothing if none runs.
    pub fn privileges(&self) -> Vec<Privilege> {
        let held = self.agent_pid().and_then(capability::of_process);
        let reasons = reasons(&self.agent_folder());
        let told = |capability: Capability| {
            let name = capability.to_string();
            let reason = reasons.get(&name).cloned();
            Privilege {
                reason: reason.unwrap_or_else(|| "given up when the node is set up".to_owned()),
                name,
            }
        };
        held.into_iter().flatten().map(told).collect()
    }
}

fn reasons(folder: &Path) -> BTreeMap<String, String> {
    let text = fs::read(folder.join(NAME)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn list(needs: &[Need]) -> String {
    let words: BTreeSet<String> = needs
        .iter()
        .map(|need| format!("{} ({})", need.capability, need.reason))
        .collect();
    words.into_iter().collect::<Vec<_>>().join(", ")
}
