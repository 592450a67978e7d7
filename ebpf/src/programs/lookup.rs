//! What the kernel knows: its routes, and the sockets of the node.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "structures of helpers are short, and halves of words are taken on purpose"
)]

use core::mem;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup, bpf_sock, bpf_sock_tuple,
};
use aya_ebpf::helpers::generated::{
    bpf_fib_lookup as fib_lookup, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
};
use datapath::abi::{Addr4, Addr6, FlowKey, NextHop};
use datapath::packet::proto;
use datapath::tables::Route;

use crate::skb::Skb;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `BPF_F_CURRENT_NETNS`: the namespace of the link that the packet is at.
const CURRENT_NETNS: u64 = u64::MAX;

/// Asks the kernel about packets of one family.
pub(crate) trait Lookup<A> {
    /// See [`datapath::tables::Tables::route`].
    fn route(self, key: &FlowKey<A>, from: u32, route: &mut Route);
    /// See [`datapath::tables::Tables::has_socket`].
    fn has_socket(self, key: &FlowKey<A>) -> bool;
}

impl Lookup<Addr4> for Skb {
    #[inline(always)]
    fn route(self, key: &FlowKey<Addr4>, from: u32, route: &mut Route) {
        // SAFETY: all fields are integers.
        let mut query: bpf_fib_lookup = unsafe { mem::zeroed() };
        query.family = AF_INET;
        query.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(key.src().octets());
        query.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(key.dst().octets());
        ask(self, key, from, &mut query, route);
        // SAFETY: the kernel keeps the family, or writes the next hop's into it.
        unsafe {
            route.next_hop = if query.family == AF_INET {
                let hop = u64::from(query.__bindgen_anon_4.ipv4_dst);
                NextHop {
                    address: [hop.to_le(), 0],
                }
            } else {
                NextHop {
                    address: words(query.__bindgen_anon_4.ipv6_dst),
                }
            };
        }
    }

    #[inline(always)]
    fn has_socket(self, key: &FlowKey<Addr4>) -> bool {
        // SAFETY: all fields are integers.
        let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
        let [src, dst] = [key.src(), key.dst()].map(|end| u32::from_ne_bytes(end.octets()));
        // The socket's own side is the tuple's destination.
        // SAFETY: the member is the one that the length below stands for.
        let ipv4 = unsafe { &mut tuple.__bindgen_anon_1.ipv4 };
        (ipv4.saddr, ipv4.daddr) = (dst, src);
        [ipv4.dport, ipv4.sport] = key.ports();
        let len = size_of_val(ipv4) as u32;
        is_found(self, key.proto(), &raw mut tuple, len)
    }
}

impl Lookup<Addr6> for Skb {
    #[inline(always)]
    fn route(self, key: &FlowKey<Addr6>, from: u32, route: &mut Route) {
        // SAFETY: all fields are integers.
        let mut query: bpf_fib_lookup = unsafe { mem::zeroed() };
        query.family = AF_INET6;
        query.__bindgen_anon_3.ipv6_src = halves(key.src().wire());
        query.__bindgen_anon_4.ipv6_dst = halves(key.dst().wire());
        ask(self, key, from, &mut query, route);
        route.next_hop = NextHop {
            // SAFETY: any bytes are an address.
            address: words(unsafe { query.__bindgen_anon_4.ipv6_dst }),
        };
    }

    #[inline(always)]
    fn has_socket(self, key: &FlowKey<Addr6>) -> bool {
        // SAFETY: all fields are integers.
        let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
        // SAFETY: the member is the one that the length below stands for.
        let ipv6 = unsafe { &mut tuple.__bindgen_anon_1.ipv6 };
        ipv6.saddr = halves(key.dst().wire());
        ipv6.daddr = halves(key.src().wire());
        [ipv6.dport, ipv6.sport] = key.ports();
        let len = size_of_val(ipv6) as u32;
        is_found(self, key.proto(), &raw mut tuple, len)
    }
}

/// Completes a query and asks it.
#[inline(always)]
fn ask<A>(skb: Skb, key: &FlowKey<A>, from: u32, query: &mut bpf_fib_lookup, route: &mut Route) {
    query.l4_protocol = key.proto();
    if matches!(key.proto(), proto::TCP | proto::UDP) {
        [query.sport, query.dport] = key.ports();
    }
    query.ifindex = from;
    // The kernel reports the way's MTU only if it has a length to compare it with.
    query.__bindgen_anon_1.tot_len = 1;
    // SAFETY: the query is whole, and as long as it says.
    let answer = unsafe { fib_lookup(skb.0.cast(), query, size_of::<bpf_fib_lookup>() as i32, 0) };
    let is_resolved = answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS);
    if !is_resolved && answer != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH) {
        route.ifindex = 0;
        return;
    }
    route.ifindex = query.ifindex;
    route.is_resolved = u8::from(is_resolved);
    route.family = query.family;
    // SAFETY: any bytes are a number; the kernel has written it.
    let mtu = unsafe { query.__bindgen_anon_1.mtu_result };
    // Without a neighbour there is no answer to the length.
    route.mtu = if mtu > 1 { mtu } else { u16::MAX };
}

/// Tells whether the node has a socket of its own at the tuple's destination.
#[inline(always)]
fn is_found(skb: Skb, protocol: u8, tuple: *mut bpf_sock_tuple, len: u32) -> bool {
    // SAFETY: the tuple is whole, and as long as it says; a socket that is found is released.
    unsafe {
        let socket: *mut bpf_sock = match protocol {
            proto::TCP => bpf_skc_lookup_tcp(skb.0.cast(), tuple, len, CURRENT_NETNS, 0),
            proto::UDP => bpf_sk_lookup_udp(skb.0.cast(), tuple, len, CURRENT_NETNS, 0),
            _ => return false,
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
        true
    }
}

#[inline(always)]
fn halves(words: [u64; 2]) -> [u32; 4] {
    let [a, b] = words.map(|word| (word as u32, (word >> 32) as u32));
    [a.0, a.1, b.0, b.1]
}

#[inline(always)]
fn words([a, b, c, d]: [u32; 4]) -> [u64; 2] {
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    [join(a, b), join(c, d)]
}
