//! How long the host's part of a plan and of an apply takes; run by hand, with a release build:
//! `cargo test --release -p ciliate --test host -- --ignored --nocapture`.

use std::time::Instant;

use ciliate::host::surroundings::{self, Interest};
use ciliate::plan::object::Key;

use crate::isolated;
use crate::node::Node;
use crate::run::nft;

#[test]
#[ignore = "measures, and asserts nothing"]
fn time_of_one_hundred_endpoints() {
    isolated(|| {
        for endpoints in [1, 10, 100] {
            measure(endpoints);
        }
    });
}

fn measure(endpoints: u8) {
    let mut node = Node::new(endpoints);
    let start = Instant::now();
    node.observe();
    let observed_empty = start.elapsed();

    let mut executor = node.executor();
    let start = Instant::now();
    let mut links = std::time::Duration::ZERO;
    for (key, value) in &node.desired {
        let step = Instant::now();
        executor.add(key, value).unwrap();
        if let Key::EndpointLink(_) = key {
            links += step.elapsed();
        }
    }
    let added = start.elapsed();
    drop(executor);

    let start = Instant::now();
    node.observe();
    let observed_full = start.elapsed();
    let start = Instant::now();
    node.remove();
    eprintln!(
        "{endpoints:>3} endpoints: observe nothing {observed_empty:.1?}, add {added:.1?} \
         (of it the veth pairs {links:.1?}), observe all {observed_full:.1?}, remove {:.1?}",
        start.elapsed()
    );
}

#[test]
#[ignore = "measures, and asserts nothing"]
fn time_of_reading_the_surroundings() {
    isolated(|| {
        let interest = Interest {
            devices: vec!["eth0".into()],
            pools: vec!["10.0.1.0/24".parse().unwrap()],
            peers: vec!["192.0.2.2".parse().unwrap()],
            ..Interest::default()
        };
        let time = |what: &str| {
            let start = Instant::now();
            let found = surroundings::read("edge", &interest).unwrap().obstacles;
            eprintln!("{what}: {:.1?}, {} obstacles", start.elapsed(), found.len());
        };
        time("an empty host, at first");
        time("an empty host");
        let rules = "iifname \"docker0\" ip saddr 172.17.0.0/16 tcp dport 80 drop\n".repeat(1_000);
        nft(&format!(
            "table inet filter {{ chain forward {{ type filter hook forward priority 0;\n{rules}}} }}"
        ));
        time("a thousand rules");
    });
}
