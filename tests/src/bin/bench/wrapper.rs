//! The program around the program under test.
//!
//! ```text
//!  test run ──► wrapper: restores the packet, may choose another flow ──tail call──► program
//!               the same wrapper                                      ──tail call──► return
//! ```
//!
//! Without it the hop limit would fall with each run and the addresses would be wrong from the
//! second one on. What the wrapper costs is measured beside each case, with a program that
//! returns at once in the place of the one under test, and subtracted. The number of the run is
//! in `cb[4]`, which the datapath leaves alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::programs::SchedClassifier;
use aya_obj::generated::{bpf_insn, bpf_map_type};
use ciliate::datapath::sys;

use crate::assembler::{Alu, Assembler, Helper, If, Reg, Width};
use crate::frame::Frame;

/// Where `__sk_buff` holds what a wrapper reads.
pub(crate) const SKB_DATA: i16 = 76;
pub(crate) const SKB_DATA_END: i16 = 80;
const SKB_COUNT: i16 = 64;

/// Number of destinations of a table, a power of two. Each is an address, and an identification that
/// keeps the checksum of the header.
pub(crate) const DESTINATIONS: u32 = 1 << 17;

/// Where these stand in a packet of IPv4.
const DESTINATION: i16 = 30;
const IDENTIFICATION: i16 = 18;

/// Number of flows of the cold cases.
pub(crate) const FLOWS: u32 = 100_000;

/// Tells which flow each run's packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vary {
    /// All runs are packets of one flow.
    Same,
    /// Each run is the first packet of a flow that was never seen.
    New,
    /// The same, and the runs take turns over the destinations of a table, which takes the place of
    /// that of the ports.
    NewTo,
    /// The runs take turns over [`FLOWS`] flows in random order, with `1 << shift` packets each.
    Turns { shift: u8 },
}

/// Loads programs that consist of plain instructions.
pub(crate) struct Loader {
    /// Folder in a BPF file system.
    folder: PathBuf,
}

impl Loader {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Loads a program.
    ///
    /// # Errors
    /// The kernel's error, with the verifier's last words.
    pub(crate) fn load(&self, name: &str, instructions: &[bpf_insn]) -> Result<SchedClassifier> {
        let program = sys::load_classifier(name, instructions)
            .map_err(|(error, log)| anyhow::anyhow!("load program {name}: {error} ({log})"))?;
        // aya makes programs of its own objects and of pins only.
        let pin = self.folder.join("new");
        sys::pin(program.as_fd(), &pin).with_context(|| format!("pin program {name}"))?;
        let opened = open(&pin);
        std::fs::remove_file(&pin).with_context(|| format!("remove pin of {name}"))?;
        opened
    }
}

/// Opens a pinned program.
///
/// # Errors
/// When it is not there, or not a tc program.
pub(crate) fn open(pin: &Path) -> Result<SchedClassifier> {
    SchedClassifier::from_pin(pin).with_context(|| format!("open program {}", pin.display()))
}

/// Is a wrapper in front of a program.
pub(crate) struct Wrapped {
    pub(crate) entry: SchedClassifier,
    /// A program array lets go of its programs when the last descriptor is closed.
    _calls: ProgramArray<MapData>,
}

/// Puts a wrapper in front of a program.
///
/// # Errors
/// When the kernel refuses map or program.
pub(crate) fn wrap(
    loader: &Loader,
    frame: &Frame,
    vary: Vary,
    ports: BorrowedFd<'_>,
    program: &SchedClassifier,
) -> Result<Wrapped> {
    let map =
        aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32, 4, 4, 1, 0);
    let data = MapData::create(map, "bench_call", None).context("create map of tail calls")?;
    let code = instructions(frame, vary, ports, data.fd().as_fd());
    let entry = loader.load("bench_wrapper", &code)?;
    let mut calls = ProgramArray::try_from(Map::from_map_data(data)?)?;
    calls
        .set(0, program.fd()?, 0)
        .context("fill map of tail calls")?;
    Ok(Wrapped {
        entry,
        _calls: calls,
    })
}

fn instructions(
    frame: &Frame,
    vary: Vary,
    ports: BorrowedFd<'_>,
    calls: BorrowedFd<'_>,
) -> Vec<bpf_insn> {
    let mut code = Assembler::default();
    code.reg(Alu::Mov, Reg::R6, Reg::R1)
        .load(Width::U32, Reg::R7, Reg::R1, SKB_DATA)
        .load(Width::U32, Reg::R3, Reg::R1, SKB_DATA_END)
        .reg(Alu::Mov, Reg::R2, Reg::R7)
        .number(Alu::Add, Reg::R2, i32::from(offset(frame.bytes.len())))
        .out_if_reg(If::Gt, Reg::R2, Reg::R3);
    for (start, len) in &frame.rewritten {
        restore(&mut code, &frame.bytes, *start, *len);
    }
    choose(&mut code, vary, ports, offset(frame.ports_offset));
    code.reg(Alu::Mov, Reg::R1, Reg::R6)
        .map(Reg::R2, calls)
        .number(Alu::Mov, Reg::R3, 0)
        .call(Helper::TailCall);
    code.number(Alu::Mov, Reg::R0, 0).out_if(If::Eq, Reg::R0, 0);
    code.finish()
}

/// Writes the original bytes, eight at a time if the length is a multiple of that, else four.
fn restore(code: &mut Assembler, bytes: &[u8], start: usize, len: usize) {
    let step = if len.is_multiple_of(8) { 8 } else { 4 };
    for (index, part) in bytes[start..start + len].chunks(step).enumerate() {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        let [a, b, c, d, ..] = word;
        let first = u32::from_ne_bytes([a, b, c, d]);
        let at = offset(start + index * step);
        match part.len() {
            8 => code.number64(Reg::R2, u64::from_ne_bytes(word)).store(
                Width::U64,
                Reg::R7,
                at,
                Reg::R2,
            ),
            4 => code.store_number(Width::U32, Reg::R7, at, first),
            _ => code.store_number(Width::U16, Reg::R7, at, first),
        };
    }
}

/// Writes the ports of the run's flow.
fn choose(code: &mut Assembler, vary: Vary, ports: BorrowedFd<'_>, at: i16) {
    if vary == Vary::Same {
        return;
    }
    code.load(Width::U32, Reg::R1, Reg::R6, SKB_COUNT);
    if let Vary::Turns { shift } = vary {
        code.skip_if(If::Lt, Reg::R1, FLOWS << shift, 1)
            .number(Alu::Mov, Reg::R1, 0);
    }
    code.reg(Alu::Mov, Reg::R2, Reg::R1)
        .number(Alu::Add, Reg::R2, 1)
        .store(Width::U32, Reg::R6, SKB_COUNT, Reg::R2);
    if let Vary::Turns { shift } = vary {
        code.number(Alu::Shr, Reg::R1, i32::from(shift))
            .number(Alu::Shl, Reg::R1, 2)
            .map_value(Reg::R2, ports)
            .reg(Alu::Add, Reg::R2, Reg::R1)
            .load(Width::U32, Reg::R1, Reg::R2, 0);
    }
    code.store(Width::U32, Reg::R7, at, Reg::R1);
    if vary == Vary::NewTo {
        code.number(Alu::And, Reg::R1, (DESTINATIONS - 1).cast_signed())
            .number(Alu::Shl, Reg::R1, 3)
            .map_value(Reg::R2, ports)
            .reg(Alu::Add, Reg::R2, Reg::R1)
            .load(Width::U32, Reg::R1, Reg::R2, 0)
            .store(Width::U32, Reg::R7, DESTINATION, Reg::R1)
            .load(Width::U32, Reg::R1, Reg::R2, 4)
            .store(Width::U16, Reg::R7, IDENTIFICATION, Reg::R1);
    }
}

/// Makes the table of the ports of all flows, in random order.
///
/// # Errors
/// When the kernel refuses the map.
pub(crate) fn ports_table() -> Result<OwnedFd> {
    let mut ports: Vec<u32> = (0..FLOWS)
        .map(|number| (1_024 + number % 50_000) << 16 | (2_000 + number / 50_000))
        .map(u32::to_be)
        .collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for index in (1..ports.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = usize::try_from(random >> 33)? % (index + 1);
        ports.swap(index, other);
    }
    let value = FLOWS * 4;
    let map =
        aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, 4, value, 1, 0);
    let data = MapData::create(map, "bench_ports", None).context("create table of ports")?;
    let fd = data
        .fd()
        .as_fd()
        .try_clone_to_owned()
        .context("duplicate descriptor")?;
    let mut table = Array::<_, [u32; FLOWS as usize]>::try_from(Map::from_map_data(data)?)?;
    let ports: Box<[u32; FLOWS as usize]> = ports
        .into_boxed_slice()
        .try_into()
        .map_err(|_| anyhow::anyhow!("wrong number of flows"))?;
    table.set(0, ports, 0).context("fill table of ports")?;
    Ok(fd)
}

fn offset(bytes: usize) -> i16 {
    i16::try_from(bytes).unwrap_or(i16::MAX)
}
