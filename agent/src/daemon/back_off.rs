//! How long to leave an object alone whose repair is undone again and again. Pure: time comes in
//! as an argument.
//!
//! Two programs that both insist on an object would otherwise change it for ever, many times a
//! second. A few repairs in a row are normal (somebody tries something out); after these, each
//! is followed by a pause that doubles. Other objects are repaired meanwhile. An object that
//! stays as it is for a while is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::protocol::Spared;
use crate::plan::object::Key;

/// How many repairs in a row are normal.
const NORMAL: u32 = 3;

/// The first pause; doubled with each further repair.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_mins(1);

/// How long after a repair, and the pause that followed it, the next one is no longer in a row: one
/// that somebody undoes more seldom costs nothing worth saving.
const FORGET: Duration = Duration::from_secs(10);

/// Knows what was repaired of late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackOff(
    BTreeMap<Key, Fight>,
    /// Objects that could not be repaired once, and until when that counts.
    BTreeMap<Key, Instant>,
);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fight {
    /// What is repaired, for a person.
    what: String,
    /// Who is likely to undo it, if that is known.
    author: Option<String>,
    repairs: u32,
    first: Instant,
    /// Until then further repairs are in a row.
    remembered: Instant,
    /// The end of the pause, if there is one.
    pause: Option<Instant>,
}

/// Describes an object that something else keeps changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone {
    /// How often it was repaired.
    pub repairs: u32,
    /// How long ago the first of these repairs was.
    pub within: Duration,
    /// How long it is left alone.
    pub pause: Duration,
}

impl BackOff {
    /// Notes a repair, with its command; tells if the object is left alone for a while from now on.
    pub fn note(&mut self, key: &Key, what: &str, now: Instant) -> Option<Undone> {
        self.0.retain(|_, fight| fight.remembered > now);
        let fight = self.0.entry(key.clone()).or_insert_with(|| Fight {
            what: what.to_owned(),
            author: None,
            repairs: 0,
            first: now,
            remembered: now,
            pause: None,
        });
        fight.repairs += 1;
        let pause = (fight.repairs > NORMAL).then(|| {
            let doublings = (fight.repairs - NORMAL - 1).min(16);
            FIRST_PAUSE.saturating_mul(1 << doublings).min(LAST_PAUSE)
        });
        fight.remembered = now + pause.unwrap_or_default() + FORGET;
        fight.pause = pause.map(|pause| now + pause);
        pause.map(|pause| Undone {
            repairs: fight.repairs,
            within: now.duration_since(fight.first),
            pause,
        })
    }

    /// Notes who is likely to undo the repair of an object.
    pub fn blame(&mut self, key: &Key, author: Option<String>) {
        if let Some(fight) = self.0.get_mut(key) {
            fight.author = author;
        }
    }

    /// Notes that an object could not be repaired. Returns how long it is left alone from now on: at
    /// first not at all, for something may have changed while we worked on it.
    pub fn refuse(&mut self, key: &Key, what: &str, now: Instant) -> Duration {
        self.0.retain(|_, fight| fight.remembered > now);
        self.1.retain(|_, remembered| *remembered > now);
        if self.1.insert(key.clone(), now + FORGET).is_none() {
            return Duration::ZERO;
        }
        let counted = self.0.get(key).map_or(0, |fight| fight.repairs);
        // As if it had been repaired as often as is normal.
        for _ in counted..NORMAL {
            self.note(key, what, now);
        }
        let undone = self.note(key, what, now);
        undone.map_or(Duration::ZERO, |undone| undone.pause)
    }

    /// Returns the objects that are left alone.
    pub fn spared(&self) -> BTreeSet<Key> {
        let paused = self.0.iter().filter(|(_, fight)| fight.pause.is_some());
        paused.map(|(key, _)| key.clone()).collect()
    }

    /// Describes the objects that are left alone.
    pub fn paused(&self, now: Instant) -> Vec<Spared> {
        let paused = self.0.values().filter_map(|fight| {
            let left = fight.pause?.saturating_duration_since(now);
            Some(Spared {
                object: fight.what.clone(),
                repairs: fight.repairs,
                author: fight.author.clone(),
                left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            })
        });
        paused.collect()
    }

    /// Returns when the next pause ends.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|fight| fight.pause).min()
    }

    /// Ends the pauses that are over; tells if there were any.
    pub fn release(&mut self, now: Instant) -> bool {
        let over = |fight: &&mut Fight| fight.pause.is_some_and(|end| end <= now);
        let mut ended = false;
        for fight in self.0.values_mut().filter(over) {
            fight.pause = None;
            ended = true;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key() -> Key {
        Key::EndpointLink("web".to_owned())
    }

    /// Repairs so many times, a second apart; returns the pauses and the time after them.
    fn repair(back_off: &mut BackOff, times: u32, start: Instant) -> (Vec<u64>, Instant) {
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..times {
            let pause = back_off
                .note(&key(), "a command", now)
                .map(|undone| undone.pause);
            pauses.push(pause.unwrap_or_default().as_secs());
            now += pause.unwrap_or_default() + SECOND;
            back_off.release(now);
        }
        (pauses, now)
    }

    #[test]
    fn pauses_begin_after_three_repairs_and_double_up_to_a_minute() {
        let mut back_off = BackOff::default();

        let (pauses, _) = repair(&mut back_off, 12, Instant::now());

        assert_eq!(pauses, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn object_is_spared_until_its_pause_ends() {
        let mut back_off = BackOff::default();
        let (_, now) = repair(&mut back_off, NORMAL, Instant::now());
        assert!(back_off.spared().is_empty());

        let undone = back_off
            .note(&key(), "a command", now)
            .expect("one too many");

        assert_eq!((undone.repairs, undone.within), (4, 3 * SECOND));
        assert_eq!(back_off.next(), Some(now + FIRST_PAUSE));
        assert_eq!(back_off.spared(), BTreeSet::from([key()]));
        let paused = back_off.paused(now);
        assert_eq!(
            (paused.len(), paused[0].repairs, paused[0].left_ms),
            (1, 4, 1000)
        );
        assert_eq!(paused[0].object, "a command");
        assert!(!back_off.release(now));
        assert!(back_off.release(now + FIRST_PAUSE));
        assert!(back_off.spared().is_empty() && back_off.next().is_none());
        assert!(!back_off.release(now + FIRST_PAUSE), "ends once");
    }

    #[test]
    fn object_that_stays_as_it_is_for_a_while_is_forgotten() {
        let mut back_off = BackOff::default();
        let (_, now) = repair(&mut back_off, 8, Instant::now());

        let (pauses, _) = repair(&mut back_off, 1, now + FORGET + SECOND);

        assert_eq!(pauses, [0]);
    }

    #[test]
    fn object_that_cannot_be_repaired_is_tried_once_more_and_then_left_alone() {
        let mut back_off = BackOff::default();
        let mut now = Instant::now();

        assert_eq!(back_off.refuse(&key(), "an endpoint", now), Duration::ZERO);
        for seconds in [1, 2, 4] {
            assert_eq!(
                back_off.refuse(&key(), "an endpoint", now),
                seconds * SECOND
            );
            now += seconds * SECOND;
            assert!(back_off.release(now));
        }
    }

    #[test]
    fn one_refusal_is_no_repair() {
        let mut back_off = BackOff::default();
        let now = Instant::now();
        back_off.refuse(&key(), "an endpoint", now);

        let (pauses, _) = repair(&mut back_off, NORMAL, now);

        assert_eq!(pauses, [0, 0, 0]);
    }

    #[test]
    fn objects_are_counted_one_by_one() {
        let mut back_off = BackOff::default();
        let (_, now) = repair(&mut back_off, NORMAL, Instant::now());

        assert_eq!(back_off.note(&Key::HostLink, "a command", now), None);
    }
}
