//! What differs between IPv4 and IPv6; everything else is written once.

use crate::abi::{Device, FlowKey, Node, Party};
use crate::packet::Packet;
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::work::Work;

/// Is a packet that the fast path may handle: whole, without options, in the middle of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<A> {
    pub key: FlowKey<A>,
    pub hop_limit: u8,
    /// Length of the IP and transport headers in bytes.
    pub headers_len: u32,
}

/// Tells which part of a datagram a packet holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    #[default]
    Whole = 0,
    /// The first of several fragments.
    First = 1,
    /// A later fragment, which has no transport header.
    Later = 2,
}

/// Is an IP header, read with all its options and extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Header<A> {
    pub src: A,
    pub dst: A,
    /// Where the transport header begins, in bytes from the start of the packet.
    pub transport: u32,
    /// Bytes of the datagram behind that point, as the header claims.
    pub payload_len: u32,
    /// Identifies the datagram that the packet is a fragment of, in the order of the wire.
    pub id: u32,
    /// Where in the datagram the packet's payload belongs, in bytes.
    pub fragment_offset: u16,
    pub part: Part,
    pub hop_limit: u8,
    /// Where the fragment header of IPv6 begins, in bytes from the start of the packet.
    pub fragment_header: u32,
    /// Protocol behind the last header that belongs to IP.
    pub protocol: u8,
    pub pad: [u8; 3],
}

/// Reads the IP header that begins at `offset` into `header`, which holds nothing of value if a
/// reason to drop the packet comes back.
///
/// One that an error quotes is not compared with the length of the packet, for its end is cut
/// off.
#[inline(never)]
pub fn parse<A: Address, P: Packet>(
    packet: &P,
    offset: u32,
    quoted: bool,
    header: &mut Header<A>,
) -> Option<DropReason> {
    A::parse(packet, offset, quoted, header).err()
}

/// Is an address, and thereby the family of a packet.
pub trait Address: Copy + Eq + Default {
    /// Number of the ICMP protocol that belongs to the family.
    const ICMP: u8;
    /// Length of an address in bits.
    const BITS: u32;
    /// Whether the family is IPv6, whose header has no checksum.
    const IS_IPV6: bool;
    /// Where the transport header of a packet without options begins.
    const TRANSPORT: usize;

    /// Reads a packet for the fast path; `None` sends it to the slow one.
    fn plain<P: Packet>(packet: &P) -> Option<Plain<Self>>;

    /// Returns the first address of the node's prefix; unspecified if it has none.
    fn prefix(node: &Node) -> Self;

    /// Reads source and destination of a packet.
    fn ends<P: Packet>(packet: &P) -> Option<[Self; 2]>;

    /// Returns the protocol whose header follows at once; `None` if none does, as in a later
    /// fragment.
    fn next_protocol<P: Packet>(packet: &P) -> Option<u8>;

    /// Reads an IP header; see [`parse`].
    ///
    /// # Errors
    /// The reason to drop a packet whose header is malformed.
    fn parse<P: Packet>(
        packet: &P,
        offset: u32,
        quoted: bool,
        header: &mut Header<Self>,
    ) -> Result<(), DropReason>;

    /// Handles neighbour messages, where they are IP packets, and notes in `work` what became of
    /// them; returns the reason to drop one, if there is one.
    fn neighbour<P: Packet, T: Tables<Self>>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<Self>,
    ) -> Option<DropReason>;

    /// Takes one from the hop limit of a packet; it must not be 0.
    #[must_use]
    fn age<P: Packet>(packet: &mut P) -> bool;

    /// Writes source and destination of a packet; `change` is what that adds to a checksum over
    /// both.
    #[must_use]
    fn set_ends<P: Packet>(packet: &mut P, ends: [Self; 2], change: u16) -> bool;

    /// Gives a fragment another identification, which differs from the old one by `mask`.
    #[must_use]
    fn set_identification<P: Packet>(packet: &mut P, header: &Header<Self>, mask: u16) -> bool;

    /// Writes source and destination of the header at any offset, and returns what that adds to a
    /// checksum over the whole header.
    fn set_quoted_ends<P: Packet>(
        packet: &mut P,
        offset: u32,
        ends: [Self; 2],
        change: u16,
    ) -> Option<u16>;

    /// Tells whether the header at any offset has the right checksum, if it has one.
    fn is_sound<P: Packet>(packet: &P, offset: u32, transport: u32) -> bool;

    /// Returns the sum of the address's 16-bit words (RFC 1071).
    fn word_sum(self) -> u64;

    /// Tells whether the party has this address.
    fn belongs_to(&self, party: &Party) -> bool;

    /// Tells whether the address is a multicast or broadcast one.
    fn is_multicast(&self) -> bool;

    /// Tells whether the address stands for all of the node's prefix.
    fn is_broadcast(&self, node: &Node) -> bool;

    /// Tells whether no router forwards packets from the address.
    fn is_martian(&self) -> bool;

    /// Returns the first `len` bits of the address, with zeros behind them.
    #[must_use]
    fn first(&self, len: u32) -> Self;

    /// Tells whether the address has the first `len` bits of a prefix.
    fn shares(&self, prefix: &Self, len: u32) -> bool;

    /// Tells whether the address lies in the node's prefix for endpoints.
    fn is_inside(&self, node: &Node) -> bool;

    /// Tells whether the address lies in the node's prefix and is not the router's.
    fn is_node_local(&self, node: &Node) -> bool;

    /// Returns the address that a device masquerades endpoints with.
    fn masquerade(device: &Device) -> Option<Self>;
}
