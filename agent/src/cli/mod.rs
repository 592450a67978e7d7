//! What the verbs do, one file for each.
//!
//! A verb is a plain function: it gets its arguments and where to write, and returns the exit
//! code. `main` parses the command line and calls [`run`].
//!
//! # Layout
//! - [`args`], [`exit`], [`failure`]: command line, exit codes, why a verb fails
//! - [`output`]: where a verb writes
//! - [`instance`], [`resident`], [`machine`]: the node that a verb works on, its agent, the machine that
//!   it runs on
//! - [`kept`], [`privilege`]: the node as the resident agent keeps it, and what the agent may do
//! - [`take_back`], [`answer`], [`front`]: trials, as all verbs meet them, and the sides of one
//! - [`check`], [`init`], [`apply`], [`trial`] (`try`), [`confirm`], [`run`](mod@run), [`reload`],
//!   [`status`], [`doctor`], [`explain`], [`flows`], [`dump`], [`policy`], [`lab`]: the verbs

pub mod answer;
pub mod apply;
pub mod args;
pub mod check;
pub mod confirm;
pub mod doctor;
pub mod dump;
pub mod exit;
pub mod explain;
pub mod failure;
pub mod flows;
pub mod front;
pub mod init;
pub mod instance;
pub mod kept;
pub mod lab;
pub mod machine;
pub mod output;
pub mod policy;
pub mod privilege;
pub mod reload;
pub mod resident;
pub mod run;
pub mod status;
pub mod take_back;
pub mod trial;

use std::io::Write;

use args::{Command, Lab, Policy, Verb};
use failure::Failure;

/// Does what the command line says. Returns the exit code.
///
/// # Errors
/// Why it could not be done.
pub fn run(command: &Command, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Failure> {
    let common = &command.common;
    if let Some(option) = command.useless_option() {
        let verb = command.verb.name();
        let text = format!("`{verb}` does nothing with {option}: leave it out");
        return Err(Failure::Usage(text));
    }
    instance::check_node(common)?;
    let file = |file| instance::file(common, file);
    match &command.verb {
        Verb::Check(given) => Ok(check::check(
            &file(given)?,
            common.node.as_deref(),
            out,
            err,
        )?),
        Verb::Init => Ok(init::init(out)?),
        Verb::Plan(given) => {
            need_root("plan")?;
            apply::plan(common, &file(given)?, out)
        }
        Verb::Apply {
            file: given,
            timings,
            force,
            allow_lockout,
        } => {
            need_root("apply")?;
            let options = apply::Options {
                timings: *timings,
                force: *force,
                allow_lockout: *allow_lockout,
            };
            apply::apply(common, &file(given)?, options, out)
        }
        Verb::Try {
            file: given,
            timeout,
        } => {
            need_root("try")?;
            trial::attempt(common, &file(given)?, *timeout, out, err)
        }
        Verb::Confirm => {
            need_root("confirm")?;
            confirm::confirm(common, out)
        }
        Verb::Run(given) => {
            need_root("run")?;
            run::run(common, &file(given)?)
        }
        Verb::Reload => reload::reload(common, out),
        Verb::Down { timings } => {
            need_root("down")?;
            apply::down(common, *timings, out)
        }
        Verb::Status => {
            need_root("status")?;
            status::status(common, out)
        }
        Verb::Doctor { file: given, fix } => {
            need_root("doctor")?;
            doctor::doctor(common, given, *fix, out)
        }
        Verb::Explain { code } => explain::explain(code, out),
        Verb::Flows => {
            need_root("flows")?;
            flows::flows(common, out)
        }
        Verb::Dump => {
            need_root("dump")?;
            dump::dump(common, out)
        }
        Verb::Policy(Policy::Test {
            from,
            to,
            port,
            file: given,
        }) => {
            let question = policy::trial::Question { from, to, port };
            policy::test(common, &file(given)?, question, out)
        }
        Verb::Policy(Policy::Show { name, file: given }) => {
            let (name, given) = policy::show::arguments(common, name.as_deref(), given);
            policy::show(common, &file(&given)?, name, out)
        }
        Verb::Lab(Lab::Up { file: given, only }) => {
            need_root("lab up")?;
            lab::up(common, &file(given)?, only.as_deref(), out)
        }
        Verb::Lab(Lab::Down { file: given, only }) => {
            need_root("lab down")?;
            lab::down(common, &file(given)?, only.as_deref(), out)
        }
    }
}

/// Refuses early, and in words, what the kernel would refuse late.
fn need_root(verb: &'static str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(Failure::NotPrivileged(verb))
    }
}
