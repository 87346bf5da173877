//! The client's side of a session: each operation of the protocol as a function.
//!
//! Key types: [`Client`] (a session), [`Fid`] (a file that the server knows by a number; dropping it lets go of it). All functions sleep until the
//! server has answered and fail with what it says, with `EPROTO` if that is no answer, `EIO` if the device is gone, `EINTR` if a deadly signal
//! comes first: then the server is told to forget the message, and nobody waits for that.
//!
//! Locks: `Client::claim`, a leaf; see `call`.

use crate::call::{After, Call, Parts, Shared, pages};
use crate::protocol::{
    Answer, Attributes, COUNTED, Changed, HEADER, Kind, Message, NO_FID, OVERHEAD, Qid, Space, VERSION,
};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use channel::{Channel, Claim, Piece, Refusal};
use machine::PAGE_SIZE;
use machine::memory::AllocFlags;
use machine::sync::{IrqSpinLock, WaitKind};
use vfs::{AttributeChange, NewContent, NewInode, XattrMode};

/// The longest message, unless an option says otherwise: 32 pages of data, and what goes with them.
pub const DEFAULT_SIZE: u32 = 33 * PAGE_SIZE as u32;
/// The shortest that makes sense.
pub const LEAST_SIZE: u32 = 4096;
/// Room for the answer of what has no long one: the longest are attributes.
const SHORT: usize = 256;
/// Bytes asked for in one listing.
const LISTING: usize = 32 * 1024;
/// The longest target of a link.
const LONGEST_LINK: usize = vfs::PATH_MAX;
/// How long the end of a session waits for the server to let go of files.
const PATIENCE_NS: u64 = 10_000_000_000;

/// A session with a server.
pub struct Client {
    channel: Arc<dyn Channel>,
    shared: Arc<Shared>,
    /// The longest message.
    size: u32,
    claim: IrqSpinLock<Option<Claim>>,
}

/// A file that the server knows.
pub struct Fid {
    client: Arc<Client>,
    number: u32,
    /// The server may know the number.
    known: bool,
}

impl Drop for Fid {
    fn drop(&mut self) {
        if self.known {
            self.client.let_go(self.number);
        } else {
            self.client.shared.give_number(self.number);
        }
    }
}

impl Fid {
    /// Its session.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

/// An answer: its beginning, and how long all of it is.
struct Answered {
    bytes: Vec<u8>,
    length: usize,
    kind: Kind,
    tag: u16,
}

impl Answered {
    /// What it says. Errors: the server's; `EPROTO`.
    fn read(&self) -> Result<(Answer<'_>, usize)> {
        Answer::new(&self.bytes, self.length, self.kind, self.tag)
    }
}

impl Client {
    /// Begins a session whose messages have at most `size` bytes. Errors: `EREMOTEIO`: the server speaks no 9P2000.L, or only in short messages.
    pub fn new(claim: Claim, size: u32) -> Result<Arc<Client>> {
        let channel = claim.channel().clone();
        let most = channel.max_pieces().saturating_sub(2).saturating_mul(PAGE_SIZE);
        let wanted = size.min(u32::try_from(most).unwrap_or(u32::MAX)).max(LEAST_SIZE);
        let shared = Shared::new()?;
        let mut client = Client { channel, shared, size: wanted, claim: IrqSpinLock::new(Some(claim)) };
        let message = Message::new(Kind::Version, VERSION.len())?.u32(wanted).text(VERSION);
        let call = Call::first(&client.shared, message, SHORT)?;
        let answered = client.exchange(&call, SHORT)?;
        let (mut answer, _) = answered.read()?;
        let (granted, version) = (answer.u32()?, answer.text()?);
        if version != VERSION || granted < LEAST_SIZE || granted > wanted {
            log::error!("9p: the server does not speak 9P2000.L");
            return Err(Errno::EREMOTEIO);
        }
        client.size = granted;
        Ok(machine::memory::try_arc(client)?)
    }

    /// The end: all files are let go of. Waits for the server, but not for ever.
    pub fn end(&self) {
        let deadline = machine::time::now_ns().saturating_add(PATIENCE_NS);
        while let Some(number) = self.shared.take_late() {
            let sent = self.channel.room().wait_until(WaitKind::Uninterruptible, Some(deadline), || {
                self.try_clunk(number).err().is_none_or(|error| error != Errno::EAGAIN).then_some(())
            });
            if sent.is_err() {
                break;
            }
        }
        if self.shared.wait_for_all(deadline) {
            let claim = self.claim.lock().take();
            drop(claim);
        } else {
            log::error!("9p: the server does not answer; its channel stays in use");
        }
    }

    /// The most bytes of one read or write: whole pages where that is possible.
    pub fn most_data(&self) -> usize {
        let room = self.size as usize - OVERHEAD;
        if room < PAGE_SIZE { room } else { room - room % PAGE_SIZE }
    }

    /// Sends a call. May sleep until there is room. Errors: `EIO`, `EINTR`.
    fn send(&self, call: &Arc<Call>) -> Result<()> {
        let submit = || match self.channel.submit(call.clone()) {
            Ok(()) => Some(Ok(())),
            Err(Refusal::Full) => None,
            Err(Refusal::Never) => Some(Err(Errno::EIO)),
        };
        let sent = self.channel.room().wait_until(WaitKind::Killable, None, submit);
        sent.map_err(|_| Errno::EINTR)?
    }

    /// Sends a call, waits for its answer and gives up to `head` bytes of it.
    fn exchange(&self, call: &Arc<Call>, head: usize) -> Result<Answered> {
        self.send(call)?;
        let length = call.wait().inspect_err(|_| self.flush(call))?;
        Ok(Answered { bytes: call.beginning(head.min(length))?, length, kind: call.kind(), tag: call.tag() })
    }

    /// Has the server forget a call that nobody waits for any more. If that cannot be said, the call keeps its tag.
    fn flush(&self, call: &Arc<Call>) {
        if call.kind() != Kind::Version
            && let Ok(flush) = Call::flush_of(call)
        {
            let _ = self.channel.submit(flush);
        }
    }

    fn transact(&self, message: Message, parts: &Parts<'_>) -> Result<Answered> {
        while let Some(number) = self.shared.take_late() {
            if self.try_clunk(number).is_err() {
                self.shared.put_off(number);
                break;
            }
        }
        let call = Call::new(&self.shared, message, parts, After::Nothing)?;
        self.exchange(&call, parts.head)
    }

    /// The same for messages whose answers are short.
    fn ask(&self, message: Message) -> Result<Answered> {
        self.transact(message, &Parts { data: &[], head: SHORT, into: &[] })
    }

    /// The same for messages whose answers say nothing but that it was done.
    fn tell(&self, message: Message) -> Result<()> {
        self.ask(message)?.read().map(|_| ())
    }

    /// Tells the server that a file is not needed any more, without waiting for its answer. Errors: `EAGAIN`: not now; `EIO`: never.
    fn try_clunk(&self, number: u32) -> Result<()> {
        let message = Message::new(Kind::Clunk, 0)?.u32(number);
        let call = Call::try_new(&self.shared, message, After::Free(number))?;
        self.channel.submit(call).map_err(|refusal| match refusal {
            Refusal::Full => Errno::EAGAIN,
            Refusal::Never => Errno::EIO,
        })
    }

    fn let_go(&self, number: u32) {
        if matches!(self.try_clunk(number), Err(Errno::EAGAIN | Errno::ENOMEM)) {
            self.shared.put_off(number);
        }
    }

    /// Runs `make` with a number for a new file of the server's; what it gives comes with the file. If it is not known whether the server knows
    /// the number now, the server is told that it is not needed.
    fn with_new_fid<R>(self: &Arc<Self>, make: impl FnOnce(u32) -> Result<R>) -> Result<(Fid, R)> {
        let mut fid = Fid { client: self.clone(), number: self.shared.take_number()?, known: true };
        match make(fid.number) {
            Ok(result) => Ok((fid, result)),
            Err(error) => {
                fid.known = matches!(error, Errno::EINTR | Errno::EPROTO | Errno::EIO);
                Err(error)
            }
        }
    }

    /// Attaches to the server's tree `name` as the user `user` (a name) and `uid`.
    pub fn attach(self: &Arc<Self>, user: &[u8], uid: u32, name: &[u8]) -> Result<Fid> {
        let (fid, _) = self.with_new_fid(|number| {
            let message = Message::new(Kind::Attach, user.len() + name.len())?;
            let answered = self.ask(message.u32(number).u32(NO_FID).text(user).text(name).u32(uid))?;
            Qid::read(&mut answered.read()?.0)
        })?;
        Ok(fid)
    }
}

impl Fid {
    /// What has this name in the directory; the file itself without a name.
    pub fn walk(&self, name: Option<&[u8]>) -> Result<Fid> {
        let client = &self.client;
        let (fid, ()) = client.with_new_fid(|number| {
            let message = Message::new(Kind::Walk, name.map_or(0, <[u8]>::len))?;
            let message = message.u32(self.number).u32(number).u16(u16::from(name.is_some()));
            let message = if let Some(name) = name { message.text(name) } else { message };
            let answered = client.ask(message)?;
            let (mut answer, _) = answered.read()?;
            match (answer.u16()?, name) {
                (0, None) => Ok(()),
                (1, Some(_)) => Qid::read(&mut answer).map(|_| ()),
                (0, Some(_)) => Err(Errno::ENOENT),
                _ => Err(Errno::EPROTO),
            }
        })?;
        Ok(fid)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Result<Attributes> {
        let message = Message::new(Kind::GetAttributes, 0)?.u32(self.number).u64(Attributes::MASK);
        let answered = self.client.ask(message)?;
        Attributes::read(&mut answered.read()?.0)
    }

    /// Changes attributes; the time of change is the server's.
    pub fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        let mut changed = Changed::empty();
        changed.set(Changed::MODE, change.mode.is_some());
        changed.set(Changed::UID, change.uid.is_some());
        changed.set(Changed::GID, change.gid.is_some());
        changed.set(Changed::SIZE, change.size.is_some());
        changed.set(Changed::ACCESSED | Changed::ACCESSED_GIVEN, change.accessed.is_some());
        changed.set(Changed::MODIFIED | Changed::MODIFIED_GIVEN, change.modified.is_some());
        if changed.is_empty() {
            return Ok(());
        }
        let message = Message::new(Kind::SetAttributes, 0)?.u32(self.number).u32(changed.bits());
        let message = message.u32(change.mode.unwrap_or(0)).u32(change.uid.map_or(0, |uid| uid.0));
        let message = message.u32(change.gid.map_or(0, |gid| gid.0)).u64(change.size.unwrap_or(0));
        let message =
            message.time(change.accessed.unwrap_or_default()).time(change.modified.unwrap_or_default());
        self.client.tell(message)
    }

    /// Opens it; `flags` are those of open(2).
    pub fn open(&self, flags: u32) -> Result<()> {
        self.client.tell(Message::new(Kind::Open, 0)?.u32(self.number).u32(flags))
    }

    /// Makes a file in the directory and opens it: the number is the file's from then on.
    pub fn create(&self, name: &[u8], flags: u32, mode: u32, gid: u32) -> Result<()> {
        let message = Message::new(Kind::Create, name.len())?.u32(self.number).text(name);
        self.client.tell(message.u32(flags).u32(mode).u32(gid))
    }

    /// Makes what is no regular file in the directory.
    pub fn make(&self, name: &[u8], new: &NewInode<'_>) -> Result<()> {
        let gid = new.gid.0;
        let mode = new.content.kind().mode_bits() | new.mode;
        let message = match new.content {
            NewContent::Directory => {
                let message = Message::new(Kind::MakeDirectory, name.len())?.u32(self.number);
                message.text(name).u32(new.mode).u32(gid)
            }
            NewContent::Symlink(target) => {
                let message = Message::new(Kind::Symlink, name.len() + target.len())?.u32(self.number);
                message.text(name).text(target).u32(gid)
            }
            other => {
                let (major, minor) = match other {
                    NewContent::Device(_, device) => (device.major, device.minor),
                    _ => (0, 0),
                };
                let message = Message::new(Kind::MakeNode, name.len())?.u32(self.number).text(name);
                message.u32(mode).u32(major).u32(minor).u32(gid)
            }
        };
        self.client.tell(message)
    }

    /// Gives `file` a name in the directory.
    pub fn link(&self, file: &Fid, name: &[u8]) -> Result<()> {
        let message = Message::new(Kind::Link, name.len())?.u32(self.number).u32(file.number);
        self.client.tell(message.text(name))
    }

    /// Removes a name from the directory; `flags` is 0 or [`crate::protocol::REMOVE_DIRECTORY`].
    pub fn unlink(&self, name: &[u8], flags: u32) -> Result<()> {
        let message = Message::new(Kind::UnlinkAt, name.len())?.u32(self.number).text(name);
        self.client.tell(message.u32(flags))
    }

    /// Moves a name from the directory to another one.
    pub fn rename(&self, name: &[u8], to: &Fid, new_name: &[u8]) -> Result<()> {
        let message = Message::new(Kind::RenameAt, name.len() + new_name.len())?.u32(self.number);
        self.client.tell(message.text(name).u32(to.number).text(new_name))
    }

    /// Where a symbolic link leads.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        let message = Message::new(Kind::ReadLink, 0)?.u32(self.number);
        let head = HEADER + 2 + LONGEST_LINK;
        let answered = self.client.transact(message, &Parts { data: &[], head, into: &[] })?;
        let (mut answer, _) = answered.read()?;
        let target = answer.text()?;
        if target.is_empty() || target.len() >= LONGEST_LINK || target.contains(&0) {
            return Err(Errno::EPROTO);
        }
        copy(target)
    }

    /// Reads at most as many bytes as there is room in `into` (at most [`Client::most_data`]); gives how many there are.
    pub fn read(&self, offset: u64, into: &[Piece]) -> Result<usize> {
        let room: usize = into.iter().map(|piece| piece.length as usize).sum();
        let message = Message::new(Kind::Read, 0)?.u32(self.number).u64(offset).u32(room as u32);
        let answered = self.client.transact(message, &Parts { data: &[], head: COUNTED, into })?;
        let (mut answer, length) = answered.read()?;
        let count = answer.u32()? as usize;
        if count > room || count > length - COUNTED { Err(Errno::EPROTO) } else { Ok(count) }
    }

    /// Writes all of `data` (at most [`Client::most_data`] bytes) or its beginning; gives how many bytes.
    pub fn write(&self, offset: u64, data: &[Piece]) -> Result<usize> {
        let length: usize = data.iter().map(|piece| piece.length as usize).sum();
        let message = Message::new(Kind::Write, 0)?.u32(self.number).u64(offset).u32(length as u32);
        let answered = self.client.transact(message, &Parts { data, head: SHORT, into: &[] })?;
        let count = answered.read()?.0.u32()? as usize;
        if count > length { Err(Errno::EPROTO) } else { Ok(count) }
    }

    /// Entries of the directory from `offset` on, as the server gives them; nothing at the end.
    pub fn list(&self, offset: u64) -> Result<Vec<u8>> {
        let room = LISTING.min(self.client.most_data());
        let message = Message::new(Kind::ReadDirectory, 0)?.u32(self.number).u64(offset).u32(room as u32);
        let head = COUNTED + room;
        let mut answered = self.client.transact(message, &Parts { data: &[], head, into: &[] })?;
        let (mut answer, _) = answered.read()?;
        let count = answer.u32()? as usize;
        if count > answer.len() {
            return Err(Errno::EPROTO);
        }
        answered.bytes.truncate(COUNTED + count);
        answered.bytes.drain(..COUNTED);
        Ok(answered.bytes)
    }

    /// Has the server write it to its device.
    pub fn sync(&self, data_only: bool) -> Result<()> {
        self.client.tell(Message::new(Kind::Sync, 0)?.u32(self.number).u32(u32::from(data_only)))
    }

    /// What statfs(2) tells of the file system that it is in.
    pub fn space(&self) -> Result<Space> {
        let answered = self.client.ask(Message::new(Kind::StatFs, 0)?.u32(self.number))?;
        Space::read(&mut answered.read()?.0)
    }

    /// The value of an extended attribute, or without a name the names of all.
    pub fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let client = &self.client;
        let (attribute, size) = client.with_new_fid(|number| {
            let message = Message::new(Kind::XattrWalk, name.len())?.u32(self.number).u32(number);
            let answered = client.ask(message.text(name))?;
            answered.read()?.0.u64()
        })?;
        let size = usize::try_from(size).ok().filter(|size| *size <= XATTR_MOST).ok_or(Errno::E2BIG)?;
        let mut value = Vec::new();
        value.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        while value.len() < size {
            let step = (size - value.len()).min(client.most_data());
            let pieces = pages(step, AllocFlags::ZEROED)?;
            let count = attribute.read(value.len() as u64, &pieces)?;
            if count == 0 {
                break;
            }
            take(&pieces, count, &mut value);
        }
        Ok(value)
    }

    /// Sets an extended attribute; an empty value removes it.
    pub fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        const CREATE: u32 = 1;
        const REPLACE: u32 = 2;
        let flags = match mode {
            XattrMode::Any => 0,
            XattrMode::Create => CREATE,
            XattrMode::Replace => REPLACE,
        };
        let attribute = self.walk(None)?;
        let message = Message::new(Kind::XattrCreate, name.len())?.u32(attribute.number).text(name);
        self.client.tell(message.u64(value.len() as u64).u32(flags))?;
        let mut done = 0;
        while let Some(rest) = value.get(done..).filter(|rest| !rest.is_empty()) {
            let step = rest.len().min(self.client.most_data());
            let pieces = pages(step, AllocFlags::empty())?;
            for (piece, part) in pieces.iter().zip(rest.chunks(PAGE_SIZE)) {
                piece.frame.write(0, part.get(..piece.length as usize).unwrap_or_default());
            }
            match attribute.write(done as u64, &pieces)? {
                0 => return Err(Errno::EPROTO),
                count => done += count,
            }
        }
        // It is set when the server lets go of it, so that answer matters.
        attribute.close()
    }

    /// Lets go of it and waits for what the server says to that.
    fn close(mut self) -> Result<()> {
        let answered = self.client.ask(Message::new(Kind::Clunk, 0)?.u32(self.number))?;
        // Whatever it says: it does not know the number any more.
        self.known = false;
        answered.read().map(|_| ())
    }
}

/// The longest value of an extended attribute, and list of names (Linux's `XATTR_SIZE_MAX`).
const XATTR_MOST: usize = 65536;

fn copy(text: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(text.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(text);
    Ok(copy)
}

/// Appends the first `count` bytes of pieces to a vector that has room.
fn take(pieces: &[Piece], count: usize, to: &mut Vec<u8>) {
    let mut left = count;
    let mut buffer = [0; 512];
    for piece in pieces {
        let length = left.min(piece.length as usize);
        for at in (0..length).step_by(buffer.len()) {
            let part = (length - at).min(buffer.len());
            if let Some(place) = buffer.get_mut(..part) {
                piece.frame.read(piece.offset as usize + at, place);
                to.extend_from_slice(place);
            }
        }
        left -= length;
    }
}
