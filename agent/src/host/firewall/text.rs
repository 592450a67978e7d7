//! Chains and rules in the words of the tool that shows them.

use super::ruleset::{Chain, Condition, Effect, Family, Names, Rule, Spans, Tool};

/// Names a chain, as in `iptables: filter FORWARD` or `nftables: table inet filter, chain forward`.
pub(super) fn chain(chain: &Chain) -> String {
    let Chain { table, name, .. } = chain;
    match chain.tool {
        Tool::Nftables => format!(
            "nftables: table {} {table}, chain {name}",
            chain.family.word()
        ),
        Tool::Iptables | Tool::LegacyIptables => {
            format!("{}: {table} {name}", command(chain.tool, chain.family))
        }
    }
}

/// Names a rule with its chain.
pub(super) fn place(of: &Chain, asked: &Rule) -> String {
    let (comma, rule) = (comma(of.tool), rule(of.tool, asked));
    format!("{}{comma} {rule}", chain(of))
}

/// Returns what stands between a chain and one of its rules.
pub(super) fn comma(tool: Tool) -> &'static str {
    match tool {
        Tool::Nftables => ",",
        Tool::Iptables | Tool::LegacyIptables => "",
    }
}

/// Names a policy that drops.
pub(super) fn policy(tool: Tool) -> &'static str {
    match tool {
        Tool::Nftables => "(policy drop)",
        Tool::Iptables | Tool::LegacyIptables => "(policy DROP)",
    }
}

/// Names a rule within its chain and says what it does.
pub(super) fn rule(tool: Tool, rule: &Rule) -> String {
    let conditions = rule.conditions.iter().map(|asked| condition(tool, asked));
    let effects = rule.effects.iter().map(|done| effect(tool, done));
    let words: Vec<String> = conditions
        .chain(effects)
        .filter(|word| !word.is_empty())
        .collect();
    let number = match tool {
        Tool::Nftables => format!("handle {}", rule.number),
        Tool::Iptables | Tool::LegacyIptables => format!("rule {}", rule.number),
    };
    format!("{number}: {}", words.join(" "))
}

/// Returns the command that shows and edits a family's chains.
pub(super) fn command(tool: Tool, family: Family) -> &'static str {
    match (tool, family) {
        (Tool::Nftables, _) => "nft",
        (Tool::Iptables, Family::Ip6) => "ip6tables",
        (Tool::Iptables, _) => "iptables",
        (Tool::LegacyIptables, Family::Ip6) => "ip6tables-legacy",
        (Tool::LegacyIptables, _) => "iptables-legacy",
    }
}

fn condition(tool: Tool, condition: &Condition) -> String {
    let is_nft = tool == Tool::Nftables;
    match condition {
        Condition::Incoming(names) if is_nft => nft_names("iifname", names),
        Condition::Outgoing(names) if is_nft => nft_names("oifname", names),
        Condition::Source(spans) if is_nft => nft_spans("saddr", spans),
        Condition::Destination(spans) if is_nft => nft_spans("daddr", spans),
        Condition::Incoming(names) => ipt("-i", names.inverted, &names.patterns).replace('*', "+"),
        Condition::Outgoing(names) => ipt("-o", names.inverted, &names.patterns).replace('*', "+"),
        Condition::Source(spans) => ipt("-s", spans.inverted, &spans.spans),
        Condition::Destination(spans) => ipt("-d", spans.inverted, &spans.spans),
        Condition::Version6(version6) => {
            let word = if *version6 { "ipv6" } else { "ipv4" };
            format!("meta nfproto {word}")
        }
        Condition::LocalDestination if is_nft => "fib daddr type local".into(),
        Condition::LocalDestination => "-m addrtype --dst-type LOCAL".into(),
        Condition::Other(text) => text.clone(),
    }
}

fn effect(tool: Tool, effect: &Effect) -> String {
    let text = match effect {
        Effect::Accept => "accept",
        Effect::Return => "return",
        Effect::Drop(word) | Effect::Other(word) | Effect::TranslateSource { word, .. } => word,
        Effect::Translate(to) => {
            let to = to.map(|to| to.to_string()).unwrap_or_default();
            return match tool {
                Tool::Nftables => format!("dnat to {to}"),
                Tool::Iptables | Tool::LegacyIptables => {
                    format!("-j DNAT --to-destination {to}")
                }
            };
        }
        Effect::Jump(chain) if tool == Tool::Nftables => return format!("jump {chain}"),
        Effect::Goto(chain) if tool == Tool::Nftables => return format!("goto {chain}"),
        Effect::Jump(chain) => return format!("-j {chain}"),
        Effect::Goto(chain) => return format!("-g {chain}"),
    };
    match (tool, text) {
        (Tool::Nftables, text) => text.to_owned(),
        // A rule without a target.
        (_, "counter") => String::new(),
        (_, text) => format!("-j {}", text.to_uppercase()),
    }
}

fn nft_names(word: &str, names: &Names) -> String {
    let quoted = names.patterns.iter().map(|name| format!("\"{name}\""));
    nft(word, names.inverted, quoted.collect())
}

fn nft_spans(word: &str, spans: &Spans) -> String {
    let version = match spans.spans.first() {
        Some(span) if span.first.is_ipv6() => "ip6",
        _ => "ip",
    };
    let texts = spans.spans.iter().map(ToString::to_string);
    nft(
        &format!("{version} {word}"),
        spans.inverted,
        texts.collect(),
    )
}

fn nft(word: &str, inverted: bool, texts: Vec<String>) -> String {
    let not = if inverted { "!= " } else { "" };
    match <[String; 1]>::try_from(texts) {
        Ok([text]) => format!("{word} {not}{text}"),
        Err(texts) => format!("{word} {not}{{ {} }}", texts.join(", ")),
    }
}

fn ipt<T: ToString>(option: &str, inverted: bool, values: &[T]) -> String {
    let not = if inverted { "! " } else { "" };
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("{not}{option} {}", values.join(","))
}
