//! `[[device]]`: a link that faces the outside.

use std::net::IpAddr;
use std::ops::Range;

use toml::Spanned;

use super::diagnostic::{Diagnostic, Kind, quote};
use super::list;
use super::table::{Entry, Field, Keys, Table};
use super::{uplink, value};

pub(super) static DEVICE: Keys = Keys {
    table: "[[device]]",
    known: &[
        "node",
        "name",
        "address",
        "gateway",
        "mtu",
        "dhcp",
        "required",
        "masquerade",
        "masquerade_address",
    ],
    later: &["xdp"],
};

/// Longest name of a link (`IFNAMSIZ` of Linux without the zero byte).
const LINK_NAME_MAX: usize = 15;

pub(super) struct Device {
    /// The header of the table.
    pub span: Range<usize>,
    pub node: Field<String>,
    pub name: Field<String>,
    pub required: Field<bool>,
    pub masquerade: Field<bool>,
    pub masquerade_addresses: Vec<Spanned<IpAddr>>,
    pub uplink: uplink::Draft,
}

pub(super) fn read(table: &mut Table<'_>, errors: &mut Vec<Diagnostic>) -> Device {
    Device {
        span: table.span.clone(),
        node: table.read("node", value::reference, errors),
        name: table.require("name", name, errors),
        required: table.read("required", value::boolean, errors),
        masquerade: table.read("masquerade", value::boolean, errors),
        masquerade_addresses: list::addresses(
            table,
            "masquerade_address",
            value::outside_address,
            errors,
        ),
        uplink: uplink::read(table, errors),
    }
}

/// Tells whether a device may have this name.
pub fn is_device_name(name: &str) -> bool {
    fault(name).is_none()
}

/// Reads the name of a link.
fn name(entry: &Entry<'_>) -> Result<String, Diagnostic> {
    let text = value::string(entry)?;
    let Some(reason) = fault(text) else {
        return Ok(text.to_owned());
    };
    let message = format!("device {} {reason}", quote(text));
    Err(
        Diagnostic::new(Kind::BadDevice, entry.span.clone(), message)
            .help("`ip link` lists the links of this machine"),
    )
}

/// Says why no device has this name; Linux does not restrict names of links much.
fn fault(name: &str) -> Option<String> {
    let foreign = name
        .chars()
        .find(|c| c.is_whitespace() || matches!(c, '/' | ':' | '\0'));
    let reason = match (foreign, name) {
        (_, "") => "is empty".to_owned(),
        (Some(c), _) => format!("contains {}", quote(&c.to_string())),
        (None, "." | ".." | "all" | "default") => "is a reserved word".to_owned(),
        (None, _) if name.len() > LINK_NAME_MAX => {
            format!("has more than {LINK_NAME_MAX} bytes")
        }
        (None, "lo") => "is the loopback link".to_owned(),
        (None, "cilium_host" | "cilium_net") => "is a link of the agent".to_owned(),
        (None, _) if name.starts_with("lxc") => "is what links of endpoints are called".to_owned(),
        (None, _) => return None,
    };
    Some(reason)
}
