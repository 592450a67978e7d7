//! What is said on the control socket: one line of JSON asks, one answers, and the agent hangs up.
//!
//! Both sides share these types. A reader ignores keys that it does not know, so that `ciliate`
//! and the agent may be of different versions.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::reconcile::drift::Drift;

/// Name of the socket in the folder of the node's state.
pub const SOCKET: &str = "ctl.sock";

/// Asks the agent for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// What it does.
    Status,
    /// To read the file anew; answered when that is done.
    Reload,
    /// To keep what is on trial.
    Confirm,
}

/// Is what the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    Status(AgentStatus),
    Reload(Reload),
    Confirm {
        /// Whether something was on trial.
        confirmed: bool,
    },
    /// The request was not understood, or not permitted.
    Error {
        message: String,
    },
}

/// Describes an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    pub pid: u32,
    /// When it began to keep the node.
    pub since: String,
    pub config: ConfigStatus,
    /// The last time that a file was read since then.
    pub last_reload: Option<Reload>,
    /// Objects that are left alone for a while, since something keeps undoing their repair.
    pub spared: Vec<Spared>,
    pub drift: Drift,
}

/// Describes the file that the node is kept by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    pub file: PathBuf,
    pub state: ConfigState,
    /// What is wrong with it, or what the kernel said.
    pub error: Option<String>,
    /// Since when it is so; not known without an agent.
    pub since: Option<String>,
}

impl ConfigStatus {
    /// Describes a file that was applied; without an agent, nobody knows more.
    pub fn applied(file: PathBuf) -> Self {
        Self {
            file,
            state: ConfigState::Applied,
            error: None,
            since: None,
        }
    }
}

/// Tells whether the node is what its file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigState {
    Applied,
    /// What was applied before holds.
    Refused,
}

/// Describes how a file was read anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    pub result: ReloadResult,
    /// Steps that it took.
    pub steps: usize,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// When it ended.
    pub time: String,
    pub error: Option<String>,
}

/// Tells what became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadResult {
    Applied,
    /// The node was what the file says.
    Unchanged,
    /// The file is wrong.
    Refused,
    /// The file is good, and the node could not be made what it says.
    Failed,
}

/// Describes an object that is left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spared {
    pub object: String,
    pub repairs: u32,
    /// Who makes most changes of late, if that is known.
    pub author: Option<String>,
    /// How long it is left alone yet, in milliseconds.
    pub left_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_are_lines_of_json() {
        let text = serde_json::to_string(&Request::Reload).unwrap();
        assert_eq!(text, r#"{"request":"reload"}"#);

        let reload = Reload {
            result: ReloadResult::Refused,
            steps: 0,
            took_us: 1500,
            time: "2026-01-02T03:04:05Z".to_owned(),
            error: Some("a.toml:1:1: error: no\n  |".to_owned()),
        };
        let reply = Reply::Reload(reload);
        let line = serde_json::to_string(&reply).unwrap();
        assert!(
            line.starts_with(r#"{"reply":"reload","result":"refused","#),
            "{line}"
        );
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
    }

    #[test]
    fn keys_of_a_later_version_are_ignored() {
        let reply = r#"{"reply":"confirm","confirmed":false,"more":1}"#;

        let reply: Reply = serde_json::from_str(reply).unwrap();

        assert_eq!(reply, Reply::Confirm { confirmed: false });
    }
}
