//! The texts of the files of a configuration, and the places in them.
//!
//! The texts lie one behind the other in one space of offsets: an offset tells the file too, and
//! the spans of values that were merged from several files stay true. Between two texts one
//! offset is left free, so that the end of one is not the beginning of the next.

use std::iter;
use std::ops::Range;

use super::diagnostic::{Diagnostic, Kind};

/// Holds the files of a configuration: the paths as the user wrote them, and the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// At least one, in the order in which they are merged.
    files: Vec<Part>,
}

/// Is one file of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    path: String,
    text: String,
    /// Offset of the text in the source, in bytes.
    start: usize,
    /// Where each line begins, in bytes from the start of the text.
    lines: Vec<usize>,
}

/// Is a run of whole lines of a file.
#[derive(Clone, Debug)]
pub(super) struct Excerpt {
    /// Carriage returns at the ends of lines are replaced by blanks.
    pub text: String,
    /// Offset of the excerpt in the source, in bytes.
    pub start: usize,
    /// Number of its first line, from 1.
    pub line: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            files: vec![Part::new(path, text, 0)],
        }
    }

    /// Decodes the bytes of a file.
    ///
    /// # Errors
    /// If they are not UTF-8: the source with the bad bytes replaced, and the place of the first.
    pub fn from_bytes(path: &str, bytes: &[u8]) -> Result<Self, (Self, Box<Diagnostic>)> {
        Self::from_files([(path, bytes)]).map_err(|(source, mut faults)| {
            let first = faults.swap_remove(0);
            (source, Box::new(first))
        })
    }

    /// Decodes the bytes of several files, each with its path; there is at least one.
    ///
    /// # Errors
    /// If some are not UTF-8: the source with the bad bytes replaced, and the first place in each.
    pub fn from_files<'f>(
        files: impl IntoIterator<Item = (&'f str, &'f [u8])>,
    ) -> Result<Self, (Self, Vec<Diagnostic>)> {
        let mut source = Self { files: Vec::new() };
        let mut faults = Vec::new();
        for (path, bytes) in files {
            let start = source.files.last().map_or(0, |last| last.range().end + 1);
            let text = String::from_utf8_lossy(bytes);
            if let Err(error) = std::str::from_utf8(bytes) {
                let at = start + error.valid_up_to();
                let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
                let message = format!("byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]);
                let fault = Diagnostic::new(Kind::NotUtf8, span, message);
                faults.push(fault.help("save the file as UTF-8"));
            }
            source.files.push(Part::new(path, &text, start));
        }
        if faults.is_empty() {
            Ok(source)
        } else {
            Err((source, faults))
        }
    }

    /// Returns the files, in the order in which they are merged.
    pub fn files(&self) -> &[Part] {
        &self.files
    }

    /// Returns the path of the first file.
    pub fn path(&self) -> &str {
        &self.files[0].path
    }

    /// Returns the file that an offset is in.
    pub fn file(&self, offset: usize) -> &Part {
        let behind = self.files.partition_point(|file| file.start <= offset);
        &self.files[behind - 1]
    }

    /// Returns an offset as `file:line:column`.
    pub fn place(&self, offset: usize) -> String {
        let file = self.file(offset);
        let (line, column) = file.line_column(offset);
        format!("{}:{line}:{column}", file.path)
    }
}

impl Part {
    fn new(path: &str, text: &str, start: usize) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            start,
            lines: iter::once(0)
                .chain(newlines.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the offsets of the text in the source.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// Returns the line and the column of an offset, both from 1, the column in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset - self.start);
        let line = self.lines.partition_point(|start| *start <= offset);
        let line_start = self.lines[line - 1];
        // A byte order mark is no column.
        let column = self.text[line_start..offset]
            .trim_start_matches('\u{feff}')
            .chars()
            .count()
            + 1;
        (line, column)
    }

    /// Brings a span of the source onto character boundaries of this file.
    pub(super) fn clamp(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start - self.start);
        let end = self
            .text
            .ceil_char_boundary((span.end - self.start).max(start));
        self.start + start..self.start + end
    }

    /// Returns the lines that a span of this file touches.
    pub(super) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let [start, end] = [span.start, span.end].map(|offset| offset - self.start);
        let from = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let to = self.text[end..]
            .find('\n')
            .map_or(self.text.len(), |at| end + at);
        let start = self.start + from;
        Excerpt {
            text: format!("{}\n", &self.text[from..to]).replace("\r\n", " \n"),
            start,
            line: self.line_column(start).0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_not_bytes() {
        let source = Source::new("a.toml", "x = 1\nö = 2\n");

        assert_eq!(source.place(0), "a.toml:1:1");
        assert_eq!(source.place(9), "a.toml:2:3");
        assert_eq!(
            source.place(7),
            "a.toml:2:1",
            "an offset inside a character belongs to it"
        );
    }

    #[test]
    fn an_offset_behind_the_end_is_the_end() {
        assert_eq!(Source::new("a.toml", "x = 1").place(99), "a.toml:1:6");
    }

    #[test]
    fn the_first_bad_byte_is_named() {
        let (source, diagnostic) =
            Source::from_bytes("a.toml", b"a = 1\nb = \"\xff\"").expect_err("not UTF-8");

        assert_eq!(source.place(diagnostic.span.start), "a.toml:2:6");
        assert_eq!(diagnostic.message, "byte 0xff is not UTF-8");
    }

    #[test]
    fn an_offset_tells_the_file() {
        let files: [(&str, &[u8]); 3] = [("a", b"x = 1"), ("b", b""), ("c", b"\ny = 2\n")];
        let source = Source::from_files(files).expect("UTF-8");

        let starts: Vec<_> = source
            .files()
            .iter()
            .map(|file| file.range().start)
            .collect();
        assert_eq!(starts, [0, 6, 7]);
        assert_eq!(source.place(5), "a:1:6", "the end of the first");
        assert_eq!(source.place(6), "b:1:1", "the empty one");
        assert_eq!(source.place(8), "c:2:1");
    }

    #[test]
    fn bad_bytes_of_each_file_are_named() {
        let files: [(&str, &[u8]); 3] = [("a", b"\xff"), ("b", b"x"), ("c", b"x\n\xfe")];

        let (source, faults) = Source::from_files(files).expect_err("not UTF-8");

        let places: Vec<_> = faults.iter().map(|f| source.place(f.span.start)).collect();
        assert_eq!(places, ["a:1:1", "c:2:1"]);
    }
}
