//! What passes between endpoints and the node, as the far side sees it.

mod exception;
mod neighbour;
mod passage;

use std::net::IpAddr;

use tests::lab::wire::Seen;
use tests::party::Family;

fn source(frame: &Seen) -> IpAddr {
    if frame.ethertype() == 0x0800 {
        let bytes: [u8; 4] = frame.bytes[26..30].try_into().expect("four bytes");
        return bytes.into();
    }
    let bytes: [u8; 16] = frame.bytes[22..38].try_into().expect("sixteen bytes");
    bytes.into()
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0; 16].into(),
    }
}
