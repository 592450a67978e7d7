//! Tables of other sizes, as an edit of the file asks for them.

use std::fs;

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
