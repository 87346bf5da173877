//! One message under way, and what outlives it: tags and numbers of files that the server knows.
//!
//! Key types: [`Call`] (an exchange with the channel), [`Shared`] (what calls of one session share). A call has a tag until nobody holds it any
//! more: the channel holds it until the server has answered, a flush of it until that is answered. So a tag, and memory that the server
//! may write to, is never used again too early, and whoever waits may give up at any time.
//!
//! Locks: tags; numbers of files. Leaves, taken in any context.

use crate::protocol::{HEADER, Kind, Message};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use channel::{Exchange, Piece};
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use machine::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, WaitKind, WaitQueue};

/// Messages of a session under way at once, flushes aside.
const TAGS: usize = 256;
/// The tag of a flush is that of what it flushes with this bit: there is always one.
const FLUSH_BIT: u16 = 0x8000;

/// Numbers for files: what the server calls them by.
#[derive(Default)]
struct Numbers {
    next: u32,
    /// Room for all below `next`: giving one back allocates nothing.
    free: Vec<u32>,
    /// Files to be let go of for which the channel had no room.
    late: Vec<u32>,
}

/// What the calls of a session share.
pub struct Shared {
    tags: IrqSpinLock<[u64; TAGS / 64]>,
    numbers: IrqSpinLock<Numbers>,
    under_way: AtomicUsize,
    /// Woken when a call is gone.
    gone: WaitQueue,
}

impl Shared {
    /// Nothing under way. Errors: `ENOMEM`.
    pub fn new() -> Result<Arc<Shared>> {
        let shared = Shared {
            tags: IrqSpinLock::new([0; TAGS / 64]),
            numbers: IrqSpinLock::new(Numbers::default()),
            under_way: AtomicUsize::new(0),
            gone: WaitQueue::new(),
        };
        Ok(machine::memory::try_arc(shared)?)
    }

    /// A tag, if there is one.
    fn take_tag(&self) -> Option<u16> {
        let mut tags = self.tags.lock();
        let (index, word) = tags.iter_mut().enumerate().find(|(_, word)| **word != u64::MAX)?;
        let bit = word.trailing_ones();
        *word |= 1 << bit;
        Some((index * 64) as u16 + bit as u16)
    }

    fn give_tag(&self, tag: u16) {
        if let Some(word) = self.tags.lock().get_mut(usize::from(tag) / 64) {
            *word &= !(1 << (tag % 64));
        }
    }

    /// A number for a file that the server does not know yet. Errors: `ENOMEM`; `ENFILE`: there are four thousand million.
    pub fn take_number(&self) -> Result<u32> {
        let mut numbers = self.numbers.lock();
        if let Some(number) = numbers.free.pop() {
            return Ok(number);
        }
        let number = numbers.next;
        let (all, free, late) = (number as usize + 1, numbers.free.len(), numbers.late.len());
        numbers.free.try_reserve(all - free).map_err(|_| Errno::ENOMEM)?;
        numbers.late.try_reserve(all - late).map_err(|_| Errno::ENOMEM)?;
        numbers.next = number.checked_add(1).filter(|next| *next != u32::MAX).ok_or(Errno::ENFILE)?;
        Ok(number)
    }

    /// The server does not know the number any more. Any context.
    pub fn give_number(&self, number: u32) {
        let mut numbers = self.numbers.lock();
        if numbers.free.len() < numbers.free.capacity() {
            numbers.free.push(number);
        }
    }

    /// A file is to be let go of later.
    pub fn put_off(&self, number: u32) {
        let mut numbers = self.numbers.lock();
        if numbers.late.len() < numbers.late.capacity() {
            numbers.late.push(number);
        }
    }

    /// One that was put off.
    pub fn take_late(&self) -> Option<u32> {
        self.numbers.lock().late.pop()
    }

    /// Waits until nothing is under way, or for so long. May sleep.
    pub fn wait_for_all(&self, deadline_ns: u64) -> bool {
        let idle = || (self.under_way.load(Ordering::Acquire) == 0).then_some(());
        self.gone.wait_until(WaitKind::Uninterruptible, Some(deadline_ns), idle).is_ok()
    }
}

/// What else is to be done when a call ends.
pub enum After {
    /// Nothing.
    Nothing,
    /// If the server has let go of a file, its number is free.
    Free(u32),
    /// The tag of what was flushed is free, which its call sees to when this lets go of it.
    Flushed { _call: Arc<Call> },
}

/// In `state`: the answer is there, this many bytes long.
const ANSWERED: u64 = 1 << 32;
/// In `state`: there will be none.
const LOST: u64 = 2 << 32;

/// A message and its answer.
pub struct Call {
    shared: Arc<Shared>,
    kind: Kind,
    tag: u16,
    message: Vec<Piece>,
    answer: Vec<Piece>,
    state: AtomicU64,
    done: WaitQueue,
    after: After,
}

/// Pages for so many bytes. Errors: `ENOMEM`.
pub fn pages(bytes: usize, flags: AllocFlags) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    pieces.try_reserve_exact(bytes.div_ceil(PAGE_SIZE)).map_err(|_| Errno::ENOMEM)?;
    for start in (0..bytes).step_by(PAGE_SIZE) {
        let length = (bytes - start).min(PAGE_SIZE) as u32;
        pieces.push(Piece { frame: Frame::alloc(flags)?, offset: 0, length });
    }
    Ok(pieces)
}

/// What a call is made of, besides its message.
pub struct Parts<'a> {
    /// Data that follow the message.
    pub data: &'a [Piece],
    /// Room for the beginning of the answer, bytes.
    pub head: usize,
    /// Where the rest of the answer goes.
    pub into: &'a [Piece],
}

impl Call {
    /// A call, once there is a tag for it. May sleep. Errors: `EINTR` (a deadly signal came), `ENOMEM`.
    pub fn new(shared: &Arc<Shared>, message: Message, parts: &Parts<'_>, after: After) -> Result<Arc<Call>> {
        let take = || shared.take_tag();
        let tag = shared.gone.wait_until(WaitKind::Killable, None, take).map_err(|_| Errno::EINTR)?;
        Call::with_tag(shared, tag, message, parts, after)
    }

    /// A call that does not wait for a tag. Errors: `EAGAIN`: there is none; `ENOMEM`.
    pub fn try_new(shared: &Arc<Shared>, message: Message, after: After) -> Result<Arc<Call>> {
        let tag = shared.take_tag().ok_or(Errno::EAGAIN)?;
        let parts = Parts { data: &[], head: crate::protocol::COUNTED, into: &[] };
        Call::with_tag(shared, tag, message, &parts, after)
    }

    /// What has the server forget `call`. Errors: `ENOMEM`.
    pub fn flush_of(call: &Arc<Call>) -> Result<Arc<Call>> {
        let message = Message::new(Kind::Flush, 0)?.u16(call.tag);
        let parts = Parts { data: &[], head: crate::protocol::COUNTED, into: &[] };
        let after = After::Flushed { _call: call.clone() };
        Call::with_tag(&call.shared, call.tag | FLUSH_BIT, message, &parts, after)
    }

    /// The message that begins a session.
    pub fn first(shared: &Arc<Shared>, message: Message, head: usize) -> Result<Arc<Call>> {
        let parts = Parts { data: &[], head, into: &[] };
        Call::with_tag(shared, crate::protocol::NO_TAG, message, &parts, After::Nothing)
    }

    fn with_tag(
        shared: &Arc<Shared>,
        tag: u16,
        message: Message,
        parts: &Parts<'_>,
        after: After,
    ) -> Result<Arc<Call>> {
        shared.under_way.fetch_add(1, Ordering::Relaxed);
        // From here on dropping it gives the tag back.
        let mut call = Call {
            shared: shared.clone(),
            kind: message.kind(),
            tag,
            message: Vec::new(),
            answer: Vec::new(),
            state: AtomicU64::new(0),
            done: WaitQueue::new(),
            after,
        };
        let length: usize = parts.data.iter().map(|piece| piece.length as usize).sum();
        let bytes = message.finish(tag, length)?;
        call.message = pages(bytes.len(), AllocFlags::empty())?;
        for (piece, part) in call.message.iter().zip(bytes.chunks(PAGE_SIZE)) {
            piece.frame.write(0, part);
        }
        // A server that writes less than it says must not show what the memory held before.
        call.answer = pages(parts.head, AllocFlags::ZEROED)?;
        for (list, more) in [(&mut call.message, parts.data), (&mut call.answer, parts.into)] {
            list.try_reserve_exact(more.len()).map_err(|_| Errno::ENOMEM)?;
            list.extend_from_slice(more);
        }
        Ok(machine::memory::try_arc(call)?)
    }

    /// What it asks for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its tag.
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// How many bytes the answer has, if it is there. Errors: `EIO`: there will be none.
    fn outcome(&self) -> Option<Result<usize>> {
        match self.state.load(Ordering::Acquire) {
            0 => None,
            state if state & LOST != 0 => Some(Err(Errno::EIO)),
            state => Some(Ok((state & u64::from(u32::MAX)) as usize)),
        }
    }

    /// Waits for the answer and gives its length. May sleep. Errors: `EINTR` (a deadly signal came), `EIO`.
    pub fn wait(&self) -> Result<usize> {
        self.done.wait_until(WaitKind::Killable, None, || self.outcome()).map_err(|_| Errno::EINTR)?
    }

    /// The first `count` bytes of the answer.
    pub fn beginning(&self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(count, 0);
        for (part, piece) in bytes.chunks_mut(PAGE_SIZE).zip(&self.answer) {
            let length = part.len().min(piece.length as usize);
            piece.frame.read(piece.offset as usize, part.get_mut(..length).unwrap_or_default());
        }
        Ok(bytes)
    }

    /// Whether the answer is the one that was asked for. Any context.
    fn is_granted(&self, result: Result<u32>) -> bool {
        let mut header = [0; HEADER];
        if let Some(piece) = self.answer.first() {
            piece.frame.read(0, &mut header);
        }
        result.is_ok_and(|length| length as usize >= HEADER) && header.get(4) == Some(&(self.kind as u8 + 1))
    }
}

impl Exchange for Call {
    fn message(&self) -> &[Piece] {
        &self.message
    }

    fn answer(&self) -> &[Piece] {
        &self.answer
    }

    fn complete(&self, result: Result<u32>) {
        if let After::Free(number) = self.after
            && self.is_granted(result)
        {
            self.shared.give_number(number);
        }
        let state = result.map_or(LOST, |length| ANSWERED | u64::from(length));
        self.state.store(state, Ordering::Release);
        self.done.wake_all();
    }
}

impl Drop for Call {
    /// Any context.
    fn drop(&mut self) {
        if self.tag & FLUSH_BIT == 0 {
            self.shared.give_tag(self.tag);
        }
        self.shared.under_way.fetch_sub(1, Ordering::AcqRel);
        self.shared.gone.wake_all();
    }
}
