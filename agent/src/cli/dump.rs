//! `ciliate dump`: the maps of a node as they are, for who looks for a fault.

use std::io::Write;

use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::Instance;
use crate::datapath::pin::Pins;
use crate::datapath::raw;

/// Number of this layout.
const SCHEMA: u32 = 1;

/// Prints all maps of the node that is set up here as JSON. Returns the exit code.
///
/// # Errors
/// If there is none, or a map cannot be read.
pub fn dump(common: &Common, out: &mut dyn Write) -> Result<u8, Failure> {
    let instance = Instance::find(common)?;
    let maps = raw::maps(&Pins::new(instance.bpffs(), &instance.node))?;
    let json = serde_json::json!({"schema": SCHEMA, "node": instance.node, "maps": maps});
    writeln!(out, "{json:#}")?;
    Ok(exit::OK)
}
