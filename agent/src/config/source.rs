//! The text of a file and the places in it.

use std::iter;

use super::diagnostic::{Diagnostic, Kind};

/// Holds a configuration file: the path as the user wrote it, and the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    path: String,
    text: String,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
}

/// Is a run of whole lines of a source.
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
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            lines: iter::once(0)
                .chain(newlines.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    /// Decodes the bytes of a file.
    ///
    /// # Errors
    /// If they are not UTF-8: the source with the bad bytes replaced, and the place of the first.
    pub fn from_bytes(path: &str, bytes: &[u8]) -> Result<Self, (Self, Box<Diagnostic>)> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(path, text)),
            Err(error) => {
                let at = error.valid_up_to();
                let replacement = char::REPLACEMENT_CHARACTER.len_utf8();
                let diagnostic = Diagnostic::new(
                    Kind::NotUtf8,
                    at..at + replacement,
                    format!("byte 0x{:02x} is not UTF-8", bytes[at]),
                )
                .help("save the file as UTF-8");
                let text = String::from_utf8_lossy(bytes);
                Err((Self::new(path, &text), Box::new(diagnostic)))
            }
        }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the line and the column of an offset, both from 1, the column in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
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

    /// Returns an offset as `file:line:column`.
    pub fn place(&self, offset: usize) -> String {
        let (line, column) = self.line_column(offset);
        format!("{}:{line}:{column}", self.path)
    }

    /// Returns the lines that a range touches.
    pub(super) fn excerpt(&self, start: usize, end: usize) -> Excerpt {
        let from = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let to = self.text[end..]
            .find('\n')
            .map_or(self.text.len(), |at| end + at);
        Excerpt {
            text: format!("{}\n", &self.text[from..to]).replace("\r\n", " \n"),
            start: from,
            line: self.line_column(from).0,
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
}
