//! Ports that the kernel must not give to the host's own connections
//! (`net/ipv4/ip_local_reserved_ports`).

/// Is the sysctl that lists them.
pub const RESERVED_PORTS: &str = "net/ipv4/ip_local_reserved_ports";

/// Returns a list of ports and ranges with another range in it, as the kernel prints it: sorted,
/// and with neighbours joined. What is no port is left out.
pub(super) fn merge(list: &str, range: (u16, u16)) -> String {
    let mut ranges: Vec<(u16, u16)> = list.split(',').filter_map(parse).collect();
    ranges.push(range);
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    print(&merged)
}

/// Returns a list of ports and ranges without those of another list, as the kernel prints it.
pub fn without(list: &str, others: &str) -> String {
    let mut left: Vec<(u16, u16)> = list.split(',').filter_map(parse).collect();
    for (first, last) in others.split(',').filter_map(parse) {
        let around = |(start, end): (u16, u16)| {
            let below = (start < first).then(|| (start, end.min(first.saturating_sub(1))));
            let above = (end > last).then(|| (start.max(last.saturating_add(1)), end));
            below.into_iter().chain(above)
        };
        left = left.into_iter().flat_map(around).collect();
    }
    print(&left)
}

fn print(ranges: &[(u16, u16)]) -> String {
    let texts = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    texts.collect::<Vec<_>>().join(",")
}

fn parse(item: &str) -> Option<(u16, u16)> {
    let item = item.trim();
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_joined_as_the_kernel_does() {
        let range = (49_152, 65_535);

        assert_eq!(merge("", range), "49152-65535");
        assert_eq!(merge("8080,9148-9150", range), "8080,9148-9150,49152-65535");
        assert_eq!(merge("49151,60000", range), "49151-65535");
        assert_eq!(merge("50000-50010", (1024, 2000)), "1024-2000,50000-50010");
        assert_eq!(merge("2001\n", (1024, 2000)), "1024-2001");
    }

    #[test]
    fn what_is_taken_away_leaves_both_sides() {
        for (list, others, left) in [
            ("", "1-2", ""),
            ("8080,49152-65535", "49152-65535", "8080"),
            ("49152-65535", "", "49152-65535"),
            ("1-10", "4-6", "1-3,7-10"),
            ("1-10", "1-3,10", "4-9"),
            ("5,7-9", "5,8", "7,9"),
            ("1-65535", "1-65535", ""),
            ("20-30", "1-20,30-40", "21-29"),
            ("5-6", "8-9", "5-6"),
        ] {
            assert_eq!(without(list, others), left, "{list} without {others}");
        }
    }
}
