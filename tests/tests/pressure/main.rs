//! Tables that are full, or shall be: what has ended makes room, and nobody takes another's.

mod brim;
mod burst;
mod crowd;
mod flood;
mod room;

use std::env;
use std::path::Path;

use ciliate::datapath::pin::Pins;
use ciliate::datapath::table;
use tests::lab::machine::BPFFS;
use tests::party::Family;

/// Names the pins of the gateway.
fn pins() -> Pins {
    Pins::new(Path::new(BPFFS), "gw")
}

/// Returns a number from the environment.
fn number(variable: &str, default: u32) -> u32 {
    let parse = |text: String| text.parse().expect("the variable holds a number");
    env::var(variable).map_or(default, parse)
}

/// Returns how many entries the table of bindings of a family has.
fn bindings(family: Family) -> usize {
    match family {
        Family::V4 => table::bindings4(&pins())
            .expect("open BINDINGS4")
            .keys()
            .count(),
        Family::V6 => table::bindings6(&pins())
            .expect("open BINDINGS6")
            .keys()
            .count(),
    }
}

/// Returns the numbers of bindings of a family that are not 0.
fn bound(family: Family) -> Vec<u32> {
    let numbers = table::bound(&pins()).expect("open BOUND");
    let skipped = usize::from(family == Family::V6);
    let of_family = numbers.iter().skip(skipped).step_by(2);
    let numbers = of_family.map(|number| number.expect("read BOUND"));
    numbers.filter(|number| *number != 0).collect()
}
