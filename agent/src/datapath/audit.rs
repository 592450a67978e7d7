//! Finds numbers of bindings that are wrong. Pure.
//!
//! The number of an endpoint's bindings can drift: a program and the agent may write it at once,
//! and an endpoint that goes leaves its number to the next one with its slot. What a pass over the
//! table counts is compared with it, but a count of a table that changes is no proof. So only a
//! number that nobody else changed during two passes, and that was off by the same amount after
//! both, is set right; that of an endpoint which is wrongly held at its limit is such a one.

use std::collections::BTreeMap;

/// Finds out which numbers of bindings are wrong.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// What the numbers should be at the end of the pass if nobody else changes them.
    expected: BTreeMap<u32, u32>,
    /// How far numbers were off at the end of the last pass, of which it could be told.
    off: BTreeMap<u32, i64>,
}

impl Audit {
    /// Begins a pass with these numbers.
    pub(super) fn begin(&mut self, numbers: BTreeMap<u32, u32>) {
        self.expected = numbers;
    }

    /// Notes that we changed a number ourselves.
    pub(super) fn expect(&mut self, slot: u32, more: i64) {
        if let Some(number) = self.expected.get_mut(&slot) {
            *number = wrapping_add(*number, more);
        }
    }

    /// Ends a pass, with the numbers there are and those that were counted. Returns what must be
    /// added to which.
    pub(super) fn end(
        &mut self,
        numbers: &BTreeMap<u32, u32>,
        found: &BTreeMap<u32, u32>,
    ) -> Vec<(u32, i64)> {
        let quiet = numbers
            .iter()
            .filter(|(slot, number)| self.expected.get(slot) == Some(number));
        let off: BTreeMap<u32, i64> = quiet
            .map(|(slot, number)| {
                let found = found.get(slot).copied().unwrap_or(0);
                (*slot, i64::from(*number) - i64::from(found))
            })
            .filter(|(_, off)| *off != 0)
            .collect();
        let (wrong, suspect): (BTreeMap<u32, i64>, _) = off
            .into_iter()
            .partition(|(slot, off)| self.off.get(slot) == Some(off));
        self.off = suspect;
        wrong.into_iter().map(|(slot, off)| (slot, -off)).collect()
    }
}

/// Adds as the programs do, in 32 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "numbers wrap round in the programs as well"
)]
pub(super) fn wrapping_add(number: u32, more: i64) -> u32 {
    number.wrapping_add_signed(more as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a pass see these numbers at its begin and its end, and count.
    fn audit(audit: &mut Audit, begin: u32, end: u32, found: u32) -> Vec<(u32, i64)> {
        let of = |number| BTreeMap::from([(3, number)]);
        audit.begin(of(begin));
        audit.end(&of(end), &of(found))
    }

    #[test]
    fn number_is_set_right_when_it_was_off_by_the_same_in_two_passes() {
        let mut audits = Audit::default();

        assert_eq!(audit(&mut audits, 9, 9, 4), []);
        assert_eq!(audit(&mut audits, 9, 9, 4), [(3, -5)]);
        assert_eq!(audit(&mut audits, 4, 4, 4), []);
    }

    #[test]
    fn number_that_changes_during_a_pass_is_left_alone() {
        let mut audits = Audit::default();

        for (begin, end, found) in [(9, 9, 4), (9, 10, 5), (10, 10, 6), (10, 10, 5)] {
            assert_eq!(audit(&mut audits, begin, end, found), []);
        }
    }

    #[test]
    fn number_that_fell_below_zero_is_brought_back() {
        let mut audits = Audit::default();
        audit(&mut audits, u32::MAX, u32::MAX, 0);

        let changes = audit(&mut audits, u32::MAX, u32::MAX, 0);

        let (_, more) = changes[0];
        assert_eq!(wrapping_add(u32::MAX, more), 0);
    }

    #[test]
    fn what_we_remove_ourselves_is_no_change() {
        let mut audits = Audit::default();
        for last in [[].as_slice(), &[(3, -1)]] {
            audits.begin(BTreeMap::from([(3, 9)]));
            audits.expect(3, -2);

            let changes = audits.end(&BTreeMap::from([(3, 7)]), &BTreeMap::from([(3, 6)]));

            assert_eq!(changes, last);
        }
    }
}
