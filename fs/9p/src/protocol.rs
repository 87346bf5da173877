//! The bytes of 9P2000.L: messages are built here, and answers taken apart, each number checked.
//!
//! A message is its size (4 bytes), kind (1) and tag (2), then numbers with the lowest byte first and texts with their length (2) before them.
//! The kind of an answer is its message's plus one, or [`ERROR`] with an error number of Linux.
//!
//! Key types: [`Message`], [`Answer`], [`Qid`], [`Attributes`], [`Entry`]. Reference: the Plan 9 manual, section 5 (intro, and a page for each message), and
//! diod's `protocol.md` for the messages of the `.L` dialect. What a server says is not trusted: whatever does not fit is `EPROTO`. No locks.

use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use bitflags::bitflags;
use vfs::{FileKind, NAME_MAX, Timestamp};

/// The dialect.
pub const VERSION: &[u8] = b"9P2000.L";
/// The tag of the first message.
pub const NO_TAG: u16 = u16::MAX;
/// No file: nobody has been authenticated.
pub const NO_FID: u32 = u32::MAX;
/// Size, kind and tag.
pub const HEADER: usize = 7;
/// What comes before the bytes of an answer that is a count and bytes.
pub const COUNTED: usize = HEADER + 4;
/// Room for what else a message with data has.
pub const OVERHEAD: usize = 24;
/// The answer that is an error.
pub const ERROR: u8 = 7;
/// Unlinkat: it is a directory.
pub const REMOVE_DIRECTORY: u32 = 0x200;
/// What is asked of a file's attributes: all that stat(2) tells.
const BASIC_ATTRIBUTES: u64 = 0x7ff;

/// What is asked for; the numbers are the protocol's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    StatFs = 8,
    Open = 12,
    Create = 14,
    Symlink = 16,
    MakeNode = 18,
    ReadLink = 22,
    GetAttributes = 24,
    SetAttributes = 26,
    XattrWalk = 30,
    XattrCreate = 32,
    ReadDirectory = 40,
    Sync = 50,
    Link = 70,
    MakeDirectory = 72,
    RenameAt = 74,
    UnlinkAt = 76,
    Version = 100,
    Attach = 104,
    Flush = 108,
    Walk = 110,
    Read = 116,
    Write = 118,
    Clunk = 120,
}

bitflags! {
    /// Which attributes are set.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Changed: u32 {
        const MODE = 1;
        const UID = 2;
        const GID = 4;
        const SIZE = 8;
        const ACCESSED = 0x10;
        const MODIFIED = 0x20;
        /// The time of access is the one given, not the server's.
        const ACCESSED_GIVEN = 0x80;
        const MODIFIED_GIVEN = 0x100;
    }
}

/// A message under construction.
pub struct Message {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Message {
    /// A message with room for texts of `texts` bytes together, besides its numbers. Errors: `ENOMEM`.
    pub fn new(kind: Kind, texts: usize) -> Result<Message> {
        /// More than the numbers of any message take.
        const NUMBERS: usize = 96;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(NUMBERS + texts).map_err(|_| Errno::ENOMEM)?;
        bytes.extend_from_slice(&[0, 0, 0, 0, kind as u8, 0, 0]);
        Ok(Message { kind, bytes })
    }

    /// What it asks for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn u16(mut self, value: u16) -> Message {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Message {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Message {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A text with its length; of one that is too long for that the beginning (the kernel's are at most a path's length).
    pub fn text(mut self, text: &[u8]) -> Message {
        let length = text.len().min(usize::from(u16::MAX));
        self = self.u16(length as u16);
        self.bytes.extend_from_slice(text.get(..length).unwrap_or_default());
        self
    }

    /// A time.
    pub fn time(self, time: Timestamp) -> Message {
        self.u64(time.seconds as u64).u64(u64::from(time.nanoseconds))
    }

    /// Its bytes, `data` more of which follow elsewhere. Errors: `EMSGSIZE`.
    pub fn finish(mut self, tag: u16, data: usize) -> Result<Vec<u8>> {
        let size = u32::try_from(self.bytes.len() + data).map_err(|_| Errno::EMSGSIZE)?;
        for (place, byte) in self.bytes.iter_mut().zip(size.to_le_bytes()) {
            *place = byte;
        }
        for (place, byte) in self.bytes.iter_mut().skip(5).zip(tag.to_le_bytes()) {
            *place = byte;
        }
        Ok(self.bytes)
    }
}

/// What an answer says, from front to back.
pub struct Answer<'a> {
    rest: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The answer to a message of `kind` and `tag`: `bytes` are its beginning, `written` is how many there are of it. Gives how long it says it is besides.
    ///
    /// Errors: what the server says; `EPROTO`: it is no answer to that.
    pub fn new(bytes: &'a [u8], written: usize, kind: Kind, tag: u16) -> Result<(Answer<'a>, usize)> {
        let mut answer = Answer { rest: bytes };
        let size = answer.u32()? as usize;
        let (said, to) = (answer.u8()?, answer.u16()?);
        if size < HEADER || size > written || to != tag {
            return Err(Errno::EPROTO);
        }
        answer.rest = bytes.get(HEADER..size.min(bytes.len())).ok_or(Errno::EPROTO)?;
        match said {
            ERROR => Err(i32::try_from(answer.u32()?)
                .ok()
                .and_then(Errno::from_code)
                .filter(|error| !error.is_restart())
                .unwrap_or(Errno::EPROTO)),
            said if said == kind as u8 + 1 => Ok((answer, size)),
            _ => Err(Errno::EPROTO),
        }
    }

    /// More of one, from the middle.
    pub fn part(rest: &'a [u8]) -> Answer<'a> {
        Answer { rest }
    }

    /// How much there is.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Errno::EPROTO)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Errno::EPROTO)
    }

    pub fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn text(&mut self) -> Result<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A time; the server may give one that is none.
    fn time(&mut self) -> Result<Timestamp> {
        const SECOND: u64 = 1_000_000_000;
        let (seconds, nanoseconds) = (self.u64()? as i64, self.u64()?);
        let nanoseconds = u32::try_from(nanoseconds % SECOND).map_err(|_| Errno::EPROTO)?;
        Ok(Timestamp { seconds, nanoseconds })
    }
}

/// What a server says of which file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Qid {
    /// Changes with the contents.
    pub version: u32,
    /// Its number.
    pub path: u64,
}

impl Qid {
    pub fn read(answer: &mut Answer<'_>) -> Result<Qid> {
        let _kind = answer.u8()?;
        Ok(Qid { version: answer.u32()?, path: answer.u64()? })
    }
}

/// A file's attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    pub qid: Qid,
    pub kind: FileKind,
    pub permissions: u32,
    pub uid: u32,
    pub gid: u32,
    pub link_count: u32,
    pub device: u64,
    pub size: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
}

impl Attributes {
    /// What asks for them.
    pub const MASK: u64 = BASIC_ATTRIBUTES;

    /// Errors: `EPROTO`: something is missing or cannot be.
    pub fn read(answer: &mut Answer<'_>) -> Result<Attributes> {
        let valid = answer.u64()?;
        let qid = Qid::read(answer)?;
        let mode = answer.u32()?;
        let (uid, gid) = (answer.u32()?, answer.u32()?);
        let (links, device, size) = (answer.u64()?, answer.u64()?, answer.u64()?);
        let (block_size, blocks) = (answer.u64()?, answer.u64()?);
        let (accessed, modified, changed) = (answer.time()?, answer.time()?, answer.time()?);
        if valid & BASIC_ATTRIBUTES != BASIC_ATTRIBUTES || size > i64::MAX as u64 {
            return Err(Errno::EPROTO);
        }
        Ok(Attributes {
            qid,
            kind: FileKind::from_mode(mode).ok_or(Errno::EPROTO)?,
            permissions: mode & 0o7777,
            uid,
            gid,
            link_count: u32::try_from(links).unwrap_or(u32::MAX),
            device,
            size,
            block_size,
            blocks,
            accessed,
            modified,
            changed,
        })
    }
}

/// What statfs(2) tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub kind: u32,
    pub block_size: u32,
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    pub files: u64,
    pub free_files: u64,
    pub id: u64,
    pub name_length: u32,
}

impl Space {
    pub fn read(answer: &mut Answer<'_>) -> Result<Space> {
        let (kind, block_size) = (answer.u32()?, answer.u32()?);
        let (blocks, free, available) = (answer.u64()?, answer.u64()?, answer.u64()?);
        let (files, free_files, id) = (answer.u64()?, answer.u64()?, answer.u64()?);
        let name_length = answer.u32()?;
        Ok(Space { kind, block_size, blocks, free, available, files, free_files, id, name_length })
    }
}

/// A name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub qid: Qid,
    /// Where the listing goes on after it.
    pub next: u64,
    /// `DT_*`.
    pub kind: u8,
    pub name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Errors: `EPROTO`: it is cut off, or the name could not be one.
    pub fn read(answer: &mut Answer<'a>) -> Result<Entry<'a>> {
        let qid = Qid::read(answer)?;
        let (next, kind, name) = (answer.u64()?, answer.u8()?, answer.text()?);
        let is_name =
            !name.is_empty() && name.len() <= NAME_MAX && !name.contains(&b'/') && !name.contains(&0);
        if is_name { Ok(Entry { qid, next, kind, name }) } else { Err(Errno::EPROTO) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    #[test]
    fn a_message_has_its_size_kind_and_tag_in_front() {
        let message = Message::new(Kind::Walk, 3).unwrap().u32(5).u32(6).u16(1).text(b"abc");
        let bytes = message.finish(0x1234, 0).unwrap();
        assert_eq!(
            bytes,
            [22, 0, 0, 0, 110, 0x34, 0x12, 5, 0, 0, 0, 6, 0, 0, 0, 1, 0, 3, 0, b'a', b'b', b'c']
        );
        let write = Message::new(Kind::Write, 0).unwrap().u32(1).u64(0).u32(100).finish(0, 100).unwrap();
        assert_eq!(write[..4], (23u32 + 100).to_le_bytes());
    }

    #[test]
    fn an_answer_is_to_its_message_or_none() {
        let clunked = [7, 0, 0, 0, 121, 9, 0];
        assert!(Answer::new(&clunked, 7, Kind::Clunk, 9).is_ok());
        for (written, kind, tag) in [(6, Kind::Clunk, 9), (7, Kind::Clunk, 8), (7, Kind::Read, 9)] {
            assert_eq!(Answer::new(&clunked, written, kind, tag).err(), Some(Errno::EPROTO));
        }
        let mut error = vec![11, 0, 0, 0, ERROR, 9, 0, 2, 0, 0, 0];
        assert_eq!(Answer::new(&error, 11, Kind::Clunk, 9).err(), Some(Errno::ENOENT));
        for code in [0u32, 512, 4096, u32::MAX] {
            error[7..].copy_from_slice(&code.to_le_bytes());
            assert_eq!(Answer::new(&error, 11, Kind::Clunk, 9).err(), Some(Errno::EPROTO));
        }
    }

    #[test]
    fn names_that_could_not_be_are_refused() {
        let entry = |name: &[u8]| {
            let mut bytes = vec![0; 13 + 8 + 1];
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name);
            bytes
        };
        let read = |bytes: &[u8]| Entry::read(&mut Answer::part(bytes)).map(|entry| entry.name.to_vec());
        assert_eq!(read(&entry(b"..")), Ok(b"..".to_vec()));
        for bad in [&b""[..], b"a/b", b"a\0", &[b'x'; 256]] {
            assert_eq!(read(&entry(bad)), Err(Errno::EPROTO));
        }
        assert_eq!(read(&entry(b"abc")[..24]), Err(Errno::EPROTO));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), written in 0usize..400) {
            for kind in [Kind::GetAttributes, Kind::StatFs, Kind::ReadDirectory, Kind::Walk] {
                let _ = Answer::new(&bytes, written, kind, 1);
            }
            let _ = Attributes::read(&mut Answer::part(&bytes));
            let _ = Space::read(&mut Answer::part(&bytes));
            let mut list = Answer::part(&bytes);
            while list.len() > 0 && Entry::read(&mut list).is_ok() {}
        }
    }
}
