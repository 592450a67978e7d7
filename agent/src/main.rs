//! Arguments, logging, exit codes.

fn main() {}
