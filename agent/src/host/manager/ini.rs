//! Sections of assignments, as systemd and `NetworkManager` write them.

/// Is `key = value` in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) section: &'a str,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

/// Lists the assignments of a text in its order; what is none is left out.
pub(super) fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut section = "";
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
        } else if !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            entries.push(Entry {
                section,
                key: key.trim(),
                value: value.trim(),
            });
        }
    }
    entries
}

/// Reads a switch (`systemd.syntax(7)`).
pub(super) fn is_on(value: &str) -> bool {
    let words = ["1", "yes", "y", "true", "t", "on"];
    words.iter().any(|word| value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_other_lines_are_left_out() {
        let text = "# a = b\n[Match]\nName = lxc*\nnothing\n;c=d\n[Link]\nUnmanaged=yes\n";

        let found = entries(text);

        let entry = |section, key, value| Entry {
            section,
            key,
            value,
        };
        let expected = [
            entry("Match", "Name", "lxc*"),
            entry("Link", "Unmanaged", "yes"),
        ];
        assert_eq!(found, expected);
        assert!(is_on("Yes") && !is_on("no"));
    }
}
