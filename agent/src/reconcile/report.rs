//! What a run did and how long it took.
//!
//! `apply` fills it in; `cli` prints it. Durations are wall-clock time as measured around each
//! call into the kernel, so that the sum of all phases is nearly the whole run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::plan::Plan;
use crate::plan::object::Key;

/// Groups steps by what they cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Reading the kernel, before and after.
    Observe,
    /// Mounting the BPF file system, loading and verifying programs, making maps.
    Load,
    /// Making links.
    Links,
    /// Addresses, routes, links set up.
    Addresses,
    /// Entries of maps.
    Entries,
    /// Attaching programs.
    Attach,
    Sysctls,
    /// Writing the journal.
    Journal,
}

/// Holds what a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The steps that were carried out.
    pub plan: Plan,
    /// How long each of them took, in the same order.
    pub durations: Vec<Duration>,
    /// How long the whole run took.
    pub total: Duration,
    phases: BTreeMap<Phase, (usize, Duration)>,
}

impl Report {
    /// Returns for each phase how many calls it had and how long they took together.
    pub fn phases(&self) -> &BTreeMap<Phase, (usize, Duration)> {
        &self.phases
    }

    pub(super) fn note(&mut self, phase: Phase, duration: Duration) {
        let (count, sum) = self.phases.entry(phase).or_default();
        *count += 1;
        *sum += duration;
    }

    pub(super) fn note_step(&mut self, key: &Key, duration: Duration) {
        self.durations.push(duration);
        self.note(Phase::of(key), duration);
    }
}

impl Phase {
    /// Returns the phase to which the steps of an object belong.
    pub fn of(key: &Key) -> Self {
        match key {
            Key::Bpffs | Key::Datapath | Key::Former => Self::Load,
            Key::HostLink | Key::EndpointLink(_) | Key::DeviceMtu(_) => Self::Links,
            Key::Address(..)
            | Key::Route(..)
            | Key::Rule(_)
            | Key::LinkUp(_)
            | Key::NameServers(_) => Self::Addresses,
            Key::NodeEntry
            | Key::EndpointEntry(_)
            | Key::DeviceEntry(_)
            | Key::Policy
            | Key::Generation => Self::Entries,
            Key::Attachment(..) | Key::Reassembly(_) => Self::Attach,
            Key::Sysctl(_) => Self::Sysctls,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Load => "load and verify",
            Self::Links => "links",
            Self::Addresses => "addresses and routes",
            Self::Entries => "map entries",
            Self::Attach => "attach",
            Self::Sysctls => "sysctls",
            Self::Journal => "journal",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (phase, (count, duration)) in &self.phases {
            let millis = duration.as_secs_f64() * 1000.0;
            writeln!(f, "{:<21}{millis:>8.2} ms  ({count})", phase.name())?;
        }
        writeln!(
            f,
            "{:<21}{:>8.2} ms",
            "total",
            self.total.as_secs_f64() * 1000.0
        )
    }
}
