//! The programs of the tc hooks.

#![expect(
    clippy::needless_pass_by_value,
    clippy::cast_possible_truncation,
    reason = "the signature of a program is given; helpers return tc actions as wide integers"
)]

use aya_ebpf::bindings::{
    BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1,
};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath::Path;
use datapath::abi::{
    Addr4, Addr6, CALL_ARP, CALL_DECIDE4, CALL_DECIDE6, CALL_SLOW4, CALL_SLOW6, NextHop,
};
use datapath::consult::{Former, is_formers};
use datapath::family::Address;
use datapath::flow::KeyHash;
use datapath::hook::Hook;
use datapath::packet::Packet;
use datapath::tables::Tables;
use datapath::verdict::{DropReason, Verdict};
use datapath::work::Work;

#[cfg(feature = "next-schema")]
use crate::maps::Previous;
use crate::maps::{CALL, FORMER, Maps, Same, count_drop, is_in_charge, work4, work6};
use crate::skb::Skb;

#[classifier]
pub(crate) fn from_container(ctx: TcContext) -> i32 {
    enter(&ctx, Hook::FromContainer)
}

#[classifier]
pub(crate) fn to_container(ctx: TcContext) -> i32 {
    enter(&ctx, Hook::ToContainer)
}

#[classifier]
pub(crate) fn from_host(ctx: TcContext) -> i32 {
    enter(&ctx, Hook::FromHost)
}

#[classifier]
pub(crate) fn to_host(ctx: TcContext) -> i32 {
    enter(&ctx, Hook::ToHost)
}

#[classifier]
pub(crate) fn from_netdev(ctx: TcContext) -> i32 {
    enter(&ctx, Hook::FromNetdev)
}

#[classifier]
pub(crate) fn to_netdev(ctx: TcContext) -> i32 {
    enter(&ctx, Hook::ToNetdev)
}

#[classifier]
pub(crate) fn slow4(ctx: TcContext) -> i32 {
    decide(&ctx, work4, datapath::slow)
}

#[classifier]
pub(crate) fn slow6(ctx: TcContext) -> i32 {
    decide(&ctx, work6, datapath::slow)
}

#[classifier]
pub(crate) fn arp(ctx: TcContext) -> i32 {
    let mut packet = Skb(ctx.skb.skb);
    let maps = Maps(packet);
    let result = if datapath::prepare(&mut packet) {
        datapath::neighbour::arp(&mut packet, &maps)
    } else {
        Err(DropReason::InvalidPacket)
    };
    act(&packet, result)
}

/// Stands before the slow path while a node's tables are exchanged. Until the new ones are in charge, it
/// leaves every packet to the programs of the former ones, from its beginning; then those that only
/// the former ones know.
#[classifier]
pub(crate) fn consult4(ctx: TcContext) -> i32 {
    consult::<Addr4, _>(&ctx, &Same, CALL_DECIDE4)
}

#[classifier]
pub(crate) fn consult6(ctx: TcContext) -> i32 {
    consult::<Addr6, _>(&ctx, &Same, CALL_DECIDE6)
}

#[cfg(feature = "next-schema")]
#[classifier]
pub(crate) fn convert4(ctx: TcContext) -> i32 {
    consult::<Addr4, _>(&ctx, &Previous, CALL_DECIDE4)
}

#[cfg(feature = "next-schema")]
#[classifier]
pub(crate) fn convert6(ctx: TcContext) -> i32 {
    consult::<Addr6, _>(&ctx, &Previous, CALL_DECIDE6)
}

#[inline(always)]
fn consult<A, F>(ctx: &TcContext, former: &F, slow: u32) -> i32
where
    A: Address + KeyHash,
    Maps: Tables<A>,
    F: Former<A>,
{
    let mut packet = Skb(ctx.skb.skb);
    // SAFETY: the context is valid for as long as the program runs.
    let number = unsafe { (*packet.0).cb[0] };
    let mut maps = Maps(packet);
    let is_ready = is_in_charge() && datapath::prepare(&mut packet);
    if !is_ready || is_formers::<A, _, _, _>(&packet, &mut maps, former) {
        // SAFETY: a tail call returns only if the program is not there.
        unsafe { FORMER.tail_call(ctx, number) };
    }
    // SAFETY: as above.
    unsafe { CALL.tail_call(ctx, slow) };
    missing(&packet, Hook::from_number(number))
}

/// Takes a packet along the fast path, or to the program that decides about it.
///
/// Each way ends here on its own: joined ones would carry their verdicts packed and compare
/// them again.
#[inline(always)]
fn enter(ctx: &TcContext, hook: Hook) -> i32 {
    let packet = Skb(ctx.skb.skb);
    match datapath::enter(&packet, hook) {
        Ok(Path::Ipv4) => walk::<Addr4>(ctx, hook, CALL_SLOW4),
        Ok(Path::Ipv6) => walk::<Addr6>(ctx, hook, CALL_SLOW6),
        Ok(Path::Arp) => call(ctx, hook, CALL_ARP),
        Ok(Path::Stack) => act(&packet, Ok(Verdict::Pass)),
        Err(reason) => act(&packet, Err(reason)),
    }
}

/// Takes a packet of one family along the fast path, or to the slow one.
///
/// What leaves by a device is mostly none of ours, what comes in mostly is of a known flow.
#[inline(always)]
fn walk<A: Address>(ctx: &TcContext, hook: Hook, slow: u32) -> i32
where
    Maps: Tables<A>,
{
    let mut packet = Skb(ctx.skb.skb);
    let mut maps = Maps(packet);
    if hook == Hook::ToNetdev && !datapath::concerns(&packet, &maps, hook) {
        return act(&packet, Ok(Verdict::Pass));
    }
    match datapath::fast::<A, _, _>(&mut packet, &mut maps, hook) {
        Some(result) => act(&packet, result),
        None if hook == Hook::FromNetdev && !datapath::concerns(&packet, &maps, hook) => {
            act(&packet, Ok(Verdict::Pass))
        }
        None => call(ctx, hook, slow),
    }
}

/// Goes on with another program.
#[inline(always)]
fn call(ctx: &TcContext, hook: Hook, index: u32) -> i32 {
    let packet = Skb(ctx.skb.skb);
    // SAFETY: the context is valid for as long as the program runs.
    unsafe { (*packet.0).cb[0] = hook as u32 };
    // SAFETY: a tail call returns only if the program is not there.
    unsafe { CALL.tail_call(ctx, index) };
    missing(&packet, Some(hook))
}

/// Ends a packet's way where a program is missing: the node stays reachable whatever is.
#[inline(always)]
fn missing(packet: &Skb, hook: Option<Hook>) -> i32 {
    if matches!(hook, Some(hook) if hook.is_of_device()) {
        return act(packet, Ok(Verdict::Pass));
    }
    act(packet, Err(DropReason::MissedTailCall))
}

/// Runs a slow path for the hook that the packet came from.
#[inline(always)]
fn decide<A: 'static, W, S>(ctx: &TcContext, work: W, slow: S) -> i32
where
    W: Fn() -> Option<&'static mut Work<A>>,
    S: Fn(&mut Skb, &mut Maps, &mut Work<A>) -> Result<Verdict, DropReason>,
{
    let mut packet = Skb(ctx.skb.skb);
    // SAFETY: the context is valid for as long as the program runs.
    let number = unsafe { (*packet.0).cb[0] };
    let (Some(hook), Some(work)) = (Hook::from_number(number), work()) else {
        return act(&packet, Err(DropReason::MissedTailCall));
    };
    work.set_hook(hook);
    if !datapath::prepare(&mut packet) {
        return act(&packet, Err(DropReason::InvalidPacket));
    }
    let mut maps = Maps(packet);
    let result = slow(&mut packet, &mut maps, work);
    act(&packet, result)
}

/// Turns a verdict into what tc does. Passing is `UNSPEC`, never `OK`, so that filters of others
/// behind ours see the packet too.
#[inline(always)]
fn act(packet: &Skb, result: Result<Verdict, DropReason>) -> i32 {
    match result {
        Ok(Verdict::Pass) => TC_ACT_UNSPEC,
        // SAFETY: the helper only notes where the packet goes.
        Ok(Verdict::Peer(ifindex)) => unsafe { bpf_redirect_peer(ifindex, 0) as i32 },
        // SAFETY: as above.
        Ok(Verdict::Egress(ifindex)) => unsafe { bpf_redirect(ifindex, 0) as i32 },
        Ok(Verdict::Neighbour(ifindex, next_hop, family)) => neighbour(ifindex, next_hop, family),
        // SAFETY: as above.
        Ok(Verdict::Host(ifindex)) => unsafe {
            bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) as i32
        },
        Ok(Verdict::Consumed) => TC_ACT_SHOT,
        Err(reason) => {
            count_drop(reason, packet.len());
            TC_ACT_SHOT
        }
    }
}

/// Length of what names a neighbour, in bytes.
const NEIGHBOUR_LEN: i32 = 20;
const _: () = assert!(size_of::<bpf_redir_neigh>() == 20);

/// Sends a packet out of a device to a neighbour.
#[inline(always)]
fn neighbour(ifindex: u32, next_hop: NextHop, family: u8) -> i32 {
    let [low, high] = next_hop.address;
    let mut target = bpf_redir_neigh {
        nh_family: u32::from(family),
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 {
            ipv6_nh: [
                low as u32,
                (low >> 32) as u32,
                high as u32,
                (high >> 32) as u32,
            ],
        },
    };
    // SAFETY: the helper copies the target, which is as long as it says.
    unsafe { bpf_redirect_neigh(ifindex, &raw mut target, NEIGHBOUR_LEN, 0) as i32 }
}
