//! Small BPF programs of somebody else, written instruction by instruction.
//!
//! They need no compiler and no kernel module: one counts packets and lets them pass on, one puts
//! a VLAN tag beside a packet. Each is pinned, as tc(8) wants it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::{Array, Map, MapData};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya_obj::generated::{bpf_insn, bpf_map_type};
use ciliate::datapath::sys;

use super::machine::BPFFS;
use super::namespace::Namespace;

/// Where the programs are pinned.
const FOLDER: &str = "foreign";

/// Is a program that is loaded and pinned.
#[derive(Debug)]
pub struct Foreign {
    pin: PathBuf,
    /// The programs that are attached by a tcx link, which go with them.
    attached: Vec<SchedClassifier>,
}

/// Is a program that counts packets, with its count.
pub struct Counter {
    pub program: Foreign,
    map: Array<MapData, u64>,
}

impl Counter {
    /// Loads a counter.
    #[expect(clippy::new_without_default, reason = "it changes the machine")]
    pub fn new() -> Self {
        let (map, fd) = new_map();
        let program = Foreign::load("count", &counting(fd));
        Self { program, map }
    }

    /// Returns how many packets the program has seen.
    pub fn count(&self) -> u64 {
        self.map.get(&0, 0).expect("read the count")
    }
}

/// Loads a program that puts a VLAN tag beside packets with this mark.
pub fn tagger(mark: u32, vlan: u16) -> Foreign {
    const MARK_OFFSET: i16 = 8;
    const VLAN_PUSH: i32 = 18;
    let protocol = i32::from(0x8100_u16.to_be());
    Foreign::load(
        "tag",
        &[
            insn(0x61, 2, 1, MARK_OFFSET, 0),        // r2 = skb->mark
            insn(0x55, 2, 0, 3, mark.cast_signed()), // if r2 != mark goto +3
            insn(0xb7, 2, 0, 0, protocol),           // r2 = protocol
            insn(0xb7, 3, 0, 0, vlan.into()),        // r3 = vlan
            insn(0x85, 0, 0, 0, VLAN_PUSH),          // call
            insn(0xb7, 0, 0, 0, -1),                 // r0 = TC_ACT_UNSPEC
            insn(0x95, 0, 0, 0, 0),                  // exit
        ],
    )
}

impl Foreign {
    fn load(name: &str, instructions: &[bpf_insn]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let program = sys::load_classifier(name, instructions)
            .unwrap_or_else(|(error, log)| panic!("load {name}: {error}: {log}"));
        let folder = Path::new(BPFFS).join(FOLDER);
        fs::create_dir_all(&folder).expect("make a folder for foreign pins");
        let pin = folder.join(format!("{name}_{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        sys::pin(program.as_fd(), &pin).expect("pin a foreign program");
        Self {
            pin,
            attached: Vec::new(),
        }
    }

    /// Attaches the program as a filter with this preference, as tc(8) does.
    pub fn attach_filter(&self, place: &Namespace, link: &str, hook: &str, preference: u32) {
        if !place
            .run(&format!("tc qdisc show dev {link}"))
            .contains("clsact")
        {
            place.run(&format!("tc qdisc add dev {link} clsact"));
        }
        place.run(&format!(
            "tc filter add dev {link} {hook} pref {preference} bpf da object-pinned {}",
            self.pin.display()
        ));
    }

    /// Attaches the program by a tcx link, before all others or behind them. The link goes with
    /// this value.
    pub fn attach_tcx(&mut self, link: &str, hook: TcAttachType, order: LinkOrder) {
        let mut program = SchedClassifier::from_pin(&self.pin).expect("open a foreign program");
        let options = TcAttachOptions::TcxOrder(order);
        program
            .attach_with_options(link, hook, options)
            .expect("attach a foreign program");
        self.attached.push(program);
    }
}

fn new_map() -> (Array<MapData, u64>, RawFd) {
    let definition = aya_obj::Map::Legacy(aya_obj::maps::LegacyMap {
        section_index: 0,
        section_kind: aya_obj::EbpfSectionKind::Maps,
        symbol_index: None,
        def: aya_obj::maps::bpf_map_def {
            map_type: bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
            ..Default::default()
        },
        inner_def: None,
        data: Vec::new(),
    });
    let data = MapData::create(definition, "count", None).expect("create a map");
    let fd = data.fd().as_fd().as_raw_fd();
    let map = Map::from_map_data(data).expect("wrap a map");
    (Array::try_from(map).expect("the map is an array"), fd)
}

fn counting(map: RawFd) -> [bpf_insn; 11] {
    const LOOKUP: i32 = 1;
    const PSEUDO_MAP_FD: u8 = 1;
    [
        insn(0x62, 10, 0, -4, 0),             // *(u32 *)(r10 - 4) = 0
        insn(0xbf, 2, 10, 0, 0),              // r2 = r10
        insn(0x07, 2, 0, 0, -4),              // r2 += -4
        insn(0x18, 1, PSEUDO_MAP_FD, 0, map), // r1 = map
        insn(0x00, 0, 0, 0, 0),               // …, second half
        insn(0x85, 0, 0, 0, LOOKUP),          // call
        insn(0x15, 0, 0, 2, 0),               // if r0 == 0 goto +2
        insn(0xb7, 1, 0, 0, 1),               // r1 = 1
        insn(0xdb, 0, 1, 0, 0),               // lock *(u64 *)r0 += r1
        insn(0xb7, 0, 0, 0, -1),              // r0 = TC_ACT_UNSPEC
        insn(0x95, 0, 0, 0, 0),               // exit
    ]
}

fn insn(code: u8, to: u8, from: u8, off: i16, imm: i32) -> bpf_insn {
    let registers = bpf_insn::new_bitfield_1(to, from);
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: registers,
        off,
        imm,
    }
}
