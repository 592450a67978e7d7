//! Which kernel this is, and whether it has what the agent needs.

use nix::errno::Errno;
use nix::sys::utsname::uname;

use super::error::{Error, Result};

/// The oldest kernel that is supported and tested.
const OLDEST: (u32, u32) = (6, 1);

/// What older kernels lack, by the release that brought it; the newest first.
const NEEDED: [((u32, u32), &str); 3] = [
    ((5, 18), "marks on addresses (IFA_PROTO)"),
    ((5, 11), "bpf_ktime_get_coarse_ns"),
    ((5, 10), "bpf_redirect_peer"),
];

/// Refuses a kernel that is too old, naming what it lacks.
///
/// # Errors
/// When the kernel is older than the oldest one that is supported.
pub fn require() -> Result<()> {
    let name = uname().map_err(|errno| Error::system("read the kernel's release", errno))?;
    let release = name.release().to_string_lossy();
    // A release that cannot be read is a newer one.
    let Some(number) = number(&release) else {
        return Ok(());
    };
    if number >= OLDEST {
        return Ok(());
    }
    Err(Error::system(refusal(&release, number), Errno::ENOSYS))
}

fn refusal(release: &str, found: (u32, u32)) -> String {
    let lacks = NEEDED.iter().filter(|(since, _)| found < *since);
    let lacks: Vec<&str> = lacks.map(|(_, what)| *what).collect();
    let (major, minor) = OLDEST;
    let lacks = if lacks.is_empty() {
        "it is not tested".to_owned()
    } else {
        format!("it lacks {}", lacks.join(", "))
    };
    format!("kernel {release} is older than {major}.{minor}: {lacks}")
}

/// Reads the first two numbers of a release such as `6.1.0-56-amd64`.
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{number, refusal};

    #[test]
    fn release_is_read_whatever_follows_it() {
        assert_eq!(number("6.1.0-56-amd64"), Some((6, 1)));
        assert_eq!(number("5.15-rc1"), Some((5, 15)));
        assert_eq!(number("custom"), None);
    }

    #[test]
    fn older_kernel_is_refused_with_what_it_lacks() {
        assert_eq!(
            refusal("5.15.0", (5, 15)),
            "kernel 5.15.0 is older than 6.1: it lacks marks on addresses (IFA_PROTO)"
        );
        assert_eq!(
            refusal("5.19", (5, 19)),
            "kernel 5.19 is older than 6.1: it is not tested"
        );
        assert!(refusal("5.4", (5, 4)).ends_with("bpf_redirect_peer"));
    }
}
