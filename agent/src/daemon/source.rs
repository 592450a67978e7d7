//! What wakes the loop: signals, announcements, files that come and go, edits, and who asks.

use std::iter;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::announcement::Announcements;
use super::control::Control;
use super::edit::Edits;
use super::folder::Folders;
use super::signal::{Request, Signals};
use crate::host;
use crate::reconcile::Cause;

/// Is what wakes the loop.
pub struct Sources {
    pub(super) signals: Signals,
    pub(super) announcements: Announcements,
    pub(super) folders: Folders,
    pub(super) edits: Edits,
    /// The node is kept without it too.
    pub(super) control: Option<Control>,
}

impl Sources {
    /// Opens them. What changes from here on is not missed, and no signal ends the process.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(edits: Edits) -> Result<Self, Cause> {
        Ok(Self {
            signals: Signals::take()?,
            announcements: Announcements::listen()?,
            folders: Folders::open()?,
            edits,
            control: None,
        })
    }

    /// Listens to who asks from now on.
    pub fn serve(&mut self, control: Control) {
        self.control = Some(control);
    }

    /// Sleeps until something happens, here or at one of the others, or until `deadline`.
    pub(super) fn wait(&self, others: &[BorrowedFd<'_>], deadline: Instant) -> Result<(), Cause> {
        // Rounded up, or the last millisecond would be spent awake.
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let others = others.iter().map(|other| (*other, PollFlags::POLLIN));
        let mut sources: Vec<PollFd<'_>> = self
            .all()
            .chain(others)
            .map(|(source, flags)| PollFd::new(source, flags))
            .collect();
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(host::Error::system("wait for announcements", errno).into()),
        }
    }

    /// Sleeps until something happens, or until `deadline`; tells whether a signal asks for the end.
    /// Others are not heard.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stops_before(&mut self, deadline: Instant) -> Result<bool, Cause> {
        self.wait(&[], deadline)?;
        self.read()?;
        Ok(self.signals.request() == Some(Request::Stop))
    }

    fn all(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let own = [
            self.signals.as_fd(),
            self.announcements.as_fd(),
            self.folders.as_fd(),
            self.edits.as_fd(),
        ];
        let clients = self.control.iter().flat_map(Control::sources);
        let own = own.into_iter().zip(iter::repeat(PollFlags::POLLIN));
        own.chain(clients)
    }

    /// Takes everything that was announced; tells whether the node may depend on any of it. Edits
    /// keep what they are told.
    pub(super) fn read(&mut self) -> Result<bool, Cause> {
        // All, whatever the first says: what is not taken wakes the loop again.
        self.edits.read(Instant::now())?;
        let (network, files) = (self.announcements.read()?, self.folders.read()?);
        Ok(network || files)
    }

    /// Returns when one of them has to be attended to, whatever happens.
    pub(super) fn next(&self) -> Option<Instant> {
        let clients = self.control.as_ref().and_then(Control::next);
        self.edits.next().into_iter().chain(clients).min()
    }
}
