//! What the slow path knows about the packet in its hands.
//!
//! In the kernel this lies in a map, one for each processor, for two reasons: it does not fit
//! beside everything else on a stack of 512 bytes, and what is read back from a map is unknown to
//! the verifier, so that the many ways through one stage meet before the next begins. Each stage
//! is a subprogram that takes and leaves its results here.

use crate::abi::{
    Binding, Flow, FlowKey, Masquerade, Node, Pending, PolicyPort, Side, Stage, Timeouts,
};
use crate::beyond::Finding;
use crate::family::Header;
use crate::forward::Exit;
use crate::hook::Hook;
use crate::note::Search;
use crate::policy::Asking;
use crate::tables::Route;

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
    /// Index of the link at whose hook the packet is.
    pub device: u32,
    /// Length in bytes, with the Ethernet header.
    pub len: u32,
    /// Length of the IP and transport headers in bytes.
    pub headers_len: u32,
    pub tcp_flags: u8,
    is_error: u8,
    through_stack: u8,
    is_hairpin: u8,
    is_bound: u8,
    is_needy: u8,
    is_direct: u8,
    is_reply: u8,
    is_rejected: u8,
    is_policed: u8,
    /// Code of a message of ICMP.
    pub code: u8,
    /// What is remembered of the flow; see `admission`.
    pub standing: u8,
    /// Not 0 while the endpoint's own port is to be tried.
    pub has_own_port: u8,
    /// Not 0 once the table of bindings had no room.
    pub is_full: u8,
    /// Stage of the connection before the packet.
    before: u8,
    /// Hop limit with which the packet came.
    pub hop_limit: u8,
    /// How the packet leaves.
    pub exit: Exit,
    pub header: Header<A>,
    /// The header of an ICMP error, while `header` is that of the packet that it quotes.
    pub outer: Header<A>,
    /// What came of asking policy.
    pub asking: Asking,
    /// What policy is asked about; the row is left out.
    pub asked: PolicyPort,
    /// What is known of whoever is outside.
    pub beyond: Finding<A>,
    pub key: FlowKey<A>,
    /// What the packet leaves with: the key, or its translation.
    pub out: FlowKey<A>,
    /// Address that the packet shall be masqueraded with.
    pub address: A,
    /// Where it would be routed.
    pub route: Route,
    /// Keys of the two halves of its binding.
    pub inside: FlowKey<A>,
    pub outside: FlowKey<A>,
    /// A half of a binding, while it is made.
    pub binding: Binding<A>,
    /// No binding ends before, as far as a sweep has seen.
    pub soonest_ns: u64,
    /// The decision about the flow.
    pub decided: Flow<A>,
    /// The decision about the opposite direction.
    pub twin: Flow<A>,
    /// A copy of a pending flow, while it is looked at or written.
    pub pending: Pending<A>,
    /// The search for a note.
    pub search: Search,
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
    /// Index of `cilium_net`.
    pub net: u32,
    pub legacy_routing: u32,
    pub reassembles: u32,
    /// Not 0 if policy has something to say about the node's own packets.
    pub guards_host: u32,
    pub masquerade: Masquerade,
    pub timeouts: Timeouts,
}

impl Moment {
    /// Names a moment on a node.
    #[inline(always)]
    pub fn set(&mut self, now_ns: u64, node: &Node) {
        self.now_ns = now_ns;
        self.generation = node.generation;
        self.host = node.host_ifindex;
        self.pending_mask = node.pending_mask;
        self.net = node.net_ifindex;
        self.legacy_routing = u32::from(node.legacy_routing);
        self.reassembles = node.reassembles;
        self.guards_host = u32::from(node.guards_host());
        self.masquerade = node.masquerade;
        self.timeouts = node.timeouts;
    }

    /// Returns the side of the tables of policy that the decision is made by.
    #[inline(always)]
    pub const fn side(&self) -> Side {
        Side::of(self.generation)
    }

    /// Tells whether the node's stack forwards everything.
    #[inline(always)]
    pub const fn is_legacy(&self) -> bool {
        self.legacy_routing != 0
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
    through_stack, set_through_stack: "Tells whether the node's stack forwards the packet, which one of our hooks has seen before.";
    is_hairpin, set_hairpin: "Tells whether an endpoint sent the packet to a masquerade address.";
    is_direct, set_direct: "Tells whether the node's stack sent the packet where it is past `cilium_host`: to the endpoint's link itself, or out of a device.";
    is_reply, set_reply: "Tells whether the receiver of the packet opened the connection.";
    is_policed, set_policed: "Tells whether one end of the connection has a policy.";
    is_rejected, set_rejected: "Tells whether the sender learns that policy drops the packet.";
    is_needy, set_needy: "Tells whether the packet needs a binding.";
    is_bound, set_bound: "Tells whether `outside` and `inside` are the halves of the packet's binding.";
}

impl<A: Copy + Eq> Work<A> {
    /// Tells whether the packet has to be translated at this hook. What enters the stack from an
    /// endpoint is translated when the stack sends it on, what leaves it for one has been; hooks
    /// in between only watch.
    #[inline(always)]
    pub fn is_translated_here(&self) -> bool {
        let translates = matches!(
            self.hook(),
            Some(Hook::FromContainer | Hook::FromNetdev | Hook::ToNetdev)
        );
        translates && self.out != self.key
    }
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
        let watches = matches!(self.hook(), Some(hook) if hook.only_watches());
        self.through_stack() || watches && !self.is_direct()
    }

    /// Returns the stage of the connection before the packet.
    #[inline(always)]
    pub const fn before(&self) -> Stage {
        Stage::from_number(self.before)
    }

    #[inline(always)]
    pub const fn set_before(&mut self, stage: Stage) {
        self.before = stage as u8;
    }

    #[inline(always)]
    pub const fn set_hook(&mut self, hook: Hook) {
        self.hook = hook as u32;
    }
}
