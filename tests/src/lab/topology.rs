//! The namespaces of the world of a gateway, and the links between them.
//!
//! Everything is made by `ip` in batches; what speaks for the endpoints' links is the gateway's to
//! make.

use super::machine::Machine;
use super::namespace::Namespace;

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

/// Makes everybody's namespace.
pub(super) fn add_namespaces(machine: &Machine) {
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
pub(super) fn connect(machine: &Machine) {
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
pub(super) fn add_second_uplink(gw: &Namespace) {
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

/// Silences the kernel of a station.
pub(super) fn mute(machine: &Machine, place: &Namespace) {
    let file = machine.write("mute.nft", MUTE);
    place.run(&format!("nft -f {}", file.display()));
}
