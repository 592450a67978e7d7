//! The commands that let endpoints' packets through a firewall that drops what it does not know.
//!
//! With legacy host routing packets pass the firewall. Docker, `ufw`, `firewalld` and many a
//! hand-written file drop there by default, and each has its place for rules of others. The
//! commands are for a person to run: nothing here edits a firewall.

use super::flow::{Direction, Flow};
use super::ruleset::{Chain, Effect, Ruleset, Tool};
use super::text;

/// Returns the commands, in order, that let flows pass which a chain drops.
pub(super) fn commands(ruleset: &Ruleset, chain: &Chain, dropped: &[Flow<'_>]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for flow in dropped {
        for command in of_flow(ruleset, chain, flow.direction, &flow.pool.to_string()) {
            // Some serve several flows.
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
    }
    if is_firewalld(chain) && !commands.is_empty() {
        commands.push("firewall-cmd --reload".to_owned());
    }
    commands
}

fn of_flow(ruleset: &Ruleset, chain: &Chain, direction: Direction, pool: &str) -> Vec<String> {
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
        let mut chains = ruleset.chains.iter();
        chains.any(|other| {
            (other.tool, other.family, &other.table) == (tool, family, &chain.table)
                && other.name == name
        })
    };
    if has("ufw-user-forward") || has("ufw6-user-forward") {
        return vec![format!("ufw route allow {} {pool}", word(direction))];
    }
    let place = if calls(chain, "DOCKER-USER") {
        "DOCKER-USER"
    } else {
        &chain.name
    };
    let option = match direction {
        Direction::FromEndpoints => "-s",
        Direction::ToEndpoints | Direction::TranslatedToEndpoints => "-d",
    };
    let command = text::command(tool, family);
    let table = match chain.table.as_str() {
        "filter" => String::new(),
        table => format!(" -t {table}"),
    };
    vec![format!(
        "{command}{table} -I {place} {option} {pool} -j ACCEPT"
    )]
}

/// Tells whether packets come from a chain to another one.
fn calls(chain: &Chain, name: &str) -> bool {
    let mut effects = chain.rules.iter().flat_map(|rule| &rule.effects);
    effects.any(|effect| matches!(effect, Effect::Jump(called) if called == name))
}

/// Zones belong to the side that packets come from; a policy is needed for the other one, whose
/// zone has to know the pool too.
fn firewalld(direction: Direction, pool: &str) -> Vec<String> {
    let permanent = "firewall-cmd --permanent";
    let policy = "to-endpoints";
    let mut commands = vec![format!("{permanent} --zone=trusted --add-source={pool}")];
    if direction != Direction::FromEndpoints {
        commands.extend([
            format!("{permanent} --new-policy={policy}"),
            format!("{permanent} --policy={policy} --add-ingress-zone=ANY"),
            format!("{permanent} --policy={policy} --add-egress-zone=trusted"),
            format!("{permanent} --policy={policy} --set-target=ACCEPT"),
        ]);
    }
    commands
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
