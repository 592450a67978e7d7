//! Archives in the format "newc", which the kernel unpacks as its first root.
//!
//! Written here rather than by a program, so that devices and owners need no privilege. Format: the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// Device number of `/dev/console`.
const CONSOLE_DEVICE: (u32, u32) = (5, 1);

/// Fields and names, and contents, start at multiples of this.
const ALIGNMENT: usize = 4;

pub(super) struct Archive<W> {
    sink: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(sink: W) -> Self {
        Self { sink, inode: 0 }
    }

    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.entry(path, FILE, (0, 0), content)
    }

    pub(super) fn program(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.entry(path, PROGRAM, (0, 0), content)
    }

    /// Adds the console, without which the first process has no output.
    pub(super) fn console(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, CONSOLE, CONSOLE_DEVICE, &[])
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other(format!("{path} exceeds 4 GiB")))?;
        let name_len = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        self.inode += 1;
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), length of the name, checksum
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_len, 0,
        ];

        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08X}")?;
        }
        write!(header, "{name}\0")?;
        self.padded(&header)?;
        self.padded(content)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        self.sink.write_all(&[0; ALIGNMENT][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_has_a_header_of_110_bytes_and_padded_parts() {
        let mut archive = Archive::new(Vec::new());

        archive.file("/init", b"abcde").expect("a vector takes all");

        let bytes = &archive.sink;
        assert!(bytes.starts_with(b"070701"), "magic number of newc");
        assert_eq!(&bytes[54..62], b"00000005", "size of the content");
        assert_eq!(
            &bytes[110..116],
            b"init\0\0",
            "name without the leading slash, then padding"
        );
        assert_eq!(&bytes[116..], b"abcde\0\0\0");
    }
}
