//! One message between UNIX sockets: its bytes, who sent it, and the descriptors that come with it.
//!
//! Key types: [`Packet`], [`Payload`]. Bytes are copied in once, before any lock is taken, and out once, after the message was found:
//! small ones into the message itself, middling ones into one piece of heap, the others into page frames. Locks: the
//! slot of the descriptors, a leaf; the readers' lock of the socket orders those who consume.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicUsize, Ordering};
use mm::io::{IoReader, IoWriter};
use vfs::File;

use super::UnixSocket;
use super::rights::InFlight;
use crate::account::SendCharge;
use crate::message::{Identity, SocketAddress};
use crate::queue::Message;

/// What is kept in the message itself.
const INLINE: usize = 128;
/// What is kept in one piece of heap.
const HEAP: usize = 2048;

/// Bytes in kernel memory.
pub enum Payload {
    /// A few.
    Inline([u8; INLINE]),
    /// Some.
    Heap(Box<[u8]>),
    /// Many: whole pages but for the last.
    Frames(Vec<Frame>),
}

impl Payload {
    /// Copies `length` bytes in. `EFAULT`: not all could be read; `ENOMEM`.
    pub fn read(from: &mut dyn IoReader, length: usize) -> Result<Payload> {
        let whole = |error| if error == Errno::EINVAL { Errno::EFAULT } else { error };
        if length <= INLINE {
            let mut bytes = [0; INLINE];
            from.read_exact(bytes.get_mut(..length).unwrap_or_default()).map_err(whole)?;
            return Ok(Payload::Inline(bytes));
        }
        if length <= HEAP {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
            bytes.resize(length, 0);
            from.read_exact(&mut bytes).map_err(whole)?;
            return Ok(Payload::Heap(bytes.into_boxed_slice()));
        }
        let mut frames = Vec::new();
        frames.try_reserve_exact(length.div_ceil(PAGE_SIZE)).map_err(|_| Errno::ENOMEM)?;
        let mut done = 0;
        while done < length {
            let part = (length - done).min(PAGE_SIZE);
            let frame = Frame::alloc(AllocFlags::empty()).map_err(|_| Errno::ENOMEM)?;
            if from.read_frame(&frame, 0, part)? < part {
                return Err(Errno::EFAULT);
            }
            frames.push(frame);
            done += part;
        }
        Ok(Payload::Frames(frames))
    }

    /// Copies `length` bytes from `start` on out; how many could be. `EFAULT`: none could.
    fn write(&self, start: usize, length: usize, to: &mut dyn IoWriter) -> Result<usize> {
        let bytes = match self {
            Payload::Inline(bytes) => bytes.as_slice(),
            Payload::Heap(bytes) => bytes,
            Payload::Frames(frames) => return write_frames(frames, start, length, to),
        };
        let part = bytes.get(start..start + length).unwrap_or_default();
        if part.is_empty() { Ok(0) } else { to.write_bytes(part) }
    }

    /// Copies bytes into kernel memory; `false`: they are not all there.
    pub fn peek_bytes(&self, length: usize, offset: usize, into: &mut [u8]) -> bool {
        if offset.checked_add(into.len()).is_none_or(|end| end > length) {
            return false;
        }
        let mut writer = mm::io::SliceWriter::new(into);
        let wanted = writer.remaining();
        self.write(offset, wanted, &mut writer) == Ok(wanted)
    }
}

fn write_frames(frames: &[Frame], start: usize, length: usize, to: &mut dyn IoWriter) -> Result<usize> {
    let mut done = 0;
    while done < length {
        let at = start + done;
        let Some(frame) = frames.get(at / PAGE_SIZE) else { break };
        let part = (length - done).min(PAGE_SIZE - at % PAGE_SIZE);
        match to.write_frame(frame, at % PAGE_SIZE, part) {
            Ok(count) => {
                done += count;
                if count < part {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// A message on its way.
pub struct Packet {
    payload: Payload,
    length: usize,
    /// How much of it was read.
    consumed: AtomicUsize,
    /// Who sent it, if somebody wanted to know when it was sent.
    pub sender: Option<Identity>,
    /// Whom it is from: the name it has when the message is received counts.
    source: Arc<UnixSocket>,
    /// When it was sent (nanoseconds since 1970), if the receiver wanted to know.
    pub time_ns: Option<u64>,
    rights: SpinLock<Option<InFlight>>,
    has_rights: bool,
    _charge: SendCharge,
}

impl Packet {
    /// A message of these parts.
    pub fn new(
        source: &Arc<UnixSocket>,
        payload: Payload,
        length: usize,
        charge: SendCharge,
        rights: Option<InFlight>,
    ) -> Packet {
        Packet {
            payload,
            length,
            consumed: AtomicUsize::new(0),
            sender: None,
            source: source.clone(),
            time_ns: None,
            has_rights: rights.is_some(),
            rights: SpinLock::new(rights),
            _charge: charge,
        }
    }

    /// Puts the sender's name into an answer that has none; it stays as it is if the sender has none.
    pub fn name_source(&self, answer: &mut SocketAddress) {
        if let Some(name) = self.source.address() {
            *answer = name.address;
        }
    }

    /// Keeps the first `length` bytes only: what a filter says.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Copies up to `most` bytes out, leaving out `skip` of what is unread; how many were copied. `EFAULT`: none could be.
    pub fn copy_to(&self, skip: usize, most: usize, to: &mut dyn IoWriter) -> Result<usize> {
        let start = self.consumed.load(Ordering::Acquire) + skip;
        let count = self.length.saturating_sub(start).min(most).min(to.remaining());
        if count == 0 { Ok(0) } else { self.payload.write(start, count, to) }
    }

    /// Notes that the next `count` bytes were read. The readers' lock is held.
    pub fn consume(&self, count: usize) {
        self.consumed.fetch_add(count, Ordering::AcqRel);
    }

    /// Whether descriptors came with it (also when they were taken since).
    pub fn has_rights(&self) -> bool {
        self.has_rights
    }

    /// Takes the descriptors.
    pub fn take_rights(&self) -> Option<InFlight> {
        self.rights.lock().take()
    }

    /// Copies of the descriptors, which stay. The readers' lock is held. `ENOMEM`.
    pub fn peek_rights(&self) -> Result<Vec<Arc<File>>> {
        // Out of the slot meanwhile, since looking may sleep.
        let Some(rights) = self.take_rights() else { return Ok(Vec::new()) };
        let files = rights.peek();
        *self.rights.lock() = Some(rights);
        files
    }
}

impl Message for Packet {
    fn length(&self) -> usize {
        self.length - self.consumed.load(Ordering::Acquire)
    }
}

impl linnet_lib::bpf::Packet for Packet {
    fn length(&self) -> u32 {
        self.length as u32
    }

    fn load(&self, region: linnet_lib::bpf::Region, offset: u32, into: &mut [u8]) -> bool {
        region == linnet_lib::bpf::Region::Start
            && self.payload.peek_bytes(self.length, offset as usize, into)
    }
}
