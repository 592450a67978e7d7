//! Whether a resident agent keeps a node, and what it left: `<state-dir>/<node>/agent/`.
//!
//! The agent holds the lock in that folder as long as it lives, and the node's own lock for each
//! repair only.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use super::instance::Instance;
use super::privilege::Privileges;
use crate::daemon::client::{AskError, ask};
use crate::daemon::protocol::{self, Reply, Request};
use crate::host::Error;
use crate::host::lock::Lock;
use crate::reconcile::drift::{Drift, DriftFile};

impl Instance {
    /// Returns the folder of the node's resident agent, with its lock and what it repaired.
    pub fn agent_folder(&self) -> PathBuf {
        self.directory().join("agent")
    }

    /// Returns the socket at which the node's resident agent answers.
    pub fn control_socket(&self) -> PathBuf {
        self.directory().join(protocol::SOCKET)
    }

    /// Asks the node's resident agent.
    ///
    /// # Errors
    /// If there is none, or it does not answer in time.
    pub fn ask(&self, request: Request, patience: Duration) -> Result<Reply, AskError> {
        ask(&self.control_socket(), request, patience)
    }

    /// Takes the lock that a resident agent holds all the time.
    ///
    /// # Errors
    /// If there is another one.
    pub fn agent_lock(&self) -> Result<Lock, Failure> {
        self.take_agent_lock("already")
    }

    /// Returns the process of the agent that keeps the node, if one does.
    pub fn agent_pid(&self) -> Option<u32> {
        Lock::holder(&self.agent_folder())
    }

    /// Keeps an agent from starting, where there ever was one.
    ///
    /// # Errors
    /// If one runs.
    pub fn lock_out_agent(&self) -> Result<Option<Lock>, Failure> {
        if !self.agent_folder().is_dir() {
            return Ok(None);
        }
        let and = "and would bring it back: stop the agent first";
        self.take_agent_lock(and).map(Some)
    }

    fn take_agent_lock(&self, and: &'static str) -> Result<Lock, Failure> {
        match Lock::take(&self.agent_folder()) {
            Err(cause @ Error::Locked { .. }) => Err(Failure::AgentRuns {
                node: self.node.clone(),
                and,
                cause,
            }),
            other => Ok(other?),
        }
    }

    /// Removes the folder of the node's agent and what we know to be in it.
    pub fn remove_agent_folder(&self) {
        let folder = self.agent_folder();
        DriftFile::remove(&folder);
        // Of one that was killed.
        drop(fs::remove_file(self.control_socket()));
        Privileges::remove(&folder);
        // What somebody else put there keeps the folder.
        drop(fs::remove_dir(folder));
    }

    /// Returns what the node's agents repaired.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn drift(&self) -> Result<Drift, Failure> {
        Ok(DriftFile::load(&self.agent_folder())?.drift().clone())
    }
}
