//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Where the file is, if nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/ciliate/ciliate.toml";

const EXIT_CODES: &str = "\
Exit codes: 0 done, or nothing to do; 1 `doctor` found something, `policy test` says denied; 2
`plan` has changes; 64 wrong command line, or an unknown name; 69 the node is not set up, nothing is
to be confirmed, or no agent runs; 71 the kernel refused; 75 `try` was taken back; 77 not privileged;
78 the file is missing or wrong.";

/// Cilium's datapath for a machine that has no cluster.
#[derive(Debug, Parser)]
#[command(name = "ciliate", version = version(), after_help = EXIT_CODES, max_term_width = 100)]
pub struct Command {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Returns the version with the digest of the BPF object inside.
fn version() -> &'static str {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " (BPF object ",
        env!("CILIATE_BPF_DIGEST"),
        ")"
    )
}

/// Holds what every verb takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The configuration file, for verbs that read one; the same as the argument FILE [default: /etc/ciliate/ciliate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node to play [default: the only one of the file, else the host's name]
    #[arg(long, global = true)]
    pub node: Option<String>,
    /// Where journals and states of nodes are
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/run/ciliate"
    )]
    pub state_dir: PathBuf,
    /// The BPF file system for the pins
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// What to log to standard error: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    pub log_level: log::LevelFilter,
    /// Print JSON instead of text: plan, apply, down, status, doctor, flows and policy
    #[arg(long, global = true)]
    pub json: bool,
}

/// Is the file that a verb reads.
#[derive(Clone, Debug, Args)]
pub struct File {
    /// The configuration file [default: /etc/ciliate/ciliate.toml]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Names what is to be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Parse and validate a file, and report all errors; needs no privilege
    Check(File),
    /// Print a commented file for this machine
    Init,
    /// Show what `apply` would do; changes nothing
    Plan(File),
    /// Make the node what the file says, and exit; undo with `ciliate down`
    Apply {
        #[command(flatten)]
        file: File,
        /// Print how long each kind of step took
        #[arg(long)]
        timings: bool,
        /// Go on although a firewall will let nothing through (CIL0203)
        #[arg(long)]
        force: bool,
        /// Go on although the connection by which you are here will be cut (CIL0210)
        #[arg(long)]
        allow_lockout: bool,
    },
    /// Do what `apply` does, and take it back at the deadline unless it is confirmed
    ///
    /// Confirmed by Enter or `y` at the terminal, by `ciliate confirm`, or by USR1; taken back at
    /// once by any other line, INT (Ctrl-C) or TERM. A terminal or connection that goes ends
    /// nothing. Goes on where `apply` refuses (CIL0203, CIL0210), for it takes itself back. The file
    /// stays as it is: the node is made again what was applied before. Exits with 0 if confirmed,
    /// with 75 if taken back.
    Try {
        #[command(flatten)]
        file: File,
        /// How long to wait: a number of seconds, or with a unit, as in 90s, 2m or 1h
        #[arg(long, value_name = "TIME", default_value = "120", value_parser = timeout)]
        timeout: Duration,
    },
    /// Keep what `try` has applied
    Confirm,
    /// Make the node what the file says, and keep it so until TERM or INT; the datapath stays.
    /// An edit of the file is taken at once; a node that `apply` changes meanwhile is kept as that
    /// says. HUP reads the file anew, USR1 tells the log what the agent knows
    Run(File),
    /// Tell the running agent to read its file anew, and say what became of it
    Reload,
    /// Remove everything that is ours, and nothing else; refused while an agent runs
    Down {
        /// Print how long each kind of step took
        #[arg(long)]
        timings: bool,
    },
    /// Show modes with reasons, endpoints, maps and drops
    Status,
    /// Tell what on this machine will hurt the node, and the commands that cure it
    Doctor {
        #[command(flatten)]
        file: File,
        /// Write the files that tell other managers of the network to leave ours alone, and print
        /// the commands that make them count; a file that somebody edited is left as it is
        #[arg(long)]
        fix: bool,
    },
    /// Print what the manual says about a warning or a drop reason
    Explain {
        /// Such as CIL0203, or the number of a drop reason
        #[arg(value_name = "CODE")]
        code: String,
    },
    /// List the flows that the datapath knows
    Flows,
    /// Print all maps of the node as JSON, keys and values as bytes, for who looks for a fault
    Dump,
    /// Tell what the policy of a file means; offline, needs no privilege
    #[command(subcommand)]
    Policy(Policy),
    /// Run the nodes of a file side by side on this machine
    #[command(subcommand)]
    Lab(Lab),
}

/// Names what is asked about a policy.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Tell whether a connection is allowed, and which rule says so
    ///
    /// Asks the policy of who connects and that of who is connected to, each at its node.
    /// Exits with 0 if it is allowed, with 1 if it is denied, also where that is only audited.
    Test {
        /// Who connects: an endpoint, a node, host, world, or an address
        #[arg(long, value_name = "PARTY")]
        from: String,
        /// To whom: an endpoint, a node, host, world, or an address
        #[arg(long, value_name = "PARTY")]
        to: String,
        /// At which port: tcp/80, udp/dns, icmp/echo-request, icmp/3/4 or proto/47
        #[arg(long)]
        port: String,
        #[command(flatten)]
        file: File,
    },
    /// Show what each endpoint, and the node itself, may do
    ///
    /// Where the node is set up on this machine, root also sees what terms have counted: of one that
    /// allows, the packets of its connections in both directions, less those of the last second; of
    /// one that denies, the packets denied. A term for several endpoints counts for all of them,
    /// and what is only audited counts for the term that would deny it.
    Show {
        /// Only this endpoint or node
        #[arg(value_name = "ENDPOINT")]
        name: Option<String>,
        #[command(flatten)]
        file: File,
    },
}

impl Command {
    /// Returns the first option on the command line that its verb does nothing with.
    ///
    /// Options of all verbs may stand before the verb, so clap itself takes them for every one.
    pub fn useless_option(&self) -> Option<&'static str> {
        let common = &self.common;
        let (config, node, json) = match self.verb {
            Verb::Check(_) | Verb::Run(_) | Verb::Try { .. } => (true, true, false),
            Verb::Confirm | Verb::Reload => (false, true, false),
            Verb::Init | Verb::Explain { .. } => (false, false, false),
            Verb::Plan(_) | Verb::Apply { .. } | Verb::Doctor { .. } | Verb::Policy(_) => {
                (true, true, true)
            }
            Verb::Down { .. } | Verb::Status | Verb::Flows | Verb::Dump => (false, true, true),
            Verb::Lab(_) => (true, false, false),
        };
        [
            ("--config", common.config.is_some() && !config),
            ("--node", common.node.is_some() && !node),
            ("--json", common.json && !json),
        ]
        .into_iter()
        .find_map(|(option, is_useless)| is_useless.then_some(option))
    }
}

impl Verb {
    /// Returns the word on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Init => "init",
            Self::Plan(_) => "plan",
            Self::Apply { .. } => "apply",
            Self::Try { .. } => "try",
            Self::Confirm => "confirm",
            Self::Run(_) => "run",
            Self::Reload => "reload",
            Self::Down { .. } => "down",
            Self::Status => "status",
            Self::Doctor { .. } => "doctor",
            Self::Explain { .. } => "explain",
            Self::Flows => "flows",
            Self::Dump => "dump",
            Self::Policy(Policy::Test { .. }) => "policy test",
            Self::Policy(Policy::Show { .. }) => "policy show",
            Self::Lab(Lab::Up { .. }) => "lab up",
            Self::Lab(Lab::Down { .. }) => "lab down",
        }
    }
}

/// Reads how long a trial waits.
fn timeout(text: &str) -> Result<Duration, String> {
    const LONGEST_SECS: u64 = 24 * 3600;
    let (number, unit_secs) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some(_) | None => (text, 1),
    };
    let secs = number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(unit_secs));
    match secs {
        None => Err("write a number of seconds, or one with a unit: 90s, 2m, 1h".to_owned()),
        Some(0) => Err("nobody could confirm in no time".to_owned()),
        Some(secs) if secs > LONGEST_SECS => Err("a day is the longest".to_owned()),
        Some(secs) => Ok(Duration::from_secs(secs)),
    }
}

/// Names what is to be done with a lab.
#[derive(Debug, Subcommand)]
pub enum Lab {
    /// Make a network namespace for each node and endpoint, join the nodes, and apply
    Up {
        #[command(flatten)]
        file: File,
        /// Only this node and its endpoints
        #[arg(long, value_name = "NODE")]
        only: Option<String>,
    },
    /// Remove what `lab up` made, without a trace
    Down {
        #[command(flatten)]
        file: File,
        /// Only this node and its endpoints
        #[arg(long, value_name = "NODE")]
        only: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser as _};

    use super::Command;

    #[test]
    fn the_command_line_is_consistent() {
        Command::command().debug_assert();
    }

    #[test]
    fn timeouts_are_seconds_or_have_a_unit() {
        for (text, secs) in [
            ("120", Some(120)),
            ("90s", Some(90)),
            ("2m", Some(120)),
            ("24h", Some(86_400)),
            ("25h", None),
            ("0", None),
            ("", None),
            ("m", None),
            ("-1", None),
            ("2 m", None),
            ("2d", None),
            ("9999999999999999999h", None),
        ] {
            let found = super::timeout(text).ok().map(|found| found.as_secs());
            assert_eq!(found, secs, "{text:?}");
        }
    }

    #[test]
    fn options_that_a_verb_does_nothing_with_are_named() {
        for (line, useless) in [
            ("--node a status", None),
            ("status --node a --json", None),
            ("--node a plan a.toml", None),
            ("--config a.toml lab up", None),
            ("--json check", Some("--json")),
            ("init --node a", Some("--node")),
            ("doctor a.toml --node a --json", None),
            ("--json explain CIL0203", Some("--json")),
            ("run a.toml --node a", None),
            ("run --json", Some("--json")),
            ("try a.toml --node a --timeout 2m", None),
            ("try --json", Some("--json")),
            ("confirm --config a.toml", Some("--config")),
            ("policy show web a.toml --node a --json", None),
            ("policy test --from a --to b --port tcp/80 --json", None),
            ("lab up --node a", Some("--node")),
            ("down --config a.toml", Some("--config")),
        ] {
            let words = std::iter::once("ciliate").chain(line.split(' '));
            let command = Command::try_parse_from(words).expect("parse");
            assert_eq!(command.useless_option(), useless, "{line}");
        }
    }
}
