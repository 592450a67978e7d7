//! A kernel without the objects that are left alone for the time being.
//!
//! What is left alone looks as it shall be, or as if it were not there if it is not desired. So
//! nothing is planned about it, and everything else is done as always.

use std::collections::BTreeSet;

use super::consequence::goes_with;
use crate::plan::Step;
use crate::plan::object::{Key, Observed, State};
use crate::reconcile::{Cause, Kernel};

/// Is a kernel, of which some objects and what goes with them are left alone.
#[derive(Debug)]
pub struct Sparing<'a, K> {
    kernel: &'a mut K,
    spared: &'a BTreeSet<Key>,
}

impl<'a, K> Sparing<'a, K> {
    /// Leaves these objects of a kernel alone.
    pub fn new(kernel: &'a mut K, spared: &'a BTreeSet<Key>) -> Self {
        Self { kernel, spared }
    }
}

impl<K: Kernel> Kernel for Sparing<'_, K> {
    fn observe(&mut self, desired: &State) -> Result<Observed, Cause> {
        let mut observed = self.kernel.observe(desired)?;
        disguise(&mut observed.objects, desired, self.spared);
        Ok(observed)
    }

    fn execute(&mut self, step: &Step) -> Result<(), Cause> {
        self.kernel.execute(step)
    }
}

fn disguise(observed: &mut State, desired: &State, spared: &BTreeSet<Key>) {
    observed.retain(|key, _| !goes_with(key, spared));
    let pretended = desired.iter().filter(|(key, _)| goes_with(key, spared));
    observed.extend(pretended.map(|(key, value)| (key.clone(), value.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::object::Value;

    fn sysctl(path: &str, value: &str) -> (Key, Value) {
        let value = value.to_owned();
        (Key::Sysctl(path.to_owned()), Value::Sysctl { value })
    }

    #[test]
    fn spared_object_looks_as_it_shall_be_and_others_as_they_are() {
        let desired = State::from([sysctl("a", "1"), sysctl("b", "1")]);
        let mut observed = State::from([sysctl("a", "0"), sysctl("b", "0")]);

        let spared = BTreeSet::from([Key::Sysctl("a".to_owned())]);
        disguise(&mut observed, &desired, &spared);

        assert_eq!(observed, State::from([sysctl("a", "1"), sysctl("b", "0")]));
    }

    #[test]
    fn spared_object_that_nobody_desires_is_not_seen() {
        let mut observed = State::from([sysctl("a", "0")]);

        let spared = BTreeSet::from([Key::Sysctl("a".to_owned())]);
        disguise(&mut observed, &State::new(), &spared);

        assert!(observed.is_empty());
    }
}
