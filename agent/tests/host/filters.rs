//! Our BPF filters beside those of others.

use std::os::fd::{FromRawFd, OwnedFd};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};
use ciliate::host::clsact::{self, Filter};
use ciliate::host::{Netlink, link};
use ciliate::plan::object::Hook;

use crate::isolated;

/// Loads `return code` as a classifier.
#[expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]
fn load(code: i32) -> OwnedFd {
    let instruction = |code, imm| {
        let mut instruction = bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
            off: 0,
            imm,
        };
        instruction.set_dst_reg(0);
        instruction
    };
    let program = [instruction(0xb7, code), instruction(0x95, 0)]; // r0 = code; exit
    let license = c"MIT";
    // SAFETY: an attribute of all zeroes is valid: every field is a number.
    let mut attribute: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: `BPF_PROG_LOAD` reads this member of the union.
    let request = unsafe { &mut attribute.__bindgen_anon_3 };
    request.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32;
    request.insn_cnt = u32::try_from(program.len()).unwrap();
    request.insns = program.as_ptr() as u64;
    request.license = license.as_ptr() as u64;
    // SAFETY: the attribute and what it points to outlive the call.
    let fd = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            bpf_cmd::BPF_PROG_LOAD,
            &raw const attribute,
            size_of::<bpf_attr>(),
        )
    };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel just returned this descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

fn ours(netlink: &mut Netlink, link: u32, hook: Hook) -> Vec<Filter> {
    let filters = clsact::dump(netlink, link, hook).unwrap();
    filters.into_iter().filter(Filter::is_ours).collect()
}

/// Splits at blanks, but keeps the bytecode, which has some, in one piece.
fn words(arguments: &str) -> Vec<&str> {
    let (rest, bytecode) = match arguments.split_once(" bytecode ") {
        Some((rest, bytecode)) => (rest, vec!["bytecode", bytecode]),
        None => (arguments, Vec::new()),
    };
    rest.split(' ').chain(bytecode).collect()
}

fn tc(arguments: &str) -> String {
    let output = std::process::Command::new("tc")
        .args(words(arguments))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tc {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn filter_is_added_and_replaced_in_place() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let lo = link::index(&mut netlink, "lo").unwrap();
        clsact::ensure_qdisc(&mut netlink, lo).unwrap();
        clsact::ensure_qdisc(&mut netlink, lo).unwrap();

        clsact::set(&mut netlink, lo, Hook::Ingress, "from_container", load(0)).unwrap();
        let first = ours(&mut netlink, lo, Hook::Ingress);
        clsact::set(&mut netlink, lo, Hook::Ingress, "from_container", load(-1)).unwrap();
        let second = ours(&mut netlink, lo, Hook::Ingress);

        assert_eq!((first.len(), second.len()), (1, 1));
        assert_eq!(first[0].name, "from_container");
        assert_ne!(first[0].program_id, second[0].program_id);
        assert_ne!(first[0].tag, second[0].tag);
        assert_eq!(ours(&mut netlink, lo, Hook::Egress), []);
    });
}

#[test]
fn filters_of_others_before_and_after_ours_stay_untouched() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let lo = link::index(&mut netlink, "lo").unwrap();
        clsact::ensure_qdisc(&mut netlink, lo).unwrap();
        tc("filter add dev lo ingress prio 1 handle 1 bpf da bytecode 1,6 0 0 4294967295");
        tc("filter add dev lo ingress bpf da bytecode 1,6 0 0 4294967295");
        let before = tc("filter show dev lo ingress");

        clsact::set(&mut netlink, lo, Hook::Ingress, "from_container", load(-1)).unwrap();
        let shown = tc("filter show dev lo ingress");
        clsact::del(&mut netlink, lo, Hook::Ingress).unwrap();

        let place = |text: &str| {
            shown
                .find(text)
                .unwrap_or_else(|| panic!("{text}: {shown}"))
        };
        assert!(place("pref 1 ") < place("from_container"), "{shown}");
        assert!(place("from_container") < place("pref 49152"), "{shown}");
        assert_eq!(tc("filter show dev lo ingress"), before);
    });
}

#[test]
fn deleting_a_filter_twice_succeeds_and_keeps_the_qdisc() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let lo = link::index(&mut netlink, "lo").unwrap();
        clsact::del(&mut netlink, lo, Hook::Egress).unwrap();
        clsact::ensure_qdisc(&mut netlink, lo).unwrap();
        clsact::set(&mut netlink, lo, Hook::Egress, "to_container", load(-1)).unwrap();

        clsact::del(&mut netlink, lo, Hook::Egress).unwrap();
        clsact::del(&mut netlink, lo, Hook::Egress).unwrap();

        assert_eq!(clsact::dump(&mut netlink, lo, Hook::Egress).unwrap(), []);
        assert!(tc("qdisc show dev lo").contains("clsact"));
    });
}

#[test]
fn link_without_qdisc_or_without_existence_has_no_filters() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();

        assert_eq!(clsact::dump(&mut netlink, 1, Hook::Ingress).unwrap(), []);
        assert_eq!(clsact::dump(&mut netlink, 999, Hook::Ingress).unwrap(), []);
        clsact::del(&mut netlink, 999, Hook::Ingress).unwrap();
    });
}

#[test]
fn ingress_qdisc_in_the_way_is_an_error() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let lo = link::index(&mut netlink, "lo").unwrap();
        tc("qdisc add dev lo ingress");

        let error = clsact::ensure_qdisc(&mut netlink, lo).unwrap_err();

        assert!(error.to_string().starts_with("add qdisc clsact"), "{error}");
    });
}
