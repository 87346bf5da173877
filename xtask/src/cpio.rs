//! Writes newc cpio archives, the format of an initramfs (Linux's `Documentation/.../buffer-format.rst`).
//!
//! What is made up belongs to root and has a fixed time, so that the same input gives the same archive; [`Archive::add`] keeps
//! what it is given.

use anyhow::{Context, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// The time every made-up entry carries: 2001-09-09 01:46:40 UTC.
pub const FIXED_TIME: u32 = 1_000_000_000;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory; parents must come first.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link; its contents are the target.
    Symlink,
    /// A character device of these numbers.
    CharacterDevice(u32, u32),
}

/// What the archive says of a file beside its name and contents.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The lower twelve bits of its mode.
    pub permissions: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// When it was changed, seconds since 1970.
    pub modified: u32,
}

impl Entry {
    /// An entry of root's with the fixed time.
    fn of_root(kind: Kind, permissions: u32) -> Entry {
        Entry { kind, permissions, user: 0, group: 0, modified: FIXED_TIME }
    }
}

/// An archive being written.
pub struct Archive {
    bytes: Vec<u8>,
    next_inode: u32,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Archive {
        Archive { bytes: Vec::new(), next_inode: 1 }
    }

    /// A directory; parents must come first.
    pub fn directory(&mut self, name: &str, permissions: u32) {
        self.add(name, Entry::of_root(Kind::Directory, permissions), &[]);
    }

    /// A regular file.
    pub fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) {
        self.add(name, Entry::of_root(Kind::Regular, permissions), contents);
    }

    /// A symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) {
        self.add(name, Entry::of_root(Kind::Symlink, 0o777), target.as_bytes());
    }

    /// A character device.
    pub fn character_device(&mut self, name: &str, permissions: u32, major: u32, minor: u32) {
        self.add(name, Entry::of_root(Kind::CharacterDevice(major, minor), permissions), &[]);
    }

    /// Everything below a host directory, in order of name.
    pub fn tree(&mut self, dir: &Path, prefix: &str) -> Result<()> {
        let reading = || format!("reading {}", dir.display());
        let mut entries: Vec<_> = std::fs::read_dir(dir).with_context(reading)?.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let data = std::fs::symlink_metadata(&path)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let permissions = data.mode() & 0o7777;
            let kind = data.file_type();
            if kind.is_dir() {
                self.directory(&name, permissions);
                self.tree(&path, &format!("{name}/"))?;
            } else if kind.is_symlink() {
                self.symlink(&name, &std::fs::read_link(&path)?.to_string_lossy());
            } else if kind.is_char_device() {
                let (major, minor) = ((data.rdev() >> 8) as u32 & 0xfff, data.rdev() as u32 & 0xff);
                self.character_device(&name, permissions, major, minor);
            } else if kind.is_file() {
                self.file(&name, permissions, &std::fs::read(&path).with_context(reading)?);
            }
        }
        Ok(())
    }

    /// Ends the archive, padded so that another one can follow.
    pub fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", Entry::of_root(Kind::Regular, 0), 0, &[]);
        pad(&mut self.bytes, 512);
        self.bytes
    }

    /// An entry as it is described.
    pub fn add(&mut self, name: &str, entry: Entry, contents: &[u8]) {
        let kind = match entry.kind {
            Kind::Directory => DIRECTORY,
            Kind::Regular => REGULAR,
            Kind::Symlink => SYMLINK,
            Kind::CharacterDevice(..) => CHARACTER,
        };
        self.write(name, entry, kind | entry.permissions, contents);
    }

    fn write(&mut self, name: &str, entry: Entry, mode: u32, contents: &[u8]) {
        let inode = self.next_inode;
        self.next_inode += 1;
        let links = if entry.kind == Kind::Directory { 2 } else { 1 };
        let device =
            if let Kind::CharacterDevice(major, minor) = entry.kind { (major, minor) } else { (0, 0) };
        let name_bytes = name.len() as u32 + 1;
        let fields: [u32; 13] = [
            inode,
            mode,
            entry.user,
            entry.group,
            links,
            entry.modified,
            contents.len() as u32,
            0,
            0,
            device.0,
            device.1,
            name_bytes,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        pad(&mut self.bytes, 4);
        self.bytes.extend_from_slice(contents);
        pad(&mut self.bytes, 4);
    }
}

/// Appends zeros up to a multiple of `alignment`.
pub fn pad(bytes: &mut Vec<u8>, alignment: usize) {
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_documented_layout() {
        let mut archive = Archive::new();
        archive.file("a", 0o644, b"hello");
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081A4");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..117], b"hello");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 512, 0);
    }
}
