//! cpio archives in the "new ASCII" format, and the initramfs made of them.
//!
//! [`Archive`] reads entries one after the other from a [`Source`]; [`unpack`] takes a whole initramfs as
//! Linux allows it (`Documentation/driver-api/early-userspace/buffer-format.rst`): any number of archives,
//! each plain or compressed, in any order, with zeros between them. The file system side implements
//! [`Visitor`]. Nothing panics on damaged input. No locks.

use crate::decompress::{Error, Format, Gzip, Slice, Source, Zstd};
use crate::path::PATH_MAX;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

const HEADER_SIZE: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const TYPE_REGULAR: u32 = 0o100_000;

/// What an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; the body is its data.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// A character device (the `rdev` fields say which).
    CharacterDevice,
    /// A block device (the `rdev` fields say which).
    BlockDevice,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// Another name of a file that came earlier in this archive, which this is the name of. A body, if there
    /// is one, replaces that file's data.
    HardLink(Vec<u8>),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path, without NUL; relative or absolute as the archive has it.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change, seconds since 1970.
    pub mtime: u32,
    /// Number of links that the archive claims.
    pub link_count: u32,
    /// Major number of a device node.
    pub rdev_major: u32,
    /// Minor number of a device node.
    pub rdev_minor: u32,
    /// Length of the body, bytes (0 for a symbolic link: its body is in `kind`).
    pub size: u64,
}

/// Takes the entries of an initramfs.
pub trait Visitor {
    /// Makes `entry`; `body` gives its `size` bytes of data. What is not read is skipped.
    ///
    /// # Errors
    /// An error of `body` is passed on; a failure to make a file is the visitor's to note: it does not stop
    /// the unpacking, as it does not in Linux.
    fn entry(&mut self, entry: &Entry, body: &mut dyn Source) -> Result<(), Error>;
}

/// Reads one archive.
pub struct Archive<'s, S: Source + ?Sized> {
    source: &'s mut S,
    /// Bytes read from the source, for alignment.
    position: u64,
    body_left: u64,
    body_sum: u32,
    expected_sum: Option<u32>,
    links: BTreeMap<LinkKey, Vec<u8>>,
}

type LinkKey = (u32, u32, u32, u32);

struct Header {
    checked: bool,
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    link_count: u32,
    mtime: u32,
    size: u32,
    device_major: u32,
    device_minor: u32,
    rdev_major: u32,
    rdev_minor: u32,
    name_size: u32,
    checksum: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_SIZE]) -> Result<Self, Error> {
        let (magic, fields) = bytes.split_at(6);
        let checked = match magic {
            b"070701" => false,
            b"070702" => true,
            _ => return Err(Error::Corrupt),
        };
        let mut fields = fields.chunks_exact(8).map(parse_hexadecimal);
        let mut field = || fields.next().unwrap_or(Err(Error::Corrupt));
        Ok(Self {
            checked,
            inode: field()?,
            mode: field()?,
            uid: field()?,
            gid: field()?,
            link_count: field()?,
            mtime: field()?,
            size: field()?,
            device_major: field()?,
            device_minor: field()?,
            rdev_major: field()?,
            rdev_minor: field()?,
            name_size: field()?,
            checksum: field()?,
        })
    }
}

fn parse_hexadecimal(digits: &[u8]) -> Result<u32, Error> {
    digits.iter().try_fold(0u32, |value, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Error::Corrupt)?;
        Ok(value << 4 | digit)
    })
}

impl<'s, S: Source + ?Sized> Archive<'s, S> {
    /// An archive that starts at the source's present place.
    pub fn new(source: &'s mut S) -> Self {
        Self { source, position: 0, body_left: 0, body_sum: 0, expected_sum: None, links: BTreeMap::new() }
    }

    /// The next entry; `None` after the trailer. What was not read of the body before is skipped.
    ///
    /// # Errors
    /// What is wrong with the data.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        self.skip_body()?;
        self.skip_to_alignment()?;
        let mut bytes = [0; HEADER_SIZE];
        self.read_exact(&mut bytes)?;
        let header = Header::parse(&bytes)?;
        let name = self.read_name(header.name_size)?;
        self.skip_to_alignment()?;
        if name == TRAILER {
            // A body here is meaningless, but its bytes are part of the archive.
            self.body_left = u64::from(header.size);
            self.expected_sum = None;
            self.skip_body()?;
            return Ok(None);
        }
        self.body_left = u64::from(header.size);
        self.body_sum = 0;
        self.expected_sum = header.checked.then_some(header.checksum);
        self.make_entry(header, name).map(Some)
    }

    fn make_entry(&mut self, header: Header, name: Vec<u8>) -> Result<Entry, Error> {
        let kind = match header.mode & TYPE_MASK {
            TYPE_SYMLINK => Kind::Symlink(self.read_symlink()?),
            TYPE_DIRECTORY => Kind::Directory,
            TYPE_REGULAR => Kind::Regular,
            0o020_000 => Kind::CharacterDevice,
            0o060_000 => Kind::BlockDevice,
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            _ => return Err(Error::Corrupt),
        };
        let kind = self.link_to_earlier(&header, &name, kind);
        Ok(Entry {
            name,
            kind,
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime,
            link_count: header.link_count,
            rdev_major: header.rdev_major,
            rdev_minor: header.rdev_minor,
            size: self.body_left,
        })
    }

    /// A file with several links is a link to the first name it came under (not directories and, as their
    /// text is at hand, not symbolic links).
    fn link_to_earlier(&mut self, header: &Header, name: &[u8], kind: Kind) -> Kind {
        if header.link_count < 2 || matches!(kind, Kind::Directory | Kind::Symlink(_)) {
            return kind;
        }
        let key = (header.device_major, header.device_minor, header.inode, header.mode & TYPE_MASK);
        match self.links.get(&key) {
            Some(first) => Kind::HardLink(first.clone()),
            None => {
                self.links.insert(key, name.to_vec());
                kind
            }
        }
    }

    fn read_name(&mut self, size: u32) -> Result<Vec<u8>, Error> {
        if size == 0 || size as usize > PATH_MAX {
            return Err(Error::BadName);
        }
        let mut name = self.read_bytes(size as usize)?;
        if name.pop() != Some(0) {
            return Err(Error::BadName);
        }
        // Padding after the first NUL is allowed (GNU cpio aligns so).
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(length);
        Ok(name)
    }

    fn read_symlink(&mut self) -> Result<Vec<u8>, Error> {
        if self.body_left == 0 || self.body_left >= PATH_MAX as u64 {
            return Err(Error::BadName);
        }
        let mut target = self.read_bytes(self.body_left as usize)?;
        self.body_left = 0;
        self.expected_sum = None;
        let length = target.iter().position(|byte| *byte == 0).unwrap_or(target.len());
        target.truncate(length);
        Ok(target)
    }

    fn read_bytes(&mut self, size: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Error::OutOfMemory)?;
        bytes.resize(size, 0);
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let count = self.source.read_full(buffer)?;
        self.position += count as u64;
        if count < buffer.len() { Err(Error::Truncated) } else { Ok(()) }
    }

    fn skip_to_alignment(&mut self) -> Result<(), Error> {
        let padding = (self.position.next_multiple_of(4) - self.position) as usize;
        let mut bytes = [0; 4];
        self.read_exact(bytes.get_mut(..padding).unwrap_or(&mut []))
    }

    fn skip_body(&mut self) -> Result<(), Error> {
        let mut scratch = [0; 512];
        while self.read(&mut scratch)? > 0 {}
        Ok(())
    }
}

/// The body of the present entry.
impl<S: Source + ?Sized> Source for Archive<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let wanted = buffer.len().min(usize::try_from(self.body_left).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let count = self.source.read(buffer)?;
        if count == 0 {
            return Err(Error::Truncated);
        }
        self.position += count as u64;
        self.body_left = self.body_left.saturating_sub(count as u64);
        if let Some(expected) = self.expected_sum {
            let read = buffer.get(..count).unwrap_or(&[]);
            self.body_sum = read.iter().fold(self.body_sum, |sum, byte| sum.wrapping_add(u32::from(*byte)));
            if self.body_left == 0 && self.body_sum != expected {
                return Err(Error::Checksum);
            }
        }
        Ok(count)
    }
}

/// A source with zeros between archives skipped and a way to see whether it is at its end.
struct Peeking<'s, S: Source> {
    inner: &'s mut S,
    next: Option<u8>,
}

impl<S: Source> Peeking<'_, S> {
    /// Skips zero bytes; is there anything after them?
    fn skip_zeros(&mut self) -> Result<bool, Error> {
        let mut byte = [0];
        loop {
            if self.next.is_none() {
                if self.inner.read(&mut byte)? == 0 {
                    return Ok(false);
                }
                let [value] = byte;
                self.next = Some(value);
            }
            if self.next != Some(0) {
                return Ok(true);
            }
            self.next = None;
        }
    }
}

impl<S: Source> Source for Peeking<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        match (self.next, buffer.first_mut()) {
            (Some(value), Some(first)) => {
                *first = value;
                self.next = None;
                Ok(1)
            }
            _ => self.inner.read(buffer),
        }
    }
}

/// Unpacks a whole initramfs into `visitor`.
///
/// # Errors
/// What is wrong with the data. Entries before the damage have been visited.
pub fn unpack(initramfs: &[u8], visitor: &mut dyn Visitor) -> Result<(), Error> {
    let mut rest = initramfs;
    loop {
        let zeros = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
        rest = rest.get(zeros..).unwrap_or(&[]);
        if rest.is_empty() {
            return Ok(());
        }
        rest = match Format::detect(rest) {
            Format::Plain => {
                let mut source = Slice::new(rest);
                unpack_archive(&mut source, visitor)?;
                source.rest()
            }
            Format::Gzip => {
                let mut source = Gzip::new(rest)?;
                unpack_member(&mut source, visitor)?;
                source.rest()
            }
            Format::Zstd => {
                let mut source = Zstd::new(rest)?;
                unpack_member(&mut source, visitor)?;
                source.rest()
            }
            Format::Unknown => return Err(Error::UnknownFormat),
        };
    }
}

/// A compressed member holds any number of archives; it is read to its end, so that its checksum is seen.
fn unpack_member(source: &mut impl Source, visitor: &mut dyn Visitor) -> Result<(), Error> {
    let mut source = Peeking { inner: source, next: None };
    while source.skip_zeros()? {
        unpack_archive(&mut source, visitor)?;
    }
    Ok(())
}

fn unpack_archive(source: &mut impl Source, visitor: &mut dyn Visitor) -> Result<(), Error> {
    let mut archive = Archive::new(source);
    while let Some(entry) = archive.next_entry()? {
        visitor.entry(&entry, &mut archive)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
