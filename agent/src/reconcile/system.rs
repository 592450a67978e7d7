//! The kernel of this machine: `host` and `datapath` behind one face.
//!
//! It works in the network namespace of the thread that made it, and keeps no descriptor of
//! another one longer than one run of steps.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::{Cause, Kernel, LeaseFile, StateFile};
use crate::datapath::load::Sizes;
use crate::datapath::pin::Pins;
use crate::datapath::{self, cutover, demand, object::DIGEST, reassembly, sys};
use crate::host::surroundings::{self, Interest};
use crate::host::{self, Names, Netlink, bpffs, clock, kernel, link, memory, name_servers, sysctl};
use crate::plan::notes::MapMemory;
use crate::plan::object::{Ambient, Key, Link, Netns, Observed, State, Value};
use crate::plan::reserved::{self, RESERVED_PORTS};
use crate::plan::{Step, lockout};
use crate::topology::{Peer, Topology};

/// Index of `lo`, which every network namespace has.
const LOOPBACK: u32 = 1;

/// Reads and changes the objects of one node.
pub struct System {
    node: String,
    bpffs: PathBuf,
    pins: Pins,
    state: StateFile,
    names: Names,
    run: Option<Run>,
}

/// Is what the steps of one run share.
struct Run {
    host: host::Executor,
    datapath: datapath::execute::Executor,
    netlink: Netlink,
}

impl System {
    /// Prepares to read and change a node whose pins go below `bpffs`.
    pub fn new(node: &str, bpffs: &Path, state: StateFile) -> Self {
        Self {
            node: node.to_owned(),
            bpffs: bpffs.to_owned(),
            pins: Pins::new(bpffs, node),
            state,
            names: Names::default(),
            run: None,
        }
    }

    /// Returns what the kernel offers to a node, and what surrounds it.
    ///
    /// # Errors
    /// When the kernel cannot be read, or is too old.
    pub fn ambient(&self, topology: &Topology) -> Result<Ambient, Cause> {
        kernel::require()?;
        let found = host::observe(&self.node, &State::new(), self.state.sysctls())?;
        let around = surroundings::read(&self.node, &interest(topology))?;
        let reserved_ports = self.reserved_by_others(&around.reserved_ports);
        // A device whose `accept_ra` is ours keeps it, also while no router advertises.
        let ours = self.state.sysctls().keys().filter_map(|path| {
            let device = path
                .strip_prefix("net/ipv6/conf/")?
                .strip_suffix("/accept_ra")?;
            Some(device.to_owned())
        });
        let devices: BTreeSet<String> = found.ra_devices.into_iter().chain(ours).collect();
        let tcx = sys::has_tcx(LOOPBACK);
        Ok(Ambient {
            tcx,
            reassembly: reassembly::is_possible(tcx),
            bpffs: bpffs::is_bpffs(&self.bpffs)?,
            sysctls: found.sysctls,
            foreign: State::new(),
            own_gateways: own_gateways(&found.objects),
            unwritable: unwritable(topology),
            leases: LeaseFile::load(self.state.folder())?.valid(clock::now()),
            ra_devices: devices.into_iter().collect(),
            digest: format!("{DIGEST}-{}", topology.endpoint_slots()),
            spares_missing: false,
            devices: around.devices,
            peer_hops: around.peer_hops,
            obstacles: around.obstacles,
            blind_rules: around.blind_rules,
            source_nats: around.source_nats,
            strict_senders: around.strict_senders,
            callers: around.callers,
            reserved_ports,
            local_port_range: around.local_port_range,
        })
    }

    /// Returns the reserved ports that would be there without us. What others reserved since is
    /// theirs, as what was there before.
    fn reserved_by_others(&self, present: &str) -> String {
        if let Some(ours) = self.state.reserved() {
            return reserved::without(present, ours);
        }
        let before = self.state.sysctls().get(RESERVED_PORTS);
        before.map_or(present, String::as_str).to_owned()
    }

    /// Notes which ports become ours with a new value of the sysctl, and what it becomes when they
    /// are ours no longer.
    fn note_reserved(&mut self, run: &mut Run, after: Option<&Value>) -> Result<(), Cause> {
        let present = sysctl::read(RESERVED_PORTS)?.unwrap_or_default();
        let others = self.reserved_by_others(&present);
        if let Some(Value::Sysctl { value }) = after {
            let ours = reserved::without(value, &others);
            self.state.set_reserved(Some(ours))?;
        } else {
            run.host.originals.insert(RESERVED_PORTS.to_owned(), others);
        }
        Ok(())
    }

    /// Reads the objects of the node, whatever is desired, and the present indices of its links.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn look(&self) -> Result<(State, BTreeMap<Link, u32>), Cause> {
        let found = host::observe(&self.node, &State::new(), self.state.sysctls())?;
        let mut objects = found.objects;
        self.add_recorded(&mut objects, &found.mtus)?;
        if bpffs::is_bpffs(&self.bpffs)? {
            let mut netlink = Netlink::open()?;
            objects.extend(datapath::observe::observe(
                &self.pins,
                &found.links,
                &mut netlink,
            )?);
        }
        Ok((objects, found.links))
    }

    /// Returns a number that changes with what nobody announces, these sysctls included.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn glance(&self, sysctls: &BTreeSet<String>) -> Result<u64, Cause> {
        let mut hasher = DefaultHasher::new();
        self.state.applied().hash(&mut hasher);
        self.state.sysctls().hash(&mut hasher);
        let ours = self.state.sysctls().keys().chain(sysctls);
        host::glance::take(ours.map(String::as_str), &mut hasher)?;
        bpffs::is_bpffs(&self.bpffs)?.hash(&mut hasher);
        datapath::glance::take(&self.pins, &mut hasher)?;
        for path in self.state.name_servers() {
            name_servers::read(path)?.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }

    /// Adds what has no mark, and is ours because the state file says so.
    fn add_recorded(&self, objects: &mut State, mtus: &BTreeMap<String, u32>) -> Result<(), Cause> {
        for name in self.state.mtus().keys() {
            if let Some(mtu) = mtus.get(name).copied() {
                objects.insert(Key::DeviceMtu(name.clone()), Value::DeviceMtu { mtu });
            }
        }
        for path in self.state.name_servers() {
            if let Some(found) = name_servers::read(path)? {
                let value = Value::NameServers(found);
                objects.insert(Key::NameServers(path.clone()), value);
            }
        }
        Ok(())
    }

    /// Returns the memory that the maps of a desired state take.
    ///
    /// # Errors
    /// If the BPF object cannot be read.
    pub fn map_memory(&self, desired: &State) -> Result<Vec<MapMemory>, Cause> {
        let Some(Value::Datapath {
            endpoint_slots,
            flows,
            bindings,
            ..
        }) = desired.get(&Key::Datapath)
        else {
            return Ok(Vec::new());
        };
        let sizes = Sizes::new(memory::map_budget(), *endpoint_slots, *flows, *bindings);
        Ok(demand::demand(&self.pins, &sizes)?)
    }

    /// Returns where the node's pins are.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Returns what is remembered of the node.
    pub fn state(&mut self) -> &mut StateFile {
        &mut self.state
    }

    /// Gives back what is remembered of the node.
    pub fn into_state(self) -> StateFile {
        self.state
    }

    fn end_run(&mut self) -> Result<(), Cause> {
        if let Some(mut run) = self.run.take() {
            run.host.finish()?;
        }
        Ok(())
    }

    /// Tells whether our mount goes if `desired` becomes true: it stays while another node has
    /// pins in it.
    fn owns_bpffs(&self, desired: &State) -> Result<bool, Cause> {
        let alone = || self.pins.are_alone();
        Ok(bpffs::is_ours(&self.bpffs)? && (desired.contains_key(&Key::Bpffs) || alone()))
    }

    fn take_run(&mut self) -> Result<Run, Cause> {
        if let Some(run) = self.run.take() {
            return Ok(run);
        }
        let originals = self.state.sysctls().clone();
        let mut host = host::Executor::new(&self.node, self.names.clone(), originals)?;
        host.bystanders = self.state.bystanders().clone();
        host.mtus = self.state.mtus().clone();
        Ok(Run {
            host,
            datapath: datapath::execute::Executor::new(self.pins.clone(), memory::map_budget())?,
            netlink: Netlink::open()?,
        })
    }

    fn execute_on(&mut self, run: &mut Run, step: &Step) -> Result<(), Cause> {
        if matches!(
            step.key,
            Key::Datapath
                | Key::Former
                | Key::Reassembly(_)
                | Key::NodeEntry
                | Key::EndpointEntry(_)
                | Key::DeviceEntry(_)
                | Key::Policy
                | Key::Attachment(..)
                | Key::Generation
        ) {
            return self.execute_on_datapath(run, step);
        }
        if let (Key::Sysctl(path), Some(_)) = (&step.key, &step.after)
            && run.host.remember(&step.key)?
        {
            if let Some(bystanders) = run.host.bystanders.get(path) {
                self.state.record_bystanders(path, bystanders)?;
            }
            self.state.record_sysctl(path, &run.host.originals[path])?;
        }
        if let (Key::EndpointLink(name), Some(Value::EndpointLink { netns, .. })) =
            (&step.key, &step.after)
        {
            self.state.set_netns(name, netns.as_ref())?;
        }
        let is_reserved = matches!(&step.key, Key::Sysctl(path) if path == RESERVED_PORTS);
        if is_reserved {
            self.note_reserved(run, step.after.as_ref())?;
        }
        if step.after.is_some() {
            self.record(run, &step.key)?;
        }
        match (&step.before, &step.after) {
            (None, Some(after)) => run.host.add(&step.key, after)?,
            (Some(before), Some(after)) => run.host.change(&step.key, before, after)?,
            (Some(before), None) => {
                run.host.remove(&step.key, before)?;
                if let Key::Sysctl(path) = &step.key {
                    self.state.forget_sysctl(path)?;
                    if is_reserved {
                        self.state.set_reserved(None)?;
                    }
                }
                if let Key::EndpointLink(name) = &step.key {
                    self.state.set_netns(name, None)?;
                } else if let Key::DeviceMtu(name) = &step.key {
                    self.state.forget_mtu(name)?;
                } else if let Key::NameServers(path) = &step.key {
                    self.state.set_name_servers(path, false)?;
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Notes that an object without a mark becomes ours, and what it was before.
    fn record(&mut self, run: &mut Run, key: &Key) -> Result<(), Cause> {
        if let Key::DeviceMtu(name) = key
            && let Some(found) = link::get(&mut run.netlink, name)?
        {
            self.state.record_mtu(name, found.mtu)?;
            run.host.mtus.clone_from(self.state.mtus());
        } else if let Key::NameServers(path) = key {
            self.state.set_name_servers(path, true)?;
        }
        Ok(())
    }

    fn execute_on_datapath(&self, run: &mut Run, step: &Step) -> Result<(), Cause> {
        let ifindex = self.ifindex(run, &step.key)?;
        match (&step.before, &step.after) {
            (before, Some(after)) => {
                run.datapath
                    .set(&step.key, before.as_ref(), after, ifindex)?;
            }
            (Some(before), None) => run.datapath.remove(&step.key, before, ifindex)?,
            (None, None) => {}
        }
        Ok(())
    }

    /// Returns the present index of the link that an object is about; 0 if there is none.
    fn ifindex(&self, run: &mut Run, key: &Key) -> Result<u32, Cause> {
        let link = if let Key::EndpointEntry(name) = key {
            Link::Lxc(name.clone())
        } else if let Key::DeviceEntry(name) = key {
            Link::Device(name.clone())
        } else if let Key::Attachment(link, _) = key {
            link.clone()
        } else if *key == Key::NodeEntry {
            Link::Host
        } else {
            return Ok(0);
        };
        let Ok(device) = self.names.device(&link) else {
            return Ok(0);
        };
        Ok(link::get(&mut run.netlink, device)?.map_or(0, |found| found.index))
    }
}

/// Returns the gateways of our routes to everywhere.
fn own_gateways(objects: &State) -> Vec<IpAddr> {
    let gateways = objects.iter().filter_map(|entry| match entry {
        (Key::Route(Link::Device(_), prefix), Value::Route { via, .. })
            if prefix.prefix_len() == 0 =>
        {
            *via
        }
        _ => None,
    });
    gateways.collect()
}

/// Returns the files of name servers that cannot be replaced.
fn unwritable(topology: &Topology) -> BTreeSet<PathBuf> {
    let devices = topology.devices.iter();
    let files = devices.filter_map(|device| device.uplink.dhcp.as_ref()?.resolv_conf.clone());
    files
        .filter(|path| !name_servers::is_replaceable(path))
        .collect()
}

/// Says what of its surroundings a node depends on.
fn interest(topology: &Topology) -> Interest {
    let endpoints = topology.endpoints.iter();
    let devices = topology.devices.iter();
    let peers = topology.peers.iter();
    let (pool4, pool6) = (topology.ipv4.map(IpNet::V4), topology.ipv6.map(IpNet::V6));
    Interest {
        endpoint_links: endpoints.map(|endpoint| endpoint.link.clone()).collect(),
        devices: devices.map(|device| device.name.clone()).collect(),
        pools: pool4.into_iter().chain(pool6).collect(),
        peer_pools: peers.clone().flat_map(Peer::pools).collect(),
        peers: peers.flat_map(|peer| peer.addresses.clone()).collect(),
        callers: lockout::is_possible(topology),
    }
}

/// Stands for pins that are no complete set, which only a removal is interested in.
fn incomplete() -> Value {
    Value::Datapath {
        digest: "incomplete".to_owned(),
        endpoint_slots: 0,
        flows: None,
        bindings: 0,
    }
}

impl Kernel for System {
    fn observe(&mut self, desired: &State) -> Result<Observed, Cause> {
        self.end_run()?;
        let found = host::observe(&self.node, desired, self.state.sysctls())?;
        let mut objects = found.objects;
        self.add_recorded(&mut objects, &found.mtus)?;
        for (key, value) in &mut objects {
            if let (
                Key::EndpointLink(name),
                Value::EndpointLink {
                    netns: netns @ None,
                    ..
                },
            ) = (key, value)
            {
                // The peer was not looked for, or is not where it shall be: it is where it was put.
                let recorded = self.state.netns(name);
                *netns = recorded
                    .filter(|netns| !is_wanted_at(desired, name, netns))
                    .cloned();
            }
        }
        if bpffs::is_bpffs(&self.bpffs)? {
            if desired.contains_key(&Key::Datapath) {
                cutover::require(&self.pins)?;
            }
            let mut netlink = Netlink::open()?;
            objects.extend(datapath::observe::observe(
                &self.pins,
                &found.links,
                &mut netlink,
            )?);
            forget_free_size(desired, &mut objects);
            if !desired.contains_key(&Key::Datapath) && self.pins.exist() {
                objects.entry(Key::Datapath).or_insert_with(incomplete);
            }
        }
        if self.owns_bpffs(desired)? {
            objects.insert(
                Key::Bpffs,
                Value::Bpffs {
                    path: self.bpffs.clone(),
                },
            );
        }
        self.names = Names::new(desired, &objects);
        let ambient = Ambient {
            bpffs: bpffs::is_bpffs(&self.bpffs)?,
            sysctls: found.sysctls,
            ra_devices: found.ra_devices,
            foreign: found.foreign,
            ..Ambient::default()
        };
        Ok(Observed { objects, ambient })
    }

    fn execute(&mut self, step: &Step) -> Result<(), Cause> {
        let mut run = self.take_run()?;
        let result = self.execute_on(&mut run, step);
        self.run = Some(run);
        result
    }
}

/// Says of tables whose size the file leaves open that theirs is right.
fn forget_free_size(desired: &State, objects: &mut State) {
    if let Some(Value::Datapath { flows: None, .. }) = desired.get(&Key::Datapath)
        && let Some(Value::Datapath { flows, .. }) = objects.get_mut(&Key::Datapath)
    {
        *flows = None;
    }
}

/// Tells whether an endpoint shall be in this namespace.
fn is_wanted_at(desired: &State, endpoint: &str, place: &Netns) -> bool {
    match desired.get(&Key::EndpointLink(endpoint.to_owned())) {
        Some(Value::EndpointLink { netns, .. }) => netns.as_ref() == Some(place),
        _ => false,
    }
}
