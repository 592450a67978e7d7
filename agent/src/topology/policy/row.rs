//! What holds between two parties, port by port: painted, then cut into ranges.
//!
//! Terms lie over each other like sheets: the one on top decides. What no sheet with ports covers
//! is the entry's own verdict; the rest becomes disjoint ranges, each as large as its place in the
//! space of protocols and ports allows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::number::{assign, digest};
use super::port::{BITS, END};
use crate::plan::policy::Verdict;

/// Is one term as seen from above.
#[derive(Debug)]
pub(super) struct Sheet {
    /// What it covers; `None` is everything.
    pub(super) spans: Option<Vec<Range<u32>>>,
    pub(super) verdict: Verdict,
}

/// Is a range within a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) start: u32,
    /// How many of its first bits count.
    pub(super) bits: u8,
    pub(super) verdict: Verdict,
}

/// Lays sheets over each other, the first one on top, over a base. Returns the verdict for
/// everything that no ports are named for, and the cells that differ from it.
pub(super) fn paint(base: Verdict, sheets: &[Sheet]) -> (Verdict, Vec<Cell>) {
    let hides = |sheet: &Sheet| sheet.spans.is_none();
    let bottom = sheets.iter().position(hides);
    let own = bottom.map_or(base, |at| sheets[at].verdict);
    let mut canvas = Canvas::new(own);
    for sheet in sheets[..bottom.unwrap_or(sheets.len())].iter().rev() {
        for span in sheet.spans.iter().flatten() {
            canvas.paint(span, sheet.verdict);
        }
    }
    (own, canvas.cells(own))
}

/// Holds the verdict of each place: from one key on to the next.
#[derive(Debug)]
struct Canvas(BTreeMap<u32, Verdict>);

impl Canvas {
    fn new(verdict: Verdict) -> Self {
        Self(BTreeMap::from([(0, verdict)]))
    }

    fn paint(&mut self, span: &Range<u32>, verdict: Verdict) {
        let behind = self.0.range(..=span.end).next_back();
        if let Some(behind) = behind.map(|(_, verdict)| *verdict) {
            self.0.insert(span.end, behind);
        }
        let covered: Vec<_> = self.0.range(span.clone()).map(|(at, _)| *at).collect();
        for at in covered {
            self.0.remove(&at);
        }
        self.0.insert(span.start, verdict);
    }

    /// Cuts all that differs from a verdict into cells.
    fn cells(&self, own: Verdict) -> Vec<Cell> {
        let mut runs: Vec<(Range<u32>, Verdict)> = Vec::new();
        let ends = self.0.keys().copied().skip(1).chain([END]);
        for ((start, verdict), end) in self.0.iter().zip(ends) {
            match runs.last_mut() {
                Some((run, last)) if last == verdict => run.end = end,
                _ => runs.push((*start..end, *verdict)),
            }
        }
        runs.retain(|(run, verdict)| *verdict != own && !run.is_empty());
        let cells = |(run, verdict)| {
            blocks(run).map(move |(start, bits)| Cell {
                start,
                bits,
                verdict,
            })
        };
        runs.into_iter().flat_map(cells).collect()
    }
}

/// Cuts a range into the fewest blocks whose places share their first bits.
fn blocks(range: Range<u32>) -> impl Iterator<Item = (u32, u8)> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let left = range.end.checked_sub(start).filter(|left| *left > 0)?;
        let aligned = start.trailing_zeros().min(BITS.into());
        let log = aligned.min(left.ilog2());
        let block = (start, BITS - u8::try_from(log).ok()?);
        start += 1 << log;
        Some(block)
    })
}

/// Holds each distinct row once.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<Vec<Cell>, usize>);

impl Rows {
    /// Returns the place of a row; `None` is the empty one.
    pub(super) fn place(&mut self, cells: Vec<Cell>) -> Option<usize> {
        let next = self.0.len();
        (!cells.is_empty()).then(|| *self.0.entry(cells).or_insert(next))
    }

    /// Returns the cells of all rows.
    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.0.keys().flatten()
    }

    /// Returns each row with its place and the number that its content gives it.
    pub(super) fn numbered(&self) -> BTreeMap<usize, (u32, &[Cell])> {
        let digest = |cells: &Vec<Cell>| digest([format!("{cells:?}").as_str()]);
        let digests: Vec<_> = self.0.keys().map(digest).collect();
        let set: BTreeSet<_> = digests.iter().copied().collect();
        let numbers = assign(&set, &(1..u32::MAX));
        let rows = self.0.iter().zip(&digests);
        rows.map(|((cells, at), digest)| (*at, (numbers[digest], cells.as_slice())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::policy::Decision;

    fn verdict(decision: Decision, term: u16) -> Verdict {
        Verdict { decision, term }
    }

    fn sheet(span: Range<u32>, verdict: Verdict) -> Sheet {
        Sheet {
            spans: Some([span].into()),
            verdict,
        }
    }

    #[test]
    fn the_sheet_on_top_decides_and_what_none_covers_is_the_base() {
        let (deny, allow) = (verdict(Decision::Deny, 1), verdict(Decision::Allow, 2));
        let base = verdict(Decision::Deny, 0);

        let (own, cells) = paint(base, &[sheet(80..82, deny), sheet(80..84, allow)]);

        assert_eq!(own, base);
        let cell = |start, verdict| Cell {
            start,
            bits: 23,
            verdict,
        };
        assert_eq!(cells, [cell(80, deny), cell(82, allow)]);
    }

    #[test]
    fn nothing_below_a_sheet_without_ports_is_seen() {
        let (one, two) = (verdict(Decision::Allow, 1), verdict(Decision::Allow, 2));
        let all = Sheet {
            spans: None,
            verdict: one,
        };

        let painted = paint(verdict(Decision::Deny, 0), &[all, sheet(80..81, two)]);

        assert_eq!(painted, (one, Vec::new()));
    }

    #[test]
    fn ports_from_1024_on_are_six_blocks() {
        let tcp = 6 << 16;

        let blocks: Vec<_> = blocks(tcp + 1024..tcp + 65_536).collect();

        let starts = [1024, 2048, 4096, 8192, 16_384, 32_768];
        let bits = [14, 13, 12, 11, 10, 9];
        let expected: Vec<_> = starts
            .map(|port| tcp + port)
            .into_iter()
            .zip(bits)
            .collect();
        assert_eq!(blocks, expected);
    }

    #[test]
    fn painting_to_the_end_of_the_space_leaves_no_empty_run() {
        let allow = verdict(Decision::Allow, 1);

        let (_, cells) = paint(
            verdict(Decision::Deny, 0),
            &[sheet(END - 65_536..END, allow)],
        );

        assert_eq!(cells.len(), 1);
        assert_eq!(cells[0].bits, 8);
    }
}
