//! What `systemd-sysctl` and `sysctl --system` set, at boot and whenever somebody calls them
//! (`sysctl.d(5)`).

use std::path::{Path, PathBuf};

use super::folder;
use super::pattern::matches;

/// Is read last, by `sysctl --system` alone.
const LAST: &str = "etc/sysctl.conf";

/// Is one assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Below `/proc/sys`; may have wildcards.
    pub path: String,
    pub value: String,
    pub file: PathBuf,
}

/// Reads all assignments, in the order in which they are made.
pub fn read(root: &Path) -> Vec<Setting> {
    let mut files = folder::files(root, "sysctl.d", "conf");
    files.push(root.join(LAST));
    let mut settings = Vec::new();
    for file in files {
        let text = folder::text(&file);
        // Debian has a link to the last file among the others.
        let file = file.canonicalize().unwrap_or(file);
        settings.extend(text.lines().filter_map(|line| setting(line, &file)));
    }
    settings
}

/// Finds the assignment that a sysctl is left with: the last that names it, else the last whose
/// wildcards fit.
pub fn find<'a>(settings: &'a [Setting], path: &str) -> Option<&'a Setting> {
    let mut by_name = settings.iter().rev();
    let mut by_pattern = settings.iter().rev();
    by_name
        .find(|setting| setting.path == path)
        .or_else(|| by_pattern.find(|setting| fits(&setting.path, path)))
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if matches(pattern, part) => {}
            _ => return false,
        }
    }
}

/// Reads `-net.ipv4.conf.all.rp_filter = 1`. Where the first separator is a slash, dots are part of
/// names.
fn setting(line: &str, file: &Path) -> Option<Setting> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.trim_start_matches('-').split_once('=')?;
    let key = key.trim();
    let swap = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let has_slashes = key
        .find(['.', '/'])
        .is_some_and(|at| key[at..].starts_with('/'));
    Some(Setting {
        path: if has_slashes {
            key.to_owned()
        } else {
            key.chars().map(swap).collect()
        },
        value: value.split_whitespace().collect::<Vec<_>>().join(" "),
        file: file.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Vec<Setting> {
        let file = Path::new("/etc/sysctl.d/10-a.conf");
        text.lines()
            .filter_map(|line| setting(line, file))
            .collect()
    }

    #[test]
    fn last_assignment_counts_and_names_count_more_than_wildcards() {
        let settings = settings(
            "net.ipv4.ip_forward = 1\n# net.ipv4.ip_forward=2\nnet/ipv4/ip_forward=0\n\
             -net.ipv4.conf.eth0/1.rp_filter=1\nnet.ipv4.conf.*.rp_filter = 2\n",
        );
        let value = |path| find(&settings, path).map(|setting| setting.value.as_str());

        assert_eq!(value("net/ipv4/ip_forward"), Some("0"));
        assert_eq!(value("net/ipv4/conf/eth0.1/rp_filter"), Some("1"));
        assert_eq!(value("net/ipv4/conf/cilium_host/rp_filter"), Some("2"));
        assert_eq!(value("net/ipv4/conf/cilium_host/forwarding"), None);
    }

    #[test]
    fn our_own_file_is_read() {
        let ours = settings(include_str!("../../../../image/sysctl.d/99-ciliate.conf"));

        let found = find(&ours, "net/ipv4/conf/cilium_host/rp_filter").unwrap();
        assert_eq!(found.value, "0");
    }
}
