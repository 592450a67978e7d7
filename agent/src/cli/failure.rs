//! Why a verb ends with a code other than 0.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use thiserror::Error;

use super::exit;
use crate::config::Report;
use crate::daemon::client::AskError;
use crate::plan::Refusals;
use crate::plan::warning::{LOCKOUT, Warning};
use crate::reconcile::{ApplyError, Cause, FileError};
use crate::{datapath, host};

/// Says why a verb failed; the variant decides the exit code.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{0}; set it up with `ciliate apply`")]
    NotSetUp(String),
    /// The same for a verb that needs none to be set up.
    #[error("{0}: there is nothing to remove")]
    NothingToRemove(String),
    #[error("node {0} is set up in another network namespace; remove it there first")]
    Elsewhere(String),
    #[error("node {node}: an agent keeps it {and}; {cause}")]
    AgentRuns {
        node: String,
        /// What follows from it for the verb.
        and: &'static str,
        cause: host::Error,
    },
    #[error(
        "node {node}: a trial by process {pid} runs until {until}: confirm it with `ciliate \
         confirm`, or wait"
    )]
    TrialRuns {
        node: String,
        pid: u32,
        until: String,
    },
    #[error("node {0}: {1}")]
    NothingToConfirm(String, &'static str),
    /// It is set up, and could not be made so again.
    #[error(
        "node {0}: what was applied last is not recorded, so that a trial could not be taken back; \
         run `ciliate apply` with the file that holds, and then try the new one"
    )]
    Unrecorded(String),
    #[error(
        "{0} ended the guard of the trial: the agent, or the next `ciliate apply` or `run`, takes \
         the trial back"
    )]
    GuardKilled(Signal),
    #[error("{0} needs root: run it as root or through sudo")]
    NotPrivileged(&'static str),
    #[error("node {node}: {cause}")]
    Agent { node: String, cause: AskError },
    /// The agent gave up what a file needs.
    #[error(
        "the file needs {0}, which the agent gave up when it had set the node up: restart the agent"
    )]
    Privilege(String),
    #[error(transparent)]
    File(#[from] Report),
    /// The same, as the agent says it.
    #[error("{0}")]
    FileOfAgent(String),
    /// The agent could not make the node what its file says.
    #[error("{0}")]
    NotReloaded(String),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    State(#[from] FileError),
    #[error(transparent)]
    Refused(#[from] Refusals),
    /// It could be set up, but something that matters would not pass.
    #[error("{0}\nnothing was changed; {1} goes on all the same")]
    Stopped(String, &'static str),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    #[error("{0}")]
    Kernel(#[from] Cause),
    #[error("find {}: {source}", path.display())]
    Path {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("write output: {0}")]
    Output(#[from] std::io::Error),
    /// Several nodes of a lab failed, each for a reason of its own.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
}

impl Failure {
    /// Says what `apply` does not begin with.
    pub fn stopped(warnings: &[&Warning]) -> Self {
        let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let is_lockout = |warning: &&Warning| warning.code == LOCKOUT;
        let locks_out = warnings.iter().copied().any(|warning| is_lockout(&warning));
        let drops = warnings
            .iter()
            .copied()
            .any(|warning| !is_lockout(&warning));
        let flags = match (drops, locks_out) {
            (true, true) => "`--force --allow-lockout`",
            (false, true) => "`--allow-lockout`",
            (true | false, false) => "`--force`",
        };
        Self::Stopped(lines.join("\n"), flags)
    }

    /// Returns the exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::NotSetUp(_) | Self::NothingToRemove(_) | Self::NothingToConfirm(..) => {
                exit::UNAVAILABLE
            }
            Self::Agent { cause, .. } => match cause {
                AskError::NoAgent(_) => exit::UNAVAILABLE,
                AskError::NotPermitted(..) => exit::NO_PERMISSION,
                AskError::Failed { .. } => exit::KERNEL,
            },
            Self::NotPrivileged(_) => exit::NO_PERMISSION,
            Self::File(_) | Self::FileOfAgent(_) => exit::BAD_FILE,
            Self::Apply(_)
            | Self::State(_)
            | Self::Elsewhere(_)
            | Self::Refused(_)
            | Self::Stopped(..)
            | Self::AgentRuns { .. }
            | Self::TrialRuns { .. }
            | Self::Unrecorded(_)
            | Self::GuardKilled(_)
            | Self::NotReloaded(_)
            | Self::Privilege(_)
            | Self::Host(_)
            | Self::Datapath(_)
            | Self::Kernel(_)
            | Self::Path { .. }
            | Self::Output(_)
            | Self::Several(_) => exit::KERNEL,
        }
    }
}
