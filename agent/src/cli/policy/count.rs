//! What the terms of a node have counted, where the node is set up on this machine.
//!
//! Everything else here is told from the file alone. So a node that is elsewhere, or a caller who
//! may not read its tables, is no failure: the counters are left out, and it is said why.

use std::collections::BTreeMap;

use super::super::args::Common;
use super::super::instance::{Instance, fingerprint};
use crate::datapath::pin::Pins;
use crate::datapath::table;
use crate::reconcile::StateFile;
use crate::topology::Topology;

/// Holds what terms have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets and bytes by the numbers of terms, of those that have counted any; `None` if they
    /// are not known.
    pub terms: Option<BTreeMap<u16, (u64, u64)>>,
    /// Why they are not known, or what else is to be known of them.
    pub note: Option<String>,
}

impl Counters {
    fn unknown(why: &str) -> Self {
        Self {
            terms: None,
            note: Some(format!("no counters: {why}")),
        }
    }

    /// Returns the packets and bytes of a term, if they are known.
    pub(super) fn of(&self, term: u16) -> Option<(u64, u64)> {
        let terms = self.terms.as_ref()?;
        Some(terms.get(&term).copied().unwrap_or_default())
    }
}

/// Reads the counters of a node, if it is here.
pub(super) fn read(common: &Common, topology: &Topology) -> Counters {
    if !nix::unistd::geteuid().is_root() {
        return Counters::unknown("only root reads them");
    }
    let node = &topology.node;
    let instance = Instance::new(common, node);
    if !instance.exists() {
        return Counters::unknown(&format!("node {node} is not set up here"));
    }
    let counts = match table::read_terms(&Pins::new(instance.bpffs(), node)) {
        Ok(counts) => counts.into_iter(),
        Err(error) => return Counters::unknown(&error.to_string()),
    };
    let is_applied = StateFile::load(instance.directory())
        .is_ok_and(|state| state.applied() == Some(fingerprint(topology).as_str()));
    Counters {
        terms: Some(
            counts
                .map(|(number, count)| (number, (count.packets, count.bytes)))
                .collect(),
        ),
        note: (!is_applied).then(|| {
            "something else was applied last: what is new in this file has counted nothing"
                .to_owned()
        }),
    }
}
