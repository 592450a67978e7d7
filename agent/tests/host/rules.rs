//! Our rule of policy routing.

use ciliate::config::family::Family;
use ciliate::host::{Netlink, rule};

use crate::isolated;
use crate::run::ip;

const PRIORITY: u32 = 3089;

#[test]
fn rule_is_added_and_deleted_however_often() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        for family in [Family::V4, Family::V6] {
            rule::add(&mut netlink, family, PRIORITY).unwrap();
            rule::add(&mut netlink, family, PRIORITY).unwrap();
            assert_eq!(rule::priorities(&mut netlink, family).unwrap(), [PRIORITY]);

            rule::del(&mut netlink, family, PRIORITY).unwrap();
            rule::del(&mut netlink, family, PRIORITY).unwrap();
            assert_eq!(rule::priorities(&mut netlink, family).unwrap(), [0; 0]);
        }
    });
}

#[test]
fn rule_of_somebody_else_is_neither_ours_nor_deleted() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        ip("rule add pref 3089 iif cilium_net prohibit");

        assert_eq!(rule::priorities(&mut netlink, Family::V4).unwrap(), [0; 0]);
        rule::add(&mut netlink, Family::V4, PRIORITY).unwrap();
        rule::del(&mut netlink, Family::V4, PRIORITY).unwrap();

        ip("rule del pref 3089");
    });
}
