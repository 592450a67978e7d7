//! The BPF object inside this binary.

use aya::include_bytes_aligned;

/// Holds the ELF file, aligned for parsing.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/datapath.o"));

/// Is the start of the object's SHA-256, 16 hexadecimal digits.
pub const DIGEST: &str = env!("CILIATE_BPF_DIGEST");
