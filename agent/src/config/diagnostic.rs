//! What is wrong with a file, and where.
//!
//! Every check of `config` and `topology` ends in a [`Diagnostic`]. The first line of its text is
//! `file:line:column: error: message`, which editors and scripts parse; the line itself with a
//! caret and, where it helps, a hint follow. The header is written here, for annotate-snippets
//! draws only what is below it.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::source::{Excerpt, Source};

/// Longest piece of a file that a message repeats, in characters.
const QUOTE_MAX: usize = 64;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// Tells what rule a file breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Lists every kind, so that tests can ask for an example of each.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];
        }
    };
}

kinds! {
    Syntax,
    NotUtf8,
    DuplicateKey,
    UnknownKey,
    WrongType,
    /// A table in one file, and something else in another one.
    MergedTypes,
    /// A later version will accept it.
    NotSupported,
    MissingKey,
    BadValue,
    NoNode,
    BadName,
    ReservedName,
    DuplicateName,
    UndefinedNode,
    /// Several nodes, and an endpoint that names none.
    NodeNotGiven,
    BadAddress,
    BadPrefix,
    HostBits,
    PrefixTooSmall,
    /// More endpoints than addresses.
    PrefixFull,
    UnusablePrefix,
    OverlappingPrefixes,
    AddressOutside,
    /// The network, broadcast or router address.
    AddressTaken,
    DuplicateAddress,
    /// An outside address in a prefix of endpoints.
    NodeAddressInPrefix,
    /// An endpoint's node has neither prefix.
    NoFamily,
    /// An endpoint's node lacks the prefix of this family.
    NoPrefix,
    BadNetns,
    DuplicateNetns,
    BadLabel,
    MtuOutOfRange,
    TooManyEndpoints,
    /// Two names give the same link name.
    LinkCollision,
    /// A name that no device can have.
    BadDevice,
    DuplicateDevice,
    /// Two addresses of a family where there can be one.
    DuplicateFamily,
    /// A setting that does nothing beside another one.
    NoEffect,
    MasqueradeAddressInPrefix,
    /// A gateway that is on no network of its device.
    GatewayUnreachable,
    /// More than one default route of a family.
    SeveralGateways,
    BadPorts,
    BadDuration,
    TimeoutTooShort,
    OutOfRange,
    BadPortName,
    /// Neither an endpoint nor a node has the name.
    UndefinedName,
    /// Nobody says which number the name of a port stands for.
    UndefinedPort,
    /// An entity that means something in a cluster only.
    ForeignEntity,
    BadSelector,
    /// A rule that is about nobody, or about endpoints and nodes at once.
    BadSubject,
    /// A rule, a term or a list of it that says nothing.
    Empty,
    /// An exception of a prefix that is not part of it.
    ExceptOutside,
    /// It cannot be told which node the agent plays.
    NodeChoice,
    /// More terms, entries or prefixes than the kernel's tables hold.
    PolicyTooLarge,
}

impl Kind {
    /// Tells whether something missing can cause it: beside a syntax error, which hides parts of
    /// the file, it would often be a false alarm.
    pub(super) fn needs_whole_file(self) -> bool {
        matches!(
            self,
            Self::MissingKey
                | Self::NoNode
                | Self::UndefinedNode
                | Self::NodeNotGiven
                | Self::NoFamily
                | Self::NoPrefix
                | Self::NoEffect
                | Self::TimeoutTooShort
                | Self::UndefinedName
                | Self::UndefinedPort
                | Self::BadSubject
                | Self::Empty
        )
    }
}

/// Describes one fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub kind: Kind,
    /// What is wrong, without the place.
    pub message: String,
    /// Where, in bytes from the start of the source.
    pub span: Range<usize>,
    /// What stands beside the caret.
    pub label: Option<String>,
    /// Other places that matter, each with its words.
    pub others: Vec<(Range<usize>, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn new(kind: Kind, span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            span,
            label: None,
            others: Vec::new(),
            help: None,
        }
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    #[must_use]
    pub fn other(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.others.push((span, label.into()));
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Moves all places behind `by` bytes.
    pub(super) fn shift(&mut self, by: usize) {
        let others = self.others.iter_mut().map(|(span, _)| span);
        for span in others.chain([&mut self.span]) {
            *span = span.start + by..span.end + by;
        }
    }

    /// Adds "did you mean" if one of the words is close to what was written.
    #[must_use]
    pub(crate) fn suggest<'w>(
        self,
        written: &str,
        words: impl IntoIterator<Item = &'w str>,
    ) -> Self {
        match closest(written, words) {
            Some(word) => self.help(format!("did you mean {}?", quote(word))),
            None => self,
        }
    }

    /// Returns the text for a person: the header, the lines of the file, the hint. It has no
    /// newline at the end.
    pub fn render(&self, source: &Source) -> String {
        let file = source.file(self.span.start);
        let primary = Mark {
            kind: AnnotationKind::Primary,
            span: file.clamp(&self.span),
            label: self.label.as_deref(),
        };
        let others = self.others.iter().map(|(span, label)| {
            let mark = Mark {
                kind: AnnotationKind::Context,
                span: source.file(span.start).clamp(span),
                label: Some(label),
            };
            (source.file(span.start), mark)
        });
        // What is in the same file is drawn in one piece; the path of the first is in the header.
        let mut pieces = vec![(file, vec![primary])];
        for (other, mark) in others {
            match pieces.iter_mut().find(|(file, _)| *file == other) {
                Some((_, marks)) => marks.push(mark),
                None => pieces.push((other, vec![mark])),
            }
        }
        let drawn: Vec<_> = pieces
            .iter()
            .map(|(file, marks)| (file.excerpt(&hull(marks)), file, marks))
            .collect();
        let mut group = Group::with_level(Level::ERROR);
        for (excerpt, other, marks) in &drawn {
            let path = (**other != file).then(|| other.path());
            group = group.element(snippet(excerpt, path, marks));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }

        let place = source.place(file.clamp(&self.span).start);
        let mut text = format!("{place}: error: {}\n", self.message);
        let drawing = Renderer::plain().render(&[group]);
        for line in drawing.lines() {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Is a piece of a file that a drawing points at.
struct Mark<'a> {
    kind: AnnotationKind,
    span: Range<usize>,
    label: Option<&'a str>,
}

/// Returns the span from the first mark to the last.
fn hull(marks: &[Mark<'_>]) -> Range<usize> {
    let start = marks.iter().map(|mark| mark.span.start).min();
    let end = marks.iter().map(|mark| mark.span.end).max();
    start.unwrap_or_default()..end.unwrap_or_default()
}

/// Draws marks into the lines of a file, below its path if it has to be said.
fn snippet<'a>(
    excerpt: &'a Excerpt,
    path: Option<&'a str>,
    marks: &'a [Mark<'a>],
) -> Snippet<'a, Annotation<'a>> {
    let snippet = Snippet::source(&excerpt.text)
        .line_start(excerpt.line)
        .path(path);
    marks.iter().fold(snippet, |snippet, mark| {
        let span = mark.span.start - excerpt.start..mark.span.end - excerpt.start;
        snippet.annotation(mark.kind.span(span).label(mark.label))
    })
}

/// Returns a piece of a file for use in a message: on one line, short, in backticks.
pub(crate) fn quote(text: &str) -> String {
    let mut shown = String::from("`");
    for c in text.chars().take(QUOTE_MAX) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(QUOTE_MAX).is_some() {
        shown.push('…');
    }
    shown.push('`');
    shown
}

/// Returns the word that is nearest to what was written, if it is near enough to be meant.
pub(crate) fn closest<'w>(
    written: &str,
    words: impl IntoIterator<Item = &'w str>,
) -> Option<&'w str> {
    // Distances are quadratic in the length, and no word of ours is this long.
    if written.len() > QUOTE_MAX {
        return None;
    }
    let far_enough = (written.chars().count() / 3).max(1);
    words
        .into_iter()
        .filter(|word| *word != written)
        .map(|word| (strsim::damerau_levenshtein(written, word), word))
        .filter(|(distance, _)| *distance <= far_enough)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_what_editors_parse() {
        let source = Source::new("a.toml", "x = 1\nnmae = 2\n");
        let diagnostic = Diagnostic::new(Kind::UnknownKey, 6..10, "unknown key `nmae`")
            .suggest("nmae", ["address", "name"]);

        let text = diagnostic.render(&source);

        assert_eq!(
            text,
            "a.toml:2:1: error: unknown key `nmae`\n  \
             |\n\
             2 | nmae = 2\n  \
             | ^^^^\n  \
             |\n  \
             = help: did you mean `name`?"
        );
    }

    #[test]
    fn quotes_stay_on_one_line() {
        assert_eq!(quote("a\nb"), r"`a\nb`");
        assert_eq!(quote(r#"a"b"#), r#"`a"b`"#);
        assert_eq!(quote(&"x".repeat(100)).chars().count(), QUOTE_MAX + 3);
    }

    #[test]
    fn nothing_is_suggested_when_nothing_is_near() {
        assert_eq!(closest("zebra", ["name", "address"]), None);
        assert_eq!(closest("nam", ["name", "address"]), Some("name"));
    }

    #[test]
    fn a_span_outside_the_file_is_drawn_at_its_end() {
        let source = Source::new("a.toml", "x");

        let text = Diagnostic::new(Kind::Syntax, 40..90, "cut off").render(&source);

        assert!(text.starts_with("a.toml:1:2: error: cut off\n"), "{text}");
    }

    #[test]
    fn place_in_another_file_is_drawn_below_its_path() {
        let files: [(&str, &[u8]); 2] = [("a.toml", b"x = 1\n"), ("conf.d/b.toml", b"\nx = 2\n")];
        let source = Source::from_files(files).expect("UTF-8");
        let second = source.files()[1].range().start + 1;

        let text = Diagnostic::new(Kind::DuplicateName, second..second + 1, "two")
            .other(0..1, "first given here")
            .help("take one away")
            .render(&source);

        assert_eq!(
            text,
            "conf.d/b.toml:2:1: error: two\n  \
             |\n\
             2 | x = 2\n  \
             | ^\n  \
             |\n \
             ::: a.toml:1:1\n  \
             |\n\
             1 | x = 1\n  \
             | - first given here\n  \
             |\n  \
             = help: take one away"
        );
    }
}
