//! Finds the bracket that a file forgets to close.
//!
//! The parser notices at the end of the file and has by then taken headers for values. A look at
//! brackets alone, outside strings and comments, is enough to say where it began.

/// What the scan is in the middle of.
enum Inside {
    Nothing,
    Comment,
    /// A string, and the quotes that end it.
    Text(&'static str),
}

/// Returns the offset of the outermost bracket of a value that is still open at the end.
pub(super) fn unclosed(text: &str) -> Option<usize> {
    let mut open: Vec<usize> = Vec::new();
    let mut inside = Inside::Nothing;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let Some(c) = rest.chars().next() else {
            break;
        };
        let mut len = c.len_utf8();
        inside = match inside {
            Inside::Comment if c == '\n' => Inside::Nothing,
            Inside::Comment => Inside::Comment,
            Inside::Text(quotes) if rest.starts_with(quotes) => {
                len = quotes.len();
                Inside::Nothing
            }
            // A string on one line that has no end is another error.
            Inside::Text(quotes) if c == '\n' && quotes.len() == 1 => Inside::Nothing,
            Inside::Text(quotes) => {
                if c == '\\' && quotes.starts_with('"') {
                    len += rest[len..].chars().next().map_or(0, char::len_utf8);
                }
                Inside::Text(quotes)
            }
            Inside::Nothing if c == '#' => Inside::Comment,
            Inside::Nothing => {
                let quotes = opening_quotes(rest);
                match c {
                    '[' | '{' => open.push(at),
                    ']' | '}' => drop(open.pop()),
                    _ => len = quotes.map_or(len, str::len),
                }
                quotes.map_or(Inside::Nothing, Inside::Text)
            }
        };
        at += len;
    }
    open.first().copied()
}

fn opening_quotes(rest: &str) -> Option<&'static str> {
    ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quotes| rest.starts_with(quotes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_texts_have_none() {
        for text in [
            "",
            "[[a]]\nb = [1, { c = 2 }]",
            "a = \"[\" # {",
            "a = '''\n[''' # '",
            r#"a = "\"[""#,
        ] {
            assert_eq!(unclosed(text), None, "{text}");
        }
    }

    #[test]
    fn the_outermost_open_bracket_is_found() {
        assert_eq!(unclosed("a = [1,\n[b]\nc = 2"), Some(4));
        assert_eq!(unclosed("a = [ { b = 1"), Some(4));
        assert_eq!(
            unclosed("a = \"x\nb = {"),
            Some(11),
            "a quote without end ends with its line"
        );
    }
}
