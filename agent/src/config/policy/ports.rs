//! `ports` of a term: `tcp/80`, `any/53`, `icmp/echo-request`, `proto/47`.
//!
//! What stands behind the protocol is read strictly; only when that has failed is it guessed what
//! may have been meant, and a guess is offered only if it would have been accepted.

use super::icmp::{self, ICMP, ICMPV6};
use super::{Ports, port_name, service};
use crate::config::diagnostic::{Diagnostic, Kind, closest, quote};
use crate::config::table::Entry;
use crate::config::value;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Words that ports begin with.
const PROTOCOLS: [&str; 7] = ["tcp", "udp", "sctp", "any", "icmp", "icmpv6", "proto"];

/// Words of protocols that have one number.
const WORDS: [(&str, u8); 5] = [
    ("tcp", TCP),
    ("udp", UDP),
    ("sctp", SCTP),
    ("icmp", ICMP),
    ("icmpv6", ICMPV6),
];

/// Says why a text stands for no ports.
#[derive(Debug)]
struct Fault {
    /// What follows the text in a message.
    reason: String,
    help: Option<String>,
}

impl Fault {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            help: None,
        }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// Reads one text of `ports`; `any` stands for several protocols.
pub(super) fn read(entry: &Entry<'_>) -> Result<Vec<Ports>, Diagnostic> {
    let refuse = |text: &str, fault: Fault| {
        let message = format!("{} {}", quote(text), fault.reason);
        let error = Diagnostic::new(Kind::BadPorts, entry.span.clone(), message);
        match fault.help {
            Some(help) => error.help(help),
            None => error,
        }
    };
    if let Some(integer) = entry.value.as_integer() {
        return Err(refuse(integer.as_str(), not_ports(integer.as_str())));
    }
    let text = value::string(entry)?;
    parse(text).map_err(|fault| refuse(text, fault))
}

fn parse(text: &str) -> Result<Vec<Ports>, Fault> {
    let (word, rest) = match text.split_once('/') {
        Some((word, rest)) => (word, Some(rest)),
        None => (text, None),
    };
    let protocols: &[u8] = match word {
        "tcp" => &[TCP],
        "udp" => &[UDP],
        "sctp" => &[SCTP],
        "any" => &[TCP, UDP, SCTP],
        "icmp" => return message(ICMP, word, rest).map(|message| vec![message]),
        "icmpv6" => return message(ICMPV6, word, rest).map(|message| vec![message]),
        "proto" => return protocol(rest).map(|protocol| vec![protocol]),
        _ => return Err(not_ports(text)),
    };
    match (rest, protocols) {
        (None, [protocol]) => Ok(vec![Ports::Protocol(*protocol)]),
        (None, _) => Err(Fault::new("has no port")
            .help("add one, as in `any/53`; without `ports` every protocol is meant")),
        (Some(rest), _) => numbers_or_name(word, rest, protocols),
    }
}

fn numbers_or_name(word: &str, rest: &str, protocols: &[u8]) -> Result<Vec<Ports>, Fault> {
    let range = match rest.split_once('-') {
        Some((first, last)) if is_number(first) && is_number(last) => Some((first, last)),
        None if is_number(rest) => Some((rest, rest)),
        Some(_) | None => None,
    };
    let each = |ports: &dyn Fn(u8) -> Ports| protocols.iter().map(|p| ports(*p)).collect();
    if let Some((first, last)) = range {
        let (first, last) = (port(first)?, port(last)?);
        check_range(word, first, last)?;
        return Ok(each(&|protocol| Ports::Range {
            protocol,
            first,
            last,
        }));
    }
    if port_name::is_valid(rest) {
        return Ok(each(&|protocol| Ports::Named {
            protocol,
            name: rest.to_owned(),
        }));
    }
    Err(not_a_port(word, rest))
}

fn check_range(word: &str, first: u16, last: u16) -> Result<(), Fault> {
    if last < first {
        return Err(Fault::new("ends before it begins")
            .help(format!("did you mean `{word}/{last}-{first}`?")));
    }
    if first > 0 {
        return Ok(());
    }
    let fault = Fault::new("begins with port 0, which nobody has");
    Err(match last {
        0 => Fault::new("is port 0, which nobody has")
            .help("leave the port out to mean the whole protocol"),
        _ => fault.help(format!("did you mean `{word}/1-{last}`?")),
    })
}

fn port(text: &str) -> Result<u16, Fault> {
    text.parse()
        .map_err(|_| Fault::new(format!("goes beyond {}, the last port", u16::MAX)))
}

fn not_a_port(word: &str, rest: &str) -> Fault {
    let fault = Fault::new("has neither a port nor the name of one");
    let lower = rest.to_lowercase();
    match rest {
        "" | "*" | "any" if word != "any" => fault.help(format!("did you mean `{word}`?")),
        _ if rest.contains(',') => fault.help(format!(
            "write each in quotes of its own, as in `\"{word}/80\", \"{word}/443\"`"
        )),
        _ if lower != rest && port_name::is_valid(&lower) => {
            fault.help(format!("did you mean `{word}/{lower}`?"))
        }
        _ => fault.help(format!(
            "write `{word}/80`, `{word}/8000-8100` or `{word}/http`"
        )),
    }
}

/// Reads a message of ICMP: a type by number or name, and maybe a code.
fn message(protocol: u8, word: &str, rest: Option<&str>) -> Result<Ports, Fault> {
    let Some(rest) = rest else {
        return Ok(Ports::Protocol(protocol));
    };
    let (kind, code) = match rest.split_once('/') {
        Some((kind, code)) => (kind, Some(code)),
        None => (rest, None),
    };
    Ok(Ports::Icmp {
        protocol,
        kind: match icmp::kind(protocol, kind) {
            Some(kind) => kind,
            None => byte(kind).ok_or_else(|| not_a_message(protocol, word, kind))?,
        },
        code: match code {
            Some(code) => Some(
                byte(code).ok_or_else(|| Fault::new("has a code that is no number up to 255"))?,
            ),
            None => None,
        },
    })
}

fn not_a_message(protocol: u8, word: &str, kind: &str) -> Fault {
    let (other, other_word) = match protocol {
        ICMP => (ICMPV6, "icmpv6"),
        _ => (ICMP, "icmp"),
    };
    if is_number(kind) {
        return Fault::new("goes beyond 255, the last type");
    }
    let fault = Fault::new(format!("is no message of {word}"));
    match closest(kind, icmp::names(protocol)) {
        _ if icmp::kind(other, kind).is_some() => {
            fault.help(format!("did you mean `{other_word}/{kind}`?"))
        }
        Some(name) => fault.help(format!("did you mean `{word}/{name}`?")),
        None => fault.help(format!(
            "write a type by its name or number, as in `{word}/echo-request` or `{word}/3/4`"
        )),
    }
}

/// Reads a protocol by its number.
fn protocol(rest: Option<&str>) -> Result<Ports, Fault> {
    let rest = rest.unwrap_or_default();
    byte(rest).map(Ports::Protocol).ok_or_else(|| {
        let fault = Fault::new("has no protocol number up to 255");
        let (number, ports) = rest.split_once('/').unwrap_or((rest, ""));
        let word = WORDS.iter().find(|(_, known)| byte(number) == Some(*known));
        let guess = match word {
            Some((word, _)) => format!("{word}/{ports}"),
            None => rest.to_owned(),
        };
        // A second number would only repeat the fault.
        if !guess.starts_with("proto") && parse(&guess).is_ok() {
            fault.help(format!("did you mean {}?", quote(&guess)))
        } else {
            fault.help("write one, as in `proto/47`")
        }
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn byte(text: &str) -> Option<u8> {
    text.parse().ok().filter(|_| is_number(text))
}

/// Says that a text does not begin with a protocol, and what may have been meant.
fn not_ports(text: &str) -> Fault {
    let fault = Fault::new("does not begin with a protocol");
    match guess(text) {
        Some(guess) => fault.help(format!("did you mean {}?", quote(&guess))),
        None => fault.help("write ports as in `tcp/80`, `icmp/echo-request` or `proto/47`"),
    }
}

/// Returns ports that resemble a text.
fn guess(text: &str) -> Option<String> {
    let text = text.to_lowercase();
    if is_number(&text) || service::number(&text).is_some() {
        let guess = format!("tcp/{text}");
        return parse(&guess).is_ok().then_some(guess);
    }
    let (left, right) = match text.split_once(['/', ':', ' ']) {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let known = |word: &str| {
        let exact = PROTOCOLS.into_iter().find(|known| *known == word);
        exact.or_else(|| closest(word, PROTOCOLS))
    };
    let join = |word: &str, rest: Option<&str>| match rest {
        Some(rest) => format!("{word}/{rest}"),
        None => word.to_owned(),
    };
    let forward = known(left).map(|word| join(word, right));
    let backward = right.and_then(known).map(|word| join(word, Some(left)));
    let mut guesses = [forward, backward].into_iter().flatten();
    guesses.find(|guess| parse(guess).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn help(text: &str) -> String {
        let fault = parse(text).expect_err(text);
        fault.help.unwrap_or_default()
    }

    #[test]
    fn ports_are_numbers_ranges_or_names() {
        let range = |protocol, first, last| Ports::Range {
            protocol,
            first,
            last,
        };
        assert_eq!(parse("tcp/80").unwrap(), [range(TCP, 80, 80)]);
        assert_eq!(parse("udp/8000-8100").unwrap(), [range(UDP, 8000, 8100)]);
        assert_eq!(parse("sctp").unwrap(), [Ports::Protocol(SCTP)]);
        assert_eq!(
            parse("any/53").unwrap(),
            [TCP, UDP, SCTP].map(|protocol| range(protocol, 53, 53))
        );
        let named = Ports::Named {
            protocol: TCP,
            name: "http-alt".to_owned(),
        };
        assert_eq!(parse("tcp/http-alt").unwrap(), [named]);
    }

    #[test]
    fn messages_of_icmp_have_a_type_and_maybe_a_code() {
        let message = |protocol, kind, code| Ports::Icmp {
            protocol,
            kind,
            code,
        };
        assert_eq!(
            parse("icmp/echo-request").unwrap(),
            [message(ICMP, 8, None)]
        );
        assert_eq!(parse("icmpv6/128").unwrap(), [message(ICMPV6, 128, None)]);
        assert_eq!(parse("icmp/3/4").unwrap(), [message(ICMP, 3, Some(4))]);
        assert_eq!(parse("icmpv6").unwrap(), [Ports::Protocol(ICMPV6)]);
        assert!(parse("icmp/3/4/5").is_err());
        assert!(parse("icmp/256").is_err());
    }

    #[test]
    fn any_protocol_has_a_number() {
        assert_eq!(parse("proto/47").unwrap(), [Ports::Protocol(47)]);
        assert_eq!(parse("proto/6").unwrap(), [Ports::Protocol(TCP)]);
        assert!(parse("proto/256").is_err());
        assert!(parse("proto").is_err());
    }

    #[test]
    fn what_was_meant_is_guessed() {
        for (written, meant) in [
            ("80/tcp", "tcp/80"),
            ("80", "tcp/80"),
            ("TCP/80", "tcp/80"),
            ("tcp:80", "tcp/80"),
            ("tpc/80", "tcp/80"),
            ("http", "tcp/http"),
            ("dns/udp", "udp/dns"),
            ("tcp/8100-8000", "tcp/8000-8100"),
            ("tcp/0-1023", "tcp/1-1023"),
            ("tcp/HTTP", "tcp/http"),
            ("tcp/*", "tcp"),
            ("proto/udp", "udp"),
            ("proto/6/80", "tcp/80"),
            ("proto/1/echo-request", "icmp/echo-request"),
            ("icmp/echo-requst", "icmp/echo-request"),
            ("icmp/packet-too-big", "icmpv6/packet-too-big"),
        ] {
            assert_eq!(
                help(written),
                format!("did you mean `{meant}`?"),
                "{written}"
            );
        }
    }

    #[test]
    fn signs_and_ports_out_of_range_are_refused() {
        for written in ["tcp/+80", "tcp/0", "tcp/65536", "tcp/80-", "tcp/-80", "any"] {
            assert!(parse(written).is_err(), "{written}");
        }
    }

    proptest! {
        #[test]
        fn a_guess_is_something_that_would_be_accepted(
            text in "(tcp|any|TCP|icmp|icmpv6|proto|http|tpc|)[/: ]?(tcp|any|proto|[0-9]{1,6}|[a-z*,-]{0,4}|)(-|/)?[0-9]{0,5}",
        ) {
            let Err(fault) = parse(&text) else {
                return Ok(());
            };
            let help = fault.help.unwrap_or_default();
            let guess = help.strip_prefix("did you mean `").and_then(|rest| rest.strip_suffix("`?"));
            prop_assert!(guess.is_none_or(|guess| parse(guess).is_ok()), "{help}");
        }
    }
}
