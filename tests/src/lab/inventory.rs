//! Everything that a namespace consists of, as lines that can be compared.
//!
//! Counters and clocks are left out, and so are the files of the tests themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::machine::BPFFS;
use super::namespace::Namespace;

/// What a namespace is asked for.
const QUESTIONS: [&str; 8] = [
    "ip -o -d link show",
    "ip -o address show",
    "ip -4 -d route show table all",
    "ip -6 -d route show table all",
    "ip -4 rule show",
    "ip -6 rule show",
    "ip neigh show nud permanent",
    "tc qdisc show",
];

/// Files below `/proc/sys/net` that count.
const COUNTERS: [&str; 2] = ["nf_conntrack_count", "nr_sockets"];

/// How long the kernel may take to note a carrier, and to find that nobody else has an address.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);

/// Holds lines, each with its subject in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Takes what these namespaces consist of, each under its name.
    pub fn of(places: &[(&str, &Namespace)]) -> Self {
        let mut found = Self::default();
        for (name, place) in places {
            settle(place);
            for question in QUESTIONS {
                found.add(&format!("{name}: {question}"), &place.run(question));
            }
            found.add(&format!("{name}: nft"), &ruleset(place));
            for line in place.run("ip -br link show").lines() {
                let link = line.split([' ', '@']).next().unwrap_or_default();
                for hook in ["ingress", "egress"] {
                    let filters = place.attempt(&format!("tc filter show dev {link} {hook}"));
                    found.add(
                        &format!("{name}: filters of {link} {hook}"),
                        &filters.stdout,
                    );
                }
            }
            place.inside(|| found.add_sysctls(name, Path::new("/proc/sys/net")));
        }
        found
    }

    /// Takes the same, with the mounts, states, pins and names of the machine.
    pub fn of_machine(places: &[(&str, &Namespace)]) -> Self {
        let mut found = Self::of(places);
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("read the mounts");
        for line in mounts.lines() {
            // The first two numbers are given anew.
            found.add("mount", line.splitn(3, ' ').nth(2).unwrap_or_default());
        }
        for folder in ["/run", BPFFS] {
            found.add_files(Path::new(folder));
        }
        found
    }

    /// Fails, with the lines that went and came, unless a later inventory is the same.
    pub fn expect_same(&self, later: &Self, when: &str) {
        let gone = self.0.difference(&later.0).map(|line| format!("- {line}"));
        let new = later.0.difference(&self.0).map(|line| format!("+ {line}"));
        let differences: Vec<String> = gone.chain(new).collect();
        assert!(
            differences.is_empty(),
            "{when}, should be as before:\n{}",
            differences.join("\n")
        );
    }

    /// Tells whether some line contains this text.
    pub fn contains(&self, text: &str) -> bool {
        self.0.iter().any(|line| line.contains(text))
    }

    fn add(&mut self, subject: &str, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.0.insert(format!("{subject}: {}", line.trim_end()));
        }
    }

    fn add_sysctls(&mut self, place: &str, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.add_sysctls(place, &path);
            } else if !COUNTERS.iter().any(|counter| path.ends_with(counter))
                && let Ok(value) = fs::read_to_string(&path)
            {
                self.add(&format!("{place}: {}", path.display()), value.trim());
            }
        }
    }

    fn add_files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path == Path::new("/run/test") {
                continue;
            }
            self.0.insert(format!("file: {}", path.display()));
            if path.is_dir() {
                self.add_files(&path);
            }
        }
    }
}

/// Waits a moment for what the kernel does some time after a link came up: it notes the carrier,
/// makes sure that nobody else has the addresses, and adds routes only then. A link whose other end
/// is down has no carrier.
fn settle(place: &Namespace) {
    let is_settling = || {
        place.run("ip -br link show").contains("NO-CARRIER")
            || !place.run("ip -6 address show tentative").is_empty()
    };
    let deadline = Instant::now() + SETTLED_WITHIN;
    while is_settling() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the nftables ruleset, or nothing where there is no `nft`.
fn ruleset(place: &Namespace) -> String {
    let present = ["/usr/sbin/nft", "/sbin/nft"]
        .iter()
        .any(|nft| Path::new(nft).exists());
    if present {
        place.run("nft --stateless list ruleset")
    } else {
        String::new()
    }
}
