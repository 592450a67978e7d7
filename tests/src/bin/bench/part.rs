//! What the nanoseconds are spent on: the same-node fast path written by hand, one part more in
//! each program, and single parts alone.
//!
//! The last of the growing programs does all that `from_container` does for a TCP packet of an
//! established flow, so that what is left between the two is the price of generality.

use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use aya::programs::SchedClassifier;
use datapath::abi::{Action, Addr4, Node};
use datapath::flow::FRESH_NS;
use datapath::hook::Hook;
use datapath::packet::proto;

use crate::assembler::{Alu, Assembler, Helper, If, Reg, Width};
use crate::bed::Bed;
use crate::case::{Case, Group, REDIRECT};
use crate::frame::{ESTABLISHED, Family, tcp};
use crate::wrapper::{SKB_DATA, SKB_DATA_END};

pub(crate) const UDP: u8 = proto::UDP;

/// Is a flow of IPv4.
type Flow = datapath::abi::Flow<Addr4>;

/// Where `__sk_buff` holds what the programs read.
const SKB_LEN: i16 = 0;
const SKB_VLAN_PRESENT: i16 = 20;
const SKB_IFINDEX: i16 = 40;

/// Where headers of a packet over IPv4 stand.
const ETHERTYPE: i16 = 12;
const IP: i16 = 14;
const TTL: i16 = IP + 8;
const CHECK: i16 = IP + 10;
const TCP_FLAGS: i16 = 47;
const TCP_END: i32 = 54;

/// Where the key lies on the stack.
const KEY4: i16 = -16;
const KEY6: i16 = -40;
/// Where the index of the node's entry lies.
const NODE_INDEX: i16 = -44;

/// Registers that hold the same thing in all programs.
const CONTEXT: Reg = Reg::R6;
const DATA: Reg = Reg::R7;
const GENERATION: Reg = Reg::R8;
const FLOW: Reg = Reg::R9;

/// Returns where a field stands in a map value.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "values are shorter than 128 bytes"
)]
const fn field(offset: usize) -> i16 {
    assert!(offset < 128, "field beyond the value");
    offset as i16
}

/// Is what a growing program does, in the order in which the parts are added.
const STEPS: [(&str, &str); 8] = [
    ("parse", "parse headers, build key"),
    ("lookup", "+ look the flow up"),
    ("rewrite", "+ rewrite addresses, hop limit"),
    ("redirect", "+ redirect to peer (bare program)"),
    ("generation", "+ compare generation"),
    ("age", "+ compare age (coarse clock)"),
    ("checks", "+ check link, MACs, size, hop limit"),
    ("counts", "+ count packets and bytes"),
];

/// Lists the cases.
///
/// # Errors
/// When the kernel refuses a program.
pub(crate) fn cases(bed: &Bed) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (index, (id, title)) in STEPS.iter().enumerate() {
        let mut case = case(bed, Family::V4, id, title, growing(bed, index + 1)?);
        case.warmed_by = Some(bed.program(Hook::FromContainer)?);
        cases.push(case);
    }
    let clocks = [
        ("coarse", "ktime_get_coarse_ns alone", Helper::KtimeCoarseNs),
        ("ktime", "ktime_get_ns alone", Helper::KtimeNs),
        ("jiffies", "jiffies64 alone", Helper::Jiffies64),
    ];
    for (id, title, helper) in clocks {
        let mut code = Assembler::default();
        code.call(helper).exit_with(REDIRECT.cast_signed());
        let program = bed.loader.load("bench_clock", &code.finish())?;
        cases.push(case(bed, Family::V4, id, title, program));
    }
    for (family, name) in [(Family::V4, "v4"), (Family::V6, "v6")] {
        let (id, title) = (
            format!("lookup-{name}"),
            format!("flow lookup alone, {name}"),
        );
        cases.push(case(
            bed,
            family,
            &id,
            &title,
            lookup(bed, family, proto::TCP)?,
        ));
    }
    Ok(cases)
}

fn case(bed: &Bed, family: Family, id: &str, title: &str, program: SchedClassifier) -> Case {
    // The flow of the first case of the hooks.
    let frame = tcp(family, &bed.one, &bed.two, [40_000, 80], ESTABLISHED);
    let id = format!("part/{id}");
    Case::new(
        (Group::Parts, &id, title),
        program,
        (frame, bed.one.ifindex),
        REDIRECT,
    )
}

/// Makes the program of the first `steps` parts.
fn growing(bed: &Bed, steps: usize) -> Result<SchedClassifier> {
    let mut code = Assembler::default();
    let (flows, node) = (bed.map("FLOWS4")?, bed.map("NODE")?);
    let has = |step: usize| steps >= step;
    parse(&mut code);
    if has(5) {
        code.store_number(Width::U32, Reg::R10, NODE_INDEX, 0)
            .map(Reg::R1, node.as_fd())
            .reg(Alu::Mov, Reg::R2, Reg::R10)
            .number(Alu::Add, Reg::R2, NODE_INDEX.into())
            .call(Helper::MapLookup)
            .out_if(If::Eq, Reg::R0, 0)
            .load(
                Width::U32,
                GENERATION,
                Reg::R0,
                field(offset_of!(Node, generation)),
            );
    }
    if has(2) {
        look_up(&mut code, flows.as_fd(), KEY4);
    }
    if has(5) {
        code.load(
            Width::U32,
            Reg::R2,
            FLOW,
            field(offset_of!(Flow, generation)),
        )
        .out_if_reg(If::Ne, Reg::R2, GENERATION);
    }
    if has(6) {
        code.call(Helper::KtimeCoarseNs)
            .load(
                Width::U64,
                Reg::R2,
                FLOW,
                field(offset_of!(Flow, decided_ns)),
            )
            .reg(Alu::Sub, Reg::R0, Reg::R2)
            .out_if(If::Gt, Reg::R0, i32::try_from(FRESH_NS - 1)?);
    }
    if has(7) {
        check(&mut code);
    }
    if has(8) {
        count(&mut code);
    }
    if has(3) {
        rewrite(&mut code);
    }
    if has(4) {
        code.load(Width::U32, Reg::R1, FLOW, field(offset_of!(Flow, target)))
            .number(Alu::Mov, Reg::R2, 0)
            .call(Helper::RedirectPeer)
            .exit();
    } else {
        code.exit_with(REDIRECT.cast_signed());
    }
    bed.loader.load("bench_part", &code.finish())
}

/// Makes a program that looks the flow of a packet up and does nothing else.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn lookup(bed: &Bed, family: Family, protocol: u8) -> Result<SchedClassifier> {
    let mut code = Assembler::default();
    let (map, key, addresses, halves) = match family {
        Family::V4 => ("FLOWS4", KEY4, IP + 12, 1),
        Family::V6 => ("FLOWS6", KEY6, IP + 8, 4),
    };
    begin(&mut code, i32::from(addresses) + halves * 8 + 4);
    let mut at = 0;
    for _ in 0..halves {
        code.load(Width::U64, Reg::R2, DATA, addresses + at).store(
            Width::U64,
            Reg::R10,
            key + at,
            Reg::R2,
        );
        at += 8;
    }
    code.load(Width::U32, Reg::R2, DATA, addresses + at)
        .store(Width::U32, Reg::R10, key + at, Reg::R2)
        .store_number(Width::U32, Reg::R10, key + at + 4, protocol.into());
    let flows = bed.map(map)?;
    look_up(&mut code, flows.as_fd(), key);
    code.exit_with(REDIRECT.cast_signed());
    bed.loader.load("bench_lookup", &code.finish())
}

/// Brings context and packet into their registers, if the packet has `len` bytes.
fn begin(code: &mut Assembler, len: i32) {
    code.reg(Alu::Mov, CONTEXT, Reg::R1)
        .load(Width::U32, DATA, CONTEXT, SKB_DATA)
        .load(Width::U32, Reg::R3, CONTEXT, SKB_DATA_END)
        .reg(Alu::Mov, Reg::R2, DATA)
        .number(Alu::Add, Reg::R2, len)
        .out_if_reg(If::Gt, Reg::R2, Reg::R3);
}

/// Checks that the packet is plain TCP over IPv4, and builds its key.
fn parse(code: &mut Assembler) {
    begin(code, TCP_END);
    code.load(Width::U32, Reg::R2, CONTEXT, SKB_VLAN_PRESENT)
        .out_if(If::Ne, Reg::R2, 0)
        .load(Width::U16, Reg::R2, DATA, ETHERTYPE)
        .out_if(If::Ne, Reg::R2, 0x0800_u16.to_be().into())
        .load(Width::U8, Reg::R2, DATA, IP)
        .out_if(If::Ne, Reg::R2, 0x45)
        .load(Width::U16, Reg::R2, DATA, IP + 6)
        .number(Alu::And, Reg::R2, 0x3fff_u16.to_be().into())
        .out_if(If::Ne, Reg::R2, 0)
        .load(Width::U8, Reg::R2, DATA, IP + 9)
        .out_if(If::Ne, Reg::R2, proto::TCP.into())
        .load(Width::U8, Reg::R2, DATA, TCP_FLAGS)
        .number(Alu::And, Reg::R2, 7)
        .out_if(If::Ne, Reg::R2, 0)
        .load(Width::U64, Reg::R2, DATA, IP + 12)
        .store(Width::U64, Reg::R10, KEY4, Reg::R2)
        .load(Width::U32, Reg::R2, DATA, IP + 20)
        .store(Width::U32, Reg::R10, KEY4 + 8, Reg::R2)
        .store_number(Width::U32, Reg::R10, KEY4 + 12, proto::TCP.into());
}

fn look_up(code: &mut Assembler, flows: BorrowedFd<'_>, key: i16) {
    code.map(Reg::R1, flows)
        .reg(Alu::Mov, Reg::R2, Reg::R10)
        .number(Alu::Add, Reg::R2, key.into())
        .call(Helper::MapLookup)
        .out_if(If::Eq, Reg::R0, 0)
        .reg(Alu::Mov, FLOW, Reg::R0);
}

fn check(code: &mut Assembler) {
    /// Where the number of the action stands; the field is private.
    const ACTION: i16 = field(offset_of!(Flow, mtu)) + 2;
    code.load(Width::U32, Reg::R2, CONTEXT, SKB_IFINDEX)
        .load(Width::U32, Reg::R3, FLOW, field(offset_of!(Flow, zone)))
        .out_if_reg(If::Ne, Reg::R2, Reg::R3)
        .load(Width::U8, Reg::R2, FLOW, ACTION)
        .out_if(If::Ne, Reg::R2, Action::Peer as i32);
    for at in [0, 4, 8] {
        code.load(Width::U32, Reg::R2, DATA, at)
            .load(
                Width::U32,
                Reg::R3,
                FLOW,
                field(offset_of!(Flow, arrives)) + at,
            )
            .out_if_reg(If::Ne, Reg::R2, Reg::R3);
    }
    code.load(Width::U8, Reg::R2, DATA, TTL)
        .out_if(If::Lt, Reg::R2, 2)
        .load(Width::U32, Reg::R2, CONTEXT, SKB_LEN)
        .load(Width::U16, Reg::R3, FLOW, field(offset_of!(Flow, mtu)))
        .number(Alu::Add, Reg::R3, IP.into())
        .out_if_reg(If::Gt, Reg::R2, Reg::R3);
}

fn count(code: &mut Assembler) {
    code.load(Width::U64, Reg::R2, FLOW, field(offset_of!(Flow, packets)))
        .number(Alu::Add, Reg::R2, 1)
        .store(Width::U64, FLOW, field(offset_of!(Flow, packets)), Reg::R2)
        .load(Width::U32, Reg::R3, CONTEXT, SKB_LEN)
        .load(Width::U64, Reg::R2, FLOW, field(offset_of!(Flow, bytes)))
        .reg(Alu::Add, Reg::R2, Reg::R3)
        .store(Width::U64, FLOW, field(offset_of!(Flow, bytes)), Reg::R2);
}

/// Writes the addresses, takes one from the hop limit and adds it to the checksum.
fn rewrite(code: &mut Assembler) {
    for at in [0, 4, 8] {
        code.load(
            Width::U32,
            Reg::R2,
            FLOW,
            field(offset_of!(Flow, leaves)) + at,
        )
        .store(Width::U32, DATA, at, Reg::R2);
    }
    code.load(Width::U8, Reg::R2, DATA, TTL)
        .number(Alu::Sub, Reg::R2, 1)
        .store(Width::U8, DATA, TTL, Reg::R2)
        .load(Width::U16, Reg::R2, DATA, CHECK)
        .number(Alu::Add, Reg::R2, 0x0100_u16.to_be().into())
        .reg(Alu::Mov, Reg::R3, Reg::R2)
        .number(Alu::Shr, Reg::R3, 16)
        .reg(Alu::Add, Reg::R2, Reg::R3)
        .store(Width::U16, DATA, CHECK, Reg::R2);
}
