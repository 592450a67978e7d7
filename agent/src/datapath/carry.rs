//! What becomes of an entry when tables are exchanged. Pure.
//!
//! Each entry is carried over twice: before the switch, and afterwards what changed in between. New
//! programs may have changed it by then; what they wrote stays. They mark what they write: a flow and
//! a pending flow that nobody has decided about since then have generation 0, which no decision has.

use datapath::abi::{Binding, Flow, Line, Pending, TAKEN_NS, WITH_OTHER_NS};

/// Generation of what was carried over: it is decided about again before it is used.
const CARRIED: u32 = 0;

/// Returns what is to be written for a flow, if anything is.
pub(super) fn flow<A: Copy + PartialEq>(found: Option<&Flow<A>>, was: &Flow<A>) -> Option<Flow<A>> {
    let mut carried = *was;
    carried.generation = CARRIED;
    match found {
        Some(found) if !is_untouched(found) || *found == carried => None,
        Some(_) | None => Some(carried),
    }
}

/// Tells whether no program has decided about a flow since it was carried over.
pub(super) const fn is_untouched<A>(flow: &Flow<A>) -> bool {
    flow.generation == CARRIED
}

/// Returns what is to be written for one half of a binding, if anything is.
pub(super) fn binding<A: Copy + PartialEq>(
    found: Option<&Binding<A>>,
    was: &Binding<A>,
) -> Option<Binding<A>> {
    if was.expires_ns == TAKEN_NS {
        // It is somebody else's in a moment, or nobody's.
        return None;
    }
    let Some(found) = found else {
        return Some(*was);
    };
    if found.other != was.other || [TAKEN_NS, WITH_OTHER_NS].contains(&found.expires_ns) {
        return None;
    }
    let carried = Binding {
        expires_ns: found.expires_ns.max(was.expires_ns),
        answered: found.answered.max(was.answered),
        open: found.open.max(was.open),
        ..*found
    };
    (carried != *found).then_some(carried)
}

/// Returns what is to be written for a pending flow, if anything is.
pub(super) fn pending<A: Copy + PartialEq>(
    found: &Pending<A>,
    was: &Pending<A>,
) -> Option<Pending<A>> {
    let is_untouched = found.packets == 0 || found.generation == CARRIED;
    // The clock is coarse, and a copy may have been torn: one of the same time may be another one.
    let is_later = found.packets == 0 || found.seen_ns <= was.seen_ns;
    let carried = Pending {
        lock: 0,
        version: found.version,
        generation: CARRIED,
        ..*was
    };
    (was.packets != 0 && is_untouched && is_later && *found != carried).then_some(carried)
}

/// Adds the notes of one line to another one's; returns what is to be written, if anything is.
pub(super) fn line(found: &Line, was: &Line) -> Option<Line> {
    let mut carried = *found;
    for note in was.notes.into_iter().filter(|note| *note != 0) {
        let notes = &mut carried.notes;
        let same = notes
            .iter()
            .position(|other| name(*other) == name(note) && *other != 0);
        let place = same.or_else(|| notes.iter().position(|other| *other == 0));
        if let Some(place) = place {
            notes[place] = notes[place].max(note);
        }
    }
    (carried != *found).then_some(carried)
}

/// Returns the half of a note that it is known by; the other half is when it ends.
const fn name(note: u64) -> u64 {
    note >> 32
}

#[cfg(test)]
mod tests {
    use datapath::abi::{Action, Addr4, FlowKey};

    use super::*;

    fn key(port: u16) -> FlowKey<Addr4> {
        let address = Addr4::new([10, 0, 0, 1]);
        FlowKey::new(address, address, 6, [port, 80], 0)
    }

    fn flow_of(generation: u32, zone: u32) -> Flow<Addr4> {
        let mut flow = Flow::default();
        (flow.generation, flow.zone) = (generation, zone);
        flow.begin(Action::Peer);
        flow
    }

    fn half(port: u16, expires_ns: u64) -> Binding<Addr4> {
        Binding {
            other: key(port),
            expires_ns,
            zone: 7,
            ..Binding::default()
        }
    }

    #[test]
    fn flow_is_carried_until_a_program_decides_about_it() {
        let was = flow_of(6, 3);
        let carried = flow(None, &was).expect("it is not there");

        assert!(is_untouched(&carried));
        assert_eq!(flow(Some(&carried), &was), None, "nothing has changed");
        let later = flow_of(6, 4);
        assert_eq!(flow(Some(&carried), &later).map(|f| f.zone), Some(4));
        assert_eq!(flow(Some(&flow_of(8, 5)), &later), None, "it was decided");
    }

    #[test]
    fn binding_keeps_what_either_table_knows() {
        let was = Binding {
            answered: 1,
            ..half(1, 20)
        };
        let found = Binding {
            open: 2,
            ..half(1, 30)
        };

        let carried = binding(Some(&found), &was).expect("it was answered");
        assert_eq!(
            (carried.answered, carried.open, carried.expires_ns),
            (1, 2, 30)
        );
        assert_eq!(binding(Some(&carried), &was), None);
        assert_eq!(
            binding(Some(&half(2, 5)), &was),
            None,
            "the port is another's"
        );
        assert_eq!(binding(None, &half(1, TAKEN_NS)), None);
    }

    #[test]
    fn pending_flow_is_carried_until_another_one_takes_its_place() {
        let was = Pending {
            key: key(1),
            generation: 6,
            seen_ns: 10,
            packets: 1,
            ..Pending::default()
        };
        let empty = Pending {
            version: 4,
            ..Pending::default()
        };

        let carried = pending(&empty, &was).expect("there is room");
        assert_eq!((carried.version, carried.generation), (4, 0));
        assert_eq!(pending(&carried, &was), None, "nothing has changed");
        let fresh = Pending {
            key: key(2),
            generation: 8,
            ..was
        };
        let later = Pending { seen_ns: 20, ..was };
        assert_eq!(pending(&fresh, &later), None, "a program wrote it");
        assert_eq!(pending(&empty, &empty), None);
    }

    #[test]
    fn lines_get_the_notes_that_they_lack_while_there_is_room() {
        let note = |name: u64, end: u64| name << 32 | end;
        let mut found = Line::default();
        found.notes[0] = note(1, 5);
        let mut was = Line::default();
        was.notes[3] = note(1, 9);
        was.notes[4] = note(2, 7);

        let carried = line(&found, &was).expect("there is something new");
        assert_eq!(carried.notes[..3], [note(1, 9), note(2, 7), 0]);
        assert_eq!(line(&carried, &was), None);
    }
}
