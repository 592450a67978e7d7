//! What a node needs towards the outside: entries and programs of devices, routes to the endpoints
//! of peers.
//!
//! Devices belong to somebody else, also where the file configures them: what cannot carry our programs is refused, and what works
//! only in part is a warning. A pool of a peer is reached by the way on which the kernel reaches
//! the peer itself, through a device that has our programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::object::{
    Ambient, AttachKind, DeviceFacts, DeviceKind, Hook, Key, Link, LinkRef, Mac, NextHop, Program,
    SourceNat, State, Value,
};
use super::refusal::Refusal;
use super::uplink::{addresses4, addresses6, uplink};
use super::warning::{self, Warning};
use crate::config::family::Family;
use crate::config::masquerade::{AUTOMATIC_MIN, automatic_left};
use crate::topology::{Device, Peer, Topology};

/// Collects what a node needs, and what stands against it.
pub(super) struct Outside<'a> {
    pub topology: &'a Topology,
    pub ambient: &'a Ambient,
    pub state: State,
    pub warnings: Vec<Warning>,
    pub refusals: Vec<Refusal>,
    given: Vec<IpNet>,
    /// Networks of addresses that devices get, and where these are.
    networks: Vec<(IpNet, String)>,
    /// Ways to everywhere that they get.
    gateways: Vec<(IpAddr, String)>,
}

impl<'a> Outside<'a> {
    /// Finds everything that a node needs towards the outside.
    pub(super) fn of(topology: &'a Topology, ambient: &'a Ambient) -> Self {
        let mut outside = Self {
            topology,
            ambient,
            state: State::new(),
            warnings: Vec::new(),
            refusals: Vec::new(),
            given: Vec::new(),
            networks: Vec::new(),
            gateways: Vec::new(),
        };
        outside.check_ports();
        for device in &topology.devices {
            outside.add_device(device);
        }
        if !topology.devices.is_empty() {
            for peer in &topology.peers {
                outside.add_peer(peer);
            }
        }
        outside
    }

    /// Returns the addresses that devices get, and their gateways.
    pub(super) fn given(&self) -> (&[IpNet], Vec<IpAddr>) {
        let gateways = self.gateways.iter().map(|(gateway, _)| *gateway);
        (&self.given, gateways.collect())
    }

    fn check_ports(&mut self) {
        let (Some(masquerade), Some(automatic)) =
            (self.topology.masquerade, self.ambient.local_port_range)
        else {
            return;
        };
        let left = automatic_left(automatic, masquerade.ports);
        if left < AUTOMATIC_MIN {
            self.refusals.push(Refusal::TooFewPorts {
                ports: masquerade.ports,
                automatic,
                left,
            });
        }
    }

    fn add_device(&mut self, device: &Device) {
        let (facts, mac) = match usable(device, self.ambient) {
            Ok(usable) => usable,
            Err(Refusal::NoDevice(name)) if self.ambient.spares_missing => {
                return self.warnings.push(warning::device_missing(&name));
            }
            Err(refusal) => return self.refusals.push(refusal),
        };
        let lease = self.ambient.leases.get(&device.name);
        let uplink = uplink(self.topology, device, facts, lease);
        if !facts.up && !device.uplink.is_configured() {
            self.warnings.push(warning::device_down(&device.name));
        }
        let ours = &uplink.addresses;
        let sources4: Vec<_> = addresses4(ours)
            .chain(facts.addresses4.iter().copied())
            .collect();
        let sources6: Vec<_> = addresses6(ours)
            .chain(facts.addresses6.iter().copied())
            .collect();
        let masquerade = |pool: bool| device.masquerade && pool;
        let (pool4, pool6) = (self.topology.ipv4, self.topology.ipv6);
        let masquerade4 = masquerade(pool4.is_some())
            .then(|| self.masquerade4(device, &sources4))
            .flatten();
        let masquerade6 = masquerade(pool6.is_some())
            .then(|| self.masquerade6(device, &sources6))
            .flatten();
        self.check_nats(
            &device.name,
            [masquerade4.map(IpAddr::V4), masquerade6.map(IpAddr::V6)],
        );
        self.state.insert(
            Key::DeviceEntry(device.name.clone()),
            Value::DeviceEntry {
                masquerade: device.masquerade,
                mac,
                masquerade4,
                masquerade6,
                link: LinkRef::Current,
            },
        );
        self.attach(&device.name);
        let unwritable = |key: &Key| {
            if let Key::NameServers(path) = key {
                self.ambient.unwritable.get(path)
            } else {
                None
            }
        };
        for (key, value) in uplink.state {
            if let Some(path) = unwritable(&key) {
                self.warnings.push(warning::unwritable(path));
            } else {
                self.state.insert(key, value);
            }
        }
        self.warnings.extend(uplink.warnings);
        self.given.extend(&uplink.addresses);
        self.networks.extend(
            uplink
                .addresses
                .iter()
                .map(|a| (a.trunc(), device.name.clone())),
        );
        let gateways = uplink.gateways.into_iter();
        self.gateways
            .extend(gateways.map(|gateway| (gateway, device.name.clone())));
    }

    /// Warns of others who translate to the ports of ours.
    fn check_nats(&mut self, device: &str, sources: [Option<IpAddr>; 2]) {
        let Some(masquerade) = self.topology.masquerade else {
            return;
        };
        let collides = |nat: &&SourceNat| {
            let (first, last) = nat.ports.unwrap_or((1, u16::MAX));
            nat.device == device
                && first <= masquerade.ports.1
                && masquerade.ports.0 <= last
                && sources.iter().flatten().any(|source| may_be(nat, *source))
        };
        let colliding = self.ambient.source_nats.iter().filter(collides);
        let warnings = colliding.map(|nat| warning::colliding_nat(nat, masquerade.ports));
        self.warnings.extend(warnings);
    }

    fn attach(&mut self, device: &str) {
        let kind = if self.ambient.tcx {
            AttachKind::Tcx
        } else {
            AttachKind::Clsact
        };
        let hooks = [
            (Hook::Ingress, Program::FromNetdev),
            (Hook::Egress, Program::ToNetdev),
        ];
        for (hook, program) in hooks {
            let digest = Some(self.ambient.digest.clone());
            self.state.insert(
                Key::Attachment(Link::Device(device.to_owned()), hook),
                Value::Attachment {
                    program,
                    digest,
                    kind,
                },
            );
        }
    }

    fn masquerade4(&mut self, device: &Device, present: &[Ipv4Addr]) -> Option<Ipv4Addr> {
        let pool = self.topology.ipv4.map(IpNet::V4);
        self.masquerade(device, Family::V4, device.masquerade4, present, pool)
    }

    fn masquerade6(&mut self, device: &Device, present: &[Ipv6Addr]) -> Option<Ipv6Addr> {
        let pool = self.topology.ipv6.map(IpNet::V6);
        self.masquerade(device, Family::V6, device.masquerade6, present, pool)
    }

    /// Chooses the address of a family that endpoints get on a device.
    fn masquerade<A: Copy + PartialEq + Into<IpAddr>>(
        &mut self,
        device: &Device,
        family: Family,
        wanted: Option<A>,
        present: &[A],
        pool: Option<IpNet>,
    ) -> Option<A> {
        let name = device.name.as_str();
        if let Some(address) = wanted {
            if !present.contains(&address) {
                let warning = warning::foreign_masquerade_address(name, address.into());
                self.warnings.push(warning);
            }
            return Some(address);
        }
        let Some(address) = present.first().copied() else {
            // What waits for a lease has a warning of its own.
            if family == Family::V6 || device.uplink.dhcp.is_none() {
                let warning = warning::no_masquerade_address(name, family);
                self.warnings.push(warning);
            }
            return None;
        };
        let (ip, around) = (address.into(), pool);
        if let Some(prefix) = around.filter(|pool| pool.contains(&ip)) {
            self.refusals.push(Refusal::AddressInPrefix {
                device: name.to_owned(),
                address: ip,
                prefix,
            });
        }
        Some(address)
    }

    fn add_peer(&mut self, peer: &Peer) {
        for pool in peer.pools() {
            match self.way(peer, pool) {
                Ok((device, via)) => {
                    let route = Value::Route {
                        via: Some(via),
                        src: None,
                        mtu: None,
                        metric: None,
                    };
                    self.state
                        .insert(Key::Route(Link::Device(device), pool), route);
                }
                Err(warning) => self.warnings.push(warning),
            }
        }
    }

    /// Returns the device and the gateway by which a pool is reached.
    fn way(&self, peer: &Peer, pool: IpNet) -> Result<(String, IpAddr), Warning> {
        let family = Family::of(pool.addr());
        let unreachable =
            |why: &str, remedy: String| warning::unreachable_pool(&peer.name, pool, why, remedy);
        let mut addresses = peer.addresses.iter();
        let Some(address) = addresses.find(|address| Family::of(**address) == family) else {
            let why = format!("the file gives it no {family} address");
            let remedy = format!("add one to `address` of {}", peer.name);
            return Err(unreachable(&why, remedy));
        };
        let coming = || self.coming_hop(*address);
        let hop = self.ambient.peer_hops.get(address).cloned();
        let Some(NextHop { device, gateway }) = hop.or_else(coming) else {
            let why = format!("the host has no route to {address}");
            return Err(unreachable(
                &why,
                format!("`ip route get {address}` says why"),
            ));
        };
        if !self.topology.devices.iter().any(|own| own.name == device) {
            let why = format!("{address} is behind {device}, which is no device of the file");
            let remedy = format!("add a [[device]] with `name = \"{device}\"`");
            return Err(unreachable(&why, remedy));
        }
        Ok((device, gateway.unwrap_or(*address)))
    }

    /// Returns the way to an address that will be there when devices have what they get.
    fn coming_hop(&self, address: IpAddr) -> Option<NextHop> {
        let hop = |device: &String, gateway| NextHop {
            device: device.clone(),
            gateway,
        };
        let mut networks = self.networks.iter();
        if let Some((_, device)) = networks.find(|(network, _)| network.contains(&address)) {
            return Some(hop(device, None));
        }
        let mut gateways = self.gateways.iter();
        let by = gateways.find(|(gateway, _)| Family::of(*gateway) == Family::of(address));
        by.map(|(gateway, device)| hop(device, Some(*gateway)))
    }
}

/// Tells whether somebody may translate to this address.
fn may_be(nat: &SourceNat, source: IpAddr) -> bool {
    let sees = nat.version6.is_none_or(|six| six == source.is_ipv6());
    let reaches = nat.to.is_none_or(|(first, last)| {
        first.is_ipv6() == source.is_ipv6() && (first..=last).contains(&source)
    });
    sees && reaches
}

/// Returns what is known of a device, if it can carry our programs.
fn usable<'a>(device: &Device, ambient: &'a Ambient) -> Result<(&'a DeviceFacts, Mac), Refusal> {
    let name = || device.name.clone();
    let facts = ambient
        .devices
        .get(&device.name)
        .ok_or_else(|| Refusal::NoDevice(name()))?;
    if let Some(master) = facts.master.clone() {
        return Err(Refusal::Enslaved {
            device: name(),
            master,
        });
    }
    match (facts.kind, facts.mac) {
        (DeviceKind::Ethernet, Some(mac)) => Ok((facts, mac)),
        (DeviceKind::Ethernet, None) | (DeviceKind::NoEthernetHeader, _) => {
            Err(Refusal::NoEthernetHeader(name()))
        }
        (DeviceKind::Loopback, _) => Err(Refusal::Loopback(name())),
    }
}
