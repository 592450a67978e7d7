//! What the kernel has now, in the planner's words: links, addresses, routes, rules, sysctls.
//!
//! Read-only, and the same for boot, repair and `down`. Objects of ours are found by their
//! marks, desired or not; what surrounds them is read only as far as a decision needs it.
//! `datapath` adds maps and programs to the same state.
//!
//! Conventions that the planner relies on:
//! - A pair whose creation or removal was interrupted shows MTU 0, so that a change in place
//!   completes it.
//! - A peer that is missing shows the MAC address [`NO_MAC`], and no namespace.
//! - What others gave a device is reported apart; nothing of it is ours.
//! - A link that is up is reported as such only if that is desired: nothing of ours is ever
//!   taken down for itself.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use rtnetlink::packet_route::link::LinkLayerType;

use super::address::{self, Address};
use super::error::{Error, Result};
use super::inside::{self, Inside};
use super::link::{self, Properties};
use super::mark::{Mark, Owner};
use super::netlink::Netlink;
use super::route::{self, Route};
use super::{HOST_LINK, NET_LINK, clock, rule, sysctl};
use crate::config::family::Family;
use crate::plan::UNFINISHED_MTU;
use crate::plan::object::{Key, Lifetime, Link, Mac, State, Value};

/// Stands for the MAC address of a link that is missing.
pub const NO_MAC: Mac = Mac([0; 6]);

/// By how much the end of an address may seem to differ: the kernel counts whole seconds.
const ROUNDING_SECS: u64 = 2;

/// Holds what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Our objects.
    pub objects: State,
    /// Present values of the desired sysctls that are not recorded as ours.
    pub sysctls: BTreeMap<String, String>,
    /// What the desired state names of devices, and others made: addresses, routes to everywhere,
    /// MTUs.
    pub foreign: State,
    /// MTUs of links that are not ours, by name.
    pub mtus: BTreeMap<String, u32>,
    /// Links that took a default route from an IPv6 router advertisement, and are not ours.
    pub ra_devices: Vec<String>,
    /// Present indices of our links, each in its own namespace; and of all other links of the
    /// node's, but loopback.
    pub links: BTreeMap<Link, u32>,
}

/// Reads the state of a node in the namespace of the calling thread.
///
/// `originals` holds the recorded values of the sysctls that are ours.
///
/// # Errors
/// When a foreign link has a desired name, a desired endpoint's namespace is missing or cannot
/// be an endpoint's, or the kernel refuses.
pub fn observe(
    node: &str,
    desired: &State,
    originals: &BTreeMap<String, String>,
) -> Result<Observation> {
    let mut netlink = Netlink::open()?;
    let mut observer = Observer {
        mark: Mark::new(node),
        desired,
        found: Observation::default(),
        ours: BTreeMap::new(),
    };
    let links = link::dump(&mut netlink)?;
    observer.refuse_foreign(&links)?;
    observer.take_host_pair(&links);
    for link in &links {
        observer.take_endpoint_link(link);
    }
    let (addresses, routes) = (address::dump(&mut netlink)?, route::dump(&mut netlink)?);
    for (role, link) in observer.ours.clone() {
        observer.take_configuration(&role, &link, &addresses, &routes);
    }
    let defaults = observer.foreign_defaults(&mut netlink)?;
    observer.take_devices(&links, &addresses, (&routes, &defaults));
    observer.take_rules(&mut netlink)?;
    observer.take_endpoints()?;
    observer.take_sysctls(originals)?;
    observer.take_ra_devices(&links, &route::dump_advertised(&mut netlink)?);
    Ok(observer.found)
}

struct Observer<'a> {
    mark: Mark,
    desired: &'a State,
    found: Observation,
    /// Our links of the node's namespace.
    ours: BTreeMap<Link, Properties>,
}

impl Observer<'_> {
    fn owner(&self, link: &Properties) -> Owner {
        self.mark.owner(link.alias.as_deref(), link.group)
    }

    /// Tells whether creation ran to its end, and no removal was begun.
    fn is_finished(&self, link: &Properties) -> bool {
        self.owner(link) != Owner::Unfinished && link.group != self.mark.condemned_group()
    }

    fn refuse_foreign(&self, links: &[Properties]) -> Result<()> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for value in self.desired.values() {
            if let Value::EndpointLink { link, .. } = value {
                names.insert(link);
            } else if let Value::HostLink { .. } = value {
                names.extend([HOST_LINK, NET_LINK]);
            }
        }
        let foreign = links
            .iter()
            .filter(|link| names.contains(link.name.as_str()) && self.owner(link) == Owner::Foreign)
            .map(|link| Error::ForeignLink {
                name: link.name.clone(),
                alias: link.alias.clone(),
            });
        Error::collected(foreign.collect())
    }

    fn take_host_pair(&mut self, links: &[Properties]) {
        let find = |name| {
            links
                .iter()
                .find(|link| link.name == name && self.owner(link) != Owner::Foreign)
        };
        let (host, net) = (find(HOST_LINK), find(NET_LINK));
        let wanted = self.desired.get(&Key::HostLink).map(mtu_of);
        // Somebody may have renamed both; they still are in the way, and ours to remove.
        let is_renamed = || links.iter().any(|link| self.owner(link) == Owner::Node);
        let mtu = match (host, net) {
            (None, None) if !is_renamed() => return,
            (Some(host), Some(net)) if self.is_finished(host) && self.is_finished(net) => {
                unwanted_first([host.mtu, net.mtu], wanted)
            }
            _ => UNFINISHED_MTU,
        };
        // Two links that are not each other's peer are as good as none.
        let paired = matches!((host, net), (Some(host), Some(net)) if host.peer == Some(net.index));
        let mac = |link: Option<&Properties>| {
            let link = link.filter(|_| paired);
            link.and_then(|link| link.mac).unwrap_or(NO_MAC)
        };
        let value = Value::HostLink {
            host_mac: mac(host),
            net_mac: mac(net),
            mtu,
        };
        self.found.objects.insert(Key::HostLink, value);
        for (role, link) in [(Link::Host, host), (Link::Net, net)] {
            if let Some(link) = link {
                self.ours.insert(role, link.clone());
            }
        }
    }

    fn take_endpoint_link(&mut self, link: &Properties) {
        let endpoint = match self.owner(link) {
            Owner::Endpoint(endpoint) => endpoint,
            Owner::Unfinished => match self.endpoint_by_link_name(&link.name) {
                Some(endpoint) => endpoint,
                None => return,
            },
            Owner::Node | Owner::Foreign => return,
        };
        let value = Value::EndpointLink {
            link: link.name.clone(),
            netns: None,
            lxc_mac: link.mac.unwrap_or(NO_MAC),
            mac: NO_MAC,
            mtu: if self.is_finished(link) {
                link.mtu
            } else {
                UNFINISHED_MTU
            },
        };
        let key = Key::EndpointLink(endpoint.clone());
        self.found.objects.insert(key, value);
        self.ours.insert(Link::Lxc(endpoint), link.clone());
    }

    /// Finds the endpoint of a link that does not say so itself. The name of an undesired
    /// endpoint with a long name is lost; what the link is called serves as well.
    fn endpoint_by_link_name(&self, name: &str) -> Option<String> {
        let desired = self
            .desired
            .iter()
            .find_map(|(key, value)| match (key, value) {
                (Key::EndpointLink(endpoint), Value::EndpointLink { link, .. }) if link == name => {
                    Some(endpoint.clone())
                }
                _ => None,
            });
        desired.or_else(|| name.strip_prefix("lxc").map(str::to_owned))
    }

    /// Takes index, addresses, routes and state of one of our links.
    fn take_configuration(
        &mut self,
        role: &Link,
        link: &Properties,
        addresses: &[Address],
        routes: &[Route],
    ) {
        self.found.links.insert(role.clone(), link.index);
        let objects = &mut self.found.objects;
        for address in addresses {
            if address.ours && address.link == link.index {
                objects.insert(Key::Address(role.clone(), address.address), Value::Address);
            }
        }
        for route in routes.iter().filter(|route| route.link == link.index) {
            let (key, value) = route_object(role, route.prefix, route);
            objects.insert(key, value);
        }
        let up = Key::LinkUp(role.clone());
        if link.up && self.desired.contains_key(&up) {
            objects.insert(up, Value::LinkUp);
        }
    }

    /// Takes the links that are not ours, and our routes through them. Nothing tells which of
    /// them once were devices of the node, so they are all taken.
    fn take_devices(
        &mut self,
        links: &[Properties],
        addresses: &[Address],
        (routes, defaults): (&[Route], &[Route]),
    ) {
        for link in links {
            if self.owner(link) != Owner::Foreign || link.layer == LinkLayerType::Loopback {
                continue;
            }
            let device = Link::Device(link.name.clone());
            for route in routes.iter().filter(|route| route.link == link.index) {
                let (key, value) = route_object(&device, route.prefix, route);
                self.found.objects.insert(key, value);
            }
            for route in defaults.iter().filter(|route| route.link == link.index) {
                let (key, value) = route_object(&device, route.prefix, route);
                self.found.foreign.insert(key, value);
            }
            for address in addresses
                .iter()
                .filter(|address| address.link == link.index)
            {
                self.take_device_address(&device, address);
            }
            let up = Key::LinkUp(device.clone());
            if link.up && self.desired.contains_key(&up) {
                self.found.objects.insert(up, Value::LinkUp);
            }
            let mtu = Value::DeviceMtu { mtu: link.mtu };
            let key = Key::DeviceMtu(link.name.clone());
            self.found.foreign.insert(key, mtu);
            self.found.mtus.insert(link.name.clone(), link.mtu);
            self.found.links.insert(device, link.index);
        }
    }

    /// Reads routes of others to everywhere, where the answer matters.
    fn foreign_defaults(&self, netlink: &mut Netlink) -> Result<Vec<Route>> {
        let is_default = |key: &Key| matches!(key, Key::Route(Link::Device(_), prefix) if prefix.prefix_len() == 0);
        if self.desired.keys().any(is_default) {
            route::dump_foreign_defaults(netlink)
        } else {
            Ok(Vec::new())
        }
    }

    /// Takes an address of a device, of ours or of others.
    fn take_device_address(&mut self, device: &Link, address: &Address) {
        let key = Key::Address(device.clone(), address.address);
        let lifetime = address.valid_secs.map(|secs| self.lifetime(&key, secs));
        let value = Value::DeviceAddress { lifetime };
        let found = if address.ours {
            &mut self.found.objects
        } else {
            &mut self.found.foreign
        };
        found.insert(key, value);
    }

    /// Returns how long an address is valid: as is desired, if the difference is one of rounding.
    fn lifetime(&self, key: &Key, secs: u32) -> Lifetime {
        let until_secs = clock::now().as_secs() + u64::from(secs);
        match self.desired.get(key) {
            Some(Value::DeviceAddress {
                lifetime: Some(wanted),
            }) if wanted.until_secs.abs_diff(until_secs) <= ROUNDING_SECS => *wanted,
            _ => Lifetime { secs, until_secs },
        }
    }

    /// Takes our rules; of two in one family, which an interrupted change leaves, the one that
    /// needs a change.
    fn take_rules(&mut self, netlink: &mut Netlink) -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let key = Key::Rule(family);
            let mut priorities = rule::priorities(netlink, family)?;
            let wanted = |priority: &u32| {
                let value = Value::Rule {
                    priority: *priority,
                };
                self.desired.get(&key) == Some(&value)
            };
            priorities.sort_by_key(wanted);
            if let Some(priority) = priorities.first().copied() {
                self.found.objects.insert(key, Value::Rule { priority });
            }
        }
        Ok(())
    }

    /// Takes what is inside the namespaces of the desired endpoints.
    fn take_endpoints(&mut self) -> Result<()> {
        for (endpoint, netns) in inside::check_all(self.desired)? {
            let Some(lxc) = self.ours.get(&Link::Lxc(endpoint.clone())).cloned() else {
                continue;
            };
            let Inside {
                links,
                addresses,
                routes,
            } = inside::read(&endpoint, &netns)?;
            if let Some(eth0) = inside::peer_of(&lxc, &links) {
                self.complete_endpoint_link(&endpoint, eth0);
                self.take_configuration(&Link::Eth0(endpoint), eth0, &addresses, &routes);
            }
        }
        Ok(())
    }

    fn complete_endpoint_link(&mut self, endpoint: &str, eth0: &Properties) {
        let key = Key::EndpointLink(endpoint.into());
        let wanted = self.desired.get(&key);
        if let (
            Some(Value::EndpointLink {
                netns, mac, mtu, ..
            }),
            Some(Value::EndpointLink {
                netns: wanted_netns,
                mtu: wanted_mtu,
                ..
            }),
        ) = (self.found.objects.get_mut(&key), wanted)
        {
            netns.clone_from(wanted_netns);
            *mac = eth0.mac.unwrap_or(NO_MAC);
            *mtu = unwanted_first([*mtu, eth0.mtu], Some(*wanted_mtu));
        }
    }

    fn take_sysctls(&mut self, originals: &BTreeMap<String, String>) -> Result<()> {
        for path in originals.keys() {
            if let Some(value) = sysctl::read(path)? {
                let key = Key::Sysctl(path.clone());
                self.found.objects.insert(key, Value::Sysctl { value });
            }
        }
        for key in self.desired.keys() {
            if let Key::Sysctl(path) = key
                && !originals.contains_key(path)
                && let Some(value) = sysctl::read(path)?
            {
                self.found.sysctls.insert(path.clone(), value);
            }
        }
        Ok(())
    }

    fn take_ra_devices(&mut self, links: &[Properties], advertised: &BTreeSet<u32>) {
        let devices = links
            .iter()
            .filter(|link| advertised.contains(&link.index) && self.owner(link) == Owner::Foreign)
            .map(|link| link.name.clone());
        self.found.ra_devices = devices.collect();
        self.found.ra_devices.sort();
    }
}

fn route_object(role: &Link, prefix: IpNet, route: &Route) -> (Key, Value) {
    let value = Value::Route {
        via: route.via,
        src: route.src,
        mtu: route.mtu,
        metric: route.metric,
    };
    (Key::Route(role.clone(), prefix), value)
}

fn mtu_of(value: &Value) -> u32 {
    if let Value::HostLink { mtu, .. } = value {
        *mtu
    } else {
        UNFINISHED_MTU
    }
}

/// Returns the MTU of a pair: of two that differ, the one that needs a change.
fn unwanted_first([one, other]: [u32; 2], wanted: Option<u32>) -> u32 {
    if Some(one) == wanted { other } else { one }
}
