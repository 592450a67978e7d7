//! What is wrong with a file, and where.
//!
//! Every check of `config` and `topology` ends in a [`Diagnostic`]. The first line of its text is
//! `file:line:column: error: message`, which editors and scripts parse; the line itself with a
//! caret and, where it helps, a hint follow. The header is written here, for annotate-snippets
//! draws only what is below it.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::source::Source;

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
    /// Where, in bytes from the start of the file.
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
        let primary = clamp(source.text(), &self.span);
        let others: Vec<_> = self
            .others
            .iter()
            .map(|(span, label)| (clamp(source.text(), span), label))
            .collect();
        let start = others.iter().map(|(span, _)| span.start).min();
        let end = others.iter().map(|(span, _)| span.end).max();
        let excerpt = source.excerpt(
            primary.start.min(start.unwrap_or(primary.start)),
            primary.end.max(end.unwrap_or(primary.end)),
        );
        let shift = |span: &Range<usize>| span.start - excerpt.start..span.end - excerpt.start;

        let mut snippet = Snippet::source(&excerpt.text)
            .line_start(excerpt.line)
            .annotation(
                AnnotationKind::Primary
                    .span(shift(&primary))
                    .label(self.label.as_deref()),
            );
        for (span, label) in &others {
            let context = AnnotationKind::Context.span(shift(span));
            snippet = snippet.annotation(context.label(label.as_str()));
        }
        let mut group = Group::with_level(Level::ERROR).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }

        let mut text = format!("{}: error: {}\n", source.place(primary.start), self.message);
        let drawing = Renderer::plain().render(&[group]);
        for line in drawing.lines() {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.truncate(text.trim_end().len());
        text
    }
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

/// Brings a span onto character boundaries of the text.
fn clamp(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    start..text.ceil_char_boundary(span.end.max(start))
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
}
