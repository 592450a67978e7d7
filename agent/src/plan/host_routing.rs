//! Whether packets are redirected past the host's stack or go through it, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::object::{HostRoutingMode, Obstacle, ObstacleKind};
use super::refusal::Refusal;
use crate::topology::HostRouting;

/// Is a mode, and why it was chosen; `plan`, `status` and the log say it in the same words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub mode: HostRoutingMode,
    pub reason: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.mode, self.reason)
    }
}

/// Chooses how packets get from one device to the other.
///
/// # Errors
/// When the file insists on BPF, and something on the host would be bypassed.
pub(super) fn choose(wanted: HostRouting, obstacles: &[Obstacle]) -> Result<Choice, Refusal> {
    let choice = |mode, reason: String| Ok(Choice { mode, reason });
    match (wanted, obstacles) {
        (HostRouting::Legacy, _) => choice(HostRoutingMode::Legacy, "as asked".into()),
        (HostRouting::Bpf, []) => Ok(as_asked()),
        (HostRouting::Bpf, _) => Err(Refusal::Bypass(obstacles.to_vec())),
        (HostRouting::Auto, []) => choice(
            HostRoutingMode::Bpf,
            "nothing on this host would be bypassed".into(),
        ),
        (HostRouting::Auto, [first, others @ ..]) => {
            choice(HostRoutingMode::Legacy, bypass(first, others.len()))
        }
    }
}

/// Returns the choice of a file that insists on BPF.
pub(super) fn as_asked() -> Choice {
    Choice {
        mode: HostRoutingMode::Bpf,
        reason: "as asked".into(),
    }
}

fn bypass(first: &Obstacle, others: usize) -> String {
    let how = match first.kind {
        ObstacleKind::ForwardRules | ObstacleKind::ForwardDrop | ObstacleKind::ForwardClosed => {
            "the firewall would be bypassed"
        }
        ObstacleKind::PolicyRule => "a rule of policy routing would not be followed",
        ObstacleKind::Ipsec => "an IPsec policy would be bypassed",
    };
    let more = match others {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    format!("{how}: {}{more}", first.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacle(what: &str, kind: ObstacleKind) -> Obstacle {
        Obstacle {
            what: what.to_owned(),
            kind,
            cure: Vec::new(),
        }
    }

    #[test]
    fn nothing_in_the_way_means_bpf_unless_asked_otherwise() {
        let mode = |wanted| choose(wanted, &[]).map(|choice| choice.mode);

        assert_eq!(mode(HostRouting::Auto), Ok(HostRoutingMode::Bpf));
        assert_eq!(mode(HostRouting::Bpf), Ok(HostRoutingMode::Bpf));
        assert_eq!(mode(HostRouting::Legacy), Ok(HostRoutingMode::Legacy));
    }

    #[test]
    fn obstacles_are_named_and_never_bypassed() {
        let obstacles = [
            obstacle("ip rule 100: from all fwmark 0x1", ObstacleKind::PolicyRule),
            obstacle("chain ip filter FORWARD", ObstacleKind::ForwardDrop),
        ];

        let auto = choose(HostRouting::Auto, &obstacles).expect("a choice");

        assert_eq!(auto.mode, HostRoutingMode::Legacy);
        assert_eq!(
            auto.reason,
            "a rule of policy routing would not be followed: \
             ip rule 100: from all fwmark 0x1 (and 1 more)"
        );
        let refused = choose(HostRouting::Bpf, &obstacles).expect_err("a refusal");
        assert!(refused.to_string().contains("FORWARD"), "{refused}");
    }
}
