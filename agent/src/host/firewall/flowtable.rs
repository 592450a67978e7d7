//! Flow tables of nftables, which carry packets past everything else that the host has for them.

use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::nftables::{HEADER_LEN, dump_kind, family, kind};
use crate::host::error::Result;
use crate::host::netlink::Netlink;
use crate::host::raw::{self, Raw};

const GET_FLOWTABLE: u16 = kind(23);

/// Is a flow table, with the devices whose packets it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowTable {
    /// As `nft` names it: family, table, name.
    pub name: String,
    pub devices: Vec<String>,
}

/// Reads all flow tables.
///
/// # Errors
/// When the kernel refuses.
pub fn dump() -> Result<Vec<FlowTable>> {
    if !raw::is_served(NETLINK_NETFILTER) {
        return Ok(Vec::new());
    }
    let mut netlink = Netlink::open_family(NETLINK_NETFILTER)?;
    let replies = dump_kind(&mut netlink, GET_FLOWTABLE, "list flow tables of nftables")?;
    Ok(replies.iter().filter_map(flow_table).collect())
}

fn flow_table(reply: &Raw) -> Option<FlowTable> {
    const TABLE: u16 = 1;
    const NAME: u16 = 2;
    const HOOK: u16 = 3;
    const DEVICES: u16 = 3;
    let attributes = reply.attributes(HEADER_LEN);
    let (table, name) = (attributes.text(TABLE)?, attributes.text(NAME)?);
    let devices = attributes.nested(HOOK).nested(DEVICES).iter();
    Some(FlowTable {
        name: format!("{} {table} {name}", family(reply)?.word()),
        devices: devices.map(|(_, device)| raw::text(device)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts an attribute together, padded to four bytes.
    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len() + 4).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn flow_table_is_read_with_its_devices() {
        const NESTED: u16 = 1 << 15;
        let devices = [attribute(1, b"eth0\0"), attribute(1, b"eth1\0")].concat();
        let hook = [
            attribute(1, &0_u32.to_be_bytes()),
            attribute(3 | NESTED, &devices),
        ]
        .concat();
        let payload = [
            vec![1, 0, 0, 0],
            attribute(1, b"filter\0"),
            attribute(2, b"fast\0"),
            attribute(3 | NESTED, &hook),
        ];
        let reply = Raw {
            kind: kind(22),
            payload: payload.concat(),
        };

        let found = flow_table(&reply).unwrap();

        assert_eq!(found.name, "inet filter fast");
        assert_eq!(found.devices, ["eth0", "eth1"]);
    }
}
