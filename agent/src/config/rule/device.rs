//! Devices: each on a node that exists, once; masquerade addresses outside of all prefixes.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{check_reference, node_of};
use crate::config::device::Device;
use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::draft::Draft;
use crate::config::family::Family;

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    check_unique(draft, errors);
    for device in &draft.devices {
        check_reference(draft, ("[[device]]", &device.span), &device.node, errors);
        check_effect(device, errors);
        check_addresses(draft, device, errors);
    }
}

fn check_unique(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for device in &draft.devices {
        let node = node_of(draft, &device.node).and_then(|node| node.name.given());
        let (Some(node), Some(name)) = (node, device.name.given()) else {
            continue;
        };
        let key = (node.get_ref(), name.get_ref());
        let Some(first) = seen.get(&key) else {
            seen.insert(key, name.span());
            continue;
        };
        let message = format!(
            "node {} has the device {} twice",
            quote(node.get_ref()),
            quote(name.get_ref())
        );
        errors.push(
            Diagnostic::new(Kind::DuplicateDevice, name.span(), message)
                .other(Range::clone(first), "first given here"),
        );
    }
}

/// Reports addresses that nothing is translated to.
fn check_effect(device: &Device, errors: &mut Vec<Diagnostic>) {
    let is_off = match device.masquerade.given() {
        Some(masquerade) => !masquerade.get_ref(),
        None => device.masquerade.is_absent(),
    };
    if let (true, Some(address)) = (is_off, device.masquerade_addresses.first()) {
        let message = "`masquerade_address` does nothing on a device that does not masquerade";
        let error = Diagnostic::new(Kind::NoEffect, address.span(), message);
        errors.push(match device.masquerade.given() {
            Some(masquerade) => error.other(masquerade.span(), "switched off here"),
            None => error.help("add `masquerade = true` to the device"),
        });
    }
}

fn check_addresses(draft: &Draft, device: &Device, errors: &mut Vec<Diagnostic>) {
    for address in &device.masquerade_addresses {
        let family = Family::of(*address.get_ref());
        let prefixes = draft.nodes.iter().filter_map(|node| node.prefix(family));
        for prefix in prefixes.filter(|p| p.get_ref().contains(address.get_ref())) {
            let message = format!(
                "masquerade address `{}` is in a prefix of endpoints",
                address.get_ref()
            );
            errors.push(
                Diagnostic::new(Kind::MasqueradeAddressInPrefix, address.span(), message)
                    .other(prefix.span(), "this one")
                    .help("give an address that the network outside sends to this node"),
            );
        }
    }
}
