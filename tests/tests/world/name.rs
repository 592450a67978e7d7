//! Names by UDP, with answers that take several fragments.

use tests::lab::service::Service;
use tests::lab::wide::{Target, everywhere};

/// Texts of the name, of 250 bytes each: more than fits the MTU, and less than EDNS is told.
const TEXTS: usize = 14;

#[test]
fn answers_longer_than_the_mtu_arrive() {
    everywhere(|wide, what| {
        for Target {
            name,
            place,
            address,
            ..
        } in wide.targets()
        {
            let server = format!(
                "dnsmasq --keep-in-foreground --user=root --conf-file=/dev/null --pid-file= --no-resolv --no-hosts --edns-packet-max=4096 --txt-record={}",
                record()
            );
            let _server = Service::start(&place, &server, 53);

            for _ in 0..2 {
                let line = format!(
                    "dig +notcp +ignore +bufsize=4096 +tries=1 +time=3 @{address} large.test TXT"
                );
                let said = wide.client().run(&line);
                for index in 0..TEXTS {
                    assert!(said.contains(&text(index)), "{name}, {what}: {said}");
                }
                let size = said
                    .lines()
                    .find_map(|line| line.strip_prefix(";; MSG SIZE  rcvd: "));
                let size: usize = size.expect("a size").parse().expect("a number");
                assert!(size > 3_000, "{size} from {name}, {what}");
            }
        }
    });
}

fn record() -> String {
    let texts: Vec<String> = (0..TEXTS).map(text).collect();
    format!("large.test,{}", texts.join(","))
}

fn text(index: usize) -> String {
    format!("{index:0>250}")
}
