//! What the pipeline decides, and the numbered reasons for which it drops.
//!
//! Reasons carry Cilium's number and meaning where one fits; ours begin at 220. A number never
//! changes its meaning: operators alert on it, and it indexes the `DROPS` map.

use crate::abi::NextHop;

/// Tells what becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet goes on where it is, in the node's stack or out of the link.
    Pass,
    /// The packet enters the endpoint behind the link with this index, past the node's stack.
    Peer(u32),
    /// The packet leaves through the link with this index.
    Egress(u32),
    /// The packet enters the node's stack through the link with this index.
    Host(u32),
    /// The packet leaves through the device with this index to a neighbour, past the node's
    /// stack; the last number is the kernel's of the neighbour's address family.
    Neighbour(u32, NextHop, u8),
    /// The packet has served its purpose: an answered or needless neighbour message.
    Consumed,
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $text:literal;)+) => {
        /// Tells why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl DropReason {
            /// Lists every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the words that `status` shows for the reason.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Returns the sentence that the manual has for the reason.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim(),)+
                }
            }
        }
    };
}

drop_reasons! {
    /// An endpoint sent a frame from an Ethernet address that is not its own.
    InvalidSourceMac = 130, "Invalid source mac";
    /// An endpoint sent a frame to an Ethernet address that is not its gateway's.
    InvalidDestinationMac = 131, "Invalid destination mac";
    /// The source address does not belong to the sender.
    InvalidSourceIp = 132, "Invalid source ip";
    /// No rule of policy allows the connection.
    PolicyDenied = 133, "Policy denied";
    /// A header is cut off, contradicts itself, or names the sender as its own destination.
    InvalidPacket = 134, "Invalid packet";
    /// A packet between endpoints behind a masquerade address is too big for its receiver.
    TooBig = 136, "Fragmentation needed";
    /// The protocol is neither IPv4, IPv6 nor ARP.
    UnsupportedL3 = 139, "Unsupported L3 protocol";
    /// A program of the slow path is not there.
    MissedTailCall = 140, "Missed tail call";
    /// The packet could not be rewritten.
    WriteError = 141, "Error writing to packet";
    /// The address belongs to this node's prefix, and no endpoint has it.
    StaleOrUnroutable = 151, "Stale or unroutable IP";
    /// An IPv6 packet has a routing header, or more extension headers than are followed.
    InvalidExtensionHeader = 156, "Invalid IPv6 extension header";
    /// Every port that endpoints may be masqueraded with is taken.
    NatExhausted = 167, "No mapping for NAT masquerade";
    /// Packets of the protocol cannot be translated.
    NatUnsupported = 168, "Unsupported protocol for NAT masquerade";
    /// A fragment came whose first part, which holds the ports, was not seen.
    FragmentNotFound = 175, "First logical datagram fragment not found";
    /// An endpoint sent a router advertisement or a redirect.
    ForbiddenIcmp6 = 176, "Forbidden ICMPv6 message";
    /// A rule of policy denies the connection.
    PolicyDenyList = 181, "Policy denied by denylist";
    /// An endpoint sent a frame with a VLAN tag.
    Vlan = 182, "VLAN traffic disallowed by VLAN filter";
    /// A packet between endpoints behind a masquerade address is at its last hop.
    TtlExceeded = 196, "TTL exceeded";
    /// The node's own entry is missing, or policy does not know the sender or the receiver yet.
    NotReady = 202, "Host datapath not ready";
    /// An ARP message claims an address that is not the sender's.
    ForgedArp = 220, "Forged ARP message";
    /// A neighbour message claims an address that is not the sender's.
    ForgedNeighbour = 221, "Forged neighbour message";
    /// An ICMP error quotes no packet that was sent to the endpoint it comes from.
    UnrelatedIcmpError = 222, "ICMP error is about no known packet";
    /// A fragment is so short that it hides or overwrites the ports.
    TinyFragment = 223, "Fragment hides its ports";
    /// An endpoint sent to a multicast or broadcast address.
    Multicast = 224, "Multicast is not forwarded";
    /// A packet came to a port of the masquerade range that belongs to nobody.
    NatNoBinding = 225, "Masquerade port belongs to nobody";
    /// A packet came to an endpoint's port from an address that it never spoke to.
    NatFiltered = 226, "Masquerade port is closed to this address";
    /// The endpoint has as many ports as it may have.
    NatLimit = 227, "Endpoint has its share of masquerade ports";
    /// The address that the flow was masqueraded with is gone.
    NatAddressGone = 228, "Masquerade address is gone";
    /// The checksum of an ICMP error, or of the header that it quotes, is wrong.
    BadChecksum = 229, "Bad checksum in ICMP error";
}

impl DropReason {
    /// Returns the reason with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| *reason as u8 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::DropReason;

    #[test]
    fn reasons_are_sorted_and_their_numbers_lead_back_to_them() {
        assert!(DropReason::ALL.is_sorted(), "numbers ascend");
        for reason in DropReason::ALL {
            assert_eq!(DropReason::from_number(*reason as u8), Some(*reason));
        }
        assert_eq!(DropReason::from_number(0), None);
    }
}
