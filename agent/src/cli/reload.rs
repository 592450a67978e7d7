//! `ciliate reload`: the running agent reads its file anew, and says what became of it.

use std::io::Write;
use std::time::Duration;

use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::Instance;
use crate::daemon::client::AskError;
use crate::daemon::dump::words;
use crate::daemon::protocol::{ReloadResult, Reply, Request};

/// How long the agent may take: it may have to wait for others that work on the node.
const PATIENCE: Duration = Duration::from_mins(1);

/// Tells the agent of the node that is set up here. Returns the exit code.
///
/// # Errors
/// If there is none, the file is wrong, or the kernel refuses.
pub fn reload(common: &Common, out: &mut dyn Write) -> Result<u8, Failure> {
    let instance = Instance::find(common)?;
    let failed = |cause| Failure::Agent {
        node: instance.node.clone(),
        cause,
    };
    let reply = instance.ask(Request::Reload, PATIENCE).map_err(failed)?;
    let Reply::Reload(reload) = reply else {
        let text = "it answers something else".to_owned();
        return Err(failed(AskError::NotPermitted(
            instance.control_socket(),
            text,
        )));
    };
    let error = reload.error.clone().unwrap_or_default();
    match reload.result {
        ReloadResult::Applied | ReloadResult::Unchanged => {
            writeln!(out, "node {}: {}", instance.node, words(&reload))?;
            Ok(exit::OK)
        }
        ReloadResult::Refused => Err(Failure::FileOfAgent(error)),
        ReloadResult::Failed => Err(Failure::NotReloaded(error)),
    }
}
