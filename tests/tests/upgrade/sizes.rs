//! Tables of other sizes, as an edit of the file asks for them.

use std::fs;
use std::process::Command;

use tests::lab::node::{FILE, pins};
use tests::lab::outside::Outside;

use crate::talk::Talk;

const MAPS: [&str; 4] = [
    "",
    "\n[maps]\nflows = 5000\n",
    "\n[maps]\nflows = 20000\nbindings = 8192\n",
    "\n[maps]\nbindings = 65536\n",
];

#[test]
fn tables_of_other_sizes_take_over_what_the_old_ones_know() {
    let lab = Outside::new();
    lab.apply("bpf");
    let mut talk = Talk::begin(&lab);

    for maps in MAPS.iter().cycle().skip(1).take(2 * MAPS.len()) {
        write(&lab, maps);
        lab.net.apply();
        lab.net.ciliate("plan", 0);
        talk.go_on();
    }

    talk.end();
    assert!(pins().former().is_none(), "the old tables should be gone");
    assert_eq!(
        fs::read_dir(pins().node()).expect("pins").count(),
        2,
        "one set, and links"
    );
    lab.expect_traffic();
}

fn write(lab: &Outside, maps: &str) {
    lab.net.write(&format!(
        "{FILE}\n[[device]]\nname = \"up0\"\nmasquerade = true\n\n[routing]\nhost_routing = \"bpf\"\n{maps}"
    ));
}

/// Most steps that an exchange has.
const MOST_STEPS: usize = 100;

#[test]
fn exchange_that_is_killed_anywhere_is_completed_or_taken_back() {
    let lab = Outside::new();
    lab.apply("bpf");
    let mut talk = Talk::begin(&lab);

    let is_over = (0..MOST_STEPS).any(|step| {
        write(&lab, MAPS[2]);
        let line = format!("{} {step}", ["before", "after"][step % 2]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_interrupted"));
        let outcome = lab
            .net
            .host
            .execute(command.args(line.split(' ')).arg(&lab.net.file));
        assert!(
            matches!(outcome.code, None | Some(0)),
            "{line}: {outcome:#?}"
        );
        talk.go_on();
        // Every other time somebody changes his mind.
        for maps in &MAPS[2 * (step / 2 % 2)..=2] {
            write(&lab, maps);
            lab.net.apply();
            lab.net.ciliate("plan", 0);
            talk.go_on();
        }
        write(&lab, MAPS[0]);
        lab.net.apply();
        assert!(pins().former().is_none(), "the old tables should be gone");
        outcome.code == Some(0)
    });

    assert!(is_over, "an exchange has fewer steps");
    talk.end();
    lab.expect_traffic();
}
