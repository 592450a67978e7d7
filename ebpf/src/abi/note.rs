//! Short notes about flows, many in little room; see `note`.

/// Number of notes of a line: as many as a cache line holds.
pub const NOTES_PER_LINE: usize = 8;

/// Holds the notes whose hashes lead here. A note is the upper half of its hash, and in the lower
/// half of the word the moment at which it ends; a word of 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Line {
    pub notes: [u64; NOTES_PER_LINE],
}
