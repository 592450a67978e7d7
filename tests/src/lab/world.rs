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
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use datapath::verdict::DropReason;

use super::agent::{self, Running};
use super::gateway::{Gateway, Options};
use super::machine::Machine;
use super::namespace::Namespace;
use super::offload::Offload;
use super::station::{Side, Station};
use crate::frame::{Frame, Transport};
use crate::packet::Packet;
use crate::party::Family;
use crate::segment::Segment;

pub const C1: Site = Site::new([10, 9, 0, 11], [0xfd00, 9, 0, 0x11]);
pub const C2: Site = Site::new([10, 9, 0, 12], [0xfd00, 9, 0, 0x12]);
/// The node, as its endpoints see it.
pub const ROUTER: Site = Site::new([10, 9, 0, 1], [0xfd00, 9, 0, 1]);
/// The node, as the world sees it.
pub const UPLINK: Site = Site::new([203, 0, 113, 2], [0x2001, 0xdb8, 1, 2]);
/// The node's other addresses on the same link.
pub const UPLINK_TOO: Site = Site::new([203, 0, 113, 3], [0x2001, 0xdb8, 1, 3]);
pub const X: Site = Site::new([203, 0, 113, 1], [0x2001, 0xdb8, 1, 1]);
pub const ATTACKER: Site = Site::new([203, 0, 113, 66], [0x2001, 0xdb8, 1, 0x66]);
pub const S1: Site = Site::new([198, 51, 100, 1], [0x2001, 0xdb8, 0x51, 1]);
/// The other address of `s1`.
pub const S1_TOO: Site = Site::new([198, 51, 100, 2], [0x2001, 0xdb8, 0x51, 2]);
pub const S2: Site = Site::new([198, 51, 100, 129], [0x2001, 0xdb8, 0x52, 0x129]);

/// Ports of the datagrams behind which nothing is on its way any more.
const FENCE: [u16; 2] = [40_404, 404];

/// Lets the kernel of a station answer nothing but who its neighbours are.
const MUTE: &str = "table inet mute {
 chain input {
  type filter hook input priority 0; policy drop
  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
 }
}
";

const SEGMENT_LINKS: &str = "link set lo up
link add br0 type bridge forward_delay 0 mcast_snooping 0
link set br0 up
link add x type veth peer name near netns x
link add atk type veth peer name eth0 netns atk
link set gw master br0 up
link set x master br0 up
link set atk master br0 up
";
const ROUTER_LINKS: &str = "link set lo up
link set near up
address add 203.0.113.1/24 dev near
address add 2001:db8:1::1/64 dev near nodad
link add far1 type veth peer name eth0 netns s1
link add far2 type veth peer name eth0 netns s2
link set far1 up
link set far2 up
address add 198.51.100.126/25 dev far1
address add 2001:db8:51::fe/64 dev far1 nodad
address add 198.51.100.254/25 dev far2
address add 2001:db8:52::fe/64 dev far2 nodad
";
const FIRST_SERVER_LINKS: &str = "link set lo up
link set eth0 up
address add 198.51.100.1/25 dev eth0
address add 198.51.100.2/25 dev eth0
address add 2001:db8:51::1/64 dev eth0 nodad
address add 2001:db8:51::2/64 dev eth0 nodad
route add default via 198.51.100.126
route add default via 2001:db8:51::fe
";
const SECOND_SERVER_LINKS: &str = "link set lo up
link set eth0 up
address add 198.51.100.129/25 dev eth0
address add 2001:db8:52::129/64 dev eth0 nodad
route add default via 198.51.100.254
route add default via 2001:db8:52::fe
";
const ATTACKER_LINKS: &str = "link set lo up
link set eth0 up
address add 203.0.113.66/24 dev eth0
address add 2001:db8:1::66/64 dev eth0 nodad
route add default via 203.0.113.2
route add default via 2001:db8:1::2
";
const UPLINK_LINKS: &str = "link set up0 up
address add 203.0.113.2/24 dev up0
address add 203.0.113.3/24 dev up0
address add 2001:db8:1::3/64 dev up0 nodad
address add 2001:db8:1::2/64 dev up0 nodad
route add default via 203.0.113.1 dev up0
route add default via 2001:db8:1::1 dev up0
";

/// Is the addresses of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Site {
    const fn new(v4: [u8; 4], [a, b, c, last]: [u16; 4]) -> Self {
        let [first, second, third, fourth] = v4;
        Self {
            v4: Ipv4Addr::new(first, second, third, fourth),
            v6: Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last),
        }
    }

    pub fn ip(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    pub fn at(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(family), port)
    }

    fn has(self, address: IpAddr) -> bool {
        address == self.v4 || address == self.v6
    }
}

/// Returns the family of an address.
pub fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}

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
        unimplemented!("{:?}", self.gateway);
    }

    /// Starts the agent that follows changes; it ends when it is dropped.
    pub fn run_agent(&self) -> Option<Running> {
        let file = self.machine.folder.join("ciliate.toml");
        (self.gateway == Gateway::Ciliate).then(|| Running::start(&self.gw, &file))
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

fn add_namespaces(machine: &Machine) {
    let own = Namespace::own();
    let lines: String = ["c1", "c2", "seg", "x", "s1", "s2", "atk"]
        .map(|name| format!("netns add {name}\n"))
        .concat();
    batch(machine, &own, &lines);
    for name in ["c1", "c2", "seg", "x", "s1", "s2", "atk"] {
        let place = Namespace::named(name);
        place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        place.set_sysctl("net/ipv6/conf/default/router_solicitations", "0");
        place.set_sysctl("net/ipv4/conf/all/rp_filter", "0");
        place.set_sysctl("net/ipv4/conf/default/rp_filter", "0");
    }
    own.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
    for name in ["c1", "c2"] {
        Namespace::named(name).run("ip link set lo up");
    }
    let x = Namespace::named("x");
    for family in ["ipv4", "ipv6"] {
        x.set_sysctl(&format!("net/{family}/conf/all/forwarding"), "1");
    }
}

/// Joins the namespaces, from the segment outwards.
fn connect(machine: &Machine) {
    // The machine's own namespace has no name that others could give its end away with.
    machine
        .own
        .run("ip link add up0 type veth peer name gw netns seg");
    for (place, lines) in [
        (Namespace::named("seg"), SEGMENT_LINKS),
        (Namespace::named("x"), ROUTER_LINKS),
        (Namespace::named("s1"), FIRST_SERVER_LINKS),
        (Namespace::named("s2"), SECOND_SERVER_LINKS),
        (Namespace::named("atk"), ATTACKER_LINKS),
        (machine.own.clone(), UPLINK_LINKS),
    ] {
        batch(machine, &place, lines);
    }
}

/// Adds a second device to the gateway, `up1` with 203.0.114.2, straight to the router.
fn add_second_uplink(gw: &Namespace) {
    let x = Namespace::named("x");
    gw.run("ip link add up1 type veth peer name near1 netns x");
    for (place, line) in [
        (gw, "ip address add 203.0.114.2/24 dev up1"),
        (gw, "ip link set up1 up"),
        (&x, "ip address add 203.0.114.1/24 dev near1"),
        (&x, "ip link set near1 up"),
        (
            gw,
            "ip route add default via 203.0.114.1 dev up1 metric 200",
        ),
    ] {
        place.run(line);
    }
}

fn batch(machine: &Machine, place: &Namespace, lines: &str) {
    let file = machine.write("batch.ip", lines);
    place.run(&format!("ip -batch {}", file.display()));
}

fn mute(machine: &Machine, place: &Namespace) {
    let file = machine.write("mute.nft", MUTE);
    place.run(&format!("nft -f {}", file.display()));
}
