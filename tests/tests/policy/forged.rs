//! Packets from outside that claim to come from somebody whom policy lets in.

use std::net::UdpSocket;
use std::time::Duration;

use tests::frame::{Frame, Transport};
use tests::lab::conversation::bound;
use tests::lab::estate::Estate;
use tests::lab::uninterrupted;
use tests::lab::wire::Wire;
use tests::party::Family;

use super::language::RESIDENTS;
use super::tagged::sender;

const MODES: [&str; 2] = ["bpf", "legacy"];
const POLICY: &str = r#"
[policy]
host = "enforce"
[[policy.rule]]
endpoints = "db"
ingress = [{ from = ["web", "host", { app = "db" }] }, { from = "remote-node", ports = "udp/1" }]
[[policy.rule]]
host = "edge-1"
ingress = [{ from = ["web", "host"] }]
"#;

/// Sends a datagram from the router with the address of somebody; tells whether it arrives.
fn arrives(net: &Estate, name: &str, receiver: &UdpSocket, family: Family) -> bool {
    let wire = Wire::open(&net.router, "to1");
    let to = receiver.local_addr().expect("bound");
    let datagram = Transport::datagram(4_000, to.port(), b"forged");
    let frame = Frame::to_address(&sender(net), to.ip(), datagram);
    wire.send(&frame.source(net.address(name, family)).bytes());
    receiver
        .set_read_timeout(Some(Duration::from_millis(60)))
        .expect("set a timeout");
    uninterrupted(|| receiver.recv(&mut [0; 16])).is_ok()
}

#[test]
fn nobody_outside_passes_for_somebody_of_the_node() {
    for mode in MODES {
        let net = Estate::new(mode, &RESIDENTS);
        for family in Family::BOTH {
            for to in ["db", "edge-1"] {
                let receiver = bound(net.place(to), net.address(to, family));
                net.apply(0, "");
                let world = arrives(&net, "world", &receiver, family);
                assert!(world, "{to} is open to the world, {family:?}, {mode}");

                net.apply(0, POLICY);

                for name in ["world", "web", "db", "host", "edge-1", "edge-2"] {
                    let passed = arrives(&net, name, &receiver, family);
                    assert!(!passed, "as {name} to {to}, {family:?}, {mode}");
                }
            }
        }
    }
}
