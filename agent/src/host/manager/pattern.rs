//! Names with wildcards: `*` for any characters, `?` for one (`glob(7)` without classes).

/// Tells whether a pattern matches a whole name.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern_chars, mut name_chars) = (pattern.chars(), name.chars());
    match (pattern_chars.next(), name_chars.next()) {
        (None, None) => true,
        (Some('*'), next) => {
            matches(pattern_chars.as_str(), name)
                || next.is_some() && matches(pattern, name_chars.as_str())
        }
        (Some('?'), Some(_)) => matches(pattern_chars.as_str(), name_chars.as_str()),
        (Some(one), Some(other)) if one == other => {
            matches(pattern_chars.as_str(), name_chars.as_str())
        }
        (Some(_), _) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_stands_for_any_number_of_characters() {
        for (pattern, name, expected) in [
            ("lxc*", "lxcweb", true),
            ("lxc*", "lxc", true),
            ("*", "", true),
            ("*b*b", "lxcweb", false),
            ("e?h0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth0?", "eth0", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
