//! The packet tables: what the node knows and which packet comes, what becomes of both.
//!
//! Each row runs on the host and in the kernel, by `BPF_PROG_TEST_RUN`; verdict, bytes, tables and
//! counted drops must be as the row says in both. Needs root.

mod admission;
mod arp;
mod checksums;
mod devices;
mod errors;
mod extensions;
mod fast;
mod fragments;
mod guard;
mod hairpin;
mod headers;
mod legacy;
mod masquerade;
mod neighbours;
mod outward;
mod overtaking;
mod parts;
mod policy;
mod policy_change;
mod protocols;
mod quoted;
mod readiness;
mod sharing;
mod shortage;
mod sources;
mod stack;
mod sweep;
mod talk;
mod tcp;
mod translations;
mod way;

use std::collections::BTreeSet;

use tests::frame::{ACK, Frame, PSH, Transport};
use tests::party::{Family, Who};
use tests::row::{Row, names, run};
use tests::snapshot::Snapshot;

/// Returns a segment in the middle of a connection.
fn segment(from: &Who, to: &Who, family: Family) -> Frame {
    Frame::new(from, to, family, Transport::tcp(40_000, 80, ACK | PSH))
}

/// Returns a segment that answers the one above.
fn answer(from: &Who, to: &Who, family: Family, flags: u8) -> Frame {
    Frame::new(from, to, family, Transport::tcp(80, 40_000, flags))
}

/// Puts both halves of the connection of a packet into the tables, `10` packets counted in each.
fn connect(state: &mut Snapshot, frame: &Frame, from: &Who, to: &Who) {
    let tuple = frame.tuple();
    for (tuple, from, to) in [(tuple, from, to), (tuple.reversed(), to, from)] {
        let mut flow = from.flow_to(to);
        (flow.packets, flow.bytes) = (10, 1_000);
        state.flow(tuple, flow);
    }
}

/// Counts a packet in its flow, which the state has.
fn count(state: &mut Snapshot, frame: &Frame) {
    let len = u64::try_from(frame.bytes().len()).expect("fits");
    let flow = state.known(frame.tuple());
    (flow.packets, flow.bytes) = (flow.packets + 1, flow.bytes + len);
}

#[test]
fn first_packets_wait_and_answers_enter_the_table() {
    run(&admission::rows());
}

#[test]
fn packets_of_known_flows_take_the_fast_path() {
    run(&fast::rows());
}

#[test]
fn tcp_flags_move_connections_along() {
    run(&tcp::rows());
}

#[test]
fn packets_that_cannot_be_routed_go_to_the_stack() {
    run(&way::rows());
}

#[test]
fn arp_is_answered_and_forgeries_are_dropped() {
    run(&arp::rows());
}

#[test]
fn neighbour_messages_are_answered_and_forgeries_are_dropped() {
    run(&neighbours::rows());
}

#[test]
fn endpoints_speak_as_themselves_only() {
    run(&sources::rows());
}

#[test]
fn packets_of_and_for_the_stack_pass() {
    run(&stack::rows());
}

#[test]
fn icmp_errors_are_believed_only_if_related() {
    run(&errors::rows());
}

#[test]
fn ipv6_extension_headers_are_followed() {
    run(&extensions::rows());
}

#[test]
fn fragments_follow_their_first() {
    run(&fragments::rows());
}

#[test]
fn fragments_that_overtake_their_first_are_put_in_order_by_the_stack() {
    run(&overtaking::rows());
}

#[test]
fn malformed_headers_are_dropped() {
    run(&headers::rows());
}

#[test]
fn protocols_have_flows_by_ports_or_by_address() {
    run(&protocols::rows());
}

#[test]
fn endpoints_are_masqueraded_and_answers_find_them() {
    run(&masquerade::rows());
}

#[test]
fn bindings_that_have_ended_make_room() {
    run(&sweep::rows());
}

#[test]
fn translations_keep_checksums_right() {
    run(&translations::rows());
}

#[test]
fn zero_checksums_are_translated_as_their_protocol_wants() {
    run(&checksums::rows());
}

#[test]
fn errors_from_outside_find_the_endpoint_of_what_they_quote() {
    run(&quoted::rows());
}

#[test]
fn endpoints_reach_each_other_by_their_masquerade_addresses() {
    run(&hairpin::rows());
}

#[test]
fn bindings_are_shared_by_destinations_and_filtered() {
    run(&sharing::rows());
}

#[test]
fn ports_run_out_and_endpoints_are_told() {
    run(&shortage::rows());
}

#[test]
fn fragments_of_masqueraded_datagrams_follow_their_first() {
    run(&parts::rows());
}

#[test]
fn errors_on_their_way_out_show_no_inside_address() {
    run(&outward::rows());
}

#[test]
fn legacy_routing_leaves_the_way_to_the_stack() {
    run(&legacy::rows());
}

#[test]
fn devices_pass_what_is_not_ours() {
    run(&devices::rows());
}

#[test]
fn policy_lets_connections_begin_or_does_not() {
    run(&policy::rows());
}

#[test]
fn policy_lets_connections_go_on_or_ends_them() {
    run(&policy_change::rows());
}

#[test]
fn policy_guards_the_node_itself() {
    run(&guard::rows());
}

#[test]
fn nothing_is_forwarded_by_a_node_that_is_not_ready() {
    run(&readiness::rows());
}

#[test]
fn rows_have_names_of_their_own_and_are_many() {
    let tables: Vec<Vec<Row>> = vec![
        admission::rows(),
        fast::rows(),
        tcp::rows(),
        way::rows(),
        arp::rows(),
        neighbours::rows(),
        sources::rows(),
        stack::rows(),
        errors::rows(),
        extensions::rows(),
        fragments::rows(),
        headers::rows(),
        protocols::rows(),
        masquerade::rows(),
        sweep::rows(),
        translations::rows(),
        checksums::rows(),
        quoted::rows(),
        hairpin::rows(),
        sharing::rows(),
        shortage::rows(),
        parts::rows(),
        outward::rows(),
        legacy::rows(),
        devices::rows(),
        policy::rows(),
        policy_change::rows(),
        guard::rows(),
        readiness::rows(),
    ];
    let all: Vec<&str> = tables.iter().flat_map(|rows| names(rows)).collect();
    let distinct: BTreeSet<&str> = all.iter().copied().collect();

    eprintln!("{} rows", all.len());
    assert_eq!(distinct.len(), all.len(), "each row has a name of its own");
    assert!(
        all.len() >= 950,
        "{} rows are fewer than the project promises",
        all.len()
    );
}
