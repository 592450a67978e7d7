//! Endpoints behind a node that masquerades, a router, servers and an attacker.
//!
//! ```text
//!  c1 10.9.0.11 fd00:9::11 ┐      up0 203.0.113.2            ┌ s1 198.51.100.1 .2
//!                          ├─ gw ───────┬─────── x ──────────┤    2001:db8:51::1 ::2
//!  c2 10.9.0.12 fd00:9::12 ┘            │ 203.0.113.1        └ s2 198.51.100.129
//!                                 atk 203.0.113.66                2001:db8:52::129
//! ```
//!
//! `gw` is the machine itself, and `x` a plain router that knows nothing of the inside. The kernels
//! of all others say nothing by themselves but who their neighbours are, so that tests speak for
//! them packet by packet; [`World::speak`] gives one its voice back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use aya::Pod;
use aya::maps::{HashMap, MapData};
use ciliate::datapath::pin::Pins;
use ciliate::datapath::table;
use datapath::verdict::DropReason;

use super::agent;
use super::gateway::{Gateway, Options, other};
use super::machine::{BPFFS, Machine};
use super::namespace::Namespace;
use super::offload::Offload;
use super::resident::Resident;
use super::site::{ATTACKER, C1, C2, S1, S1_TOO, S2, X, family_of};
use super::station::{Side, Station};
use super::topology::{add_namespaces, add_second_uplink, connect, mute};
use crate::frame::{Frame, Transport};
use crate::packet::Packet;
use crate::party::Family;
use crate::segment::Segment;

/// Ports of the datagrams behind which nothing is on its way any more.
const FENCE: [u16; 2] = [40_404, 404];

/// Is the bench: everybody on it, and the gateway set up.
#[derive(Debug)]
pub struct World {
    pub machine: Machine,
    pub gateway: Gateway,
    pub gw: Namespace,
    pub c1: Station,
    pub c2: Station,
    pub s1: Station,
    pub s2: Station,
    /// The router's link to the gateway.
    pub x: Station,
    pub atk: Station,
    /// Everything that the gateway sends out.
    pub uplink: Station,
    token: Cell<u32>,
}

impl World {
    /// Makes everybody, and sets the gateway up.
    pub fn new(options: &Options, offload: Offload) -> Self {
        let machine = Machine::new();
        let gw = machine.own.clone();
        add_namespaces(&machine);
        connect(&machine);
        for number in 3..3 + options.others {
            let place = Namespace::add(&other(number));
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
            mute(&machine, &place);
        }
        if options.second_device {
            add_second_uplink(&gw);
        }
        let gateway = Gateway::under_test();
        gateway.set_up(&machine, options);
        let places = ["c1", "c2", "seg", "x", "s1", "s2", "atk"].map(Namespace::named);
        for place in places.iter().chain([&gw]) {
            offload.set_in(place);
        }
        let [c1, c2, seg, x, s1, s2, atk] = places;
        for place in [&c1, &c2, &s1, &s2, &atk] {
            mute(&machine, place);
        }
        let inside = |name, place| Station::open((name, "eth0"), place, Side::Inside, offload);
        let outside =
            |name, link, place| Station::open((name, link), place, Side::Outside, offload);
        let mut world = Self {
            c1: inside("c1", c1),
            c2: inside("c2", c2),
            s1: outside("s1", "eth0", s1),
            s2: outside("s2", "eth0", s2),
            x: outside("x", "near", x),
            atk: outside("atk", "eth0", atk),
            uplink: outside("uplink", "gw", seg),
            machine,
            gateway,
            gw,
            token: Cell::new(0x4e41_5401),
        };
        world.find_gateways();
        world
    }

    /// Sets the gateway up anew, with other options.
    pub fn change(&self, options: &Options) {
        self.gateway.change(&self.machine, options);
    }

    /// Empties the gateway's tables of flows and bindings, as if they had been lost.
    pub fn lose_flows(&self) {
        assert_eq!(self.gateway, Gateway::Ciliate, "its tables are known");
        let pins = Pins::new(Path::new(BPFFS), "gw");
        empty(table::flows4(&pins).expect("open FLOWS4"));
        empty(table::flows6(&pins).expect("open FLOWS6"));
        empty(table::bindings4(&pins).expect("open BINDINGS4"));
        empty(table::bindings6(&pins).expect("open BINDINGS6"));
    }

    /// Starts the agent that follows changes; it ends when it is dropped.
    pub fn run_agent(&self) -> Option<Resident> {
        let file = self
            .machine
            .folder
            .join("ciliate.toml")
            .display()
            .to_string();
        let start = || Resident::start(&self.machine, &self.gw, &file);
        (self.gateway == Gateway::Ciliate).then(start)
    }

    /// Runs the agent in the gateway; it must end with `code`.
    pub fn agent(&self, line: &str, code: i32) -> super::namespace::Outcome {
        agent::expect(&self.gw, line, code)
    }

    /// Gives the kernel of a station its voice back.
    pub fn speak(station: &Station) {
        station.place.run("nft delete table inet mute");
    }

    /// Returns the station that has an address.
    pub fn station(&self, address: IpAddr) -> &Station {
        let all = [
            (C1, &self.c1),
            (C2, &self.c2),
            (S1, &self.s1),
            (S1_TOO, &self.s1),
            (S2, &self.s2),
            (X, &self.x),
            (ATTACKER, &self.atk),
        ];
        let found = all.iter().find(|(site, _)| site.has(address));
        found.unwrap_or_else(|| panic!("{address} is nobody's")).1
    }

    /// Returns a number that no other packet of this world has.
    pub fn next_token(&self) -> u32 {
        self.token.set(self.token.get() + 0x100);
        self.token.get()
    }

    /// Returns a sequence number, far from that of any other conversation of this world.
    pub fn next_sequence(&self) -> u32 {
        self.next_token().wrapping_mul(0x1000)
    }

    /// Returns a packet that an address's owner sends.
    pub fn frame(&self, from: IpAddr, to: IpAddr, transport: Transport) -> Frame {
        self.station(from).frame(from, to, transport)
    }

    /// Returns a datagram, and its token.
    pub fn datagram(&self, from: SocketAddr, to: SocketAddr) -> (Frame, u32) {
        self.long_datagram(from, to, 12)
    }

    /// Returns a datagram with so many bytes of payload, and its token.
    pub fn long_datagram(&self, from: SocketAddr, to: SocketAddr, len: usize) -> (Frame, u32) {
        let token = self.next_token();
        let mut payload = token.to_be_bytes().to_vec();
        payload.extend((4..len).map(|index| index.to_be_bytes()[7] ^ index.to_be_bytes()[6]));
        let transport = Transport::datagram(from.port(), to.port(), &payload);
        (self.frame(from.ip(), to.ip(), transport), token)
    }

    /// Sends a datagram and returns its token.
    pub fn udp(&self, from: SocketAddr, to: SocketAddr) -> u32 {
        let (frame, token) = self.datagram(from, to);
        self.station(from.ip()).send(&frame);
        token
    }

    /// Sends an echo request, or the reply to one, and returns its token.
    pub fn echo(&self, from: IpAddr, to: IpAddr, id: u16, is_reply: bool) -> u32 {
        let token = self.next_token();
        let mut transport = Transport::echo(family_of(from), is_reply, id);
        transport.bytes[8..12].copy_from_slice(&token.to_be_bytes());
        self.station(from).send(&self.frame(from, to, transport));
        token
    }

    /// Sends a segment, which is told from others by its sequence number.
    pub fn tcp(&self, from: SocketAddr, to: SocketAddr, segment: &Segment) -> u32 {
        let transport = segment.transport(from.port(), to.port());
        let frame = self.frame(from.ip(), to.ip(), transport);
        self.station(from.ip()).send(&frame);
        segment.sequence
    }

    /// Sends a datagram out and returns the source that the server sees.
    pub fn out(&self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let token = self.udp(from, to);
        let seen = self.station(to.ip()).catch_token(token);
        assert_eq!(seen.to(), to, "the destination should stay");
        seen.from()
    }

    /// Sends a datagram in, which must reach an endpoint.
    pub fn back(&self, from: SocketAddr, outside: SocketAddr, to: SocketAddr) -> Packet {
        let token = self.udp(from, outside);
        let seen = self.station(to.ip()).catch_token(token);
        assert_eq!((seen.from(), seen.to()), (from, to), "of {}", seen.brief());
        seen
    }

    /// Waits until whatever was sent before has arrived, if it does.
    pub fn fence(&self, family: Family) {
        let (inside, far) = (C2.at(family, FENCE[0]), S2.at(family, FENCE[1]));
        for _ in 0..2 {
            let outside = self.out(inside, far);
            if super::station::is_inside(outside.ip()) {
                return;
            }
            self.back(far, outside, inside);
        }
    }

    /// Fails if the packet with this token arrived anywhere.
    pub fn expect_none(&self, what: &str, token: u32, family: Family) {
        self.fence(family);
        for station in self.stations() {
            let arrived = station.arrived(|packet| packet.token() == Some(token));
            let listed: Vec<String> = arrived.iter().map(Packet::brief).collect();
            assert!(
                listed.is_empty(),
                "{what} should not arrive at {}: {listed:?}",
                station.name
            );
        }
    }

    /// Returns how many packets the gateway dropped, by reason.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        if self.gateway != Gateway::Ciliate {
            return BTreeMap::new();
        }
        let status = agent::json(&self.gw, "status");
        let drops = status["drops"].as_object().cloned().unwrap_or_default();
        let count = |value: serde_json::Value| value.as_u64().unwrap_or(0);
        drops
            .into_iter()
            .map(|(key, value)| (key, count(value)))
            .collect()
    }

    /// Runs `work`, of which the gateway must drop `count` packets under one reason, which it
    /// returns.
    pub fn expect_reason(&self, count: u64, work: impl FnOnce()) -> String {
        if self.gateway != Gateway::Ciliate {
            work();
            return "not counted".to_owned();
        }
        let before = self.drops();
        work();
        let mut more = self.drops();
        for (reason, after) in &mut more {
            *after -= before.get(reason).copied().unwrap_or(0);
        }
        // The endpoints' kernels report their groups whenever they like.
        more.retain(|reason, more| *more > 0 && reason != DropReason::Multicast.text());
        assert!(
            more.len() == 1 && more.values().sum::<u64>() == count,
            "{count} should be dropped under one reason, not {more:?}"
        );
        more.into_keys().next().expect("is there")
    }

    /// Tells whether a datagram that is sent in reaches an endpoint.
    pub fn reaches(&self, from: SocketAddr, outside: SocketAddr, to: SocketAddr) -> bool {
        let token = self.udp(from, outside);
        self.has_arrived(token, to)
    }

    /// Tells whether a packet that was sent has reached somebody.
    pub fn has_arrived(&self, token: u32, to: SocketAddr) -> bool {
        self.fence(family_of(to.ip()));
        let station = self.station(to.ip());
        let found = station.arrived(|packet| packet.token() == Some(token));
        for packet in &found {
            assert_eq!(packet.to(), to, "of {}", packet.brief());
        }
        !found.is_empty()
    }

    /// Sets the largest packet of the link between the router and the first server.
    pub fn set_far_mtu(&self, mtu: u16) {
        let line = format!("ip link set mtu {mtu} dev");
        self.x.place.run(&format!("{line} far1"));
        self.s1.place.run(&format!("{line} eth0"));
    }

    /// Sets the largest packet of the gateway's uplink.
    pub fn set_uplink_mtu(&self, mtu: u16) {
        self.gw.run(&format!("ip link set mtu {mtu} dev up0"));
    }

    /// Fails if anything that was captured was wrong.
    pub fn finish(&self) {
        let faults: Vec<String> = self
            .stations()
            .iter()
            .flat_map(|place| place.faults())
            .collect();
        let listed = &faults[..faults.len().min(12)];
        assert!(faults.is_empty(), "{} faults: {listed:#?}", faults.len());
    }

    fn stations(&self) -> [&Station; 6] {
        [
            &self.c1,
            &self.c2,
            &self.s1,
            &self.s2,
            &self.atk,
            &self.uplink,
        ]
    }

    fn find_gateways(&mut self) {
        self.c1.gateway_mac = self.gw.mac("lxcc1");
        self.c2.gateway_mac = self.gw.mac("lxcc2");
        self.s1.gateway_mac = self.x.place.mac("far1");
        self.s2.gateway_mac = self.x.place.mac("far2");
        self.x.gateway_mac = self.gw.mac("up0");
        self.atk.gateway_mac = self.x.gateway_mac;
    }
}

/// Removes all entries of a map.
fn empty<K: Pod, V: Pod>(mut map: HashMap<MapData, K, V>) {
    let keys: Vec<K> = map.keys().map(|key| key.expect("read a key")).collect();
    for key in keys {
        // It may have gone by itself.
        let _ = map.remove(&key);
    }
}
