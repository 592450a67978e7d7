//! The tables of legacy iptables, made here entry by entry: the kernel checks the layout.

use ciliate::host::firewall::{self, Traffic, bypass};
use nix::libc;

use crate::isolated;

/// Verdicts as the kernel stores them.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;

/// Is how the entries of one version of IP are laid out, and where they are set.
#[derive(Clone, Copy)]
struct Version {
    domain: i32,
    level: i32,
    address_len: usize,
    entry_len: usize,
    offsets_at: usize,
    pool: [u8; 4],
}

const V4: Version = Version {
    domain: libc::AF_INET,
    level: libc::IPPROTO_IP,
    address_len: 4,
    entry_len: 112,
    offsets_at: 88,
    pool: [10, 0, 1, 0],
};

const V6: Version = Version {
    domain: libc::AF_INET6,
    level: libc::IPPROTO_IPV6,
    address_len: 16,
    entry_len: 168,
    offsets_at: 140,
    pool: [0xfd, 0, 0, 1],
};

/// Is a rule: of which source (with how many bytes of prefix), from which link, and what then.
#[derive(Clone, Default)]
struct Rule {
    source_len: usize,
    link: &'static str,
    verdict: i32,
}

impl Version {
    fn entry(self, rule: &Rule) -> Vec<u8> {
        let target = [
            &40_u16.to_ne_bytes()[..],
            &[0; 30],
            &rule.verdict.to_ne_bytes(),
            &[0; 4],
        ];
        self.with_target(rule, &target.concat())
    }

    fn error(self, name: &str) -> Vec<u8> {
        let mut target = vec![0; 64];
        target[..2].copy_from_slice(&64_u16.to_ne_bytes());
        target[2..7].copy_from_slice(b"ERROR");
        target[32..][..name.len()].copy_from_slice(name.as_bytes());
        self.with_target(&Rule::default(), &target)
    }

    fn with_target(self, rule: &Rule, target: &[u8]) -> Vec<u8> {
        let mut entry = vec![0; self.entry_len];
        entry[..rule.source_len].copy_from_slice(&self.pool[..rule.source_len]);
        entry[2 * self.address_len..][..rule.source_len].fill(0xff);
        let names_at = 4 * self.address_len;
        entry[names_at..][..rule.link.len()].copy_from_slice(rule.link.as_bytes());
        if !rule.link.is_empty() {
            entry[names_at + 32..][..=rule.link.len()].fill(0xff);
        }
        let (from, to) = (self.entry_len, self.entry_len + target.len());
        entry[self.offsets_at..][..2].copy_from_slice(&u16::try_from(from).unwrap().to_ne_bytes());
        entry[self.offsets_at + 2..][..2]
            .copy_from_slice(&u16::try_from(to).unwrap().to_ne_bytes());
        entry.extend(target);
        entry
    }

    /// Fills the table `filter`: the rules of `FORWARD`, its policy, and a chain `DOCKER-USER`
    /// that drops, to which a rule jumps that has the verdict 0.
    fn fill(self, forward: &[Rule], policy: i32) {
        let rule = |verdict| Rule {
            verdict,
            ..Rule::default()
        };
        let len = self.entry(&rule(ACCEPT)).len();
        let called = (forward.len() + 3) * len + self.error("").len();
        let mut entries = vec![self.entry(&rule(ACCEPT))];
        entries.extend(forward.iter().map(|rule| {
            let verdict = if rule.verdict == 0 {
                i32::try_from(called).unwrap()
            } else {
                rule.verdict
            };
            self.entry(&Rule {
                verdict,
                ..rule.clone()
            })
        }));
        entries.extend([
            self.entry(&rule(policy)),
            self.entry(&rule(ACCEPT)),
            self.error("DOCKER-USER"),
            self.entry(&rule(DROP)),
            self.entry(&rule(RETURN)),
            self.error("ERROR"),
        ]);
        let offset = |number: usize| u32::try_from(number * len).unwrap();
        let last = forward.len() + 1;
        // INPUT, FORWARD and OUTPUT have the numbers 1 to 3.
        self.set(
            &entries,
            [0, 0, offset(1), offset(last + 1), 0],
            [0, 0, offset(last), offset(last + 1), 0],
        );
    }

    fn set(self, entries: &[Vec<u8>], hooks: [u32; 5], policies: [u32; 5]) {
        let number = u32::try_from(entries.len()).unwrap();
        let bytes = entries.concat();
        let mut counters = vec![0_u8; 16 * 16];
        let mut replace = b"filter".to_vec();
        replace.resize(32, 0);
        let words = [0b1110, number, u32::try_from(bytes.len()).unwrap()];
        let words = words.into_iter().chain(hooks).chain(policies);
        // As many old counters are returned as the fresh table has entries.
        for word in words.chain([4]) {
            replace.extend(word.to_ne_bytes());
        }
        replace.extend((counters.as_mut_ptr() as usize).to_ne_bytes());
        replace.extend(bytes);
        let set_replace = 64;
        // SAFETY: both buffers outlive the call, and the kernel is told their lengths.
        #[expect(unsafe_code, reason = "nix has no such option")]
        let result = unsafe {
            let socket = libc::socket(self.domain, libc::SOCK_RAW, libc::IPPROTO_RAW);
            let len = u32::try_from(replace.len()).unwrap();
            let value = replace.as_ptr().cast();
            let result = libc::setsockopt(socket, self.level, set_replace, value, len);
            let error = std::io::Error::last_os_error();
            libc::close(socket);
            (result, error)
        };
        assert_eq!(result.0, 0, "set the table: {}", result.1);
    }
}

fn traffic() -> Traffic {
    Traffic {
        endpoints: vec!["lxcweb".into()],
        devices: vec!["eth0".into()],
        pools: vec![
            "10.0.1.0/24".parse().unwrap(),
            "fd00:1::/64".parse().unwrap(),
        ],
        foreign: Vec::new(),
    }
}

fn obstacles() -> Vec<String> {
    let found = bypass::bypassed(&firewall::dump().unwrap(), &traffic());
    found.into_iter().map(|obstacle| obstacle.what).collect()
}

fn from_link(link: &'static str, verdict: i32) -> Rule {
    Rule {
        link,
        verdict,
        ..Rule::default()
    }
}

#[test]
fn reading_makes_no_table() {
    isolated(|| {
        assert_eq!(firewall::iptables::dump().unwrap(), []);
        let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
        assert_eq!(names.unwrap_or_default(), "");
    });
}

#[test]
fn table_without_rules_is_no_obstacle() {
    let harmless = [from_link("docker0", DROP), from_link("eth0", ACCEPT)];
    for forward in [&[][..], &harmless] {
        isolated(|| {
            V4.fill(forward, ACCEPT);
            V6.fill(forward, ACCEPT);

            assert_eq!(obstacles(), [""; 0]);
            let chains = firewall::iptables::dump().unwrap();
            let names: Vec<_> = chains.iter().map(|chain| chain.name.as_str()).collect();
            assert_eq!(names[..4], ["INPUT", "FORWARD", "OUTPUT", "DOCKER-USER"]);
            assert_eq!(chains.len(), 8);
        });
    }
}

#[test]
fn rule_that_can_match_is_named_with_its_number() {
    isolated(|| {
        let jump = Rule::default();
        let from_pool = Rule {
            source_len: 3,
            verdict: DROP,
            ..Rule::default()
        };
        V4.fill(
            &[from_link("docker0", DROP), from_link("eth0", DROP), jump],
            ACCEPT,
        );
        V6.fill(&[from_pool], ACCEPT);

        assert_eq!(
            obstacles(),
            [
                "iptables-legacy: filter FORWARD rule 2: -i eth0 -j DROP, and 1 more rule",
                "ip6tables-legacy: filter FORWARD rule 1: -s fd00::/24 -j DROP",
            ]
        );
    });
}

#[test]
fn policy_that_drops_is_named_with_what_cures_it() {
    isolated(|| {
        V4.fill(&[], DROP);

        let found = bypass::bypassed(&firewall::dump().unwrap(), &traffic());

        assert_eq!(
            found[0].what,
            "iptables-legacy: filter FORWARD (policy DROP)"
        );
        assert_eq!(
            found[0].cure,
            [
                "iptables-legacy -I FORWARD -s 10.0.1.0/24 -j ACCEPT",
                "iptables-legacy -I FORWARD -d 10.0.1.0/24 -j ACCEPT",
            ]
        );
    });
}

#[test]
fn cure_goes_to_dockers_chain_where_packets_come_to_it() {
    isolated(|| {
        V4.fill(&[Rule::default()], DROP);

        let found = bypass::bypassed(&firewall::dump().unwrap(), &traffic());

        assert_eq!(
            found[0].cure[0],
            "iptables-legacy -I DOCKER-USER -s 10.0.1.0/24 -j ACCEPT"
        );
    });
}
