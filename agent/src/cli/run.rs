//! `ciliate run`: sets the node up as `apply` does, and keeps it so.
//!
//! Who else works on the node meanwhile: `apply` may (the agent keeps the node as what was applied
//! last says), `down` and a second agent are refused. A lock that the agent holds all the time
//! tells them; the node's own lock is taken for each repair only, so that `status` and `apply` do
//! not wait for it.

use std::path::Path;
use std::time::Duration;

use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance, Whereabouts};
use super::kept::{Awaited, Kept};
use crate::daemon::{Chore, Control, Edits, Pace, Sources, Watch, service, warning};
use crate::datapath::pin::Pins;
use crate::datapath::sweep::Sweep;
use crate::host::{capability, netns};
use crate::reconcile::drift::DriftFile;
use crate::reconcile::{Edition, LeaseFile};
use crate::topology::Topology;

/// How often a piece of the tables of bindings is swept: a full one of 32,768 entries takes eight
/// seconds.
const SWEEP_PERIOD: Duration = Duration::from_millis(250);

/// Sets the node up and keeps it until TERM or INT. Returns the exit code.
///
/// # Errors
/// If the file is wrong, another agent keeps the node, or it cannot be set up: what was done is
/// undone then.
pub fn run(common: &Common, file: &Path) -> Result<u8, Failure> {
    capability::forbid_new()?;
    let file = instance::absolute(file)?;
    // Before it is read, so that no edit is missed.
    let edits = Edits::watch(&file)?;
    let given = instance::read(&file, common.node.as_deref())?;
    let (topology, _) = &given;
    let instance = Instance::new(common, &topology.node);
    // For good and with the first thread: no other one shall keep what this one gives up.
    if let Whereabouts::Elsewhere(namespace) = instance.whereabouts()? {
        netns::move_to(&namespace)?;
    }
    let lock = instance.agent_lock()?;
    let kept = keep(common, &instance, given, edits);
    if kept.is_err() && !instance.exists() {
        // The node did not come to be: nothing is left of it.
        drop(lock.remove());
        LeaseFile::remove(instance.directory());
        instance.remove_agent_folder();
        instance.remove_folders();
    }
    kept?;
    Ok(exit::OK)
}

fn keep(
    common: &Common,
    instance: &Instance,
    given: (Topology, Edition),
    edits: Edits,
) -> Result<(), Failure> {
    let mut sources = Sources::open(edits)?;
    service::progress(&format!("sets node {} up", instance.node));
    let mut kept = Kept::new(instance, given);
    if kept.await_devices(&mut sources)? == Awaited::Stopped {
        return Ok(());
    }
    let plan = kept.begin(common)?;
    match Control::open(&instance.control_socket()) {
        Ok(control) => sources.serve(control),
        Err(error) => {
            let code = warning::NO_SOCKET;
            log::warn!("{code}: {error}; the node is kept, and nobody can ask the agent");
        }
    }
    log::info!("node {} is set up: {}", instance.node, plan.summary());
    let drift = DriftFile::load(&instance.agent_folder())?;
    Ok(Watch::new(&mut kept, sources, drift, chores(instance)).run()?)
}

/// Lists what is done every few seconds beside keeping the node.
fn chores(instance: &Instance) -> Vec<Chore> {
    let mut sweep = Sweep::new(Pins::new(instance.bpffs(), &instance.node));
    vec![Chore::new("sweep bindings", SWEEP_PERIOD, move || {
        let found = sweep.turn()?;
        Ok(if found { Pace::Busy } else { Pace::Idle })
    })]
}
