//! What the file says about a device that the agent configures: addresses, gateways, MTU, DHCP.
//!
//! A device that has none of these is somebody else's, and nothing of it is changed.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Spanned;

use super::diagnostic::{Diagnostic, Kind, quote};
use super::table::{self, Entry, Field, Keys, Table, wrong_type};
use super::{list, timeout, value};

static DHCP: Keys = Keys {
    table: "`dhcp`",
    known: &[
        "default_route",
        "host_name",
        "metric",
        "timeout",
        "resolv_conf",
    ],
    later: &[],
};

/// How long `apply` waits for a lease if the file does not say.
const TIMEOUT_SECS: u32 = 10;

/// Where programs look for name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Longest name that a DHCP message carries (RFC 2132, 3.14).
const HOST_NAME_MAX: usize = 255;

/// Is how a device is configured by the agent; by default it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// In the order of the file.
    pub addresses: Vec<IpNet>,
    /// At most one of each family.
    pub gateways: Vec<IpAddr>,
    /// In bytes.
    pub mtu: Option<u32>,
    pub dhcp: Option<Dhcp>,
}

/// Is what is asked of a DHCP server, and what becomes of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// Whether its routes to everywhere are taken.
    pub default_route: bool,
    /// The name that the server is told.
    pub host_name: HostName,
    /// Of its routes; by default behind those of others, and one for each device.
    pub metric: Option<u32>,
    /// How long `apply` waits.
    pub timeout_secs: u32,
    /// The file that its name servers are written to, if any.
    pub resolv_conf: Option<PathBuf>,
}

/// Tells which name of the machine a DHCP server is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostName {
    /// The node's.
    #[default]
    Node,
    None,
    Other(String),
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            default_route: true,
            host_name: HostName::Node,
            metric: None,
            timeout_secs: TIMEOUT_SECS,
            resolv_conf: None,
        }
    }
}

impl Uplink {
    /// Tells whether the agent configures the device at all.
    pub fn is_configured(&self) -> bool {
        *self != Self::default()
    }
}

#[derive(Default)]
pub(super) struct Draft {
    pub addresses: Vec<Spanned<IpNet>>,
    pub gateways: Vec<Spanned<IpAddr>>,
    pub mtu: Field<u32>,
    /// `None` if it is switched off.
    pub dhcp: Field<Option<Dhcp>>,
}

pub(super) fn read(table: &mut Table<'_>, errors: &mut Vec<Diagnostic>) -> Draft {
    Draft {
        addresses: list::read(table, "address", value::device_address, errors),
        gateways: list::addresses(table, "gateway", value::gateway, errors),
        mtu: table.read("mtu", value::mtu, errors),
        dhcp: read_dhcp(table, errors),
    }
}

impl Draft {
    /// Returns what is asked of a DHCP server, if one is asked.
    pub(super) fn dhcp(&self) -> Option<&Dhcp> {
        self.dhcp.given().and_then(|dhcp| dhcp.get_ref().as_ref())
    }

    pub(super) fn complete(self) -> Uplink {
        Uplink {
            addresses: self
                .addresses
                .into_iter()
                .map(Spanned::into_inner)
                .collect(),
            gateways: self.gateways.into_iter().map(Spanned::into_inner).collect(),
            mtu: self.mtu.into_value(),
            dhcp: self.dhcp.into_value().flatten(),
        }
    }
}

fn read_dhcp(table: &mut Table<'_>, errors: &mut Vec<Diagnostic>) -> Field<Option<Dhcp>> {
    let Some(entry) = table.take("dhcp") else {
        return Field::Absent;
    };
    if let Some(is_on) = entry.value.as_bool() {
        return Field::Given(Spanned::new(entry.span, is_on.then(Dhcp::default)));
    }
    if !entry.value.is_table() {
        errors.push(wrong_type(&entry, "`true`, `false` or a table"));
        return Field::Refused;
    }
    let Some(mut inner) = table::inner(&entry, &DHCP, errors) else {
        return Field::Refused;
    };
    let default = Dhcp::default();
    let default_route = inner.read("default_route", value::boolean, errors);
    let host_name = inner.read("host_name", host_name, errors);
    let metric = inner.read("metric", |entry| value::integer(entry, 1, u32::MAX), errors);
    let timeout = inner.read("timeout", timeout::seconds, errors);
    let resolv_conf = inner.read("resolv_conf", resolv_conf, errors);
    inner.finish(errors);
    let dhcp = Dhcp {
        default_route: default_route.into_value().unwrap_or(default.default_route),
        host_name: host_name.into_value().unwrap_or(default.host_name),
        metric: metric.into_value(),
        timeout_secs: timeout.into_value().unwrap_or(default.timeout_secs),
        resolv_conf: resolv_conf.into_value().flatten(),
    };
    Field::Given(Spanned::new(entry.span, Some(dhcp)))
}

/// Reads the name that a DHCP server is told; `false` tells it none.
fn host_name(entry: &Entry<'_>) -> Result<HostName, Diagnostic> {
    match entry.value.as_bool() {
        Some(true) => return Ok(HostName::Node),
        Some(false) => return Ok(HostName::None),
        None => {}
    }
    let text = value::string(entry)?;
    let is_part = |part: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !part.is_empty() && part.bytes().all(is_allowed)
    };
    if text.len() <= HOST_NAME_MAX && text.split('.').all(is_part) {
        return Ok(HostName::Other(text.to_owned()));
    }
    let message = format!("{} is not the name of a host", quote(text));
    Err(
        Diagnostic::new(Kind::BadName, entry.span.clone(), message).help(
            "it is made of letters, digits, `-` and `.`; `host_name = false` tells the server none",
        ),
    )
}

/// Reads where name servers are written; `true` is where programs look for them.
fn resolv_conf(entry: &Entry<'_>) -> Result<Option<PathBuf>, Diagnostic> {
    if let Some(is_on) = entry.value.as_bool() {
        return Ok(is_on.then(|| RESOLV_CONF.into()));
    }
    let text = value::string(entry)?;
    if text.starts_with('/') && !text.ends_with('/') && !text.contains('\0') {
        return Ok(Some(text.into()));
    }
    let message = format!("{} is not the absolute path of a file", quote(text));
    Err(Diagnostic::new(Kind::BadValue, entry.span.clone(), message)
        .help(format!("`true` stands for `{RESOLV_CONF}`")))
}
