//! `cargo xtask demo`: the lab of `config-examples/lab.toml` from nothing to packets and back to nothing.
//!
//! Every command is printed as a person would type it, then run. Namespaces are entered with `ip netns exec`; the agent's verbs
//! run outside and find their node by `--node`. Whatever fails, the lab is taken down, and the machine's own namespace must look
//! afterwards as it did before. An interrupt from the keyboard ends the running command and then the chapter.

mod lab;
mod snapshot;
mod traffic;
mod world;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

pub(crate) use self::lab::Lab;
use self::snapshot::Snapshot;
use self::traffic::Protocol;
use self::world::World;
use crate::privilege::{privileged, refuse_foreign_files};
use crate::setup::{self, Group};
use crate::{build, process, workspace};

pub(crate) const LAB_FILE: &str = "config-examples/lab.toml";

/// A file with a policy, and questions to it: who to whom, at which port, and whether that is allowed.
const POLICY_FILE: &str = "config-examples/policy-three-tier.toml";
const QUESTIONS: [(&str, &str, &str, bool); 2] = [
    ("web", "app", "tcp/8080", true),
    ("web", "db", "tcp/5432", false),
];

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    setup::run(Group::Demo)?;
    let binary = build::static_binary()?;
    show(&binary, Path::new(LAB_FILE))?;
    refuse_foreign_files(&workspace::target())?;
    println!(
        "\ndemo: done, {:.0} s with set-up and build",
        start.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Runs the demonstration itself and compares the machine before and after.
pub(crate) fn show(binary: &Path, file: &Path) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))
        .context("keep the interrupt from ending the demo before it has cleaned up")?;
    let lab = Lab::read(&workspace::root().join(file))?;
    let state = Path::new("/run/ciliate").join(&lab.node);
    if state.exists() {
        bail!(
            "show the demo: {} exists: a lab is up already: take it down first",
            state.display()
        );
    }
    let before = Snapshot::take()?;
    let agent = Agent {
        binary: binary.to_owned(),
        file: file.to_owned(),
        interrupted,
    };

    let spoken = agent.speak(&lab);
    let downed = agent.run(&["lab", "down"], true);
    spoken?;
    downed?;

    let differences = before.differences(&Snapshot::take()?);
    if !differences.is_empty() {
        bail!(
            "compare the machine before and after: it changed:\n{}",
            differences.join("\n")
        );
    }
    println!(
        "\nThe machine's own namespace is as it was: {}: without a trace.",
        Snapshot::subjects()
    );
    Ok(())
}

/// The agent's binary and the file it is given.
struct Agent {
    binary: PathBuf,
    file: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Agent {
    fn speak(&self, lab: &Lab) -> Result<()> {
        let others = World::segments()?;
        self.begin("The lab comes up: the plan of each node, step by step")?;
        self.run(&["lab", "up"], true)?;
        self.begin("A second plan has nothing to do")?;
        self.run(&["--node", &lab.node, "plan"], true)?;
        let (one, other) = lab.first_two()?;
        let before = self.status(&lab.node)?;

        self.begin("Endpoint to endpoint")?;
        let addresses = before.addresses(&other.name)?;
        for address in &addresses {
            traffic::ping(&one.netns, address)?;
        }
        self.begin("Host to endpoint")?;
        for address in &addresses {
            traffic::ping(&lab.node, address)?;
        }
        self.begin("Endpoint to endpoint with TCP")?;
        traffic::transfer(&one.netns, &other.netns, &addresses[0], Protocol::Tcp)?;

        self.begin("A world behind the node's device, which knows the node and no endpoint")?;
        let world = World::add(lab, &others)?;
        let shown = self.speak_of(&world, lab, &before);
        World::remove()?;
        shown?;

        self.begin("A packet with a source that is not the endpoint's")?;
        traffic::spoof(&one.netns, &addresses[0])?;

        self.begin("What the node has seen")?;
        self.run(&["--node", &lab.node, "status"], false)?;
        self.run(&["--node", &lab.node, "flows"], false)?;
        let after = self.status(&lab.node)?;
        if after.drops() <= before.drops() {
            bail!("read status: the spoofed packet was not counted as dropped");
        }
        after.require_bpf_host_routing()?;
        self.begin("Who may talk to whom, asked of a file alone")?;
        for question in QUESTIONS {
            self.ask(question)?;
        }
        self.begin("The lab goes")
    }

    /// Sends from the first endpoint out into the world, which must see the node.
    fn speak_of(&self, world: &World<'_>, lab: &Lab, status: &lab::Status) -> Result<()> {
        let (web, _) = lab.first_two()?;
        let inside = status.addresses(&web.name)?;
        self.begin("Endpoint to the world, as the world sees it")?;
        for (far, near) in &world.ways {
            world::watch(near, &inside, || traffic::ping(&web.netns, far))?;
        }
        self.begin("Endpoint to the world with TCP and UDP")?;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            traffic::transfer(&web.netns, world::NAME, world::ADDRESSES[0], protocol)?;
        }
        self.begin("What the node remembers of it")?;
        self.run(&["--node", &lab.node, "flows"], false)?;
        let flows = process::capture(
            privileged(&self.binary).args(["--node", &lab.node, "flows", "--json"]),
        )?;
        world::require_translation(&flows, &lab.addresses)
    }

    /// Begins a chapter, unless the keyboard said to stop: ping takes an interrupt for a request to sum up.
    fn begin(&self, chapter: &str) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("show the demo: interrupted");
        }
        println!("\n# {chapter}\n");
        Ok(())
    }

    /// Runs a verb and shows it, with the file behind where the verb takes one.
    fn run(&self, verb: &[&str], with_file: bool) -> Result<()> {
        let mut command = privileged(&self.binary);
        command.args(verb).current_dir(workspace::root());
        if with_file {
            command.arg(&self.file);
        }
        let file = self.file.to_string_lossy();
        let typed = if with_file {
            [verb, &[&file]].concat()
        } else {
            verb.to_vec()
        };
        println!("$ ciliate {}", typed.join(" "));
        process::run(&mut command)
    }

    /// Asks the policy of a file, which must answer as is said.
    fn ask(&self, (from, to, port, is_allowed): (&str, &str, &str, bool)) -> Result<()> {
        let question = ["policy", "test", "--from", from, "--to", to, "--port", port];
        println!("$ ciliate {} {POLICY_FILE}", question.join(" "));
        let mut command = Command::new(&self.binary);
        command.args(question).arg(POLICY_FILE);
        let status = command
            .current_dir(workspace::root())
            .status()
            .context("run ciliate policy test")?;
        let expected = i32::from(!is_allowed);
        if status.code() != Some(expected) {
            bail!("ask the policy: it should end with {expected}: {status}");
        }
        Ok(())
    }

    fn status(&self, node: &str) -> Result<lab::Status> {
        let text =
            process::capture(privileged(&self.binary).args(["--node", node, "status", "--json"]))?;
        lab::Status::parse(&text)
    }
}
