//! Exit codes, which scripts rely on.

/// All is well.
pub const OK: u8 = 0;

/// The file is missing or wrong.
pub const BAD_FILE: u8 = 78;
