//! Keys: what identifies a flow, and a datagram in fragments.
//!
//! A key is hashed and compared as bytes, so it has no padding that is not written.

use core::fmt;

use crate::packet::proto;

/// Identifies a flow: a 5-tuple in one direction.
///
/// Echoes of ICMP carry their identifier as both ports and their type as `tag`, so that a
/// request and the reply to it are the two directions of one connection. Protocols without
/// ports have 0 there.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey<A> {
    src: A,
    dst: A,
    /// From the lowest bits up: source port, destination port, protocol, tag, 16 bits 0. It is
    /// written as one word because it is read as words right afterwards, by the hash: a load
    /// that spans several narrow stores waits until they have left the store buffer.
    rest: u64,
}

impl<A: Copy> FlowKey<A> {
    /// Makes a key; ports in the order of the wire.
    #[inline(always)]
    pub const fn new(src: A, dst: A, proto: u8, ports: [u16; 2], tag: u8) -> Self {
        let ports = ports[0] as u64 | (ports[1] as u64) << 16;
        Self {
            src,
            dst,
            rest: ports | (proto as u64) << 32 | (tag as u64) << 40,
        }
    }

    /// Returns the key of the opposite direction.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Self {
        let tag = match (self.proto(), self.tag()) {
            (proto::ICMP, 8) => 0,
            (proto::ICMP, 0) => 8,
            (proto::ICMP, 13) => 14,
            (proto::ICMP, 14) => 13,
            (proto::ICMP6, 128) => 129,
            (proto::ICMP6, 129) => 128,
            (_, tag) => tag,
        };
        let [src_port, dst_port] = self.ports();
        Self::new(self.dst, self.src, self.proto(), [dst_port, src_port], tag)
    }

    #[inline(always)]
    pub const fn src(&self) -> A {
        self.src
    }

    #[inline(always)]
    pub const fn dst(&self) -> A {
        self.dst
    }

    /// Returns the key with another source; the port in the order of the wire. Both ports of an
    /// echo are its identifier.
    #[inline(always)]
    #[must_use]
    pub const fn with_source(self, src: A, port: u16) -> Self {
        let [_, dst_port] = self.ports();
        let dst_port = if self.is_echo() { port } else { dst_port };
        Self::new(src, self.dst, self.proto(), [port, dst_port], self.tag())
    }

    /// Returns the key with another destination, as [`Self::with_source`] does.
    #[inline(always)]
    #[must_use]
    pub const fn with_destination(self, dst: A, port: u16) -> Self {
        let [src_port, _] = self.ports();
        let src_port = if self.is_echo() { port } else { src_port };
        Self::new(self.src, dst, self.proto(), [src_port, port], self.tag())
    }
}

impl<A> FlowKey<A> {
    #[inline(always)]
    pub const fn proto(&self) -> u8 {
        (self.rest >> 32) as u8
    }

    /// Returns the source port, or the identifier of an echo.
    pub const fn src_port(&self) -> u16 {
        u16::from_be(self.ports()[0])
    }

    /// Returns the destination port, or the identifier of an echo.
    pub const fn dst_port(&self) -> u16 {
        u16::from_be(self.ports()[1])
    }

    /// Tells whether the flow is one of echoes.
    #[inline(always)]
    pub const fn is_echo(&self) -> bool {
        matches!(
            (self.proto(), self.tag()),
            (proto::ICMP, 0 | 8) | (proto::ICMP6, 128 | 129)
        )
    }

    /// Returns the type of a message of ICMP, 0 for everything else.
    #[inline(always)]
    pub const fn tag(&self) -> u8 {
        (self.rest >> 40) as u8
    }

    /// Returns both ports in the order of the wire.
    #[inline(always)]
    pub const fn ports(&self) -> [u16; 2] {
        [self.rest as u16, (self.rest >> 16) as u16]
    }
}

impl<A: fmt::Debug> fmt::Debug for FlowKey<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowKey")
            .field("src", &self.src)
            .field("dst", &self.dst)
            .field("ports", &[self.src_port(), self.dst_port()])
            .field("proto", &self.proto())
            .field("tag", &self.tag())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::FlowKey;
    use crate::address::Addr4;
    use crate::packet::proto;

    #[test]
    fn a_key_reversed_twice_is_itself_and_an_echo_request_turns_into_its_reply() {
        let [a, b] = [Addr4::new([10, 0, 0, 1]), Addr4::new([10, 0, 0, 2])];
        let tcp = FlowKey::new(a, b, proto::TCP, [1, 2], 0);
        let request = FlowKey::new(a, b, proto::ICMP, [7, 7], 8);

        assert_eq!(tcp.reversed().reversed(), tcp);
        assert_eq!(
            request.reversed(),
            FlowKey::new(b, a, proto::ICMP, [7, 7], 0)
        );
        assert_eq!(request.reversed().reversed(), request);
    }
}
