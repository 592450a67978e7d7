//! Devices that the agent configures: addresses that a host can have, gateways within reach, one
//! default route of each family.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::node_of;
use crate::config::device::Device;
use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::draft;
use crate::config::family::Family;
use crate::config::uplink::Draft;

/// Smallest MTU of a link with IPv6 (RFC 8200, 5).
const IPV6_MTU_MIN: u32 = 1280;

pub(super) fn check(draft: &draft::Draft, errors: &mut Vec<Diagnostic>) {
    for (at, device) in draft.devices.iter().enumerate() {
        check_prefixes(draft, device, errors);
        check_gateways(device, errors);
        check_mtu(draft, device, errors);
        let others = draft.devices[..at].iter();
        let others: Vec<_> = others
            .filter(|other| is_same_node(draft, device, other))
            .collect();
        check_others(device, &others, errors);
        check_twice(device, errors);
    }
}

fn is_same_node(draft: &draft::Draft, one: &Device, other: &Device) -> bool {
    match (node_of(draft, &one.node), node_of(draft, &other.node)) {
        (Some(one), Some(other)) => std::ptr::eq(one, other),
        _ => false,
    }
}

/// Reports addresses in a prefix of endpoints.
fn check_prefixes(draft: &draft::Draft, device: &Device, errors: &mut Vec<Diagnostic>) {
    for address in &device.uplink.addresses {
        let ip = address.get_ref().addr();
        let prefixes = draft.nodes.iter().filter_map(|n| n.prefix(Family::of(ip)));
        for prefix in prefixes.filter(|prefix| prefix.get_ref().contains(&ip)) {
            let message = format!("device address `{ip}` is in a prefix of endpoints");
            errors.push(
                Diagnostic::new(Kind::NodeAddressInPrefix, address.span(), message)
                    .other(prefix.span(), "this one"),
            );
        }
    }
}

/// Reports gateways that no address of the device reaches.
fn check_gateways(device: &Device, errors: &mut Vec<Diagnostic>) {
    let addresses = &device.uplink.addresses;
    for gateway in &device.uplink.gateways {
        let ip = *gateway.get_ref();
        let family = Family::of(ip);
        let mut networks = addresses.iter().map(|address| *address.get_ref());
        if let Some(own) = addresses.iter().find(|own| own.get_ref().addr() == ip) {
            let message = format!("gateway `{ip}` is the device's own address");
            errors.push(
                Diagnostic::new(Kind::GatewayUnreachable, gateway.span(), message)
                    .other(own.span(), "this one"),
            );
        } else if !is_link_local(ip) && !networks.any(|network| network.contains(&ip)) {
            let message = format!("gateway `{ip}` is on no network of the device");
            let error = Diagnostic::new(Kind::GatewayUnreachable, gateway.span(), message);
            let own = addresses
                .iter()
                .find(|own| Family::of(own.get_ref().addr()) == family);
            errors.push(match own {
                Some(own) => error.other(
                    own.span(),
                    format!("its network is {}", own.get_ref().trunc()),
                ),
                None => error.help(format!("give the device an {family} address in `address`")),
            });
        }
        if let (IpAddr::V4(_), Some(dhcp)) = (ip, device.uplink.dhcp())
            && dhcp.default_route
        {
            let message = format!("gateway `{ip}` competes with the one of the DHCP server");
            errors.push(
                Diagnostic::new(Kind::SeveralGateways, gateway.span(), message)
                    .help("leave it out, or write `dhcp = { default_route = false }`"),
            );
        }
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Reports an MTU that IPv6 cannot have.
fn check_mtu(draft: &draft::Draft, device: &Device, errors: &mut Vec<Diagnostic>) {
    let Some(mtu) = device
        .uplink
        .mtu
        .given()
        .filter(|m| *m.get_ref() < IPV6_MTU_MIN)
    else {
        return;
    };
    let mut addresses = device.uplink.addresses.iter();
    let own = addresses.find(|address| matches!(address.get_ref(), IpNet::V6(_)));
    let node = || node_of(draft, &device.node).and_then(|node| node.prefix(Family::V6));
    let because = own.map(|own| (own.span(), "this address"));
    let because = because.or_else(|| node().map(|node| (node.span(), "this prefix of its node")));
    if let Some((span, what)) = because {
        let message = format!("MTU is below {IPV6_MTU_MIN}, and IPv6 needs that much");
        errors.push(Diagnostic::new(Kind::MtuOutOfRange, mtu.span(), message).other(span, what));
    }
}

/// Reports an address that a device has twice.
fn check_twice(device: &Device, errors: &mut Vec<Diagnostic>) {
    for (at, address) in device.uplink.addresses.iter().enumerate() {
        let ip = address.get_ref().addr();
        let mut before = device.uplink.addresses[..at].iter();
        if let Some(first) = before.find(|first| first.get_ref().addr() == ip) {
            errors.push(twice(ip, address.span(), first.span()));
        }
    }
}

/// Reports what a device cannot have beside those before it on its node.
fn check_others(device: &Device, others: &[&Device], errors: &mut Vec<Diagnostic>) {
    let uplinks = || others.iter().map(|other| &other.uplink);
    for address in &device.uplink.addresses {
        let ip = address.get_ref().addr();
        let mut there = uplinks().flat_map(|uplink| &uplink.addresses);
        if let Some(first) = there.find(|first| first.get_ref().addr() == ip) {
            errors.push(twice(ip, address.span(), first.span()));
        }
    }
    for gateway in &device.uplink.gateways {
        let family = Family::of(*gateway.get_ref());
        let mut there = uplinks().flat_map(|uplink| &uplink.gateways);
        if let Some(first) = there.find(|first| Family::of(*first.get_ref()) == family) {
            let message = format!("two devices of the node have an {family} gateway");
            errors.push(
                Diagnostic::new(Kind::SeveralGateways, gateway.span(), message)
                    .other(first.span(), "the other one")
                    .help("a node has one default route of each family"),
            );
        }
    }
    let file = |uplink: &Draft| uplink.dhcp().and_then(|dhcp| dhcp.resolv_conf.clone());
    if let (Some(path), Some(dhcp)) = (file(&device.uplink), device.uplink.dhcp.given())
        && let Some(first) = uplinks().find(|other| file(other).as_ref() == Some(&path))
        && let Some(first) = first.dhcp.given()
    {
        let path = quote(&path.display().to_string());
        let message = format!("two devices of the node write {path}");
        errors.push(
            Diagnostic::new(Kind::DuplicateKey, dhcp.span(), message)
                .other(first.span(), "the other one"),
        );
    }
}

fn twice(ip: IpAddr, span: Range<usize>, first: Range<usize>) -> Diagnostic {
    let message = format!("the node has the address `{ip}` twice");
    Diagnostic::new(Kind::DuplicateAddress, span, message).other(first, "first given here")
}
