//! A queue of received messages: what is waiting for a socket's reader.
//!
//! Key type: [`ReceiveQueue`]. Messages are shared (`Arc`), so that a reader looks at one, copies it to user memory without the
//! lock, and takes it off afterwards; the socket's own reader lock keeps readers apart. A closed queue takes nothing.
//! Locks: a leaf spinlock for the length of a push or pop; never held while user memory is touched.
//! Thread context only: drivers deliver from threads.

use abi::errno::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicUsize, Ordering};

/// What can be queued.
pub trait Message: Send + Sync {
    /// Its bytes of data that are left to read.
    fn length(&self) -> usize;
}

struct Contents<M> {
    messages: VecDeque<Arc<M>>,
    closed: bool,
}

/// See the module's head.
pub struct ReceiveQueue<M> {
    contents: SpinLock<Contents<M>>,
    /// Copies for those who only look: messages, and bytes of data.
    count: AtomicUsize,
    bytes: AtomicUsize,
}

impl<M: Message> Default for ReceiveQueue<M> {
    fn default() -> Self {
        ReceiveQueue::new()
    }
}

impl<M: Message> ReceiveQueue<M> {
    /// An empty queue.
    pub fn new() -> ReceiveQueue<M> {
        ReceiveQueue {
            contents: SpinLock::new(Contents { messages: VecDeque::new(), closed: false }),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Appends, if `allowed` (asked under the lock, with the number of messages before) agrees. A refused message is dropped
    /// after the lock is released.
    /// `EPIPE`: the queue is closed; `ENOMEM`; what `allowed` gives.
    pub fn push(&self, message: Arc<M>, allowed: impl FnOnce(usize) -> Result<()>) -> Result<()> {
        let length = message.length();
        let mut contents = self.contents.lock();
        let verdict = if contents.closed {
            Err(Errno::EPIPE)
        } else {
            allowed(contents.messages.len())
                .and_then(|()| contents.messages.try_reserve(1).map_err(|_| Errno::ENOMEM))
        };
        if let Err(error) = verdict {
            drop(contents);
            drop(message);
            return Err(error);
        }
        contents.messages.push_back(message);
        self.bytes.fetch_add(length, Ordering::Release);
        self.count.store(contents.messages.len(), Ordering::Release);
        Ok(())
    }

    /// The message at this place, 0 being the first.
    pub fn get(&self, place: usize) -> Option<Arc<M>> {
        self.contents.lock().messages.get(place).cloned()
    }

    /// Takes the first off.
    pub fn pop(&self) -> Option<Arc<M>> {
        let mut contents = self.contents.lock();
        let message = contents.messages.pop_front()?;
        self.bytes.fetch_sub(message.length(), Ordering::Release);
        self.count.store(contents.messages.len(), Ordering::Release);
        Some(message)
    }

    /// Takes the first off if it is this one.
    pub fn pop_if_first(&self, message: &Arc<M>) -> bool {
        let mut contents = self.contents.lock();
        if !contents.messages.front().is_some_and(|first| Arc::ptr_eq(first, message)) {
            return false;
        }
        let first = contents.messages.pop_front();
        self.bytes.fetch_sub(message.length(), Ordering::Release);
        self.count.store(contents.messages.len(), Ordering::Release);
        drop(contents);
        drop(first);
        true
    }

    /// Notes that `count` bytes of a message that stays were read; its length says so already.
    pub fn note_consumed(&self, count: usize) {
        self.bytes.fetch_sub(count, Ordering::Release);
    }

    /// Takes out those that are `wanted`, in order; the rest stays.
    pub fn take_matching(&self, mut wanted: impl FnMut(&M) -> bool) -> VecDeque<Arc<M>> {
        let mut contents = self.contents.lock();
        let all = core::mem::take(&mut contents.messages);
        let (taken, kept): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(|message| wanted(message));
        let bytes: usize = taken.iter().map(|message| message.length()).sum();
        contents.messages = kept;
        self.bytes.fetch_sub(bytes, Ordering::Release);
        self.count.store(contents.messages.len(), Ordering::Release);
        taken
    }

    /// Takes everything out and lets nothing more in; the caller drops what it got without a lock.
    pub fn close(&self) -> VecDeque<Arc<M>> {
        let mut contents = self.contents.lock();
        contents.closed = true;
        self.bytes.store(0, Ordering::Release);
        self.count.store(0, Ordering::Release);
        core::mem::take(&mut contents.messages)
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes of data wait in all (`SIOCINQ` of streams).
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// The length of the first message (`SIOCINQ` of datagrams).
    pub fn first_length(&self) -> usize {
        self.contents.lock().messages.front().map_or(0, |first| first.length())
    }
}
