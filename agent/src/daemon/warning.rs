//! Codes of the warnings of the resident agent, which do not change.

/// Something keeps undoing a repair.
pub const UNDONE: &str = "CIL0101";

/// The network namespace of an endpoint is missing.
pub const NO_NAMESPACE: &str = "CIL0102";

/// The node could not be looked at or repaired.
pub const FAILED: &str = "CIL0103";

/// A new file was refused; the old one holds.
pub const NOT_RELOADED: &str = "CIL0104";

/// Something that is done every few seconds failed.
pub const CHORE: &str = "CIL0105";

/// There is no control socket.
pub const NO_SOCKET: &str = "CIL0111";

/// Somebody spoke with the agent who may not.
pub const STRANGER: &str = "CIL0112";

/// The process that guarded a trial is gone.
pub const ABANDONED: &str = "CIL0120";

/// A trial could not be taken back.
pub const NOT_TAKEN_BACK: &str = "CIL0121";

/// The file is one that was tried and taken back.
pub const REJECTED: &str = "CIL0122";

/// The agent lacks a privilege that the file needs.
pub const PRIVILEGE: &str = "CIL0150";
