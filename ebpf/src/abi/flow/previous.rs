//! Values of layout 3, which an agent of the layout after it carries over.

use crate::abi::{Count, FlowKey, NextHop};
use crate::packet::MacPair;

/// Number of the layout.
pub const SCHEMA: u32 = 3;

/// Is [`crate::abi::Flow`] as it was.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Flow<A> {
    generation: u32,
    zone: u32,
    decided_ns: u64,
    arrives: MacPair,
    target: u32,
    leaves: MacPair,
    mtu: u16,
    action: u8,
    flags: u8,
    packets: u64,
    bytes: u64,
    out: FlowKey<A>,
    next_hop: NextHop,
    sums: [u16; 2],
    next_hop_family: u8,
    stage: u8,
    spare_bytes: [u8; 2],
    created_ns: u64,
    receiver: u32,
    source_identity: u32,
    target_identity: u32,
    terms: [u16; 2],
    credited: Count,
    spare: [u8; 16],
}

impl<A> From<Flow<A>> for super::Flow<A> {
    fn from(was: Flow<A>) -> Self {
        Self {
            shift: 0,
            generation: was.generation,
            zone: was.zone,
            decided_ns: was.decided_ns,
            arrives: was.arrives,
            target: was.target,
            leaves: was.leaves,
            mtu: was.mtu,
            action: was.action,
            flags: was.flags,
            packets: was.packets,
            bytes: was.bytes,
            out: was.out,
            next_hop: was.next_hop,
            sums: was.sums,
            next_hop_family: was.next_hop_family,
            stage: was.stage,
            spare_bytes: was.spare_bytes,
            created_ns: was.created_ns,
            receiver: was.receiver,
            source_identity: was.source_identity,
            target_identity: was.target_identity,
            terms: was.terms,
            credited: was.credited,
            spare: was.spare,
        }
    }
}

/// Is [`crate::abi::Pending`] as it was.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Pending<A> {
    lock: u32,
    version: u32,
    pub key: FlowKey<A>,
    zone: u32,
    generation: u32,
    is_translated: u32,
    pad: u32,
    created_ns: u64,
    seen_ns: u64,
    pub packets: u64,
    bytes: u64,
}

impl<A> From<Pending<A>> for super::Pending<A> {
    fn from(was: Pending<A>) -> Self {
        Self {
            shift: 0,
            lock: was.lock,
            version: was.version,
            key: was.key,
            zone: was.zone,
            generation: was.generation,
            is_translated: was.is_translated,
            pad: was.pad,
            created_ns: was.created_ns,
            seen_ns: was.seen_ns,
            packets: was.packets,
            bytes: was.bytes,
        }
    }
}

/// Is [`crate::abi::Binding`] as it was.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Binding<A> {
    other: FlowKey<A>,
    expires_ns: u64,
    zone: u32,
    answered: u16,
    open: u16,
}

impl<A> From<Binding<A>> for crate::abi::Binding<A> {
    fn from(was: Binding<A>) -> Self {
        Self {
            shift: 0,
            other: was.other,
            expires_ns: was.expires_ns,
            zone: was.zone,
            answered: was.answered,
            open: was.open,
        }
    }
}
