//! The commands that let endpoints' packets through a firewall that drops what it does not know.
//!
//! With legacy host routing packets pass the forward hook. Docker, `ufw`, `firewalld` and many a
//! hand-written file drop there by default, and each has its place for rules of others. The
//! commands are for a person to run: nothing here edits a firewall.

use super::flow::{Direction, Traffic};
use super::ruleset::{Chain, Hook, Ruleset, Tool};
use super::{text, walk};

/// Tells which chain drops packets of the node, and what lets them pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cure {
    /// The chain, as its tool shows it.
    pub chain: String,
    /// Which packets: `from 10.0.1.0/24`, `to 10.0.1.0/24`.
    pub dropped: Vec<String>,
    /// To be run in this order.
    pub commands: Vec<String>,
}

/// Lists the chains of the forward hook that drop everything from or to endpoints.
pub fn cures(ruleset: &Ruleset, traffic: &Traffic) -> Vec<Cure> {
    let forward = ruleset.chains.iter().filter(|chain| {
        let base = chain.base.as_ref();
        base.is_some_and(|base| base.hook == Hook::Forward)
    });
    forward
        .filter_map(|chain| cure(ruleset, chain, traffic))
        .collect()
}

fn cure(ruleset: &Ruleset, chain: &Chain, traffic: &Traffic) -> Option<Cure> {
    let dropped: Vec<(Direction, String)> = traffic
        .flows()
        .filter(|flow| {
            let findings = walk::findings(ruleset, chain, *flow);
            findings.iter().any(|finding| finding.drops)
        })
        .map(|flow| (flow.direction, flow.pool.to_string()))
        .collect();
    if dropped.is_empty() {
        return None;
    }
    let mut commands: Vec<String> = dropped
        .iter()
        .flat_map(|(direction, pool)| commands(ruleset, chain, *direction, pool))
        .collect();
    if is_firewalld(chain) {
        commands.push("firewall-cmd --reload".to_owned());
    }
    Some(Cure {
        chain: text::chain(chain),
        dropped: dropped
            .iter()
            .map(|(direction, pool)| format!("{} {pool}", word(*direction)))
            .collect(),
        commands,
    })
}

fn commands(ruleset: &Ruleset, chain: &Chain, direction: Direction, pool: &str) -> Vec<String> {
    let Chain { tool, family, .. } = *chain;
    if is_firewalld(chain) {
        return firewalld(direction, pool);
    }
    if tool == Tool::Nftables {
        let version = if pool.contains(':') { "ip6" } else { "ip" };
        let side = match direction {
            Direction::FromEndpoints => "saddr",
            Direction::ToEndpoints | Direction::TranslatedToEndpoints => "daddr",
        };
        let Chain { table, name, .. } = chain;
        return vec![format!(
            "nft insert rule {} {table} {name} {version} {side} {pool} accept",
            family.word()
        )];
    }
    let has = |name: &str| {
        ruleset
            .chains
            .iter()
            .any(|other| (other.tool, other.family, other.name.as_str()) == (tool, family, name))
    };
    if has("ufw-user-forward") || has("ufw6-user-forward") {
        return vec![format!("ufw route allow {} {pool}", word(direction))];
    }
    let place = if has("DOCKER-USER") {
        "DOCKER-USER"
    } else {
        &chain.name
    };
    let option = match direction {
        Direction::FromEndpoints => "-s",
        Direction::ToEndpoints | Direction::TranslatedToEndpoints => "-d",
    };
    let command = text::command(tool, family);
    vec![format!("{command} -I {place} {option} {pool} -j ACCEPT")]
}

/// Zones belong to the side that packets come from; a policy is needed for the other one.
fn firewalld(direction: Direction, pool: &str) -> Vec<String> {
    let permanent = "firewall-cmd --permanent";
    match direction {
        Direction::FromEndpoints => {
            vec![format!("{permanent} --zone=trusted --add-source={pool}")]
        }
        Direction::ToEndpoints | Direction::TranslatedToEndpoints => {
            let policy = format!("to-{}", pool.replace([':', '.', '/'], "-"));
            vec![
                format!("{permanent} --new-policy={policy}"),
                format!("{permanent} --policy={policy} --add-ingress-zone=ANY"),
                format!("{permanent} --policy={policy} --add-egress-zone=trusted"),
                format!("{permanent} --policy={policy} --set-target=ACCEPT"),
            ]
        }
    }
}

fn is_firewalld(chain: &Chain) -> bool {
    chain.tool == Tool::Nftables && chain.table == "firewalld"
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::FromEndpoints => "from",
        Direction::ToEndpoints | Direction::TranslatedToEndpoints => "to",
    }
}
