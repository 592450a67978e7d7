//! `ciliate flows`: the live flow table.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance};
use crate::observe::flow::{self, FlowView};
use crate::reconcile::Edition;

/// Lists the flows of the node that is set up here. Returns the exit code.
///
/// # Errors
/// If there is none, or the tables cannot be read.
pub fn flows(common: &Common, out: &mut dyn Write) -> Result<u8, Failure> {
    let instance = Instance::find(common)?;
    let flows = instance.enter(|| {
        let mut system = instance.system()?;
        let (_, links) = system.look()?;
        let names = names(&instance, system.state().config());
        Ok(flow::flows(system.pins(), &links, &names)?)
    })?;
    if common.json {
        let json = serde_json::to_string_pretty(&flows).map_err(std::io::Error::other)?;
        writeln!(out, "{json}")?;
    } else {
        for flow in &flows {
            print(flow, out)?;
        }
    }
    Ok(exit::OK)
}

/// Returns what identities stand for, by the file that was applied last, as it was then. The table
/// can be read without it: if it is gone or wrong, there are no names.
fn names(instance: &Instance, file: Option<&Path>) -> BTreeMap<u32, String> {
    let node = &instance.node;
    let applied = Edition::load(instance.directory()).ok().flatten();
    let topology = match (applied, file) {
        (Some(edition), _) => instance::reread(&edition, node).ok(),
        (None, Some(file)) => instance::topology(file, Some(node)).ok(),
        (None, None) => None,
    };
    topology.map_or_else(BTreeMap::new, |topology| topology.policy.names)
}

fn print(flow: &FlowView, out: &mut dyn Write) -> Result<(), Failure> {
    let way = format!("{} → {}", flow.from, flow.to);
    let tuple = tuple(
        flow.protocol,
        (flow.source, flow.source_port),
        (flow.destination, flow.destination_port),
    );
    let leaves = flow.translated.as_ref().map_or_else(String::new, |out| {
        let out = self::tuple(
            flow.protocol,
            (out.translated_source, out.translated_source_port),
            (out.translated_destination, out.translated_destination_port),
        );
        format!("  leaves as {out}")
    });
    writeln!(
        out,
        "{:<6} {tuple:<44} {way:<20} {:<11} {:>9} packets {:>12} bytes  {:>6.1} s{leaves}",
        protocol(flow.protocol),
        flow.state,
        flow.packets,
        flow.bytes,
        seconds(flow.age_ms)
    )?;
    Ok(())
}

fn tuple(protocol: u8, source: (IpAddr, u16), destination: (IpAddr, u16)) -> String {
    format!(
        "{} → {}",
        side(source.0, source.1, protocol),
        side(destination.0, destination.1, protocol)
    )
}

fn side(address: IpAddr, port: u16, protocol: u8) -> String {
    match (address, protocol) {
        (address, 6 | 17 | 132 | 136) => std::net::SocketAddr::new(address, port).to_string(),
        (address, 1 | 58) => format!("{address} id {port}"),
        (address, _) => address.to_string(),
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmp6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "one decimal of a second is shown"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}
