//! A trial that cuts off who began it: after the deadline everything is as before.

use tests::lab::estate::Estate;
use tests::lab::inventory::Inventory;
use tests::lab::trial::Trial;
use tests::lab::{agent, wait_until};
use tests::party::Family;

use super::language::RESIDENTS;
use super::lockout::{CLOSED, Login};

#[test]
fn who_is_cut_off_by_a_trial_gets_through_again_after_the_deadline() {
    for family in Family::BOTH {
        let net = Estate::new("bpf", &RESIDENTS);
        let mut login = Login::new(&net, "world", "edge-1", family);
        assert!(login.works());
        let before = inventory(&net);

        let file = net.write(CLOSED);
        let line = format!("--node edge-1 try {} --timeout 3", file.display());
        let mut trial = Trial::start(&net.machine, &net.nodes[0], "edge-1", &line);
        trial = trial.wait_for_answer();
        assert!(!login.works(), "what is tried cuts the connection");
        assert!(!Login::is_possible(&net, "world", "edge-1", family));
        assert_eq!(trial.code(), Some(75), "{}", trial.log());

        let log = trial.log();
        let (warned, begun) = (log.find("CIL0210 "), log.find("is on trial until"));
        assert!(
            warned.is_some() && warned < begun,
            "should be said first: {log}"
        );
        before.expect_same(&inventory(&net), "after the deadline");
        let good = net.write("");
        let line = format!("--node edge-1 plan {}", good.display());
        agent::expect(&net.nodes[0], &line, 0);
        wait_until("what was typed meanwhile arrives", || login.works());
        assert!(
            Login::new(&net, "world", "edge-1", family).works(),
            "a new connection should come about"
        );
    }
}

fn inventory(net: &Estate) -> Inventory {
    let places = ["edge-1", "world"].map(|name| (name, net.place(name)));
    Inventory::of_machine(&places)
}
