//! The document, table by table, with holes where values are missing or refused.
//!
//! Rules over the whole file work on the draft, so that they run also beside errors in single
//! values; only a draft without any error becomes a `Config`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::HostRouting;
use super::capacity::{self, CapacityDraft};
use super::device::{self, DEVICE, Device};
use super::diagnostic::Diagnostic;
use super::family::Family;
use super::label;
use super::list;
use super::masquerade::{self, MasqueradeDraft};
use super::policy::{self, PolicyDraft, port_name};
use super::table::{Entry, Field, Keys, Table, inner, wrong_type};
use super::value;
use crate::plan::object::Netns;

static FILE: Keys = Keys {
    table: "",
    known: &[
        "node",
        "device",
        "endpoint",
        "routing",
        "masquerade",
        "maps",
        "policy",
    ],
    later: &["prefilter"],
};

static NODE: Keys = Keys {
    table: "[[node]]",
    known: &["name", "address", "ipv4", "ipv6", "mtu", "audit"],
    later: &[],
};

static ENDPOINT: Keys = Keys {
    table: "[[endpoint]]",
    known: &[
        "node", "name", "netns", "ipv4", "ipv6", "labels", "ports", "audit",
    ],
    later: &["container"],
};

static ROUTING: Keys = Keys {
    table: "[routing]",
    known: &["host_routing", "endpoint_routes"],
    later: &[],
};

pub(super) struct Draft {
    pub nodes: Vec<Node>,
    pub devices: Vec<Device>,
    pub endpoints: Vec<Endpoint>,
    pub routing: Routing,
    pub masquerade: MasqueradeDraft,
    pub capacity: CapacityDraft,
    pub policy: PolicyDraft,
    /// Whether the file has `[[node]]` tables, readable or not.
    pub has_nodes: bool,
}

#[derive(Default)]
pub(super) struct Routing {
    pub host_routing: Field<HostRouting>,
    pub endpoint_routes: Field<bool>,
}

pub(super) struct Node {
    /// The header of the table.
    pub span: Range<usize>,
    pub name: Field<String>,
    pub addresses: Vec<Spanned<IpAddr>>,
    pub ipv4: Field<Ipv4Net>,
    pub ipv6: Field<Ipv6Net>,
    pub mtu: Field<u32>,
    pub audit: Field<bool>,
}

pub(super) struct Endpoint {
    /// The header of the table.
    pub span: Range<usize>,
    pub node: Field<String>,
    pub name: Field<String>,
    pub netns: Field<Netns>,
    pub ipv4: Field<Ipv4Addr>,
    pub ipv6: Field<Ipv6Addr>,
    pub labels: Option<Spanned<BTreeMap<String, String>>>,
    pub ports: BTreeMap<String, u16>,
    pub audit: Field<bool>,
}

impl Node {
    /// Returns the prefix of a family.
    pub(super) fn prefix(&self, family: Family) -> Option<Spanned<IpNet>> {
        match family {
            Family::V4 => self
                .ipv4
                .given()
                .map(|p| Spanned::new(p.span(), IpNet::V4(*p.get_ref()))),
            Family::V6 => self
                .ipv6
                .given()
                .map(|p| Spanned::new(p.span(), IpNet::V6(*p.get_ref()))),
        }
    }

    pub(super) fn lacks_prefix(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.ipv4.is_absent(),
            Family::V6 => self.ipv6.is_absent(),
        }
    }
}

impl Endpoint {
    /// Returns the address of a family.
    pub(super) fn address(&self, family: Family) -> Option<Spanned<IpAddr>> {
        match family {
            Family::V4 => self
                .ipv4
                .given()
                .map(|a| Spanned::new(a.span(), IpAddr::V4(*a.get_ref()))),
            Family::V6 => self
                .ipv6
                .given()
                .map(|a| Spanned::new(a.span(), IpAddr::V6(*a.get_ref()))),
        }
    }
}

/// Reads a document; faults of single values go to `errors`.
pub(super) fn read<'a>(document: &'a DeTable<'a>, errors: &mut Vec<Diagnostic>) -> Draft {
    let mut file = Table::new(&FILE, 0..0, document);
    let nodes = file.take("node");
    let draft = Draft {
        has_nodes: nodes.is_some() || file.misspells("node"),
        nodes: tables(nodes, &NODE, errors, node),
        devices: tables(file.take("device"), &DEVICE, errors, device::read),
        endpoints: tables(file.take("endpoint"), &ENDPOINT, errors, endpoint),
        routing: file
            .take("routing")
            .map(|entry| routing(&entry, errors))
            .unwrap_or_default(),
        masquerade: file
            .take("masquerade")
            .map(|entry| masquerade::read(&entry, errors))
            .unwrap_or_default(),
        capacity: file
            .take("maps")
            .map(|entry| capacity::read(&entry, errors))
            .unwrap_or_default(),
        policy: file
            .take("policy")
            .map(|entry| policy::read(&entry, errors))
            .unwrap_or_default(),
    };
    file.finish(errors);
    draft
}

/// Reads an array of tables.
pub(super) fn tables<'a, T>(
    entry: Option<Entry<'a>>,
    keys: &'static Keys,
    errors: &mut Vec<Diagnostic>,
    read: fn(&mut Table<'a>, &mut Vec<Diagnostic>) -> T,
) -> Vec<T> {
    let Some(entry) = entry else {
        return Vec::new();
    };
    let expected = format!("an array of tables, {}", keys.table);
    let mut items = Vec::new();
    let mut read_one =
        |span: Range<usize>, table: &'a DeTable<'a>, errors: &mut Vec<Diagnostic>| {
            let mut table = Table::new(keys, span, table);
            items.push(read(&mut table, errors));
            table.finish(errors);
        };
    match entry.value {
        DeValue::Array(array) => {
            for item in array {
                if let Some(table) = item.get_ref().as_table() {
                    read_one(item.span(), table, errors);
                    continue;
                }
                let item = Entry {
                    value: item.get_ref(),
                    span: item.span(),
                    ..entry.clone()
                };
                errors.push(wrong_type(&item, &expected));
            }
        }
        // One table instead of an array of them: what is inside is still worth reading.
        DeValue::Table(table) => {
            let help = format!("write {}, once for each", keys.table);
            errors.push(wrong_type(&entry, &expected).help(help));
            read_one(entry.span, table, errors);
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => errors.push(wrong_type(&entry, &expected)),
    }
    items
}

fn node(table: &mut Table<'_>, errors: &mut Vec<Diagnostic>) -> Node {
    Node {
        span: table.span.clone(),
        name: table.require("name", value::name, errors),
        addresses: list::addresses(table, "address", value::node_address, errors),
        ipv4: table.read("ipv4", value::prefix4, errors),
        ipv6: table.read("ipv6", value::prefix6, errors),
        mtu: table.read("mtu", value::mtu, errors),
        audit: table.read("audit", value::boolean, errors),
    }
}

fn endpoint(table: &mut Table<'_>, errors: &mut Vec<Diagnostic>) -> Endpoint {
    let name = table.require("name", value::name, errors);
    let netns = table.read("netns", value::netns, errors).or_default(|| {
        let name = name.given()?;
        Some(Spanned::new(
            name.span(),
            Netns::Name(name.get_ref().clone()),
        ))
    });
    let labels = table
        .take("labels")
        .map(|entry| Spanned::new(entry.span.clone(), label::labels(&entry, errors)));
    Endpoint {
        span: table.span.clone(),
        node: table.read("node", value::reference, errors),
        name,
        netns,
        ipv4: table.read("ipv4", value::ipv4, errors),
        ipv6: table.read("ipv6", value::ipv6, errors),
        labels,
        ports: table
            .take("ports")
            .map(|entry| port_name::read(&entry, errors))
            .unwrap_or_default(),
        audit: table.read("audit", value::boolean, errors),
    }
}

fn routing(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> Routing {
    let Some(mut table) = inner(entry, &ROUTING, errors) else {
        return Routing::default();
    };
    let routing = Routing {
        host_routing: table.read("host_routing", value::host_routing, errors),
        endpoint_routes: table.read("endpoint_routes", value::boolean, errors),
    };
    table.finish(errors);
    routing
}
