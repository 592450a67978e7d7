//! The device of the bench: a link with addresses, a neighbour, and a route to somebody behind it.
//!
//! ```text
//!   device up0 203.0.113.2, 2001:db8:1::2 ── next hop .1, ::1 ── far 198.51.100.7, 2001:db8:51::7
//! ```

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ciliate::datapath::execute::Executor;
use ciliate::host::{HOST_LINK, Netlink};
use ciliate::plan::object::{Key, LinkRef, Value};

use crate::bed::{index, mac};
use crate::frame::Place;

const DEVICE: &str = "up0";

/// The addresses of the device are those that endpoints are masqueraded with.
const OUTER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const NEXT_HOP4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const NEXT_HOP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
pub(crate) const FAR4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 7);

/// Makes the device; returns the node as the outside sees it, and who is behind the next hop.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn make(netlink: &mut Netlink, executor: &mut Executor) -> Result<[Place; 2]> {
    let (device_mac, hop_mac) = (mac(9, 1), mac(9, 2));
    // The programs ask the kernel for routes of what `cilium_host` forwards.
    for path in ["ipv4/conf/cilium_host", "ipv6/conf/all"] {
        let path = format!("/proc/sys/net/{path}/forwarding");
        fs::write(&path, "1").with_context(|| format!("write {path}"))?;
    }
    for line in [
        format!("link add {DEVICE} address {device_mac} type veth peer up1"),
        format!("link set {HOST_LINK} up"),
        "link set up1 up".to_owned(),
        format!("link set {DEVICE} up"),
        format!("address add {OUTER4}/24 dev {DEVICE}"),
        format!("address add {OUTER6}/64 dev {DEVICE} nodad"),
        format!("neighbour add {NEXT_HOP4} lladdr {hop_mac} dev {DEVICE}"),
        format!("neighbour add {NEXT_HOP6} lladdr {hop_mac} dev {DEVICE}"),
        format!("route add {FAR4} via {NEXT_HOP4} dev {DEVICE}"),
        format!("route add 60.0.0.0/8 via {NEXT_HOP4} dev {DEVICE}"),
        format!("route add {FAR6} via {NEXT_HOP6} dev {DEVICE}"),
    ] {
        let status = Command::new("ip").args(line.split(' ')).status();
        let status = status.with_context(|| format!("run ip {line}"))?;
        ensure!(status.success(), "ip {line}: {status}");
    }
    let ifindex = index(netlink, DEVICE)?;
    let entry = Value::DeviceEntry {
        masquerade: true,
        mac: device_mac,
        masquerade4: Some(OUTER4),
        masquerade6: Some(OUTER6),
        link: LinkRef::Current,
    };
    executor.set(&Key::DeviceEntry(DEVICE.to_owned()), None, &entry, ifindex)?;
    let outer = Place {
        ifindex,
        mac: device_mac.0,
        gateway_mac: hop_mac.0,
        ipv4: OUTER4,
        ipv6: OUTER6,
    };
    let far = Place {
        ifindex,
        mac: hop_mac.0,
        gateway_mac: device_mac.0,
        ipv4: FAR4,
        ipv6: FAR6,
    };
    Ok([outer, far])
}
