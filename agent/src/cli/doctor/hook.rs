//! Who else has a hand in the packets of our devices: other programs on the same hooks, and flow
//! tables, which carry packets past them.

use aya_obj::generated::bpf_attach_type;

use super::Instance;
use crate::cli::failure::Failure;
use crate::datapath::foreign;
use crate::datapath::pin::Pins;
use crate::host::firewall::flowtable::{self, FlowTable};
use crate::host::netlink::Netlink;
use crate::host::{HOST_LINK, clsact, link};
use crate::plan::object::Hook;
use crate::plan::warning::Warning;
use crate::topology::Topology;

/// Lists who meddles with the packets of a node's devices.
pub(super) fn findings(instance: &Instance, topology: &Topology) -> Result<Vec<Warning>, Failure> {
    let devices: Vec<&str> = topology
        .devices
        .iter()
        .map(|device| device.name.as_str())
        .collect();
    let mut findings = Vec::new();
    let mut netlink = Netlink::open()?;
    let pins = Pins::new(instance.bpffs(), &instance.node);
    for found in link::dump(&mut netlink)? {
        let is_ours = topology.endpoints.iter().any(|one| one.link == found.name);
        if !(is_ours || found.name == HOST_LINK || devices.contains(&found.name.as_str())) {
            continue;
        }
        for hook in [Hook::Ingress, Hook::Egress] {
            for filter in clsact::foreign(&mut netlink, found.index, hook)? {
                findings.push(other_filter(&found.name, hook, &filter));
            }
            for id in foreign::tcx_links(&pins, found.index, attach_type(hook))? {
                findings.push(other_link(&found.name, hook, id));
            }
        }
    }
    for table in flowtable::dump()? {
        let ours: Vec<&str> = table
            .devices
            .iter()
            .map(String::as_str)
            .filter(|name| devices.contains(name))
            .collect();
        if !ours.is_empty() {
            findings.push(flow_table(&table, &ours));
        }
    }
    Ok(findings)
}

fn attach_type(hook: Hook) -> bpf_attach_type {
    match hook {
        Hook::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        Hook::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    }
}

fn word(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "ingress",
        Hook::Egress => "egress",
    }
}

const REMEDY: &str = "what it decides, our programs do not see, and the other way round; take it away if \
                      it is not wanted";

fn other_filter(link: &str, hook: Hook, filter: &clsact::Foreign) -> Warning {
    let clsact::Foreign { priority, kind } = filter;
    let hook = word(hook);
    Warning {
        commands: vec![format!("tc filter del dev {link} {hook} pref {priority}")],
        ..Warning::new(
            "CIL0312",
            format!("another program has a {kind} filter on the {hook} of {link}, pref {priority}"),
            REMEDY.to_owned(),
        )
    }
}

fn other_link(link: &str, hook: Hook, id: u32) -> Warning {
    Warning {
        commands: vec![format!("bpftool link detach id {id}")],
        ..Warning::new(
            "CIL0312",
            format!(
                "another program has the tcx link {id} on the {} of {link}",
                word(hook)
            ),
            REMEDY.to_owned(),
        )
    }
}

fn flow_table(table: &FlowTable, devices: &[&str]) -> Warning {
    let (name, devices) = (&table.name, devices.join(", "));
    Warning {
        commands: vec![format!(
            "nft delete flowtable {name} '{{ devices = {{ {devices} }}; }}'"
        )],
        ..Warning::new(
            "CIL0313",
            format!(
                "the flow table {name} takes packets of {devices}: connections that it knows pass \
                 by the host's rules, and in hardware by our programs"
            ),
            "take our devices out of it".to_owned(),
        )
    }
}
