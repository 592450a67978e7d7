//! A step as the `ip`, `tc` or `bpftool` command that it resembles.
//!
//! `render` and the errors of `reconcile` print these. They are for reading: nothing runs them,
//! and what no tool has a command for (an entry of ours, a set of pins) is written in the style
//! of the nearest tool.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::entry;
use super::object::{AttachKind, Hook, Key, Link, NameServers, Netns, Program, Value};
use super::step::{Action, Plan, Step};
use crate::config::family::Family;

impl Plan {
    /// Returns the command that does nearly what the step does.
    pub fn command(&self, step: &Step) -> String {
        let action = step.action();
        let value = step.after.as_ref().or(step.before.as_ref());
        match (&step.key, value) {
            (Key::Attachment(link, hook), Some(Value::Attachment { program, kind, .. })) => {
                self.attachment(action, link, *hook, *program, *kind)
            }
            (Key::Address(link, address), Some(value)) => {
                self.address(action, link, address, value)
            }
            (Key::Route(link, prefix), Some(value)) => self.route(action, link, prefix, value),
            (Key::LinkUp(link), _) => {
                let state = if action == Action::Remove {
                    "down"
                } else {
                    "up"
                };
                format!("{} link set {} {state}", self.ip(link), self.device(link))
            }
            (key, Some(value)) => of_own_object(action, key, value),
            (key, None) => format!("{key:?}"),
        }
    }

    fn attachment(
        &self,
        action: Action,
        link: &Link,
        hook: Hook,
        program: Program,
        kind: AttachKind,
    ) -> String {
        let device = self.device(link);
        let program = program.name();
        let hook = match hook {
            Hook::Ingress => "ingress",
            Hook::Egress => "egress",
        };
        match (kind, action) {
            (AttachKind::Clsact, Action::Remove) => {
                format!("tc filter del dev {device} {hook} bpf {program}")
            }
            (AttachKind::Clsact, Action::Add) => {
                format!("tc filter add dev {device} {hook} bpf direct-action {program}")
            }
            (AttachKind::Clsact, Action::Change) => {
                format!("tc filter replace dev {device} {hook} bpf direct-action {program}")
            }
            (AttachKind::Tcx, Action::Remove) => {
                format!("bpftool net detach tcx_{hook} dev {device}")
            }
            (AttachKind::Tcx, Action::Add) => {
                format!("bpftool net attach tcx_{hook} name {program} dev {device}")
            }
            (AttachKind::Tcx, Action::Change) => {
                format!("bpftool net attach tcx_{hook} name {program} dev {device} overwrite")
            }
        }
    }

    fn address(&self, action: Action, link: &Link, address: &IpNet, value: &Value) -> String {
        let verb = verb(action);
        let rest = match (value, address, action) {
            (_, _, Action::Remove) | (Value::DeviceAddress { lifetime: None }, _, _) => {
                String::new()
            }
            (
                Value::DeviceAddress {
                    lifetime: Some(lifetime),
                },
                _,
                _,
            ) => format!(" valid_lft {}", lifetime.secs),
            (_, IpNet::V6(_), _) => " nodad".to_owned(),
            (_, IpNet::V4(_), _) => String::new(),
        };
        format!(
            "{} address {verb} {address} dev {}{rest}",
            self.ip(link),
            self.device(link)
        )
    }

    fn route(&self, action: Action, link: &Link, prefix: &IpNet, value: &Value) -> String {
        let (ip, device) = (self.ip(link), self.device(link));
        let family = if matches!(prefix, IpNet::V6(_)) {
            " -6"
        } else {
            ""
        };
        let target = match prefix.prefix_len() {
            0 => "default".to_owned(),
            len if len == prefix.max_prefix_len() => prefix.addr().to_string(),
            _ => prefix.to_string(),
        };
        let mut text = format!("{ip}{family} route {} {target}", verb(action));
        if let Value::Route {
            via,
            src,
            mtu,
            metric,
        } = value
        {
            append(&mut text, "via", via.as_ref());
            append(&mut text, "dev", Some(&device));
            append(&mut text, "src", src.as_ref());
            append(&mut text, "mtu", mtu.as_ref());
            append(&mut text, "metric", metric.as_ref());
        }
        text
    }

    fn ip(&self, link: &Link) -> String {
        let netns = match link {
            Link::Eth0(name) => self.places.get(name).and_then(|place| place.netns.as_ref()),
            Link::Host | Link::Net | Link::Lxc(_) | Link::Device(_) => None,
        };
        match (netns, link) {
            (Some(Netns::Pid(pid)), _) => format!("nsenter -t {pid} -n ip"),
            (Some(netns), _) => format!("ip -n {netns}"),
            (None, Link::Eth0(name)) => format!("ip -n <netns of {name}>"),
            (None, Link::Host | Link::Net | Link::Lxc(_) | Link::Device(_)) => "ip".to_owned(),
        }
    }

    fn device(&self, link: &Link) -> String {
        match link {
            Link::Host => "cilium_host".to_owned(),
            Link::Net => "cilium_net".to_owned(),
            Link::Eth0(_) => "eth0".to_owned(),
            Link::Device(name) => name.clone(),
            Link::Lxc(name) => {
                let place = self.places.get(name);
                place.map_or_else(|| format!("lxc{name}"), |place| place.link.clone())
            }
        }
    }
}

fn of_own_object(action: Action, key: &Key, value: &Value) -> String {
    match (value, action) {
        (Value::Bpffs { path }, Action::Remove) => format!("umount {}", path.display()),
        (Value::Bpffs { path }, _) => format!("mount -t bpf ciliate {}", path.display()),
        (Value::Datapath { digest, .. }, Action::Remove) => {
            format!("bpftool prog unpin ciliate-{digest}")
        }
        (
            Value::Datapath {
                digest,
                endpoint_slots,
                flows,
                bindings,
            },
            _,
        ) => {
            let mut text = format!("bpftool prog loadall ciliate-{digest}");
            append(&mut text, "slices", Some(endpoint_slots));
            append(&mut text, "flows", flows.as_ref());
            append(&mut text, "bindings", Some(bindings));
            text
        }
        (Value::Former, _) => "bpftool map unpin ciliate-former".into(),
        (Value::HostLink { .. }, Action::Remove) => "ip link del cilium_host".into(),
        (Value::HostLink { mtu, .. }, Action::Change) => {
            format!("ip link set cilium_host mtu {mtu}")
        }
        (
            Value::HostLink {
                host_mac,
                net_mac,
                mtu,
            },
            Action::Add,
        ) => format!(
            "ip link add cilium_host address {host_mac} mtu {mtu} type veth \
             peer name cilium_net address {net_mac}"
        ),
        (Value::EndpointLink { link, .. }, Action::Remove) => format!("ip link del {link}"),
        (Value::EndpointLink { link, mtu, .. }, Action::Change) => {
            format!("ip link set {link} mtu {mtu}")
        }
        (
            Value::EndpointLink {
                link,
                netns,
                lxc_mac,
                mac,
                mtu,
            },
            Action::Add,
        ) => {
            let netns = match netns {
                // `ip` takes a process by its bare number.
                Some(Netns::Pid(pid)) => pid.to_string(),
                Some(netns) => netns.to_string(),
                None => "?".to_owned(),
            };
            format!(
                "ip link add {link} address {lxc_mac} mtu {mtu} type veth \
                 peer name eth0 netns {netns} address {mac}"
            )
        }
        (Value::Sysctl { value }, _) => of_sysctl(action, key, value),
        (Value::Generation { .. }, Action::Remove) => "bpftool map delete NODE generation".into(),
        (Value::Generation { .. }, _) => "bpftool map update NODE generation +1".into(),
        (Value::DeviceMtu { mtu }, _) => of_mtu(action, key, *mtu),
        (Value::NameServers(name_servers), _) => of_name_servers(action, key, name_servers),
        (Value::Rule { priority }, _) => of_rule(action, key, *priority),
        (Value::Reassembly, _) => of_reassembly(action, key),
        _ => entry::command(action, key, value),
    }
}

fn of_sysctl(action: Action, key: &Key, value: &str) -> String {
    let Key::Sysctl(path) = key else {
        return format!("{key:?}");
    };
    match action {
        Action::Remove => format!("sysctl -w {path}=(its original value)"),
        Action::Add | Action::Change => format!("sysctl -w {path}={value}"),
    }
}

fn of_mtu(action: Action, key: &Key, mtu: u32) -> String {
    let Key::DeviceMtu(name) = key else {
        return format!("{key:?}");
    };
    match action {
        Action::Remove => format!("ip link set {name} mtu (its original one)"),
        Action::Add | Action::Change => format!("ip link set {name} mtu {mtu}"),
    }
}

fn of_name_servers(action: Action, key: &Key, name_servers: &NameServers) -> String {
    let Key::NameServers(path) = key else {
        return format!("{key:?}");
    };
    let path = path.display();
    let servers: Vec<String> = name_servers
        .servers
        .iter()
        .map(ToString::to_string)
        .collect();
    match action {
        Action::Remove => format!("resolvconf -d {path}"),
        Action::Add | Action::Change => format!("resolvconf -a {path} {}", servers.join(" ")),
    }
}

fn of_rule(action: Action, key: &Key, priority: u32) -> String {
    let family = if *key == Key::Rule(Family::V6) {
        " -6"
    } else {
        ""
    };
    let verb = verb(action);
    format!("ip{family} rule {verb} pref {priority} iif cilium_net prohibit")
}

fn of_reassembly(action: Action, key: &Key) -> String {
    let family = if *key == Key::Reassembly(Family::V6) {
        "ipv6"
    } else {
        "ipv4"
    };
    let verb = match action {
        Action::Add | Action::Change => "attach",
        Action::Remove => "detach",
    };
    format!("bpftool net {verb} netfilter name reassemble family {family} hook forward defrag")
}

fn append<T: std::fmt::Display>(text: &mut String, word: &str, value: Option<&T>) {
    if let Some(value) = value {
        write!(text, " {word} {value}").expect("writing to a string cannot fail");
    }
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Add => "add",
        Action::Change => "replace",
        Action::Remove => "del",
    }
}
