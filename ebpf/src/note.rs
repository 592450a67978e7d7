//! Short notes about flows: each says that something holds until a moment.
//!
//! A note is known by 32 bits of its hash beside those that choose its line, so that somebody
//! else's passes for it once in half a billion times: what rests on a note must not be worth that
//! many packets. A line that is full gives up the note that ends first, and a note may be lost to
//! another processor that writes beside it: nothing may rest on its being there either.

use crate::abi::{Line, NOTES_PER_LINE};
use crate::tables::{Step, Tables};
use crate::work::Work;

/// A moment is 67 milliseconds long, so that 32 bits of them last for nine years.
const MOMENT_SHIFT: u32 = 26;

/// The bits of a hash that a note is known by.
const NAME: u64 = 0xffff_ffff_0000_0000;

/// Returns the moment of a time.
#[inline(always)]
pub const fn moment(time_ns: u64) -> u32 {
    (time_ns >> MOMENT_SHIFT) as u32
}

/// Is the search for a note.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Search {
    /// A copy of the line that is searched.
    pub line: Line,
    hash: u64,
    now: u32,
    /// How long the note at `place` has still to go, in moments.
    least: u32,
    /// Where the search goes on.
    next: u8,
    /// Where the note is; if there is none, the one that ends first.
    place: u8,
    pad: [u8; 6],
}

impl Search {
    /// Tells whether the note was found, and has not ended.
    #[inline(always)]
    pub const fn has_found(&self) -> bool {
        let note = self.line.notes[self.place as usize % NOTES_PER_LINE];
        name(note) == name(self.hash) && end(note) > self.now
    }

    /// Writes a note that ends at `ends` to its place on the line, or lets it last until then.
    #[inline(always)]
    pub const fn write(&self, line: &mut Line, ends: u32) {
        let place = self.place as usize % NOTES_PER_LINE;
        let note = self.line.notes[place];
        let is_later = name(note) == name(self.hash) && end(note) > ends;
        line.notes[place] = name(self.hash) | if is_later { end(note) } else { ends } as u64;
    }
}

/// Looks for a note with this hash on the line that was copied to `work.search`.
///
/// verifier (6.18): "BPF program is too large": without a loop of the kernel's, it follows each
/// outcome of each comparison.
#[inline(never)]
pub fn search<A, T: Tables<A>>(tables: &mut T, work: &mut Work<A>, hash: u64) {
    work.search.hash = hash;
    work.search.now = moment(work.moment.now_ns);
    work.search.least = u32::MAX;
    // Of notes that end at one moment not always the same one goes.
    work.search.next = hash as u8;
    tables.repeat::<Compare>(work, NOTES_PER_LINE as u32);
}

/// Looks at one note.
struct Compare;

impl<A> Step<A> for Compare {
    #[inline(always)]
    fn step<T: Tables<A>>(_tables: &mut T, work: &mut Work<A>) -> bool {
        let search = &mut work.search;
        let place = search.next;
        search.next = place.wrapping_add(1);
        let note = search.line.notes[usize::from(place) % NOTES_PER_LINE];
        if name(note) == name(search.hash) {
            search.place = place;
            return true;
        }
        let left = end(note).saturating_sub(search.now);
        if left < search.least {
            (search.place, search.least) = (place, left);
        }
        false
    }
}

#[inline(always)]
const fn name(note: u64) -> u64 {
    note & NAME
}

#[inline(always)]
const fn end(note: u64) -> u32 {
    note as u32
}

#[cfg(test)]
mod tests {
    use super::{MOMENT_SHIFT, search};
    use crate::abi::{Addr4, Line};
    use crate::model::ModelTables;
    use crate::work::Work;

    /// A hash whose note has this name.
    const fn hash(name: u64) -> u64 {
        (name << 32) | (name * 5)
    }

    fn look(line: &Line, name: u64, now: u32) -> Work<Addr4> {
        let mut work = Work::<Addr4>::default();
        work.moment.now_ns = u64::from(now) << MOMENT_SHIFT;
        work.search.line = *line;
        search(&mut ModelTables::default(), &mut work, hash(name));
        work
    }

    fn put(line: &mut Line, name: u64, now: u32, ends: u32) {
        look(line, name, now).search.write(line, ends);
    }

    fn has(line: &Line, name: u64, now: u32) -> bool {
        look(line, name, now).search.has_found()
    }

    #[test]
    fn note_holds_until_its_end_and_no_other_does() {
        let mut line = Line::default();
        put(&mut line, 7, 10, 20);

        assert!(has(&line, 7, 19));
        assert!(!has(&line, 7, 20), "it has ended");
        assert!(!has(&line, 8, 19), "nobody wrote it");
    }

    #[test]
    fn note_that_is_there_lasts_longer_and_never_shorter() {
        let mut line = Line::default();
        for ends in [20, 30, 15] {
            put(&mut line, 7, 10, ends);
        }

        assert!(has(&line, 7, 29));
        let used = line.notes.iter().filter(|note| **note != 0);
        assert_eq!(used.count(), 1);
    }

    #[test]
    fn full_line_gives_up_what_ends_first() {
        let mut line = Line::default();
        for name in 1..=8 {
            put(&mut line, name, 10, 100 + u32::from(name != 5));
        }
        put(&mut line, 9, 10, 50);

        assert!(!has(&line, 5, 10));
        for name in [1, 2, 3, 4, 6, 7, 8, 9] {
            assert!(has(&line, name, 10), "{name}");
        }
    }

    #[test]
    fn notes_that_have_ended_make_room_first() {
        let mut line = Line::default();
        for name in 1..=8 {
            put(&mut line, name, 10, 20 + 100 * u32::from(name != 5));
        }
        put(&mut line, 9, 30, 40);

        for name in [1, 2, 3, 4, 6, 7, 8, 9] {
            assert!(has(&line, name, 30), "{name}");
        }
    }
}
