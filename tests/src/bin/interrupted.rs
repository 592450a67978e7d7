//! Applies a file, or takes the node down, and kills itself at a step.
//!
//! `interrupted before|after STEP FILE` or `interrupted before|after STEP down NODE`: steps are
//! counted from 0; a run that has fewer steps ends with 0. Tests run it to find out whether the
//! next run of the agent converges. It works in the namespaces of its caller.

use std::env;
use std::path::Path;

use ciliate::cli::instance::topology;
use ciliate::host::lock::Lock;
use ciliate::host::netns;
use ciliate::plan::object::{Observed, State};
use ciliate::plan::{self, Step};
use ciliate::reconcile::{self, Cause, Journal, Kernel, StateFile, System};
use nix::sys::signal::{Signal, raise};

const STATES: &str = "/run/ciliate";
const BPFFS: &str = "/sys/fs/bpf";

/// Is the kernel, until it is time.
struct Interrupted {
    kernel: System,
    is_after: bool,
    steps_left: usize,
}

impl Kernel for Interrupted {
    fn observe(&mut self, desired: &State) -> Result<Observed, Cause> {
        self.kernel.observe(desired)
    }

    fn execute(&mut self, step: &Step) -> Result<(), Cause> {
        if self.steps_left == 0 && !self.is_after {
            die();
        }
        let result = self.kernel.execute(step);
        if self.steps_left == 0 {
            die();
        }
        self.steps_left -= 1;
        result
    }
}

fn main() -> Result<(), Cause> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [when, step, rest @ ..] = arguments.as_slice() else {
        return Err("usage: interrupted before|after STEP FILE|down NODE".into());
    };
    let topology = match rest {
        [file] => Some(topology(Path::new(file), None)?),
        _ => None,
    };
    let node = match (&topology, rest) {
        (Some(topology), _) => topology.node.as_str(),
        (None, [_, node]) => node,
        (None, _) => return Err("name a file, or `down` and a node".into()),
    };
    let directory = Path::new(STATES).join(node);
    let _lock = Lock::take(&directory)?;
    let mut system = System::new(node, Path::new(BPFFS), StateFile::load(&directory)?);
    let desired = match &topology {
        Some(topology) => {
            system
                .state()
                .set_namespace(netns::identity(netns::open_own()?)?)?;
            let ambient = system.ambient(topology)?;
            plan::desired(topology, &ambient, Path::new(BPFFS))?.state
        }
        None => State::new(),
    };
    let mut kernel = Interrupted {
        kernel: system,
        is_after: when == "after",
        steps_left: step.parse()?,
    };
    reconcile::apply(&mut kernel, &desired, &mut Journal::new(&directory))?;
    Ok(())
}

/// Ends as a killed process does: nothing is dropped, nothing is flushed.
fn die() {
    let killed = raise(Signal::SIGKILL);
    unreachable!("a killed process goes on: {killed:?}");
}
