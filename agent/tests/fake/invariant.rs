//! What holds after every step, whatever the plan.

use ciliate::plan::Step;
use ciliate::plan::desired::{IPV6_FORWARDING, accept_ra};
use ciliate::plan::object::{Hook, Key, Link, Value};

use super::FakeKernel;

impl FakeKernel {
    /// Panics if the state after this step is one that must never be.
    pub(super) fn check_invariants(&self, step: &Step) {
        for (key, value) in &self.objects {
            assert!(
                !self.is_taken(key, value),
                "{key:?} conflicts after {step:?}"
            );
            for owner in key.owners() {
                assert!(
                    self.value(&owner).is_some(),
                    "{key:?} has no owner after {step:?}"
                );
            }
            assert!(
                self.is_judged(key),
                "{key:?} is up and not judged after {step:?}"
            );
            assert!(self.has_slice(value), "{key:?} has no slice after {step:?}");
            // A route is the only object that is worth nothing without what it needed first.
            if matches!(key, Key::Route(..)) {
                let needed = self.check_need(key, value);
                assert!(needed.is_ok(), "{needed:?} after {step:?}");
            }
        }
        assert!(
            self.keeps_default_route(),
            "the default route is lost after {step:?}"
        );
    }

    /// Tells whether a link of an endpoint is down, or its programs are there.
    fn is_judged(&self, key: &Key) -> bool {
        let Key::LinkUp(Link::Lxc(name) | Link::Eth0(name)) = key else {
            return true;
        };
        [Hook::Ingress, Hook::Egress].into_iter().all(|hook| {
            self.value(&Key::Attachment(Link::Lxc(name.clone()), hook))
                .is_some()
        })
    }

    fn has_slice(&self, value: &Value) -> bool {
        match (value, self.value(&Key::Datapath)) {
            (Value::EndpointEntry { id, .. }, Some(Value::Datapath { endpoint_slots, .. })) => {
                u32::from(*id) < *endpoint_slots
            }
            _ => true,
        }
    }

    /// Tells whether devices accept router advertisements in spite of forwarding.
    fn keeps_default_route(&self) -> bool {
        let is = |path: &str, value: &str| self.sysctls.get(path).is_some_and(|is| is == value);
        !is(IPV6_FORWARDING, "1")
            || self
                .ambient
                .ra_devices
                .iter()
                .all(|device| is(&accept_ra(device), "2"))
    }
}
