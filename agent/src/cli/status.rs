//! `ciliate status`: modes with reasons, endpoints, maps, drops.

use std::io::Write;
use std::time::Duration;

use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::Instance;
use crate::daemon::client::AskError;
use crate::daemon::dump;
use crate::daemon::protocol::{AgentStatus, ConfigState, Reply, Request};
use crate::host::clock;
use crate::observe::lease::DeviceLease;
use crate::observe::status::{self, Guard, Status, Trial};
use crate::reconcile::LeaseFile;

/// How long the agent is waited for: what is shown comes from the kernel without it too.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows the status of the node that is set up here. Returns the exit code.
///
/// # Errors
/// If there is none, or the kernel cannot be read.
pub fn status(common: &Common, out: &mut dyn Write) -> Result<u8, Failure> {
    let instance = Instance::find(common)?;
    let agent = agent(&instance);
    let status = instance.enter(|| {
        let mut system = instance.system()?;
        let (objects, links) = system.look()?;
        let config = system.state().config().map(ToOwned::to_owned);
        let choice = system.state().host_routing().cloned();
        let enforcement = system.state().enforcement().map(ToOwned::to_owned);
        let mut status = status::status(
            &instance.node,
            (config, choice.as_ref(), enforcement.as_deref()),
            &objects,
            &links,
            system.pins(),
            (instance.drift()?, agent),
        )?;
        status.trial = instance.trial_status()?;
        status.capabilities = instance.privileges();
        let (leases, now) = (LeaseFile::load(instance.directory())?, clock::now());
        for device in &mut status.devices {
            device.lease = leases.waits(&device.name).then(|| {
                let lease = leases.last(&device.name, now);
                let valid = lease.filter(|(_, is_valid)| *is_valid);
                DeviceLease::of(valid.map(|(lease, _)| lease).as_ref(), now)
            });
        }
        Ok(status)
    })?;
    if common.json {
        let json = serde_json::to_string_pretty(&status).map_err(std::io::Error::other)?;
        writeln!(out, "{json}")?;
    } else {
        print(&status, out)?;
    }
    Ok(exit::OK)
}

/// Asks the agent, if there is one.
fn agent(instance: &Instance) -> Option<AgentStatus> {
    match instance.ask(Request::Status, PATIENCE) {
        Ok(Reply::Status(status)) => Some(status),
        Ok(_) | Err(AskError::NoAgent(_)) => None,
        Err(error) => {
            log::warn!("{error}");
            None
        }
    }
}

fn print_agent(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(config) = &status.config {
        let file = config.file.display();
        let since = config.since.as_deref().unwrap_or("the last reload");
        match config.state {
            ConfigState::Applied => writeln!(out, "file          {file}")?,
            ConfigState::Refused => writeln!(
                out,
                "file          {file}: refused since {since}; what was applied before holds"
            )?,
        }
        for line in config.error.iter().flat_map(|error| error.lines()) {
            writeln!(out, "  {line}")?;
        }
    }
    let Some(agent) = &status.agent else {
        return Ok(writeln!(out, "agent         none answers")?);
    };
    writeln!(
        out,
        "agent         process {} since {}",
        agent.pid, agent.since
    )?;
    if let Some(reload) = &agent.last_reload {
        writeln!(out, "  last reload: {}", dump::words(reload))?;
    }
    for spared in &agent.spared {
        let (secs, repairs) = (spared.left_ms.div_ceil(1000), spared.repairs);
        let object = &spared.object;
        let author = spared.author.as_deref().unwrap_or("somebody");
        writeln!(
            out,
            "  left alone for {secs} s, repaired {repairs} times, undone by {author}: {object}"
        )?;
    }
    Ok(())
}

fn words(guard: &Guard) -> String {
    let Guard {
        ingress,
        egress,
        audit,
        would_deny,
    } = guard;
    let audited = if *audit || *would_deny != 0 {
        format!(", audited: {would_deny} packets would have been denied")
    } else {
        String::new()
    };
    format!("ingress {ingress}, egress {egress}{audited}")
}

fn print_trial(trial: &Trial, out: &mut dyn Write) -> Result<(), Failure> {
    let Trial {
        deadline,
        pid,
        left_secs,
        is_abandoned,
    } = trial;
    if *is_abandoned {
        writeln!(
            out,
            "trial         process {pid}, which guarded it, is gone: it is taken back by the agent, \
             or by the next `ciliate apply` or `run`"
        )?;
    } else {
        writeln!(
            out,
            "trial         until {deadline} ({left_secs} s left), guarded by process {pid}; `ciliate \
             confirm` keeps it"
        )?;
    }
    Ok(())
}

fn print(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "node          {}", status.node)?;
    print_agent(status, out)?;
    let routing = &status.host_routing;
    writeln!(out, "host routing  {} ({})", routing.mode, routing.reason)?;
    let masquerade = &status.masquerade;
    writeln!(
        out,
        "masquerade    {} ({})",
        masquerade.mode, masquerade.reason
    )?;
    let fragments = &status.fragments;
    writeln!(
        out,
        "fragments     {} ({})",
        fragments.mode, fragments.reason
    )?;
    let policy = &status.policy;
    writeln!(
        out,
        "policy        {} ({} entries, {} ranges, {} prefixes); the node itself: {}",
        policy.enforcement,
        policy.entries,
        policy.ranges,
        policy.prefixes,
        words(&policy.host)
    )?;
    writeln!(out, "devices       {}", status.devices.len())?;
    for device in &status.devices {
        writeln!(
            out,
            "  {:<16} {:<16} xdp {} ({})",
            device.name, device.tc.kind, device.xdp.mode, device.xdp.reason
        )?;
        if let Some(lease) = &device.lease {
            writeln!(out, "    dhcp: {}", lease.words())?;
        }
    }
    writeln!(out, "endpoints     {}", status.endpoints.len())?;
    for endpoint in &status.endpoints {
        let addresses: Vec<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "  {:<16} {:<16} identity {:<6} {:<40} {}",
            endpoint.name,
            endpoint.link,
            endpoint.identity,
            addresses.join(", "),
            endpoint.state
        )?;
        writeln!(out, "    {}", words(&endpoint.policy))?;
    }
    writeln!(out, "repairs       {}", status.drift.repairs)?;
    if let Some(last) = &status.drift.last {
        writeln!(out, "  last: {last}")?;
    }
    if let Some(trial) = &status.trial {
        print_trial(trial, out)?;
    }
    if status.capabilities.is_empty() {
        writeln!(out, "agent         does not run")?;
    } else {
        writeln!(out, "agent         may, beside what its user owns:")?;
    }
    for privilege in &status.capabilities {
        writeln!(out, "  {:<16} {}", privilege.name, privilege.reason)?;
    }
    let bytes: u64 = status.maps.iter().map(|map| map.bytes).sum();
    writeln!(
        out,
        "maps          {}, {} KiB",
        status.maps.len(),
        bytes / 1024
    )?;
    for map in status
        .maps
        .iter()
        .filter(|map| map.name.starts_with("FLOWS"))
    {
        writeln!(
            out,
            "  {:<16} {} of {} entries",
            map.name, map.entries, map.max_entries
        )?;
    }
    if status.drops.is_empty() {
        writeln!(out, "drops         none")?;
    } else {
        writeln!(out, "drops")?;
        for (reason, count) in &status.drops {
            writeln!(out, "  {count:>10}  {reason}")?;
        }
    }
    Ok(())
}
