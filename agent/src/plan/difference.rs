//! What differs between an object as it is and as it shall be, in words.
//!
//! `reason` joins these into the reason of a change. A value and its successor are always of
//! the same variant; what never differs without the object being made anew is not compared.

use std::fmt::Display;

use super::object::{Lifetime, LinkRef, Masquerade, Value};

/// Stands for the MTU of a pair that is not finished; no link has it.
pub const UNFINISHED_MTU: u32 = 0;

/// Stands for the slices of tables that are of another layout, or not in their place; none have so few.
pub const OTHER_LAYOUT_SLOTS: u32 = 0;

/// Lists what differs between the two sides.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Differences::default();
    match (before, after) {
        (Value::Datapath { .. }, Value::Datapath { .. }) => found.of_datapath(before, after),
        (Value::HostLink { mtu, .. }, Value::HostLink { mtu: after, .. })
        | (Value::EndpointLink { mtu, .. }, Value::EndpointLink { mtu: after, .. }) => {
            if *mtu == UNFINISHED_MTU {
                found.say("its creation or removal was interrupted");
            } else {
                found.note("its MTU is", mtu, after);
            }
        }
        (Value::NodeEntry { .. }, Value::NodeEntry { .. }) => {
            found.of_node_entry(before, after);
        }
        (Value::Sysctl { value }, Value::Sysctl { value: after }) => {
            found.note("its value is", value, after);
        }
        (Value::Attachment { .. }, Value::Attachment { .. }) => {
            found.of_attachment(before, after);
        }
        (Value::Route { .. }, Value::Route { .. }) => found.of_route(before, after),
        (Value::EndpointEntry { .. }, Value::EndpointEntry { .. }) => {
            found.of_endpoint_entry(before, after);
        }
        (Value::DeviceEntry { .. }, Value::DeviceEntry { .. }) => {
            found.of_device_entry(before, after);
        }
        (Value::DeviceAddress { lifetime }, Value::DeviceAddress { lifetime: after }) => {
            found.of_device_address(*lifetime, *after);
        }
        (Value::DeviceMtu { mtu }, Value::DeviceMtu { mtu: after }) => {
            found.note("its MTU is", mtu, after);
        }
        (Value::NameServers(before), Value::NameServers(after)) if before != after => {
            found.say("it names other name servers");
        }
        (Value::Policy(before), Value::Policy(after)) => found.0 = before.differences(after),
        (Value::Rule { priority }, Value::Rule { priority: after }) => {
            found.note("its priority is", priority, after);
        }
        _ => {}
    }
    found.0
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn of_datapath(&mut self, before: &Value, after: &Value) {
        if let Value::Datapath {
            digest,
            endpoint_slots,
            flows,
            bindings,
        } = before
            && let Value::Datapath {
                digest: digest_after,
                endpoint_slots: slots_after,
                flows: flows_after,
                bindings: bindings_after,
            } = after
        {
            if *endpoint_slots == OTHER_LAYOUT_SLOTS {
                self.say("the pinned tables are of another layout");
                return;
            }
            self.note("the pinned programs are of build", digest, digest_after);
            self.note(
                "the number of slices for pending flows is",
                endpoint_slots,
                slots_after,
            );
            let size = |flows: &Option<u32>| {
                flows.map_or_else(|| "the machine's choice".to_owned(), |f| f.to_string())
            };
            self.note("the number of flows is", &size(flows), &size(flows_after));
            self.note(
                "the number of entries for bindings is",
                bindings,
                bindings_after,
            );
        }
    }

    fn of_node_entry(&mut self, before: &Value, after: &Value) {
        if let Value::NodeEntry {
            router4,
            router6,
            ipv4,
            ipv6,
            host_mac,
            host_link,
            host_routing,
            reassembles,
            masquerade,
        } = before
            && let Value::NodeEntry {
                router4: router4_after,
                router6: router6_after,
                ipv4: ipv4_after,
                ipv6: ipv6_after,
                host_mac: host_mac_after,
                host_link: host_link_after,
                host_routing: host_routing_after,
                reassembles: reassembles_after,
                masquerade: masquerade_after,
            } = after
        {
            self.note_option(
                "its IPv4 router is",
                router4.as_ref(),
                router4_after.as_ref(),
            );
            self.note_option(
                "its IPv6 router is",
                router6.as_ref(),
                router6_after.as_ref(),
            );
            self.note_option("its IPv4 prefix is", ipv4.as_ref(), ipv4_after.as_ref());
            self.note_option("its IPv6 prefix is", ipv6.as_ref(), ipv6_after.as_ref());
            self.note(
                "the MAC address of cilium_host is",
                host_mac,
                host_mac_after,
            );
            self.note_link(*host_link, *host_link_after);
            self.note("host routing is", host_routing, host_routing_after);
            let words = |is_so: &bool| if *is_so { "by the stack" } else { "by nobody" };
            self.note(
                "overtaken fragments are put in order",
                &words(reassembles),
                &words(reassembles_after),
            );
            self.of_masquerade(masquerade.as_ref(), masquerade_after.as_ref());
        }
    }

    fn of_masquerade(&mut self, before: Option<&Masquerade>, after: Option<&Masquerade>) {
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => (before, after),
            (None, Some(_)) => return self.say("nothing is translated yet"),
            (Some(_), None) => return self.say("nothing is to be translated any more"),
            (None, None) => return,
        };
        let ports = |of: &Masquerade| format!("{}-{}", of.ports.0, of.ports.1);
        self.note("outside ports are", &ports(before), &ports(after));
        self.note("the mapping is", &before.mapping, &after.mapping);
        self.note("the filtering is", &before.filtering, &after.filtering);
        self.note(
            "the choice of ports is",
            &before.selection,
            &after.selection,
        );
        self.note(
            "the most ports of an endpoint are",
            &before.max_ports,
            &after.max_ports,
        );
        self.note("its timeouts are", &before.timeouts, &after.timeouts);
    }

    fn of_device_entry(&mut self, before: &Value, after: &Value) {
        if let Value::DeviceEntry {
            masquerade,
            mac,
            masquerade4,
            masquerade6,
            link,
        } = before
            && let Value::DeviceEntry {
                masquerade: masquerade_after,
                mac: mac_after,
                masquerade4: masquerade4_after,
                masquerade6: masquerade6_after,
                link: link_after,
            } = after
        {
            self.note("masquerading is", masquerade, masquerade_after);
            self.note("its MAC address is", mac, mac_after);
            self.note_option(
                "its IPv4 masquerade address is",
                masquerade4.as_ref(),
                masquerade4_after.as_ref(),
            );
            self.note_option(
                "its IPv6 masquerade address is",
                masquerade6.as_ref(),
                masquerade6_after.as_ref(),
            );
            self.note_link(*link, *link_after);
        }
    }

    fn of_attachment(&mut self, before: &Value, after: &Value) {
        if let Value::Attachment {
            program, digest, ..
        } = before
            && let Value::Attachment {
                program: program_after,
                digest: digest_after,
                ..
            } = after
        {
            self.note(
                "the attached program is",
                program.name(),
                program_after.name(),
            );
            match (digest, digest_after) {
                (Some(old), Some(new)) => self.note("the attached program is of build", old, new),
                (None, Some(_)) => self.say("the attached program is not the pinned one"),
                (Some(_), None) => self.say("the attached program was another one"),
                (None, None) => {}
            }
        }
    }

    fn of_route(&mut self, before: &Value, after: &Value) {
        if let Value::Route {
            via,
            src,
            mtu,
            metric,
        } = before
            && let Value::Route {
                via: via_after,
                src: src_after,
                mtu: mtu_after,
                metric: metric_after,
            } = after
        {
            self.note_option("its gateway is", via.as_ref(), via_after.as_ref());
            self.note_option("its source address is", src.as_ref(), src_after.as_ref());
            self.note_option("its MTU is", mtu.as_ref(), mtu_after.as_ref());
            self.note_option("its metric is", metric.as_ref(), metric_after.as_ref());
        }
    }

    fn of_device_address(&mut self, before: Option<Lifetime>, after: Option<Lifetime>) {
        match (before, after) {
            (None, Some(_)) => self.say("it is valid for ever, and is only lent"),
            (Some(_), None) => self.say("its validity ends, and shall not"),
            (Some(old), Some(new)) if old.until_secs < new.until_secs => {
                self.say("the lease was renewed");
            }
            (Some(_), Some(_)) => self.say("it is valid for longer than it is lent"),
            (None, None) => {}
        }
    }

    fn of_endpoint_entry(&mut self, before: &Value, after: &Value) {
        if let Value::EndpointEntry {
            id,
            ipv4,
            ipv6,
            mac,
            lxc_mac,
            mtu,
            link,
        } = before
            && let Value::EndpointEntry {
                id: id_after,
                ipv4: ipv4_after,
                ipv6: ipv6_after,
                mac: mac_after,
                lxc_mac: lxc_mac_after,
                mtu: mtu_after,
                link: link_after,
            } = after
        {
            self.note("its number is", id, id_after);
            self.note_option("its IPv4 address is", ipv4.as_ref(), ipv4_after.as_ref());
            self.note_option("its IPv6 address is", ipv6.as_ref(), ipv6_after.as_ref());
            self.note("its MAC address is", mac, mac_after);
            self.note("the MAC address of its link is", lxc_mac, lxc_mac_after);
            self.note("its MTU is", mtu, mtu_after);
            self.note_link(*link, *link_after);
        }
    }

    fn say(&mut self, what: &str) {
        self.0.push(what.to_owned());
    }

    fn note<T: Display + PartialEq + ?Sized>(&mut self, what: &str, before: &T, after: &T) {
        if before != after {
            self.0.push(format!("{what} {before}, not {after}"));
        }
    }

    fn note_option<T: Display>(&mut self, what: &str, before: Option<&T>, after: Option<&T>) {
        let text = |side: Option<&T>| side.map_or_else(|| "none".to_owned(), T::to_string);
        self.note(what, &text(before), &text(after));
    }

    fn note_link(&mut self, before: LinkRef, after: LinkRef) {
        match (before, after) {
            (LinkRef::Stale(index), LinkRef::Current) => {
                self.0
                    .push(format!("it points to link {index}, which is not its link"));
            }
            (LinkRef::Current, LinkRef::Stale(_)) => self.say("it points to its link"),
            (LinkRef::Current, LinkRef::Current) | (LinkRef::Stale(_), LinkRef::Stale(_)) => {}
        }
    }
}
