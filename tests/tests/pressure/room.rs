//! Bindings that have ended make room: the agent removes them, and without one the datapath does.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use aya::TestRunAttrs;
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use ciliate::datapath::table;
use datapath::abi::{Addr4, Binding, FlowKey};
use tests::frame::{SYN, TCP, Transport};
use tests::kernel::now_ns;
use tests::lab::gateway::{Gateway, Options};
use tests::lab::offload::Offload;
use tests::lab::site::{C1, C2, S1};
use tests::lab::sleep_until;
use tests::lab::world::World;
use tests::party::Family;

use crate::{bindings, bound, pins};

/// How long bindings of UDP live.
const UDP_SECS: u32 = 3;
const UDP: Duration = Duration::from_millis(3_200);

/// Flows that fall silent.
const SILENT: u16 = 500;

/// When they must be gone: their time, and that of a pass through the table.
const GONE: Duration = Duration::from_secs(20);

/// Entries of a table that is full soon, and of one as large as by default.
const SMALL: u32 = 1_024;
const LARGE: u32 = 32_768;

/// What a sweep of the large one may take; it takes a processor away from packets.
const SWEEP_MAX: Duration = Duration::from_millis(20);

/// Length of `struct __sk_buff`, and where the index of the link stands.
const CONTEXT_LEN: usize = 192;
const IFINDEX_AT: usize = 40;

fn options() -> Options {
    Options {
        mapping: "symmetric",
        ..Options::default()
    }
    .timeout("udp", UDP_SECS)
}

#[test]
fn agent_removes_bindings_that_have_ended_and_no_other() {
    let world = World::new(&options(), Offload::Off);
    if world.gateway != Gateway::Ciliate {
        return;
    }
    let agent = world.run_agent().expect("the gateway is ciliate");
    let live = Family::BOTH.map(|family| {
        let (inside, far) = (C2.at(family, 5_000), S1.at(family, 7_000));
        let outside = world.out(inside, far);
        for port in 0..SILENT {
            world.udp(C1.at(family, 20_000 + port), far);
        }
        (family, inside, far, outside)
    });
    for family in Family::BOTH {
        world.fence(family);
        assert!(bindings(family) > usize::from(2 * SILENT));
    }

    let start = Instant::now();
    loop {
        for (_, inside, far, outside) in live {
            assert_eq!(world.out(inside, far), outside, "the live one stays");
        }
        let left = Family::BOTH.map(|family| (bindings(family), bound(family)));
        if left.iter().all(|left| *left == (2, vec![1])) {
            break;
        }
        assert!(
            start.elapsed() < GONE,
            "one of each family should be left, not {left:?}:\n{}",
            agent.log()
        );
        thread::sleep(Duration::from_millis(500));
    }
    eprintln!("{SILENT} bindings gone after {:.1?}", start.elapsed());
}

#[test]
fn full_table_recovers_without_an_agent() {
    let options = Options {
        bindings: SMALL,
        ..options()
    };
    let world = World::new(&options, Offload::Off);
    if world.gateway != Gateway::Ciliate {
        return;
    }
    for family in Family::BOTH {
        let far = S1.at(family, 7_000);
        let start = Instant::now();
        for port in 0..600 {
            world.udp(C1.at(family, 20_000 + port), far);
        }
        let refused = world.udp(C2.at(family, 5_000), far);
        let sent = Instant::now();
        assert!(sent - start < UDP, "too slow a machine to fill the table");
        let seen = world.s1.arrived(|packet| packet.token() == Some(refused));
        assert!(seen.is_empty(), "a full table should have no room");
        assert_eq!(bindings(family), SMALL as usize);

        sleep_until(sent + UDP);
        world.out(C2.at(family, 5_001), far);

        assert_eq!((bindings(family), bound(family)), (2, vec![1]));
    }
}

/// Live entries are the worst: each is looked at, and none makes room.
#[test]
fn sweep_of_a_large_table_takes_milliseconds() {
    let world = World::new(&options(), Offload::Off);
    if world.gateway != Gateway::Ciliate {
        return;
    }
    let mut table = table::bindings4(&pins()).expect("open BINDINGS4");
    for index in 0..LARGE {
        let [a, b, c, d] = index.to_be_bytes();
        let address = |first| Addr4::new([first, b, c, d]);
        let key = FlowKey::new(address(1), address(2), TCP, [1, 2], a);
        let half = Binding {
            other: FlowKey::new(address(3), address(2), TCP, [1, 2], a),
            expires_ns: now_ns() + 3_600_000_000_000,
            ..Binding::default()
        };
        table.insert(key, half, 0).expect("fill BINDINGS4");
    }

    let times: Vec<Duration> = (0..5)
        .map(|_| {
            // As if something could have ended since the last sweep.
            let mut sweeps = table::sweeps(&pins()).expect("open SWEEPS");
            sweeps.set(0, 0, 0).expect("write SWEEPS");
            let [with, without] = [refusal(&world), refusal(&world)];
            with.saturating_sub(without)
        })
        .collect();

    eprintln!("{LARGE} live entries swept in {times:.1?}");
    let least = times.iter().min().expect("there are times");
    assert!(*least < SWEEP_MAX, "{times:?}");
    assert_eq!(bindings(Family::V4), LARGE as usize, "none had ended");
}

/// Returns how long the program takes that finds no room for a new connection.
fn refusal(world: &World) -> Duration {
    let mut programs = fs::read_dir(pins().programs()).expect("programs are pinned");
    let folder = programs.find_map(Result::ok).expect("of one object");
    let program = SchedClassifier::from_pin(folder.path().join("from_container"));
    let family = Family::V4;
    let transport = Transport::tcp(20_000, 80, SYN);
    let frame = world.frame(C1.ip(family), S1.ip(family), transport).bytes();
    let mut context = [0; CONTEXT_LEN];
    let link = world.gw.ifindex("lxcc1");
    context[IFINDEX_AT..IFINDEX_AT + 4].copy_from_slice(&link.to_ne_bytes());
    let options = TestRunOptions {
        data_in: Some(&frame),
        data_out: None,
        ctx_in: Some(&context),
        ctx_out: None,
        repeat: 1,
        attrs: TestRunAttrs::new(),
    };
    let result = program
        .expect("open from_container")
        .test_run(options)
        .expect("run from_container");
    result.duration
}
