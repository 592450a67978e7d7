//! Every program loads, and none costs the verifier much more than it did when its budget was
//! set: about 30 % more than on the kernel that the budget was measured on (6.18).
//!
//! A program that grows beyond its budget may be refused by an older kernel, whose verifier
//! follows more ways. Needs root.

use std::time::Instant;

use tests::isolation::isolated;
use tests::kernel::Kernel;

/// Is what a program may cost.
struct Budget {
    program: &'static str,
    /// Instructions that the verifier looks at.
    instructions: u32,
    /// Stack of the program and all its subprograms together, in bytes. The verifier itself
    /// refuses a chain of calls that needs more than 512.
    stack: u32,
}

const BUDGETS: [Budget; 9] = [
    Budget {
        program: "from_container",
        instructions: 2_700,
        stack: 250,
    },
    Budget {
        program: "to_container",
        instructions: 1_300,
        stack: 150,
    },
    Budget {
        program: "from_host",
        instructions: 1_050,
        stack: 160,
    },
    Budget {
        program: "to_host",
        instructions: 760,
        stack: 150,
    },
    Budget {
        program: "from_netdev",
        instructions: 3_600,
        stack: 220,
    },
    Budget {
        program: "to_netdev",
        instructions: 1_900,
        stack: 160,
    },
    Budget {
        program: "slow4",
        instructions: 58_000,
        stack: 2_700,
    },
    Budget {
        program: "slow6",
        instructions: 66_000,
        stack: 3_900,
    },
    Budget {
        program: "arp",
        instructions: 420,
        stack: 120,
    },
];

/// Programs that are loaded only while tables are exchanged for others.
const EXCHANGING: [Budget; 2] = [
    Budget {
        program: "consult4",
        instructions: 5_000,
        stack: 190,
    },
    Budget {
        program: "consult6",
        instructions: 7_100,
        stack: 380,
    },
];

#[test]
fn every_program_loads_within_its_budget() {
    isolated(|bpffs| {
        let start = Instant::now();
        let kernel = Kernel::load(bpffs);
        eprintln!(
            "maps created, programs loaded and pinned in {:.1?}",
            start.elapsed()
        );

        let instructions = kernel.verified_instructions();
        let statistics = kernel.statistics();

        assert_eq!(
            instructions.len(),
            BUDGETS.len(),
            "each program has a budget"
        );
        let mut over = Vec::new();
        for budget in BUDGETS.iter().chain(&EXCHANGING) {
            let program = budget.program;
            let said = &statistics[program];
            let count = instructions.get(program).copied();
            let (count, stack) = (count.unwrap_or_else(|| processed(said)), stack(said));
            eprintln!("{program:>15}: {count:>6} instructions, {stack:>3} bytes of stack");
            if count > budget.instructions || stack > budget.stack {
                over.push(format!(
                    "{program}: {count} instructions, {stack} bytes of stack"
                ));
            }
        }
        assert!(over.is_empty(), "over budget: {over:?}");
    });
}

/// Reads `processed 1234 insns` from what the verifier says.
fn processed(statistics: &str) -> u32 {
    let mut lines = statistics.lines();
    let count = lines.find_map(|line| line.strip_prefix("processed ")?.split(' ').next());
    let count = count.expect("the verifier counts instructions");
    count.parse().expect("is a number")
}

/// Reads `stack depth 312+56+0` from what the verifier says, and adds it up.
fn stack(statistics: &str) -> u32 {
    let depths = statistics
        .lines()
        .find_map(|line| line.strip_prefix("stack depth "));
    let depths = depths.expect("the verifier names the depth of the stack");
    depths
        .split('+')
        .map(|depth| depth.trim().parse::<u32>().expect("is a number"))
        .sum()
}
