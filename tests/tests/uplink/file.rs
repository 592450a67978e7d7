//! What the file gives a device.

use std::path::Path;

use super::Uplink;

const KEYS: &str = r#"
address = ["192.0.2.10/24", "2001:db8:2::10/64"]
gateway = ["192.0.2.1", "2001:db8:2::1"]
mtu = 1400
"#;

#[test]
fn device_gets_addresses_gateways_and_mtu_and_gives_them_back() {
    let net = Uplink::new(KEYS);
    net.net.host.run("ip link set up0 up");
    let before = net.inventory();

    net.net.apply();

    net.net.ciliate("plan", 0);
    net.expect_way_out();
    net.expect_way_to("2001:db8:113::1");
    assert!(
        net.net
            .host
            .run("ip link show dev up0")
            .contains("mtu 1400")
    );
    assert!(
        net.addresses().contains("valid_lft forever"),
        "{}",
        net.addresses()
    );
    net.down();
    before.expect_same(&net.inventory(), "after down");
}

#[test]
fn device_that_is_down_is_switched_on() {
    let net = Uplink::new(KEYS);

    net.net.apply();

    net.expect_way_out();
}

#[test]
fn what_others_gave_the_device_stays_theirs() {
    let net = Uplink::new(KEYS);
    for line in [
        "ip link set up0 mtu 1400",
        "ip link set up0 up",
        "ip address add 192.0.2.10/24 dev up0",
        "ip address add 198.51.100.9/24 dev up0",
        "ip route add default via 192.0.2.1 dev up0",
    ] {
        net.net.host.run(line);
    }
    let before = net.inventory();

    let plan = net.net.ciliate("plan", 2).stdout;
    assert!(
        !plan.contains("address add 192.0.2.10") && !plan.contains("mtu 1400"),
        "{plan}"
    );
    assert!(!plan.contains("route add default via 192.0.2.1"), "{plan}");
    net.net.apply();
    net.net.ciliate("plan", 0);
    net.expect_way_out();
    net.down();

    before.expect_same(&net.inventory(), "after down");
}

#[test]
fn another_file_changes_what_differs() {
    let net = Uplink::new(KEYS);
    net.net.apply();

    net.write("address = [\"192.0.2.11/24\"]\ngateway = \"192.0.2.1\"");
    net.net.apply();

    net.net.ciliate("plan", 0);
    let addresses = net.addresses();
    assert!(
        addresses.contains("192.0.2.11/24") && !addresses.contains("192.0.2.10"),
        "{addresses}"
    );
    assert!(
        net.net
            .host
            .run("ip link show dev up0")
            .contains("mtu 1500")
    );
    net.expect_way_out();
    net.write("");
    net.net.apply();
    assert_eq!(net.addresses(), "");
    assert_eq!(net.routes(), "");
}

#[test]
fn agent_repairs_what_is_taken_from_the_device() {
    let net = Uplink::new(KEYS);
    let agent = net.run();
    net.expect_way_out();

    for damage in [
        "ip address del 192.0.2.10/24 dev up0",
        "ip route del default via 192.0.2.1 dev up0",
        "ip link set up0 mtu 1300",
        "ip link set up0 down",
    ] {
        net.net.host.run(damage);
        net.expect_nothing_to_do();
    }

    net.expect_way_out();
    net.expect_way_to("2001:db8:113::1");
    drop(agent);
}

#[test]
fn failed_run_gives_the_device_back_as_it_was() {
    let net = Uplink::new(KEYS);
    net.net
        .api
        .run("ip link add eth0 type veth peer name other");
    // A link that was up once keeps its queues.
    for state in ["up", "down"] {
        net.net.host.run(&format!("ip link set up0 {state}"));
    }
    let before = net.inventory();

    let outcome = net.net.ciliate("apply", 71);

    assert!(outcome.stderr.contains("eth0"), "{outcome:#?}");
    before.expect_same(&net.inventory(), "after the failure");
    assert!(!Path::new("/run/ciliate").exists(), "no folder should stay");
}
