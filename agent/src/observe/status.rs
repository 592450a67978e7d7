//! The status of a node, as `status --json` prints it; schema 1.
//!
//! Everything is read from the kernel, so that it is true without a file and without an agent; an
//! agent adds what it knows of itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::lease::DeviceLease;
use crate::daemon::protocol::{AgentStatus, ConfigStatus};
use crate::datapath::pin::Pins;
use crate::datapath::table::{self, MapStatus};
use crate::datapath::{self};
use crate::plan::host_routing::Choice;
use crate::plan::object::{AttachKind, Hook, HostRoutingMode, Key, Link, LinkRef, State, Value};
use crate::plan::policy::{Decision, Direction, EntryKey, Policy as Tables};
use crate::reconcile::drift::Drift;

/// A slot that no party has.
const NOBODY: u16 = u16::MAX;

/// Number of this layout.
const SCHEMA: u32 = 1;

/// Is what `status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub schema: u32,
    pub node: String,
    /// The file that was applied last, or was to be.
    pub config: Option<ConfigStatus>,
    /// The resident agent, if one answers.
    pub agent: Option<AgentStatus>,
    /// Version of the programs and maps, if they are loaded.
    pub datapath: Option<String>,
    pub host_routing: Mode,
    pub masquerade: Mode,
    /// Which fragments find their way.
    pub fragments: Mode,
    pub policy: Policy,
    pub devices: Vec<Device>,
    pub endpoints: Vec<Endpoint>,
    pub drift: Drift,
    /// The trial that the node is on.
    pub trial: Option<Trial>,
    /// What the resident agent may do, and why; empty if none runs.
    pub capabilities: Vec<Privilege>,
    pub maps: Vec<MapStatus>,
    /// Dropped packets by reason.
    pub drops: BTreeMap<&'static str, u64>,
}

/// Is a trial, as those see it who wait for its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// When it is taken back, as RFC 3339 has it, UTC.
    pub deadline: String,
    /// The process that guards it.
    pub pid: u32,
    pub left_secs: u64,
    /// Whether that process is gone, so that the agent or the next run takes the trial back.
    pub is_abandoned: bool,
}

/// Is a capability (`capabilities(7)`), and what it is for.
#[derive(Clone, Debug, Serialize)]
pub struct Privilege {
    pub name: String,
    pub reason: String,
}

/// Is a mode, and why it was chosen.
#[derive(Clone, Debug, Serialize)]
pub struct Mode {
    pub mode: &'static str,
    pub reason: String,
}

/// Tells how policy is enforced.
#[derive(Clone, Debug, Serialize)]
pub struct Policy {
    /// As the file that was applied last says; `unknown` if that is not recorded.
    pub enforcement: String,
    /// What holds for the node itself.
    pub host: Guard,
    /// What the kernel holds of it.
    pub prefixes: usize,
    pub entries: usize,
    pub ranges: usize,
}

/// Tells what policy does to one party.
#[derive(Clone, Debug, Serialize)]
pub struct Guard {
    /// `open`, or `closed` to everything that no rule allows.
    pub ingress: &'static str,
    pub egress: &'static str,
    /// Whether what would be denied is let through and counted.
    pub audit: bool,
    /// Packets that were let through so.
    pub would_deny: u64,
}

/// Is a device with programs of ours.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    pub name: String,
    pub xdp: Mode,
    pub tc: Tc,
    /// `None` if no DHCP server is asked.
    pub lease: Option<DeviceLease>,
}

/// Tells how programs are attached to a device.
#[derive(Clone, Debug, Serialize)]
pub struct Tc {
    pub kind: AttachKind,
}

/// Is an endpoint as it is.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    pub name: String,
    pub id: u16,
    pub identity: u32,
    /// Index of the host-side link; 0 if it is missing.
    pub ifindex: u32,
    pub link: String,
    pub addresses: Vec<IpAddr>,
    pub policy: Guard,
    /// `ready`, or what is missing.
    pub state: String,
}

/// Puts a status together from the observed objects of a node.
///
/// # Errors
/// When a map cannot be read.
pub fn status(
    node: &str,
    (file, choice, enforcement): (Option<PathBuf>, Option<&Choice>, Option<&str>),
    objects: &State,
    links: &BTreeMap<Link, u32>,
    pins: &Pins,
    (drift, agent): (Drift, Option<AgentStatus>),
) -> Result<Status, datapath::Error> {
    let datapath = match objects.get(&Key::Datapath) {
        Some(Value::Datapath { digest, .. }) => Some(digest.clone()),
        Some(_) | None => None,
    };
    let (drops, audits) = if datapath.is_some() {
        (table::read_drops(pins)?, table::read_audits(pins)?)
    } else {
        (Vec::new(), BTreeMap::new())
    };
    let guards = Guards {
        policy: match objects.get(&Key::Policy) {
            Some(Value::Policy(policy)) => Arc::clone(policy),
            Some(_) | None => Arc::default(),
        },
        audits,
    };
    let applied = file.map(ConfigStatus::applied);
    let config = agent.as_ref().map(|agent| agent.config.clone());
    Ok(Status {
        schema: SCHEMA,
        node: node.to_owned(),
        config: config.or(applied),
        agent,
        host_routing: host_routing(objects, choice),
        datapath,
        masquerade: masquerade(objects),
        fragments: fragments(objects),
        policy: Policy {
            enforcement: enforcement.unwrap_or("unknown").to_owned(),
            host: guards.of(u16::default()),
            prefixes: guards.policy.prefixes.len(),
            entries: guards.policy.entries.len(),
            ranges: guards.policy.ranges.len(),
        },
        devices: devices(objects),
        endpoints: endpoints(objects, links, &guards),
        drift,
        trial: None,
        capabilities: Vec::new(),
        maps: table::status(pins),
        drops: drops
            .into_iter()
            .map(|(reason, count)| (reason.text(), count.packets))
            .collect(),
    })
}

/// Returns the mode in which the programs work, and the reason that was recorded for it.
fn host_routing(objects: &State, choice: Option<&Choice>) -> Mode {
    let Some(Value::NodeEntry { host_routing, .. }) = objects.get(&Key::NodeEntry) else {
        return Mode {
            mode: "none",
            reason: "no programs are loaded".to_owned(),
        };
    };
    let recorded = choice.filter(|choice| choice.mode == *host_routing);
    Mode {
        mode: match host_routing {
            HostRoutingMode::Bpf => "bpf",
            HostRoutingMode::Legacy => "legacy",
        },
        reason: recorded.map_or_else(
            || "why it was chosen is not recorded".to_owned(),
            |choice| choice.reason.clone(),
        ),
    }
}

/// Tells which fragments find their way.
fn fragments(objects: &State) -> Mode {
    let (mode, reason) = match objects.get(&Key::NodeEntry) {
        Some(Value::NodeEntry {
            reassembles: true, ..
        }) => (
            "any_order",
            "the kernel puts those in order that overtake the first",
        ),
        Some(_) => (
            "first_first",
            "this kernel cannot be asked to join fragments, as Linux 6.6 and later can: those that \
             overtake the first are dropped",
        ),
        None => ("none", "no programs are loaded"),
    };
    Mode {
        mode,
        reason: reason.to_owned(),
    }
}

/// Tells to which addresses the devices translate.
fn masquerade(objects: &State) -> Mode {
    let mut sources = Vec::new();
    for (key, value) in objects {
        if let (
            Key::DeviceEntry(name),
            Value::DeviceEntry {
                masquerade4,
                masquerade6,
                ..
            },
        ) = (key, value)
        {
            let (v4, v6) = (masquerade4.map(IpAddr::V4), masquerade6.map(IpAddr::V6));
            let addresses = v4.into_iter().chain(v6);
            sources.extend(addresses.map(|address| format!("{name}: {address}")));
        }
    }
    if sources.is_empty() {
        return Mode {
            mode: "off",
            reason: "no device of the node masquerades".to_owned(),
        };
    }
    Mode {
        mode: "bpf",
        reason: sources.join(", "),
    }
}

/// Lists the devices that carry programs of ours besides endpoints' links.
fn devices(objects: &State) -> Vec<Device> {
    let mut devices = Vec::new();
    for (key, value) in objects {
        let (Key::Attachment(link, Hook::Egress), Value::Attachment { kind, .. }) = (key, value)
        else {
            continue;
        };
        let (name, reason) = match link {
            Link::Host => (
                crate::host::HOST_LINK.to_owned(),
                "no device of the outside",
            ),
            Link::Device(name) => (name.clone(), "there is nothing to filter"),
            Link::Net | Link::Lxc(_) | Link::Eth0(_) => continue,
        };
        devices.push(Device {
            name,
            xdp: Mode {
                mode: "off",
                reason: reason.to_owned(),
            },
            tc: Tc { kind: *kind },
            lease: None,
        });
    }
    devices
}

/// Holds what the kernel knows of policy.
struct Guards {
    policy: Arc<Tables>,
    /// Packets that the policies of slots would have denied.
    audits: BTreeMap<u16, u64>,
}

impl Guards {
    fn of(&self, slot: u16) -> Guard {
        let word = |direction| {
            let subject = self.policy.subjects.get(&slot).copied().unwrap_or_default();
            let everybody = EntryKey {
                subject: subject.policy,
                direction,
                identity: 0,
            };
            match self.policy.entries.get(&everybody) {
                Some(entry) if entry.verdict.decision != Decision::Allow => "closed",
                None if subject.policy != 0 => "closed",
                Some(_) | None => "open",
            }
        };
        Guard {
            ingress: word(Direction::Ingress),
            egress: word(Direction::Egress),
            audit: self
                .policy
                .subjects
                .get(&slot)
                .is_some_and(|subject| subject.audit),
            would_deny: self.audits.get(&slot).copied().unwrap_or(0),
        }
    }
}

fn endpoints(objects: &State, links: &BTreeMap<Link, u32>, guards: &Guards) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for (key, value) in objects {
        if let (Key::EndpointLink(name), Value::EndpointLink { link, .. }) = (key, value) {
            let entry = objects.get(&Key::EndpointEntry(name.clone()));
            found.push(endpoint(name, link, entry, objects, links, guards));
        }
    }
    found
}

fn endpoint(
    name: &str,
    link: &str,
    entry: Option<&Value>,
    objects: &State,
    links: &BTreeMap<Link, u32>,
    guards: &Guards,
) -> Endpoint {
    let lxc = Link::Lxc(name.to_owned());
    let ifindex = links.get(&lxc).copied().unwrap_or(0);
    let hooks = [Hook::Ingress, Hook::Egress];
    let attached = hooks.iter().all(|hook| {
        let key = Key::Attachment(lxc.clone(), *hook);
        matches!(
            objects.get(&key),
            Some(Value::Attachment {
                digest: Some(_),
                ..
            })
        )
    });
    let mut endpoint = Endpoint {
        name: name.to_owned(),
        id: 0,
        identity: 0,
        ifindex,
        link: link.to_owned(),
        addresses: Vec::new(),
        policy: guards.of(NOBODY),
        state: "map entry missing".to_owned(),
    };
    if let Some(Value::EndpointEntry {
        id,
        ipv4,
        ipv6,
        link,
        ..
    }) = entry
    {
        endpoint.id = *id;
        let subject = guards.policy.subjects.get(id);
        endpoint.identity = subject.map_or(0, |subject| subject.identity);
        endpoint.policy = guards.of(*id);
        let addresses = [ipv4.map(IpAddr::V4), ipv6.map(IpAddr::V6)];
        endpoint.addresses = addresses.into_iter().flatten().collect();
        let state = match link {
            LinkRef::Stale(_) => "map entry points to another link",
            LinkRef::Current if !attached => "program missing",
            LinkRef::Current => "ready",
        };
        state.clone_into(&mut endpoint.state);
    }
    endpoint
}
