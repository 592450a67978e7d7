//! The bpf(2) calls that aya does not offer: loading a program without an `Ebpf` object, and tcx
//! links by interface index.
//!
//! aya's loader parses the kernel's whole BTF at every start, which costs more time and memory
//! than everything else that an apply does; our programs need none of it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Pod;
use aya_obj::generated::{
    BPF_ALU64, BPF_EXIT, BPF_F_NETFILTER_IP_DEFRAG, BPF_JMP, BPF_K, BPF_MOV, bpf_attach_type,
    bpf_attr, bpf_attr__bindgen_ty_3, bpf_cmd, bpf_insn, bpf_link_info, bpf_prog_type,
};
use nix::libc;

use super::btf::{self, Record};

/// Number of programs that a tcx hook takes (`BPF_MPROG_MAX`).
const MOST_ON_A_HOOK: usize = 64;

/// Place among the programs of a netfilter hook. It must be behind that of the kernel's own joining
/// of fragments (-400).
const NETFILTER_PRIORITY: i32 = -100;

/// What a netfilter program returns to let a packet pass.
const NF_ACCEPT: u32 = 1;

/// Size of the buffer for the verifier's log, in bytes.
const LOG_LEN: usize = 1 << 20;

/// What the verifier writes into its log: its walk through the program, or only what that cost.
const LOG_WALK: u32 = 1;
const LOG_STATISTICS: u32 = 4;

/// Loads a program of the type `SCHED_CLS`.
///
/// # Errors
/// The kernel's error, and the end of the verifier's log.
pub fn load_classifier(
    name: &str,
    instructions: &[bpf_insn],
) -> Result<OwnedFd, (io::Error, String)> {
    let first = load(name, instructions, 0, &mut []);
    first.or_else(|error| {
        if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM)) {
            return Err((error, String::new()));
        }
        let mut log = vec![0_u8; LOG_LEN];
        load(name, instructions, LOG_WALK, &mut log).map_err(|error| {
            let text = CStr::from_bytes_until_nul(&log)
                .unwrap_or_default()
                .to_string_lossy();
            let from = text
                .char_indices()
                .rev()
                .nth(2_000)
                .map_or(0, |(index, _)| index);
            (error, text[from..].to_owned())
        })
    })
}

/// Takes a program of the type `SCHED_CLS` through the verifier and returns what that cost, in
/// the verifier's words.
///
/// # Errors
/// The kernel's error.
pub fn classifier_statistics(name: &str, instructions: &[bpf_insn]) -> io::Result<String> {
    let mut log = vec![0_u8; LOG_LEN];
    load(name, instructions, LOG_STATISTICS, &mut log)?;
    Ok(CStr::from_bytes_until_nul(&log)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned())
}

fn load(
    name: &str,
    instructions: &[bpf_insn],
    log_level: u32,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let functions = btf::functions(instructions)?;
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_PROG_LOAD reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    if let Some(functions) = &functions {
        let records = &functions.records;
        load.prog_btf_fd = functions.types.as_raw_fd().cast_unsigned();
        load.func_info = records.as_ptr() as u64;
        load.func_info_cnt = u32::try_from(records.len()).map_err(io::Error::other)?;
        load.func_info_rec_size = u32::try_from(size_of::<Record>()).map_err(io::Error::other)?;
    }
    load.license = c"Dual MIT/GPL".as_ptr() as u64;
    for (to, from) in load.prog_name[..15].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    if !log.is_empty() {
        load.log_level = log_level;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = u32::try_from(log.len()).map_err(io::Error::other)?;
    }
    new_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Loads types of programs.
///
/// # Errors
/// The kernel's error.
pub fn load_btf(types: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_BTF_LOAD reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = types.as_ptr() as u64;
    load.btf_size = u32::try_from(types.len()).map_err(io::Error::other)?;
    new_fd(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

/// Pins an object at a path of a BPF file system.
///
/// # Errors
/// The kernel's error.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_OBJ_PIN reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let object = unsafe { &mut attr.__bindgen_anon_4 };
    object.pathname = path.as_ptr() as u64;
    object.bpf_fd = fd.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned object.
///
/// # Errors
/// The kernel's error.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_OBJ_GET reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let object = unsafe { &mut attr.__bindgen_anon_4 };
    object.pathname = path.as_ptr() as u64;
    new_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Attaches a program to a tcx hook of the link with this index.
///
/// # Errors
/// The kernel's error; `EINVAL` from a kernel without tcx.
pub fn create_tcx_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    hook: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_LINK_CREATE reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let create = unsafe { &mut attr.link_create };
    create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    create.__bindgen_anon_2.target_ifindex = ifindex;
    create.attach_type = hook as u32;
    new_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Replaces the program of a link in one step.
///
/// # Errors
/// The kernel's error.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_LINK_UPDATE reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let update = unsafe { &mut attr.link_update };
    update.link_fd = link.as_raw_fd().cast_unsigned();
    update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Loads a netfilter program that accepts every packet.
///
/// # Errors
/// The kernel's error; `EINVAL` before 6.4.
pub fn load_netfilter() -> io::Result<OwnedFd> {
    let instructions = [
        instruction(BPF_ALU64 | BPF_MOV | BPF_K, NF_ACCEPT),
        instruction(BPF_JMP | BPF_EXIT, 0),
    ];
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_PROG_LOAD reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_NETFILTER as u32;
    load.expected_attach_type = bpf_attach_type::BPF_NETFILTER as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    load.license = c"Dual MIT/GPL".as_ptr() as u64;
    for (to, from) in load.prog_name[..15].iter_mut().zip(b"reassemble") {
        *to = from.cast_signed();
    }
    new_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Attaches a netfilter program to the hook of forwarded packets of a family, in the namespace of
/// the calling thread, and has it see whole datagrams.
///
/// # Errors
/// The kernel's error; `ENOENT` if it cannot put fragments together.
pub fn create_netfilter_link(program: BorrowedFd<'_>, is_ipv6: bool) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_LINK_CREATE reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let create = unsafe { &mut attr.link_create };
    create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    create.attach_type = bpf_attach_type::BPF_NETFILTER as u32;
    // SAFETY: as above: the member of the attach type.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let netfilter = unsafe { &mut create.__bindgen_anon_3.netfilter };
    let family = if is_ipv6 {
        libc::NFPROTO_IPV6
    } else {
        libc::NFPROTO_IPV4
    };
    netfilter.pf = family.cast_unsigned();
    netfilter.hooknum = libc::NF_INET_FORWARD.cast_unsigned();
    netfilter.priority = NETFILTER_PRIORITY;
    netfilter.flags = BPF_F_NETFILTER_IP_DEFRAG;
    new_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

fn instruction(code: u32, imm: u32) -> bpf_insn {
    bpf_insn {
        code: u8::try_from(code).expect("a code is a byte"),
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm: imm.cast_signed(),
    }
}

/// Describes a tcx link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcxLink {
    pub id: u32,
    pub program_id: u32,
    /// Index of the link that it is attached to; 0 once that one is gone.
    pub ifindex: u32,
}

/// Describes the tcx link behind a descriptor.
///
/// # Errors
/// The kernel's error.
pub fn tcx_link_info(link: BorrowedFd<'_>) -> io::Result<TcxLink> {
    let mut info = link_info_zeroed();
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd().cast_unsigned();
    attr.info.info = (&raw mut info) as u64;
    attr.info.info_len = u32::try_from(size_of::<bpf_link_info>()).map_err(io::Error::other)?;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: every member of the union is plain integers, and `tcx` is the one that the kernel
    // fills for the links that we make.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let ifindex = unsafe { info.__bindgen_anon_1.tcx.ifindex };
    Ok(TcxLink {
        id: info.id,
        program_id: info.prog_id,
        ifindex,
    })
}

/// Lists the ids of the tcx links on a hook of the link with this index, in the namespace of the
/// calling thread.
///
/// # Errors
/// The kernel's error.
pub fn tcx_links(ifindex: u32, hook: bpf_attach_type) -> io::Result<Vec<u32>> {
    let mut programs = [0_u32; MOST_ON_A_HOOK];
    let mut links = [0_u32; MOST_ON_A_HOOK];
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_PROG_QUERY reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let query = unsafe { &mut attr.query };
    query.__bindgen_anon_1.target_ifindex = ifindex;
    query.attach_type = hook as u32;
    query.prog_ids = programs.as_mut_ptr() as u64;
    query.link_ids = links.as_mut_ptr() as u64;
    query.__bindgen_anon_2.count = u32::try_from(MOST_ON_A_HOOK).map_err(io::Error::other)?;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // A program without a link has id 0, as have the places that the kernel left alone.
    Ok(links.into_iter().filter(|id| *id != 0).collect())
}

/// Reads entries of a hash table into keys and values, from where an earlier call stopped or from the
/// beginning; returns how many there were, and where it stopped if there are more.
///
/// # Errors
/// The kernel's error: `ENOSPC` if there is not even room for those that lie together.
pub fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    (keys, values): (&mut [K], &mut [V]),
) -> io::Result<(usize, Option<u32>)> {
    let (from_ptr, mut stopped) = (
        from.as_ref().map_or(0, |from| &raw const *from as u64),
        0_u32,
    );
    let mut attr = zeroed();
    attr.batch = bpf_attr__bindgen_ty_3 {
        in_batch: from_ptr,
        out_batch: &raw mut stopped as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(keys.len().min(values.len())).map_err(io::Error::other)?,
        map_fd: map.as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
    // SAFETY: this member is the one that was written above, and the kernel wrote the count.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let count = unsafe { attr.batch.count } as usize;
    match result {
        Ok(_) => Ok((count, Some(stopped))),
        // That was all of them.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((count, None)),
        Err(error) => Err(error),
    }
}

/// Says which entry may be there before one is written (`BPF_ANY`, `BPF_NOEXIST`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Presence {
    Any = 0,
    Absent = 1,
}

/// Reads an entry of a map, if it is there.
///
/// # Errors
/// The kernel's error.
pub fn lookup<K: Pod, V: Pod + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::default();
    let mut attr = element(map, key, (&raw mut value) as u64, 0);
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes an entry of a map. Key and value are as long as the map's.
///
/// # Errors
/// The kernel's error: `EEXIST` if the entry should be absent and is not.
pub fn update<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
    presence: Presence,
) -> io::Result<()> {
    let mut attr = element(map, key, (&raw const *value) as u64, presence as u64);
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Removes an entry of a map; one that is not there is what was wanted.
///
/// # Errors
/// The kernel's error.
pub fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    match bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut element(map, key, 0, 0)) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn element<K: Pod>(map: BorrowedFd<'_>, key: &K, value: u64, flags: u64) -> bpf_attr {
    let mut attr = zeroed();
    // SAFETY: this member is the one that commands about one entry read; any bytes are valid.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd().cast_unsigned();
    element.key = (&raw const *key) as u64;
    element.__bindgen_anon_1.value = value;
    element.flags = flags;
    attr
}

/// Waits until every program that runs now, on whatever processor, has ended.
///
/// # Errors
/// The kernel's error.
pub fn wait_for_programs() -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    #[expect(unsafe_code, reason = "membarrier(2) has no wrapper")]
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tells whether the kernel has tcx, by asking what is attached to the link with this index.
pub fn has_tcx(ifindex: u32) -> bool {
    let mut attr = zeroed();
    // SAFETY: this member is the one that BPF_PROG_QUERY reads; any bytes are valid for it.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    let query = unsafe { &mut attr.query };
    query.__bindgen_anon_1.target_ifindex = ifindex;
    query.attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr).is_ok()
}

pub(super) fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers and pointers; all zero is what the kernel wants in the
    // parts that a command does not use.
    #[expect(unsafe_code, reason = "the kernel's interface is a union")]
    unsafe {
        std::mem::zeroed()
    }
}

fn link_info_zeroed() -> bpf_link_info {
    // SAFETY: plain integers and unions of them.
    #[expect(unsafe_code, reason = "the kernel's interface has unions")]
    unsafe {
        std::mem::zeroed()
    }
}

fn new_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(bpf(command, attr)?).map_err(io::Error::other)?;
    #[expect(
        unsafe_code,
        reason = "takes ownership of a descriptor that nobody else has"
    )]
    // SAFETY: the kernel has just made the descriptor for this call; it has CLOEXEC set.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(owned)
}

pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` has the size that is passed, and the pointers inside it outlive the call.
    #[expect(unsafe_code, reason = "bpf(2) has no wrapper for these commands")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
