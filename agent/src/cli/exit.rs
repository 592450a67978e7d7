//! Exit codes, which scripts rely on.

/// All is well; `plan` has nothing to do.
pub const OK: u8 = 0;

/// `plan` has something to do.
pub const CHANGES: u8 = 2;

/// `doctor` has found something.
pub const FOUND: u8 = 1;

/// `policy test` says that it is denied.
pub const DENIED: u8 = 1;

/// The command line is wrong.
pub const USAGE: u8 = 64;

/// There is nothing to ask: the node is not set up.
pub const UNAVAILABLE: u8 = 69;

/// The kernel refused.
pub const KERNEL: u8 = 71;

/// `try` has made the node again what it was.
pub const ROLLED_BACK: u8 = 75;

/// The caller may not do this.
pub const NO_PERMISSION: u8 = 77;

/// The file is missing or wrong.
pub const BAD_FILE: u8 = 78;
