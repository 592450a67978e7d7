//! What the verifier wants to know of programs that hand a subprogram to a helper: where each
//! subprogram begins, and that it is a function.
//!
//! The types themselves are of no use to it here, so all subprograms share one function without
//! arguments; the compiler's own BTF would be a thousand times as long. Reference: the kernel's
//! `Documentation/bpf/btf.rst`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use aya_obj::generated::{
    BPF_CALL, BPF_DW, BPF_IMM, BPF_JMP, BPF_LD, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, bpf_insn,
};

use super::sys;

/// Describes the subprograms of a program.
#[derive(Debug)]
pub struct Functions {
    /// The types, as the kernel has them.
    pub types: OwnedFd,
    pub records: Vec<Record>,
}

/// Is one `struct bpf_func_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// Where the subprogram begins, in instructions.
    pub start: u32,
    pub type_id: u32,
}

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_LEN: u32 = 24;
/// Kinds of types, in the upper half of a word.
const KIND_FUNCTION: u32 = 12 << 24;
const KIND_PROTOTYPE: u32 = 13 << 24;
/// Number of the function's type; the prototype before it has 1.
const FUNCTION: u32 = 2;
/// Where the function's name stands among the strings, and the strings.
const NAME: u32 = 1;
const STRINGS: [u8; 10] = *b"\0function\0";

/// Describes the subprograms of a program; `None` if it hands none to a helper.
///
/// # Errors
/// The kernel's error.
pub fn functions(instructions: &[bpf_insn]) -> io::Result<Option<Functions>> {
    if !instructions.iter().any(|insn| is_reference(*insn)) {
        return Ok(None);
    }
    let records = starts(instructions)
        .into_iter()
        .map(|start| Record {
            start,
            type_id: FUNCTION,
        })
        .collect();
    let types = sys::load_btf(&types())?;
    Ok(Some(Functions { types, records }))
}

/// Returns where subprograms begin, in instructions.
fn starts(instructions: &[bpf_insn]) -> BTreeSet<u32> {
    let targets = instructions.iter().zip(0_i64..).filter_map(|(insn, at)| {
        let refers = is_call(*insn) || is_reference(*insn);
        refers.then(|| u32::try_from(at + 1 + i64::from(insn.imm)).ok())?
    });
    targets.chain([0]).collect()
}

fn is_call(insn: bpf_insn) -> bool {
    u32::from(insn.code) == BPF_JMP | BPF_CALL && u32::from(insn.src_reg()) == BPF_PSEUDO_CALL
}

fn is_reference(insn: bpf_insn) -> bool {
    u32::from(insn.code) == BPF_LD | BPF_IMM | BPF_DW
        && u32::from(insn.src_reg()) == BPF_PSEUDO_FUNC
}

/// Writes the types: a prototype without arguments that returns nothing, and a function of it.
fn types() -> Vec<u8> {
    let types: [u32; 6] = [0, KIND_PROTOTYPE, 0, NAME, KIND_FUNCTION, 1];
    let types_len = u32::try_from(size_of_val(&types)).expect("24 bytes");
    let strings_len = u32::try_from(STRINGS.len()).expect("ten bytes");
    let mut bytes = Vec::new();
    bytes.extend(MAGIC.to_ne_bytes());
    bytes.extend([VERSION, 0]);
    for word in [HEADER_LEN, 0, types_len, types_len, strings_len] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(STRINGS);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u32, src: u32, imm: i32) -> bpf_insn {
        let registers = bpf_insn::new_bitfield_1(0, u8::try_from(src).expect("fits"));
        bpf_insn {
            code: u8::try_from(code).expect("fits"),
            _bitfield_align_1: [],
            _bitfield_1: registers,
            off: 0,
            imm,
        }
    }

    #[test]
    fn subprograms_begin_where_calls_and_references_lead() {
        let call = insn(BPF_JMP | BPF_CALL, BPF_PSEUDO_CALL, 3);
        let reference = insn(BPF_LD | BPF_IMM | BPF_DW, BPF_PSEUDO_FUNC, 5);
        let helper = insn(BPF_JMP | BPF_CALL, 0, 181);

        let found = starts(&[call, reference, insn(0, 0, 0), helper]);

        assert_eq!(found, BTreeSet::from([0, 4, 7]));
    }
}
