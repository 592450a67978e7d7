//! `ciliate explain`: the manual entry of a warning or a drop reason.

use std::io::Write;

use super::exit;
use super::failure::Failure;
use crate::manual;

/// Prints what the manual says about a code. Returns the exit code.
///
/// # Errors
/// If there is no such code.
pub fn explain(code: &str, out: &mut dyn Write) -> Result<u8, Failure> {
    let Some(text) = manual::find(code) else {
        return Err(Failure::Usage(format!(
            "{code:?} is neither a warning (CIL and four digits) nor a drop reason (its number, or \
             its words in `status`)"
        )));
    };
    writeln!(out, "{text}")?;
    Ok(exit::OK)
}
