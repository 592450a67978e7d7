//! What the verbs do, one file for each.
//!
//! A verb is a plain function: it gets its arguments and where to write, and returns the exit
//! code. `main` parses the command line.

pub mod check;
pub mod exit;
pub mod init;
pub mod machine;
