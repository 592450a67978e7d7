//! One change of the planner to maps, programs and attachments.
//!
//! Every operation may be repeated: what is so already, or gone already, is success. The caller
//! gives the present indices of links.

use datapath::abi::{self, Addr4, Addr6, Node, OUTSIDE, PENDING_PER_SLOT, Party, SLOT_HOST, Side};
use datapath::packet::MacPair;

use super::entry::{gone, insert};
use super::load::{self, Sizes};
use super::pin::Pins;
use super::{Error, attach, cutover, device, entry, observe, policy, reassembly, sys, table};
use crate::host::link;
use crate::host::netlink::Netlink;
use crate::host::observe::NO_MAC;
use crate::host::{HOST_LINK, NET_LINK};
use crate::plan::difference::OTHER_LAYOUT_SLOTS;
use crate::plan::object::{
    Filtering, Hook, HostRoutingMode, Key, Link, Mapping, Masquerade, Policy, PortSelection, Value,
};

/// Carries out changes to the BPF objects of a node.
pub struct Executor {
    pins: Pins,
    netlink: Netlink,
    /// Memory that maps may take, in bytes.
    budget: u64,
}

impl Executor {
    /// Prepares changes; `budget` is the memory that maps may take, in bytes.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub fn new(pins: Pins, budget: u64) -> Result<Self, Error> {
        Ok(Self {
            pins,
            netlink: Netlink::open()?,
            budget,
        })
    }

    /// Adds an object, or brings it from `before` to `value`.
    ///
    /// `ifindex` is the present index of the link that the object is about, where it is about one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(
        &mut self,
        key: &Key,
        before: Option<&Value>,
        value: &Value,
        ifindex: u32,
    ) -> Result<(), Error> {
        if ifindex == 0 && is_about_a_link(key) {
            return Err(Error::LinkGone(format!("{key:?}")));
        }
        match (key, value) {
            (
                Key::Datapath,
                Value::Datapath {
                    digest,
                    endpoint_slots,
                    flows,
                    bindings,
                },
            ) => {
                let sizes = Sizes::new(self.budget, *endpoint_slots, *flows, *bindings);
                cutover::load(&self.pins, before, value, (&sizes, digest))?;
                if *endpoint_slots == OTHER_LAYOUT_SLOTS {
                    // They are what they were; their entries are, too.
                    return Ok(());
                }
                self.write_node(&mut |node| {
                    node.pending_mask = endpoint_slots * PENDING_PER_SLOT - 1;
                })
            }
            (Key::Reassembly(family), Value::Reassembly) => reassembly::set(&self.pins, *family),
            (Key::NodeEntry, Value::NodeEntry { .. }) => self.set_node(value, ifindex),
            (Key::EndpointEntry(_), Value::EndpointEntry { .. }) => {
                entry::set(&self.pins, before, value, ifindex)
            }
            (Key::DeviceEntry(_), Value::DeviceEntry { .. }) => {
                device::set(&self.pins, before, value, ifindex)
            }
            (Key::Policy, Value::Policy(policy)) => self.set_policy(before, policy),
            (Key::Attachment(link, hook), Value::Attachment { .. }) => {
                self.attach((link, ifindex, *hook), before, value)
            }
            (Key::Generation, Value::Generation { fingerprint }) => {
                self.advance_generation(*fingerprint)
            }
            _ => Err(Error::NotOurs(format!("{key:?}"))),
        }
    }

    /// Removes an object.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&mut self, key: &Key, before: &Value, ifindex: u32) -> Result<(), Error> {
        match (key, before) {
            (Key::Datapath, _) => load::unload(&self.pins),
            (Key::Former, _) => cutover::end(&self.pins),
            (Key::Reassembly(family), _) => reassembly::unset(&self.pins, *family),
            (Key::NodeEntry, _) => self.write_node(&mut |node| node.host_ifindex = 0),
            (Key::Generation, _) => self.write_node(&mut |node| node.generation &= 1),
            (Key::EndpointEntry(_), before) => entry::remove(&self.pins, before),
            (Key::DeviceEntry(_), before) => device::remove(&self.pins, before, ifindex),
            (Key::Policy, before) => self.set_policy(Some(before), &Policy::default()),
            (Key::Attachment(link, hook), Value::Attachment { kind, .. }) => {
                attach::unset(&self.pins, &mut self.netlink, (link, ifindex, *hook), *kind)
            }
            _ => Err(Error::NotOurs(format!("{key:?}"))),
        }
    }

    /// Attaches a program, in place of one that is attached in another way.
    fn attach(
        &mut self,
        at: (&Link, u32, Hook),
        before: Option<&Value>,
        value: &Value,
    ) -> Result<(), Error> {
        let Value::Attachment {
            program,
            digest,
            kind,
        } = value
        else {
            return Err(Error::NotOurs(format!("{value:?}")));
        };
        if let Some(Value::Attachment { kind: old, .. }) = before
            && old != kind
        {
            attach::unset(&self.pins, &mut self.netlink, at, *old)?;
        }
        let version = digest.as_deref().unwrap_or_default();
        let places = [self.pins.clone()]
            .into_iter()
            .chain(observe::others(&self.pins));
        let mut paths = places.map(|pins| pins.object(version).join(program.name()));
        let path = paths
            .find(|path| path.exists())
            .unwrap_or_else(|| self.pins.object(version).join(program.name()));
        attach::set(&self.pins, &mut self.netlink, at, (&path, *program), *kind)
    }

    fn set_node(&mut self, value: &Value, ifindex: u32) -> Result<(), Error> {
        let Value::NodeEntry {
            router4,
            router6,
            ipv4,
            ipv6,
            host_routing,
            reassembles,
            masquerade,
            ..
        } = value
        else {
            return Err(Error::NotOurs(format!("{value:?}")));
        };
        let timeouts = masquerade.map(timeouts).unwrap_or_default();
        let slots = table::pending4(&self.pins)?.len();
        let [host, net] = [HOST_LINK, NET_LINK].map(|name| link::get(&mut self.netlink, name));
        let (Some(host), Some(net)) = (host?, net?) else {
            return Err(Error::NotOurs(format!("{HOST_LINK} is gone")));
        };
        let mtu = u16::try_from(host.mtu).unwrap_or(u16::MAX);
        let [mac, gateway_mac] = [host.mac, net.mac].map(|mac| mac.unwrap_or(NO_MAC).0);
        let party = Party::host(ifindex, mac, gateway_mac, mtu);
        let mut parties = table::endpoints(&self.pins)?;
        insert("ENDPOINTS", parties.insert(ifindex, party, 0))?;
        insert("ENDPOINTS", parties.insert(OUTSIDE, Party::outside(), 0))?;
        self.write_node(&mut |node| {
            let mut fresh = Node::default();
            fresh.generation = node.generation;
            fresh.fingerprint = node.fingerprint;
            fresh.guards = node.guards;
            fresh.is_settled = node.is_settled;
            fresh.host_ifindex = ifindex;
            fresh.pending_mask = slots.max(PENDING_PER_SLOT) - 1;
            fresh.to_stack = MacPair::new(mac, gateway_mac);
            fresh.net_ifindex = net.index;
            fresh.legacy_routing = u8::from(*host_routing == HostRoutingMode::Legacy);
            fresh.reassembles = u32::from(*reassembles);
            fresh.timeouts = timeouts;
            fresh.masquerade = masquerade.map(settings).unwrap_or_default();
            if let (Some(prefix), Some(router)) = (ipv4, router4) {
                let network = Addr4::new(prefix.network().octets());
                fresh.set_ipv4((network, prefix.prefix_len()), Addr4::new(router.octets()));
            }
            if let (Some(prefix), Some(router)) = (ipv6, router6) {
                let network = Addr6::new(prefix.network().octets());
                fresh.set_ipv6((network, prefix.prefix_len()), Addr6::new(router.octets()));
            }
            *node = fresh;
        })?;
        // What `cilium_host` was under another index is nobody any more.
        let stale: Vec<u32> = parties
            .iter()
            .filter_map(Result::ok)
            .filter(|(index, party)| !party.is_endpoint() && ![ifindex, OUTSIDE].contains(index))
            .map(|(index, _)| index)
            .collect();
        for index in stale {
            gone("ENDPOINTS", parties.remove(&index))?;
        }
        Ok(())
    }

    /// Makes every flow be decided again; programs that nothing uses any more go.
    fn advance_generation(&mut self, fingerprint: u64) -> Result<(), Error> {
        self.write_node(&mut |node| {
            node.generation = after(node.generation);
            node.fingerprint = fingerprint;
        })?;
        let versions = observe::versions(&self.pins)?;
        load::remove_versions(&self.pins, versions.get(1..).unwrap_or_default())
    }

    /// Writes a policy beside the present one, and makes it hold.
    fn set_policy(&self, before: Option<&Value>, policy: &Policy) -> Result<(), Error> {
        let node = table::read_node(&self.pins)?;
        let active = Side::of(node.generation);
        let before = match before {
            Some(Value::Policy(before)) if node.is_settled != 0 => Some(before.as_ref()),
            Some(_) | None => None,
        };
        let idle = 1 << active.other().number();
        let guards_host = policy
            .subjects
            .get(&SLOT_HOST)
            .is_some_and(|host| host.policy != 0);
        // Before the switch: two words of an entry are not written at once.
        self.write_node(&mut |node| {
            node.is_settled = 0;
            node.guards = node.guards & !idle | if guards_host { idle } else { 0 };
        })?;
        let change = policy::write(&self.pins, before, policy, active)?;
        self.write_node(&mut |node| node.generation = after(node.generation) ^ 1)?;
        if let Err(error) = sys::wait_for_programs() {
            // The next change reads what it finds.
            log::debug!("wait for programs to end: {error}");
            return Ok(());
        }
        change.settle(active.other())?;
        self.write_node(&mut |node| {
            node.guards = if guards_host { 3 } else { 0 };
            node.is_settled = 1;
        })
    }

    fn write_node(&self, change: &mut dyn FnMut(&mut Node)) -> Result<(), Error> {
        let mut map = table::node(&self.pins)?;
        let mut node = map
            .get(&0, 0)
            .map_err(|error| Error::map("read map", "NODE", &error))?;
        change(&mut node);
        map.set(0, node, 0)
            .map_err(|error| Error::map("write map", "NODE", &error))
    }
}

/// Returns the next generation of the same side of policy; 0 and 1 mean that there is none.
fn after(generation: u32) -> u32 {
    let number = ((generation >> 1) + 1) & (u32::MAX >> 1);
    number.max(1) << 1 | generation & 1
}

/// Tells whether an object cannot be without its link.
fn is_about_a_link(key: &Key) -> bool {
    matches!(
        key,
        Key::NodeEntry | Key::EndpointEntry(_) | Key::DeviceEntry(_) | Key::Attachment(..)
    )
}

/// Returns settings of masquerade as the kernel side has them.
fn settings(masquerade: Masquerade) -> abi::Masquerade {
    let (first, last) = masquerade.ports;
    abi::Masquerade {
        ports: [first, last],
        max_ports: masquerade.max_ports,
        endpoint_independent: u8::from(masquerade.mapping == Mapping::EndpointIndependent),
        unfiltered: u8::from(masquerade.filtering == Filtering::EndpointIndependent),
        random_ports: u8::from(masquerade.selection == PortSelection::Random),
        pad: 0,
    }
}

fn timeouts(masquerade: Masquerade) -> abi::Timeouts {
    let timeouts = masquerade.timeouts;
    abi::Timeouts {
        tcp_established: timeouts.tcp_established_secs,
        tcp_transitory: timeouts.tcp_transitory_secs,
        udp: timeouts.udp_secs,
        icmp: timeouts.icmp_secs,
        other: timeouts.other_secs,
    }
}
