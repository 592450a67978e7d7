//! Chains, rules, conditions and effects, whichever tool wrote them.
//!
//! A model for one question: can this rule do anything to a packet of ours? Conditions that the
//! answer does not need are kept by name only, and are taken to match.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Holds the chains of all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub chains: Vec<Chain>,
}

/// Tells which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Ip,
    Ip6,
    /// Both of them.
    Inet,
    /// Those of one device.
    Netdev,
}

/// Tells which command shows and edits a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    Nftables,
    /// `iptables` or `ip6tables`, which store their rules in nftables.
    Iptables,
    /// The same commands with tables of their own.
    LegacyIptables,
}

/// Is a place on the way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Ingress,
    Prerouting,
    Forward,
    Postrouting,
    Egress,
}

/// Is a list of rules, in a hook or called by other chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub tool: Tool,
    pub family: Family,
    pub table: String,
    pub name: String,
    /// `None` for a chain that others call.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// Is what only a chain in a hook has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub hook: Hook,
    /// Chains with lower numbers come first.
    pub priority: i32,
    /// Whether a packet that reaches the end is dropped.
    pub drops: bool,
    /// The devices of an ingress or egress hook.
    pub devices: Names,
}

/// Is a rule: its effects happen, in order, if all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How the tool finds it: a handle (nftables), or its number in the chain (iptables).
    pub number: u64,
    pub conditions: Vec<Condition>,
    pub effects: Vec<Effect>,
}

/// Is what a packet must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Incoming(Names),
    Outgoing(Names),
    Source(Spans),
    Destination(Spans),
    /// The version of IP; `true` is 6.
    Version6(bool),
    /// The destination is an address of this host, so that the packet is not forwarded.
    LocalDestination,
    /// Something that is not followed, named as its tool names it.
    Other(String),
}

/// Is a set of link names, or all but those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Names; one that ends with `*` stands for all that begin so.
    pub patterns: Vec<String>,
    pub inverted: bool,
}

/// Is a set of addresses, or all but those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    pub spans: Vec<Span>,
    pub inverted: bool,
}

/// Is a range of addresses of one family; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub first: IpAddr,
    pub last: IpAddr,
}

/// Is what a rule does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Accept,
    Return,
    /// Ends the packet, in the word of the tool: `drop`, `reject with …`.
    Drop(String),
    Jump(String),
    Goto(String),
    /// Gives the packet another destination, of which nothing may be known.
    Translate(Option<Span>),
    /// Gives the packet another source, in the word of the tool.
    TranslateSource {
        word: String,
        /// The addresses; `None` for those of the link that it leaves by, or unknown ones.
        to: Option<Span>,
        /// First and last port; `None` if any may be chosen.
        ports: Option<(u16, u16)>,
    },
    /// Anything else that would be missed: it is counted, marked, translated, logged.
    Other(String),
}

impl Ruleset {
    /// Finds a chain by the name with which `caller` calls it.
    pub fn called(&self, caller: &Chain, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| {
            chain.name == name
                && chain.table == caller.table
                && chain.family == caller.family
                && chain.tool == caller.tool
        })
    }
}

impl Family {
    /// Returns the word for it in commands.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        }
    }

    /// Tells whether a table of this family sees a version of IP.
    pub fn sees(self, version6: bool) -> bool {
        match self {
            Self::Ip => !version6,
            Self::Ip6 => version6,
            Self::Inet | Self::Netdev => true,
        }
    }
}

impl Names {
    /// Tells whether a name is in the set.
    pub fn contains(&self, name: &str) -> bool {
        let found = self.patterns.iter().any(|pattern| {
            pattern
                .strip_suffix('*')
                .map_or(name == pattern, |start| name.starts_with(start))
        });
        found != self.inverted
    }
}

impl Spans {
    /// Tells whether an address of `other` may be in the set.
    pub fn overlaps(&self, other: Span) -> bool {
        if self.inverted {
            !self.spans.iter().any(|span| span.contains(other))
        } else {
            self.spans.iter().any(|span| span.overlaps(other))
        }
    }

    /// Tells whether all addresses of `other` are in the set.
    pub fn contains(&self, other: Span) -> bool {
        if self.inverted {
            !self.spans.iter().any(|span| span.overlaps(other))
        } else {
            self.spans.iter().any(|span| span.contains(other))
        }
    }

    /// Tells whether all of the set lies inside of one of these.
    pub fn is_within(&self, others: &[Span]) -> bool {
        let inside = |span: &Span| others.iter().any(|other| other.contains(*span));
        !self.inverted && self.spans.iter().all(inside)
    }
}

impl Span {
    /// Tells whether an address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.is_comparable(other) && self.first <= other.last && other.first <= self.last
    }

    /// Tells whether all addresses of the other one are in this one.
    pub fn contains(self, other: Self) -> bool {
        self.is_comparable(other) && self.first <= other.first && other.last <= self.last
    }

    fn is_comparable(self, other: Self) -> bool {
        self.first.is_ipv6() == other.first.is_ipv6()
    }
}

impl From<IpNet> for Span {
    fn from(prefix: IpNet) -> Self {
        Self {
            first: prefix.network(),
            last: prefix.broadcast(),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.first.is_ipv6() { 128 } else { 32 };
        let prefix = (0..=bits)
            .filter_map(|len| IpNet::new(self.first, len).ok())
            .find(|prefix| Self::from(*prefix) == *self);
        match prefix {
            Some(prefix) if prefix.prefix_len() == bits => write!(f, "{}", self.first),
            Some(prefix) => write!(f, "{prefix}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(prefix: &str) -> Span {
        prefix.parse::<IpNet>().unwrap().into()
    }

    #[test]
    fn name_with_a_star_stands_for_all_that_begin_so() {
        let docker = Names {
            patterns: vec!["docker*".into(), "virbr0".into()],
            inverted: false,
        };

        assert!(docker.contains("docker0") && docker.contains("virbr0"));
        assert!(!docker.contains("virbr00") && !docker.contains("eth0"));
    }

    #[test]
    fn inverted_set_overlaps_unless_it_leaves_everything_out() {
        let not = |prefix: &str| Spans {
            spans: vec![span(prefix)],
            inverted: true,
        };

        assert!(!not("10.0.0.0/8").overlaps(span("10.0.1.0/24")));
        assert!(not("10.0.1.5/32").overlaps(span("10.0.1.0/24")));
        assert!(!not("10.0.1.5/32").contains(span("10.0.1.0/24")));
        assert!(not("10.0.2.0/24").contains(span("10.0.1.0/24")));
    }

    #[test]
    fn families_have_no_address_in_common() {
        assert!(!span("0.0.0.0/0").overlaps(span("::/0")));
        assert!(!span("::/0").contains(span("10.0.0.1/32")));
    }

    #[test]
    fn span_is_written_as_a_prefix_if_it_is_one() {
        let odd = Span {
            first: "10.0.0.1".parse().unwrap(),
            last: "10.0.0.9".parse().unwrap(),
        };

        assert_eq!(span("10.0.0.0/8").to_string(), "10.0.0.0/8");
        assert_eq!(span("fd00::1/128").to_string(), "fd00::1");
        assert_eq!(odd.to_string(), "10.0.0.1-10.0.0.9");
    }
}
