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
    let texts = merged.into_iter().map(|(first, last)| {
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
}
