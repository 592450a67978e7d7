//! ping, traceroute and tracepath.

use std::net::IpAddr;

use tests::lab::namespace::Namespace;
use tests::lab::wide::{NARROW, Target, everywhere};

/// Methods of traceroute: UDP, TCP to port 80, ICMP.
const METHODS: [&str; 3] = ["-U", "-T", "-I"];

#[test]
fn echo_requests_of_any_length_are_answered() {
    everywhere(|wide, what| {
        for Target { name, address, .. } in wide.targets() {
            // Alone, as long as the MTU, and in three fragments.
            for len in [56, 1_400, 4_000] {
                let line = format!("ping -n -c 3 -i 0.01 -W 2 -s {len} {address}");
                let said = wide.client().attempt(&line);
                assert_eq!(said.code, Some(0), "{name}, {what}: {said:#?}");
                assert!(said.stdout.contains(" 0% packet loss"), "{what}: {said:#?}");
            }
        }
    });
}

#[test]
fn traceroute_shows_every_hop_by_each_method() {
    everywhere(|wide, what| {
        for target in wide.targets() {
            for method in METHODS {
                let (hops, said) = trace(wide.client(), method, target.address);
                assert_eq!(
                    hops, target.hops,
                    "{method} to {}, {what}: {said}",
                    target.name
                );
            }
        }
    });
}

/// Returns who answered on the way, hop by hop, and what was said.
pub(super) fn trace(from: &Namespace, method: &str, to: IpAddr) -> (Vec<IpAddr>, String) {
    let line = format!("traceroute -n -q 1 -N 1 -w 2 -m 8 {method} {to}");
    let said = from.run(&line);
    let lines = said.lines().skip(1);
    let hops = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
    (hops.collect(), said)
}

#[test]
fn tracepath_finds_the_smaller_link_behind_the_router() {
    everywhere(|wide, what| {
        wide.narrow();
        for target in wide.targets() {
            let mtu = match target.name {
                "world" => NARROW,
                _ => 1_500,
            };
            let said = wide
                .client()
                .run(&format!("tracepath -n -m 8 {}", target.address));
            let hops = target.hops.len();
            let end = format!("Resume: pmtu {mtu} hops {hops} back {hops}");
            assert!(said.contains(&end), "{end:?}, {what}: {said}");
            for hop in &target.hops {
                let shown = said.contains(&format!(" {hop} "));
                assert!(shown, "{hop}, {what}: {said}");
            }
        }
    });
}
