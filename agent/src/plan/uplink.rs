//! What a device has that the agent configures: addresses, routes, MTU, by the file or by a lease.
//!
//! Both are desired in the same way. What a server says must never keep the node from being what
//! its file says: what of a lease cannot be so is left out, with a warning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::lease::{Lease, LeaseRoute};
use super::object::{DeviceFacts, Key, Link, NameServers, State, Value};
use super::warning::{self, Warning};
use crate::config::family::Family;
use crate::config::uplink::Dhcp;
use crate::topology::{Device, Topology};

/// Metric of the default route of IPv6 that the file gives: before those that routers advertise,
/// which have 1024.
const METRIC6: u32 = 512;

/// Metric of the routes of a lease, plus the number of the device: behind what others prefer.
const LEASE_METRIC: u32 = 2000;

/// Smallest MTU that is taken from a server: what every IPv4 host must accept (RFC 791), and what
/// every link of IPv6 must have (RFC 8200).
const MTU_MIN: u32 = 576;
const MTU_MIN6: u32 = 1280;

/// Is what one device shall have.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    pub(super) state: State,
    pub(super) warnings: Vec<Warning>,
    /// Its addresses, the first choice first.
    pub(super) addresses: Vec<IpNet>,
    /// Its routes to everywhere.
    pub(super) gateways: Vec<IpAddr>,
}

/// Returns what a device shall have; `lease` is a valid one.
pub(super) fn uplink(
    topology: &Topology,
    device: &Device,
    facts: &DeviceFacts,
    lease: Option<&Lease>,
) -> Uplink {
    let mut uplink = Uplink::default();
    if !device.uplink.is_configured() {
        return uplink;
    }
    let link = Link::Device(device.name.clone());
    uplink.state.insert(Key::LinkUp(link), Value::LinkUp);
    uplink.add_static(device);
    let mut mtu = device.uplink.mtu;
    if let Some(dhcp) = &device.uplink.dhcp {
        match lease.map(|lease| (lease, obstacle(topology, lease))) {
            None => uplink.warnings.push(warning::no_lease(&device.name)),
            Some((lease, Some(prefix))) => {
                let warning = warning::lease_in_prefix(&device.name, lease.address, prefix);
                uplink.warnings.push(warning);
            }
            Some((lease, None)) => {
                let number = topology.devices.iter().position(|other| other == device);
                let number = number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
                let metric = dhcp.metric.unwrap_or(LEASE_METRIC + number);
                let sane = uplink.sane(topology, device, dhcp, lease);
                uplink.add_lease(device, dhcp, &sane, metric);
                mtu = mtu.or_else(|| uplink.lease_mtu(topology, device, facts, lease));
            }
        }
    }
    if let Some(mtu) = mtu {
        let key = Key::DeviceMtu(device.name.clone());
        uplink.state.insert(key, Value::DeviceMtu { mtu });
    }
    uplink
}

impl Uplink {
    fn add_static(&mut self, device: &Device) {
        for address in &device.uplink.addresses {
            self.add_address(device, *address, Value::DeviceAddress { lifetime: None });
        }
        for gateway in &device.uplink.gateways {
            let (everywhere, metric): (IpNet, _) = match Family::of(*gateway) {
                Family::V4 => (Ipv4Net::default().into(), None),
                Family::V6 => (Ipv6Net::default().into(), Some(METRIC6)),
            };
            self.gateways.push(*gateway);
            self.add_route(device, everywhere, Some(*gateway), None, metric);
        }
    }

    fn add_lease(&mut self, device: &Device, dhcp: &Dhcp, lease: &Lease, metric: u32) {
        let lifetime = lease.lifetime();
        // What the file gives lasts.
        if !device.uplink.addresses.contains(&lease.address.into()) {
            let value = Value::DeviceAddress { lifetime };
            self.add_address(device, lease.address.into(), value);
        }
        let src = Some(IpAddr::V4(lease.address.addr()));
        for route in &lease.routes {
            if let Some(via) = route.via.filter(|via| !is_near(lease, route, *via)) {
                let host = IpNet::from(IpAddr::V4(via));
                self.add_route(device, host, None, src, Some(metric));
            }
            let via = route.via.map(IpAddr::V4);
            if route.prefix.prefix_len() == 0 {
                self.gateways.extend(via);
            }
            self.add_route(device, route.prefix.into(), via, src, Some(metric));
        }
        if let Some(path) = &dhcp.resolv_conf {
            let value = NameServers {
                servers: lease.name_servers.clone(),
                domain: lease.domain.clone(),
            };
            let key = Key::NameServers(path.clone());
            self.state.insert(key, Value::NameServers(value));
        }
    }

    /// Returns a lease with those of its routes that can be.
    fn sane(&mut self, topology: &Topology, device: &Device, dhcp: &Dhcp, lease: &Lease) -> Lease {
        let mut sane = lease.clone();
        sane.routes.clear();
        for route in &lease.routes {
            if route.prefix.prefix_len() == 0 && !dhcp.default_route {
                continue;
            }
            let mut route = *route;
            // So servers say that everything is on the link.
            route.via = route.via.filter(|via| *via != lease.address.addr());
            let is_pool = |pool: &Ipv4Net| pool.contains(&route.prefix);
            let is_loopback = route.prefix.addr().is_loopback();
            if is_loopback || !route.via.is_none_or(is_host) || pools(topology).any(|p| is_pool(&p))
            {
                let warning = warning::lease_route(&device.name, route.prefix);
                self.warnings.push(warning);
            } else {
                sane.routes.push(route);
            }
        }
        sane
    }

    fn add_address(&mut self, device: &Device, address: IpNet, value: Value) {
        let key = Key::Address(Link::Device(device.name.clone()), address);
        self.state.insert(key, value);
        self.addresses.push(address);
    }

    fn add_route(
        &mut self,
        device: &Device,
        prefix: IpNet,
        via: Option<IpAddr>,
        src: Option<IpAddr>,
        metric: Option<u32>,
    ) {
        let key = Key::Route(Link::Device(device.name.clone()), prefix);
        let mtu = None;
        let value = Value::Route {
            via,
            src,
            mtu,
            metric,
        };
        self.state.insert(key, value);
    }

    /// Returns the MTU that a server gives, if the device can have it.
    fn lease_mtu(
        &mut self,
        topology: &Topology,
        device: &Device,
        facts: &DeviceFacts,
        lease: &Lease,
    ) -> Option<u32> {
        let mtu = lease.mtu?;
        let has_v6 = topology.ipv6.is_some() || self.addresses.iter().any(is_v6);
        let least = if has_v6 { MTU_MIN6 } else { MTU_MIN };
        let most = facts.max_mtu.unwrap_or(u32::MAX);
        if (least..=most).contains(&mtu) {
            return Some(mtu);
        }
        let warning = warning::lease_mtu(&device.name, mtu, least, facts.max_mtu);
        self.warnings.push(warning);
        None
    }
}

fn is_v6(address: &IpNet) -> bool {
    matches!(address, IpNet::V6(_))
}

/// Lists the prefixes of endpoints.
fn pools(topology: &Topology) -> impl Iterator<Item = Ipv4Net> {
    let peers = topology.peers.iter().filter_map(|peer| peer.ipv4);
    topology.ipv4.into_iter().chain(peers)
}

/// Returns the prefix of endpoints that the address of a lease is in.
fn obstacle(topology: &Topology, lease: &Lease) -> Option<Ipv4Net> {
    pools(topology).find(|pool| pool.contains(&lease.address.addr()))
}

/// Tells whether an address can be that of a router.
fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_broadcast()
}

/// Tells whether a gateway is on the device's network, or on one to which the lease has a route that
/// is there before the one by the gateway.
fn is_near(lease: &Lease, route: &LeaseRoute, via: Ipv4Addr) -> bool {
    let mut links = lease.routes.iter().filter(|link| link.via.is_none());
    lease.address.contains(&via)
        || links.any(|link| {
            link.prefix.contains(&via) && link.prefix.prefix_len() > route.prefix.prefix_len()
        })
}

/// Returns the addresses of one family.
pub(super) fn addresses4(addresses: &[IpNet]) -> impl Iterator<Item = Ipv4Addr> {
    addresses.iter().filter_map(|address| match address {
        IpNet::V4(address) => Some(address.addr()),
        IpNet::V6(_) => None,
    })
}

/// Returns the addresses of the other one.
pub(super) fn addresses6(addresses: &[IpNet]) -> impl Iterator<Item = Ipv6Addr> {
    addresses.iter().filter_map(|address| match address {
        IpNet::V4(_) => None,
        IpNet::V6(address) => Some(address.addr()),
    })
}
