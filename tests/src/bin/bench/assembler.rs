//! BPF instructions, written by hand: for programs whose every instruction has to be known,
//! because their cost is subtracted from, or compared with, that of the programs under test.
//!
//! There is one label, the way out: every check that fails jumps there, and the program then
//! returns [`MISS`], which no program under test does.

use std::os::fd::{AsRawFd, BorrowedFd};

use aya_obj::generated::bpf_insn;

/// Is what a program returns whose checks failed.
pub(crate) const MISS: u32 = 99;

/// Names a register.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Reg {
    R0 = 0,
    R1,
    R2,
    R3,
    R6 = 6,
    R7,
    R8,
    R9,
    R10,
}

/// Names the width of a load or store; the number is the kernel's `BPF_SIZE`.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Width {
    U32 = 0x00,
    U16 = 0x08,
    U8 = 0x10,
    U64 = 0x18,
}

/// Names an operation on a 64-bit register; the number is the kernel's `BPF_OP`.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Alu {
    Add = 0x00,
    Sub = 0x10,
    And = 0x50,
    Shl = 0x60,
    Shr = 0x70,
    Mov = 0xb0,
}

/// Names an unsigned comparison; the number is the kernel's `BPF_OP`.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum If {
    Eq = 0x10,
    Gt = 0x20,
    Ne = 0x50,
    Lt = 0xa0,
}

/// Names a helper; the number is the kernel's.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum Helper {
    MapLookup = 1,
    KtimeNs = 5,
    TailCall = 12,
    Jiffies64 = 118,
    RedirectPeer = 155,
    KtimeCoarseNs = 160,
}

const LDX: u8 = 0x61;
const ST: u8 = 0x62;
const STX: u8 = 0x63;
const ALU64: u8 = 0x07;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LOAD_IMM64: u8 = 0x18;
/// The operand is a register, not a number.
const FROM_REG: u8 = 0x08;

const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;

/// Collects instructions.
#[derive(Clone, Default)]
pub(crate) struct Assembler {
    instructions: Vec<bpf_insn>,
    /// Indices of the jumps to the way out.
    outs: Vec<usize>,
}

impl Assembler {
    /// Loads from `base + offset`.
    pub(crate) fn load(&mut self, width: Width, to: Reg, base: Reg, offset: i16) -> &mut Self {
        self.push(LDX | width as u8, to as u8, base as u8, offset, 0)
    }

    /// Stores a register at `base + offset`.
    pub(crate) fn store(&mut self, width: Width, base: Reg, offset: i16, from: Reg) -> &mut Self {
        self.push(STX | width as u8, base as u8, from as u8, offset, 0)
    }

    /// Loads a number of 64 bits.
    pub(crate) fn number64(&mut self, to: Reg, number: u64) -> &mut Self {
        let half = |shift| u32::try_from(number >> shift & u64::from(u32::MAX)).unwrap_or_default();
        self.push(LOAD_IMM64, to as u8, 0, 0, half(0).cast_signed());
        self.push(0, 0, 0, 0, half(32).cast_signed())
    }

    /// Stores a number at `base + offset`.
    pub(crate) fn store_number(
        &mut self,
        width: Width,
        base: Reg,
        offset: i16,
        number: u32,
    ) -> &mut Self {
        self.push(
            ST | width as u8,
            base as u8,
            0,
            offset,
            number.cast_signed(),
        )
    }

    /// Combines a register with a number.
    pub(crate) fn number(&mut self, alu: Alu, to: Reg, number: i32) -> &mut Self {
        self.push(ALU64 | alu as u8, to as u8, 0, 0, number)
    }

    /// Combines a register with another.
    pub(crate) fn reg(&mut self, alu: Alu, to: Reg, from: Reg) -> &mut Self {
        self.push(ALU64 | FROM_REG | alu as u8, to as u8, from as u8, 0, 0)
    }

    /// Leaves by the way out if a register compares so with a number.
    pub(crate) fn out_if(&mut self, condition: If, left: Reg, right: i32) -> &mut Self {
        self.outs.push(self.instructions.len());
        self.push(JMP | condition as u8, left as u8, 0, 0, right)
    }

    /// Leaves by the way out if a register compares so with another.
    pub(crate) fn out_if_reg(&mut self, condition: If, left: Reg, right: Reg) -> &mut Self {
        self.outs.push(self.instructions.len());
        self.push(
            JMP | FROM_REG | condition as u8,
            left as u8,
            right as u8,
            0,
            0,
        )
    }

    /// Jumps over the next `count` instructions if the lower half of a register compares so with
    /// a number.
    pub(crate) fn skip_if(
        &mut self,
        condition: If,
        left: Reg,
        right: u32,
        count: i16,
    ) -> &mut Self {
        self.push(
            JMP32 | condition as u8,
            left as u8,
            0,
            count,
            right.cast_signed(),
        )
    }

    /// Calls a helper.
    pub(crate) fn call(&mut self, helper: Helper) -> &mut Self {
        self.push(CALL, 0, 0, 0, helper as i32)
    }

    /// Loads a map, for a helper.
    pub(crate) fn map(&mut self, to: Reg, map: BorrowedFd<'_>) -> &mut Self {
        self.push(LOAD_IMM64, to as u8, PSEUDO_MAP_FD, 0, map.as_raw_fd());
        self.push(0, 0, 0, 0, 0)
    }

    /// Loads the address of the only value of an array.
    pub(crate) fn map_value(&mut self, to: Reg, map: BorrowedFd<'_>) -> &mut Self {
        self.push(LOAD_IMM64, to as u8, PSEUDO_MAP_VALUE, 0, map.as_raw_fd());
        self.push(0, 0, 0, 0, 0)
    }

    /// Ends the program, which returns register 0.
    pub(crate) fn exit(&mut self) -> &mut Self {
        self.push(EXIT, 0, 0, 0, 0)
    }

    /// Ends the program, which returns a number.
    pub(crate) fn exit_with(&mut self, number: i32) -> &mut Self {
        self.number(Alu::Mov, Reg::R0, number).exit()
    }

    /// Appends the way out and returns the instructions.
    pub(crate) fn finish(&self) -> Vec<bpf_insn> {
        let mut program = self.clone();
        let target = program.instructions.len();
        for index in &self.outs {
            let distance = target - index - 1;
            program.instructions[*index].off = i16::try_from(distance).unwrap_or(i16::MAX);
        }
        if !self.outs.is_empty() {
            // The kernel refuses instructions that nothing leads to.
            program.exit_with(MISS.cast_signed());
        }
        program.instructions
    }

    fn push(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) -> &mut Self {
        self.instructions.push(bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(dst, src),
            off,
            imm,
        });
        self
    }
}
