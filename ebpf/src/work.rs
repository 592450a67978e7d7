//! What the slow path knows about the packet in its hands.
//!
//! In the kernel this lies in a map, one for each processor, for two reasons: it does not fit
//! beside everything else on a stack of 512 bytes, and what is read back from a map is unknown to
//! the verifier, so that the many ways through one stage meet before the next begins. Each stage
//! is a subprogram that takes and leaves its results here.

use crate::abi::{Flow, FlowKey, Pending};
use crate::family::Header;
use crate::hook::Hook;

/// Holds the results of the slow path's stages, in the order of the stages.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Work<A> {
    /// When, and under which configuration, the decision is made.
    pub moment: Moment,
    /// Number of the [`Hook`].
    hook: u32,
    /// Index of the link that the sender is behind.
    pub sender: u32,
    /// Index of the link that the receiver is behind.
    pub receiver: u32,
    /// Length in bytes, with the Ethernet header.
    pub len: u32,
    /// Length of the IP and transport headers in bytes.
    pub headers_len: u32,
    pub tcp_flags: u8,
    is_error: u8,
    through_stack: u8,
    /// What became of a neighbour message.
    pub answer: Answer,
    pub header: Header<A>,
    pub key: FlowKey<A>,
    /// The decision about the flow.
    pub decided: Flow,
    /// The decision about the opposite direction.
    pub twin: Flow,
    /// A copy of a pending flow, while it is looked at or written.
    pub pending: Pending<A>,
}

/// Tells what became of a neighbour message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// The packet is none.
    #[default]
    None = 0,
    /// It needs no answer.
    Consumed = 1,
    /// It was turned round and goes back to its sender.
    Returned = 2,
}

/// Says when, and under which configuration, a decision is made.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Moment {
    pub now_ns: u64,
    /// Read before any table, so that a change while a decision is made marks it as old.
    pub generation: u32,
    /// Index of `cilium_host`.
    pub host: u32,
    /// Number of entries of the tables of pending flows, less one.
    pub pending_mask: u32,
    pad: u32,
}

impl Moment {
    /// Names a moment.
    #[inline(always)]
    pub const fn new(now_ns: u64, generation: u32, host: u32, pending_mask: u32) -> Self {
        Self {
            now_ns,
            generation,
            host,
            pending_mask,
            pad: 0,
        }
    }
}

macro_rules! flags {
    ($($get:ident, $set:ident: $doc:literal;)+) => {
        impl<A> Work<A> {
            $(
                #[doc = $doc]
                #[inline(always)]
                pub const fn $get(&self) -> bool {
                    self.$get != 0
                }

                #[inline(always)]
                pub const fn $set(&mut self, value: bool) {
                    self.$get = value as u8;
                }
            )+
        }
    };
}

flags! {
    is_error, set_error: "Tells whether the packet is an ICMP error.";
    through_stack, set_through_stack: "Tells whether the node's stack sent the packet although the sender is an endpoint.";
}

impl<A> Work<A> {
    /// Returns the hook that the packet is at; `None` if the number is not one of ours.
    #[inline(always)]
    pub const fn hook(&self) -> Option<Hook> {
        Hook::from_number(self.hook)
    }

    /// Tells whether the packet was entered into its flow before: at the hook that it comes from,
    /// or before the node's stack had it.
    #[inline(always)]
    pub const fn is_entered(&self) -> bool {
        self.through_stack() || matches!(self.hook(), Some(hook) if hook.only_watches())
    }

    #[inline(always)]
    pub const fn set_hook(&mut self, hook: Hook) {
        self.hook = hook as u32;
    }
}
