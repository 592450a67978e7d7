//! How long the host's part of an apply takes; run by hand, with a release build:
//! `cargo test --release -p ciliate --test host -- --ignored --nocapture`.

use std::time::Instant;

use ciliate::plan::object::Key;

use crate::isolated;
use crate::node::Node;

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
