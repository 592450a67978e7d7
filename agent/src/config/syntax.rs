//! TOML → document, with all syntax errors that a person would call different ones.
//!
//! The parser recovers after an error and goes on. What follows a forgotten bracket is noise, so
//! an unclosed array or table is reported once, where it opens, and each line once.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::bracket;
use super::diagnostic::{Diagnostic, Kind, quote};
use super::source::Source;

/// Parses a text. What could be understood is in the table, also if there are errors.
pub(super) fn parse(text: &str) -> (Spanned<DeTable<'_>>, Vec<Diagnostic>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut diagnostics: Vec<_> = errors
        .iter()
        .map(|error| {
            let span = visible(text, error.span().unwrap_or(0..0));
            translate(text, table.get_ref(), span, error.message())
        })
        .collect();
    if errors.iter().any(is_unclosed_value)
        && let Some(opening) = bracket::unclosed(text)
    {
        diagnostics.retain(|diagnostic| diagnostic.span.start < opening);
        diagnostics.push(never_closed(text, opening));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    diagnostics.dedup_by_key(|diagnostic| line_start(text, diagnostic.span.start));
    (table, diagnostics)
}

/// Tells whether a syntax error makes a place in its file doubtful: one on the same line, or in
/// the header above it.
pub(super) fn shadows(source: &Source, error: &Diagnostic, at: usize) -> bool {
    let file = source.file(error.span.start);
    let start = file.range().start;
    at >= start
        && at <= file.range().end
        && shadows_in(file.text(), error.span.start - start, at - start)
}

fn shadows_in(text: &str, error: usize, at: usize) -> bool {
    let (line, other) = (line_start(text, error), line_start(text, at));
    let is_header = |line: &str| line.trim_start().starts_with('[');
    line == other
        || (line < other
            && is_header(&text[line..])
            && !text[line..other]
                .lines()
                .skip(1)
                .chain(text[other..].lines().take(1))
                .any(is_header))
}

/// Returns the offset at which the line of an offset begins.
pub(super) fn line_start(text: &str, offset: usize) -> usize {
    let offset = text.floor_char_boundary(offset);
    text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Moves the place of an error at the end of the file back to the last thing that is there.
fn visible(text: &str, span: Range<usize>) -> Range<usize> {
    let end = text.trim_end().len();
    if span.start >= text.len() {
        end..end
    } else {
        span
    }
}

fn is_unclosed_value(error: &toml::de::Error) -> bool {
    ["unclosed array,", "unclosed inline table,"]
        .iter()
        .any(|fault| error.message().starts_with(fault))
}

fn never_closed(text: &str, opening: usize) -> Diagnostic {
    let (what, end) = match text.as_bytes().get(opening) {
        Some(b'{') => ("table", '}'),
        _ => ("array", ']'),
    };
    let message = format!("{what} is never closed");
    Diagnostic::new(Kind::Syntax, opening..opening + 1, message)
        .help(format!("end it with `{end}`"))
}

/// Words an error of the parser.
fn translate(text: &str, table: &DeTable<'_>, span: Range<usize>, message: &str) -> Diagnostic {
    let (fault, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    if fault == "duplicate key" {
        return duplicate_key(text, table, span);
    }
    if is_unquoted(fault) {
        return unquoted(text, &span);
    }
    let is_quote = matches!(expected, "`\"`" | "`'`" | "`\"\"\"`" | "`\'\'\'`");
    let fault = if is_quote && fault.ends_with("string") {
        "string is never closed"
    } else {
        fault
    };
    let diagnostic = Diagnostic::new(Kind::Syntax, span, fault);
    match expected {
        "" | "nothing" => diagnostic,
        _ => diagnostic.label(format!("expected {expected}")),
    }
}

/// Tells whether the parser took a word without quotes for a value of another type.
fn is_unquoted(fault: &str) -> bool {
    let numbers = fault.starts_with("invalid ") && fault.ends_with(" number");
    numbers
        || matches!(
            fault,
            "string values must be quoted"
                | "invalid boolean"
                | "invalid date-time"
                | "invalid float"
        )
}

fn unquoted(text: &str, span: &Range<usize>) -> Diagnostic {
    let ends = |c: char| c.is_whitespace() || ",[]{}=#\"'".contains(c);
    let start = text[..span.start]
        .rfind(ends)
        .map_or(0, |before| text.ceil_char_boundary(before + 1));
    let len = text[start..].find(ends).unwrap_or(text.len() - start);
    let word = &text[start..span.end.max(start + len)];
    let span = start..start + word.len();
    if word.is_empty() {
        return Diagnostic::new(Kind::Syntax, span, "value missing after `=`");
    }
    let quoted = quote(&format!("\"{word}\""));
    Diagnostic::new(
        Kind::Syntax,
        span,
        format!("{} is not a value", quote(word)),
    )
    .help(format!("a string is written in quotes: {quoted}"))
}

fn duplicate_key(text: &str, table: &DeTable<'_>, span: Range<usize>) -> Diagnostic {
    let key = text.get(span.clone()).unwrap_or_default();
    let message = format!("{} is given twice", quote(key.trim_matches(['"', '\''])));
    let first = first_header(text, &span).or_else(|| first_key(text, table, &span));
    let diagnostic = Diagnostic::new(Kind::DuplicateKey, span, message);
    match first {
        Some(first) => diagnostic.other(first, "first given here"),
        None => diagnostic,
    }
}

/// Returns where the header in the line of a place stands for the first time.
fn first_header(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let header = |line: &str| line.split(']').next().map(str::trim).map(str::to_owned);
    let line = line_start(text, span.start);
    let wanted = header(&text[line..]).filter(|header| header.starts_with('['))?;
    let mut start = 0;
    for earlier in text[..line].split_inclusive('\n') {
        if header(earlier).as_ref() == Some(&wanted) {
            return Some(start..start + earlier.trim_end().len());
        }
        start += earlier.len();
    }
    None
}

/// Returns the nearest key of the same name before a place: the parser keeps the first one and
/// says only where the second is.
fn first_key(text: &str, table: &DeTable<'_>, span: &Range<usize>) -> Option<Range<usize>> {
    let key = text.get(span.clone())?;
    let mut first: Option<Range<usize>> = None;
    visit_keys(table, &mut |other| {
        let nearer = first.as_ref().is_none_or(|found| found.start < other.start);
        if other.start < span.start && text.get(other.clone()) == Some(key) && nearer {
            first = Some(other);
        }
    });
    first
}

fn visit_keys(table: &DeTable<'_>, visit: &mut dyn FnMut(Range<usize>)) {
    for (key, value) in table {
        visit(key.span());
        visit_tables(value.get_ref(), &mut |inner| visit_keys(inner, visit));
    }
}

fn visit_tables(value: &DeValue<'_>, visit: &mut dyn FnMut(&DeTable<'_>)) {
    if let Some(table) = value.as_table() {
        visit(table);
    }
    for item in value.as_array().into_iter().flat_map(|array| array.iter()) {
        visit_tables(item.get_ref(), visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(Range<usize>, String)> {
        let (_, diagnostics) = parse(text);
        diagnostics
            .into_iter()
            .map(|d| (d.span, d.message))
            .collect()
    }

    #[test]
    fn a_sound_text_has_no_faults() {
        assert_eq!(faults("[[node]]\nname = \"a\"\n"), []);
        assert_eq!(faults(""), []);
    }

    #[test]
    fn several_faults_are_found_at_once() {
        let found = faults("a = \nb = yes\nc = 1\nc = 2\n");

        let messages: Vec<_> = found.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "value missing after `=`",
                "`yes` is not a value",
                "`c` is given twice"
            ]
        );
    }

    #[test]
    fn an_unclosed_array_is_reported_once_where_it_opens() {
        let found = faults("a = 1\nb = [1,\n[[node]]\nname = \"x\"\n");

        assert_eq!(found, [(10..11, "array is never closed".to_owned())]);
    }

    #[test]
    fn an_address_without_quotes_is_named_as_a_whole() {
        let found = faults("a = 10.0.1.0/24 # x\nb = [fd00::1]\n");

        assert_eq!(found[0], (4..15, "`10.0.1.0/24` is not a value".to_owned()));
        assert_eq!(found[1], (25..32, "`fd00::1` is not a value".to_owned()));
    }

    #[test]
    fn a_broken_header_makes_the_keys_below_it_doubtful() {
        let text = "[[a]\nb = 1\n[c]\nd = 1\n";

        let (_, errors) = parse(text);

        let source = Source::new("a.toml", text);
        assert!(shadows(&source, &errors[0], 5));
        assert!(!shadows(&source, &errors[0], 11), "the next header ends it");
        assert!(!shadows(&source, &errors[0], 15));
    }
}
