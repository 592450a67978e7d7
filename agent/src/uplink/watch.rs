//! The clients of a node, with their sockets: it carries out what they want, and writes what they
//! get to the file of leases.
//!
//! The resident agent's loop attends to it; `apply` waits for leases with it where no agent runs. A
//! socket is open only while an answer is waited for, so that a node whose leases are settled has
//! none. A device that is missing, down or replaced by another one is looked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::client::{Action, Client, Identity, Loss};
use crate::config::uplink::HostName;
use crate::host::packet_socket::PacketSocket;
use crate::host::{self, Netlink, clock, link};
use crate::plan::lease::{Lease, Moment};
use crate::plan::object::Mac;
use crate::plan::warning::NO_LEASE;
use crate::reconcile::{Cause, FileError, LeaseFile};
use crate::topology::Topology;

/// Codes of warnings: a lease that expired, one that was taken back, a device that cannot be asked
/// by.
pub const EXPIRED: &str = "CIL0130";
pub const REFUSED: &str = "CIL0132";
pub const NO_SOCKET: &str = "CIL0135";

/// How long after a failure a device is looked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Names a device by which a server is asked, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub device: String,
    pub host_name: Option<String>,
    /// How long `apply` waits.
    pub timeout: Duration,
}

impl Wanted {
    /// Lists the devices of a node that have a lease.
    pub fn of(topology: &Topology) -> Vec<Self> {
        let devices = topology.devices.iter();
        let wanted = devices.filter_map(|device| {
            let dhcp = device.uplink.dhcp.as_ref()?;
            Some(Self {
                device: device.name.clone(),
                host_name: match &dhcp.host_name {
                    HostName::Node => Some(topology.node.clone()),
                    HostName::None => None,
                    HostName::Other(name) => Some(name.clone()),
                },
                timeout: Duration::from_secs(dhcp.timeout_secs.into()),
            })
        });
        wanted.collect()
    }
}

/// Is everything that asks for leases on a node.
#[derive(Debug)]
pub struct Uplinks {
    /// The node's folder.
    folder: PathBuf,
    asked: BTreeMap<String, Asked>,
    /// Devices whose lease is another one than when they were last asked for.
    changed: BTreeSet<String>,
    /// Whether the file of leases is to be told which devices there are.
    is_new: bool,
}

/// Is one device.
#[derive(Debug)]
struct Asked {
    wanted: Wanted,
    client: Option<Client>,
    socket: Option<PacketSocket>,
    /// When the device is looked for again.
    retry: Option<Moment>,
    /// What went wrong the last time, which is not told again.
    trouble: Option<String>,
}

impl Uplinks {
    /// Prepares to ask for nothing.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            asked: BTreeMap::new(),
            changed: BTreeSet::new(),
            is_new: false,
        }
    }

    /// Asks by these devices from here on; those that are asked by already go on as they are.
    pub fn follow(&mut self, wanted: Vec<Wanted>) {
        let mut before = std::mem::take(&mut self.asked);
        for wanted in wanted {
            let name = wanted.device.clone();
            let same = before.remove(&name).filter(|asked| asked.wanted == wanted);
            let asked = same.unwrap_or_else(|| Asked::new(wanted));
            self.asked.insert(name, asked);
        }
        self.is_new = true;
    }

    /// Returns what wakes whoever attends.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let sockets = self
            .asked
            .values()
            .filter_map(|asked| asked.socket.as_ref());
        sockets.map(|socket| socket.as_fd()).collect()
    }

    /// Returns how long there is nothing to do unless a descriptor wakes.
    pub fn idle(&self, now: Moment) -> Option<Duration> {
        if self.is_new {
            return Some(Duration::ZERO);
        }
        let due = self.asked.values().filter_map(Asked::due).min();
        due.map(|due| due.saturating_sub(now))
    }

    /// Reads and sends what there is. Tells whether leases changed: the node is another one then.
    ///
    /// # Errors
    /// If the file of leases cannot be read or written.
    pub fn attend(&mut self, now: Moment) -> Result<bool, FileError> {
        if self.is_new {
            let names: Vec<String> = self.asked.keys().cloned().collect();
            // A node that never asked has no such file.
            if !names.is_empty() || LeaseFile::is_there(&self.folder) {
                LeaseFile::load(&self.folder)?.retain(&names)?;
            }
            self.is_new = false;
        }
        let mut changed = BTreeMap::new();
        for (name, asked) in &mut self.asked {
            let held = asked.held().cloned();
            asked.attend(&self.folder, now)?;
            if asked.client.is_some() && asked.held() != held.as_ref() {
                changed.insert(name.clone(), asked.held().cloned());
            }
        }
        if changed.is_empty() {
            return Ok(false);
        }
        let mut file = LeaseFile::load(&self.folder)?;
        for (name, lease) in changed {
            file.set(&name, lease)?;
            self.changed.insert(name);
        }
        Ok(true)
    }

    /// Returns the devices whose lease changed since this was called last.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Waits until each of these devices has a lease, or its time is over. Returns those without
    /// one.
    ///
    /// # Errors
    /// If the file of leases cannot be read or written, or the kernel refuses to wait.
    pub fn obtain(&mut self, wanted: &[Wanted]) -> Result<Vec<String>, Cause> {
        let begun = Instant::now();
        loop {
            self.attend(clock::now())?;
            let is_wanted = |asked: &&Asked| wanted.contains(&asked.wanted);
            let missing = self.asked.values().filter(is_wanted);
            let missing = missing.filter(|asked| !asked.is_settled());
            let left = missing.map(|asked| asked.wanted.timeout.saturating_sub(begun.elapsed()));
            let Some(left) = left.max().filter(|left| !left.is_zero()) else {
                break;
            };
            let idle = self.idle(clock::now()).unwrap_or(left).min(left);
            wait(&self.descriptors(), idle)?;
        }
        let without = self.asked.values().filter(|asked| asked.held().is_none());
        Ok(without.map(|asked| asked.wanted.device.clone()).collect())
    }
}

impl Asked {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            client: None,
            socket: None,
            retry: None,
            trouble: None,
        }
    }

    fn held(&self) -> Option<&Lease> {
        self.client.as_ref()?.lease()
    }

    /// Tells whether a server has answered, and nothing is asked.
    fn is_settled(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| !client.is_asking())
    }

    fn due(&self) -> Option<Moment> {
        match &self.client {
            // What is due before the device can be asked by waits for it.
            Some(client) => client
                .due()
                .map(|due| due.max(self.retry.unwrap_or_default())),
            None => Some(self.retry.unwrap_or_default()),
        }
    }

    fn attend(&mut self, folder: &std::path::Path, now: Moment) -> Result<(), FileError> {
        self.receive(now);
        if self.due().is_none_or(|due| now < due) {
            return Ok(());
        }
        if self.client.is_none() {
            let held = LeaseFile::load(folder)?.last(&self.wanted.device, now);
            self.begin(held, now);
        }
        self.retry = None;
        while let Some(client) = &mut self.client {
            let actions = client.attend(now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.carry_out(action, now);
            }
        }
        Ok(())
    }

    /// Makes a client, if the device is there.
    fn begin(&mut self, held: Option<(Lease, bool)>, now: Moment) {
        match self.find() {
            Ok((_, mac)) => {
                let identity = Identity {
                    mac,
                    host_name: self.wanted.host_name.clone(),
                };
                let seed = RandomState::new().hash_one(now);
                self.client = Some(Client::new(identity, seed, held, now));
            }
            Err(error) => self.fail(&error, now),
        }
    }

    fn carry_out(&mut self, action: Action, now: Moment) {
        let device = &self.wanted.device;
        match action {
            Action::Send { packet, to } => {
                if let Err(error) = self.send(&packet, to) {
                    self.fail(&error, now);
                }
            }
            Action::Leased | Action::Renewed => {
                if let Some(lease) = self.held().filter(|_| action == Action::Leased) {
                    tell(device, lease);
                }
                self.trouble = None;
                // Until more time is asked for there is nothing to be heard.
                self.socket = None;
            }
            Action::Lost(Loss::Expired) => log::warn!(
                "{EXPIRED}: dhcp on {device}: the lease has expired, for no server gave more time: \
                 its address and routes go; another one is asked for"
            ),
            Action::Lost(Loss::Refused) => log::warn!(
                "{REFUSED}: dhcp on {device}: the server has taken the lease back: its address and \
                 routes go; another one is asked for"
            ),
            Action::Silence => log::warn!(
                "{NO_LEASE}: dhcp on {device}: no server answers; asked again, at the latest after \
                 a minute"
            ),
        }
    }

    fn send(&mut self, packet: &[u8], to: Option<Mac>) -> host::Result<()> {
        let (index, mac) = self.find()?;
        if let Some(client) = &self.client
            && client.identity().mac != mac
        {
            // Another device has the name: what it is asked by is not what answers come to.
            self.client = None;
            self.socket = None;
            return Ok(());
        }
        let socket = match self.socket.take().filter(|socket| socket.index() == index) {
            Some(socket) => socket,
            None => PacketSocket::open(&self.wanted.device, index)?,
        };
        let sent = socket.send(packet, to);
        self.socket = Some(socket);
        sent
    }

    fn receive(&mut self, now: Moment) {
        while let Some(socket) = &self.socket {
            match socket.receive() {
                Ok(Some((packet, from))) => {
                    let client = self.client.as_mut();
                    let action = client.and_then(|client| client.receive(&packet, from, now));
                    if let Some(action) = action {
                        self.carry_out(action, now);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    log::debug!("{error}");
                    self.socket = None;
                }
            }
        }
    }

    /// Returns index and Ethernet address of the device.
    fn find(&self) -> host::Result<(u32, Mac)> {
        let device = &self.wanted.device;
        let found = link::get(&mut Netlink::open()?, device)?;
        let found = found.and_then(|link| Some((link.index, link.mac?)));
        found.ok_or_else(|| host::Error::Missing {
            what: format!("find device {device}"),
        })
    }

    fn fail(&mut self, error: &host::Error, now: Moment) {
        self.socket = None;
        self.retry = Some(now + RETRY);
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            let device = &self.wanted.device;
            log::warn!(
                "{NO_SOCKET}: dhcp on {device}: no server can be asked: {text}; tried again"
            );
        }
        self.trouble = Some(text);
    }
}

fn tell(device: &str, lease: &Lease) {
    let (address, server) = (lease.address, lease.server);
    match lease.term {
        Some(term) => {
            log::info!(
                "dhcp on {device}: {address} of {server} for {} s",
                term.secs
            );
        }
        None => log::info!("dhcp on {device}: {address} of {server} for ever"),
    }
}

fn wait(descriptors: &[BorrowedFd<'_>], time: Duration) -> Result<(), Cause> {
    let mut sources: Vec<_> = descriptors
        .iter()
        .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN))
        .collect();
    // Rounded up, or the last millisecond would be spent awake.
    let millis = i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    match poll(
        &mut sources,
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX),
    ) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(host::Error::system("wait for a DHCP server", errno).into()),
    }
}
