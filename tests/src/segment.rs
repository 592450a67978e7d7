//! Segments of TCP, with everything that a test wants to set.

use crate::frame::{SYN, TCP, Transport};

const WINDOW: u16 = 0x2000;

/// Options of an ordinary SYN: MSS 1460, SACK, timestamps, window scale 7.
const SYN_OPTIONS: [u8; 20] = [
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];

/// Is a segment, without its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Segment {
    /// Returns a segment without payload; a SYN has the usual options.
    pub fn new(sequence: u32, acknowledgement: u32, flags: u8) -> Self {
        let options = if flags & SYN == 0 {
            Vec::new()
        } else {
            SYN_OPTIONS.to_vec()
        };
        Self {
            sequence,
            acknowledgement,
            flags,
            options,
            payload: Vec::new(),
        }
    }

    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        Self {
            payload: payload.to_vec(),
            ..self
        }
    }

    /// Returns how far the segment moves the sequence number on.
    pub fn len(&self) -> u32 {
        let flags = u32::from(self.flags & 1 != 0) + u32::from(self.flags & SYN != 0);
        u32::try_from(self.payload.len()).expect("short") + flags
    }

    /// Tells whether the segment takes no room in the sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the segment between two ports.
    pub fn transport(&self, from: u16, to: u16) -> Transport {
        let words = 5 + self.options.len().div_ceil(4);
        let mut bytes = [from, to].map(u16::to_be_bytes).concat();
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([u8::try_from(words).expect("at most 15") << 4, self.flags]);
        bytes.extend(WINDOW.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.resize(words * 4, 1);
        bytes.extend(&self.payload);
        Transport {
            protocol: TCP,
            ports: [from, to],
            tag: 0,
            bytes,
            checksum_at: Some(16),
        }
    }
}
