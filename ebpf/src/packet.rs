//! Access to a packet, and the headers that the pipeline reads and writes.
//!
//! Headers are read and written by value; nothing points into a packet, so nothing is stale
//! after it was changed. Multi-byte fields of the wire types hold the bytes of the wire: compare
//! them with constants passed through `to_be`.

/// Marks types that may be copied out of and into packets: any bytes are a valid value, and no
/// byte is padding.
///
/// # Safety
/// The implementing type is `repr(C)` without padding, and every bit pattern is valid.
#[expect(
    unsafe_code,
    reason = "the promise about layout is what makes copies sound"
)]
pub unsafe trait Wire: Copy {}

/// Gives access to one packet, from its Ethernet header on.
pub trait Packet {
    /// Returns the number of bytes, paged ones included.
    fn len(&self) -> u32;
    /// Returns the payload size of each segment of a GSO packet, 0 for an ordinary one.
    fn gso_size(&self) -> u32;
    /// Returns the index of the link at whose hook the packet is.
    fn ifindex(&self) -> u32;
    /// Returns the index of the link that the packet came into this namespace by; 0 if the
    /// namespace's own stack made it.
    fn ingress_ifindex(&self) -> u32;
    /// Tells whether the packet is addressed to this node, not to somebody else on the segment or
    /// to all.
    fn is_for_us(&self) -> bool;
    /// Returns the VLAN tag that was taken out of the packet and lies beside it, with [`VLAN_TAG`] set;
    /// 0 if there is none.
    fn vlan_tag(&self) -> u32;
    /// Makes the first `len` bytes accessible to `load` and `store`.
    fn pull(&mut self, len: u32) -> bool;
    /// Reads a header at a fixed offset, if it lies in the accessible part.
    fn load<T: Wire>(&self, offset: usize) -> Option<T>;
    /// Writes a header at a fixed offset; `false` if it does not lie in the accessible part.
    #[must_use]
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> bool;
    /// Reads a header at any offset, wherever its bytes are.
    fn read<T: Wire + Default>(&self, offset: u32) -> Option<T>;
    /// Writes a header at any offset, wherever its bytes are.
    #[must_use]
    fn write<T: Wire>(&mut self, offset: u32, value: T) -> bool;
    /// Returns the sum of the 16-bit words of `len` bytes, folded to 16 bits (RFC 1071); `None` if
    /// they are not all there or too many.
    fn sum(&self, offset: u32, len: u32) -> Option<u16>;
    /// Updates the transport checksum at `offset` for a change of addresses, if it covers them,
    /// and of ports. A device may have to complete the checksum later; the update leaves it right
    /// in both cases.
    #[must_use]
    fn update_check(&mut self, offset: u32, change: CheckChange) -> bool;
    /// Tells the stack that bytes below the Ethernet header changed by this one's-complement
    /// difference; matters only where a device has summed the whole packet.
    fn adjust_sum(&mut self, difference: u32);
    /// Makes the packet one that is addressed to the receiving host, whatever it was before.
    fn set_for_host(&mut self);
}

/// Says how what a transport checksum covers changes, as one's-complement differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckChange {
    /// Of the addresses in the pseudo-header.
    pub addresses: u16,
    /// Of what lies behind the IP header.
    pub ports: u16,
    /// Whether 0 is never sent as a checksum (RFC 768, RFC 3828 §3.1).
    pub is_udp: bool,
    /// Whether the addresses have no checksum of their own (RFC 8200).
    pub is_ipv6: bool,
}

/// Length of an Ethernet header, in bytes.
pub const ETH_LEN: usize = 14;

/// Number of the protocol IPv4 in an Ethernet header, in the order of the wire.
pub const ETH_IPV4: u16 = 0x0800_u16.to_be();
/// Number of the protocol IPv6 in an Ethernet header, in the order of the wire.
pub const ETH_IPV6: u16 = 0x86dd_u16.to_be();
/// Number of the protocol ARP in an Ethernet header, in the order of the wire.
pub const ETH_ARP: u16 = 0x0806_u16.to_be();
/// Number of an 802.1Q tag, in the order of the wire.
pub const ETH_VLAN: u16 = 0x8100_u16.to_be();
/// Number of an 802.1ad tag, in the order of the wire.
pub const ETH_QINQ: u16 = 0x88a8_u16.to_be();

/// Protocol numbers of the Internet Protocol.
pub mod proto {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMP6: u8 = 58;
    pub const SCTP: u8 = 132;
    pub const UDP_LITE: u8 = 136;
}

/// Holds the two addresses that begin an Ethernet frame: destination, then source.
#[derive(Clone, Copy, Debug, Default, Eq)]
#[repr(C)]
pub struct MacPair([u32; 3]);

impl PartialEq for MacPair {
    /// Compares word by word; the compiler's own way is to make wider words first.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b, c], [d, e, f]) = (self.0, other.0);
        (a ^ d) | (b ^ e) | (c ^ f) == 0
    }
}

impl MacPair {
    /// Joins a destination and a source address.
    #[inline(always)]
    pub const fn new(destination: [u8; 6], source: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = destination;
        let [g, h, i, j, k, l] = source;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
        ])
    }

    /// Returns the address of the receiver.
    #[inline(always)]
    pub const fn destination(self) -> [u8; 6] {
        let [[a, b, c, d], [e, f, _, _]] = [self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes()];
        [a, b, c, d, e, f]
    }

    /// Returns the address of the sender.
    #[inline(always)]
    pub const fn source(self) -> [u8; 6] {
        let [[_, _, g, h], [i, j, k, l]] = [self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes()];
        [g, h, i, j, k, l]
    }

    /// Returns the same pair as the answer to the frame carries it.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self::new(self.source(), self.destination())
    }
}

/// Where the protocol number of an Ethernet header stands.
pub const ETH_PROTOCOL_OFFSET: usize = 12;

/// Is the fixed part of an IPv4 header (RFC 791).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Ipv4Header {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_len: u16,
    pub id: u16,
    pub fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub check: u16,
    pub src: u32,
    pub dst: u32,
}

/// Is an IPv6 header (RFC 8200).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Ipv6Header {
    pub version: u8,
    pub flow: [u8; 3],
    pub payload_len: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub src: [u64; 2],
    pub dst: [u64; 2],
}

/// Is the first 16 bytes of a TCP header (RFC 9293), as far as its window.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TcpStart {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub offset: u8,
    pub flags: u8,
    pub window: u16,
}

/// Is the ports that begin a UDP, SCTP or UDP-Lite header.
///
/// Aligned as a whole, so that both are read at once.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(4))]
pub struct Ports {
    pub src: u16,
    pub dst: u16,
}

/// Is the first eight bytes of an ICMP or ICMPv6 message; `id` means something in echoes only.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct IcmpStart {
    pub kind: u8,
    pub code: u8,
    pub check: u16,
    pub id: u16,
    pub seq: u16,
}

/// Says that there is a VLAN tag.
pub const VLAN_TAG: u32 = 1 << 16;
/// The bits of a VLAN tag that name the VLAN; 0 is none, and the tag only gives a priority
/// (IEEE 802.1Q).
pub const VLAN_ID: u32 = 0xfff;

/// Is an ARP message for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Arp {
    pub hardware: u16,
    pub protocol: u16,
    pub lengths: u16,
    pub operation: u16,
    pub sender_mac: [u8; 6],
    pub sender: [u8; 4],
    pub target_mac: [u8; 6],
    pub target: [u8; 4],
}

/// Is a neighbour solicitation or advertisement without options (RFC 4861 §4.3, §4.4).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Neighbour {
    pub kind: u8,
    pub code: u8,
    pub check: u16,
    pub flags: u32,
    pub target: [u64; 2],
}

/// Is a link-layer address option of a neighbour message (RFC 4861 §4.6.1).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct LinkLayerOption {
    pub kind: u8,
    pub len: u8,
    pub mac: [u8; 6],
}

/// Is an IPv6 fragment header (RFC 8200 §4.5), and the first eight bytes of every other
/// extension header, of which only the first two fields mean the same.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Ipv6Fragment {
    pub next_header: u8,
    /// Reserved in a fragment header.
    pub len: u8,
    pub offset: u16,
    pub id: u32,
}

macro_rules! wire {
    ($($type:ty: $len:literal),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $len);
        // SAFETY: the assertion shows that there is no padding; all fields are integers or
        // arrays of integers.
        #[expect(unsafe_code, reason = "promises a layout that the assertion above checks")]
        unsafe impl Wire for $type {}
    )+};
}

wire! {
    u8: 1, u16: 2, u32: 4, [u32; 5]: 20, [u64; 2]: 16, MacPair: 12, Ipv4Header: 20, Ipv6Header: 40, TcpStart: 16,
    Ports: 4, IcmpStart: 8, Arp: 28, Neighbour: 24, LinkLayerOption: 8, Ipv6Fragment: 8,
}

#[cfg(test)]
mod tests {
    use super::MacPair;

    #[test]
    fn a_reversed_pair_swaps_the_addresses() {
        let pair = MacPair::new([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]);

        assert_eq!(pair.reversed().destination(), [7, 8, 9, 10, 11, 12]);
        assert_eq!(pair.reversed().source(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(pair.reversed().reversed(), pair);
    }
}
