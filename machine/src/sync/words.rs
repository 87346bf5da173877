//! The atomic words that decide who waits and who is woken, apart from threads and queues, so that loom can run them.
//!
//! Key types: [`Handshake`] (a wait queue), [`Owner`] (a mutex), [`Share`] (a read-write lock), [`Sequence`] (a sequence
//! lock). `machine/loom` explores every interleaving of each. Neighbours: `wait`, `sleep`, `seq`, which add the rest. No locks.

use super::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

macro_rules! new {
    ($type:ident { $($field:ident: $value:expr),* }) => {
        impl $type {
            /// Nobody has it, nobody waits.
            #[cfg(not(loom))]
            pub(crate) const fn new() -> $type {
                $type { $($field: $value),* }
            }
            /// Nobody has it, nobody waits.
            #[cfg(loom)]
            pub(crate) fn new() -> $type {
                $type { $($field: $value),* }
            }
        }
    };
}

/// How many wait, and the order in which a waiter and a waker look: the waiter joins, then looks at its condition; the waker
/// changes the condition, then looks for waiters. A fence on each side makes at least one see the other.
pub(crate) struct Handshake {
    count: AtomicUsize,
}

new!(Handshake { count: AtomicUsize::new(0) });

impl Handshake {
    /// One more waits. Under the queue's lock.
    #[inline(always)]
    pub(crate) fn join(&self) {
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
    /// One fewer waits. Under the queue's lock.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        self.count.store(self.count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }
    /// Between having joined (or cleared one's flag) and a look at the condition.
    #[inline(always)]
    pub(crate) fn before_condition() {
        fence(Ordering::SeqCst);
    }
    /// After a change of the condition: whether someone may have to be woken.
    #[inline(always)]
    pub(crate) fn has_waiters_after_change(&self) -> bool {
        fence(Ordering::SeqCst);
        self.count.load(Ordering::Relaxed) != 0
    }
    /// How many wait (a hint).
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Set in an owner word when threads may be queued.
pub(crate) const WAITERS: usize = 1;

/// Who holds a mutex: an even number that is not 0, and [`WAITERS`]; 0 = nobody.
pub(crate) struct Owner {
    word: AtomicUsize,
}

new!(Owner { word: AtomicUsize::new(0) });

impl Owner {
    /// Takes a free mutex.
    #[inline(always)]
    pub(crate) fn try_take(&self, me: usize) -> bool {
        self.word.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// For one who is queued: takes a free mutex, or marks it so that its unlock looks at the queue.
    pub(crate) fn take_or_mark(&self, me: usize) -> bool {
        let mut owner = self.word.load(Ordering::Relaxed);
        loop {
            // Others may be queued behind us: the bit stays until an unlock finds nobody.
            let new = if owner == 0 { me | WAITERS } else { owner | WAITERS };
            match self.word.compare_exchange(owner, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(before) => return before == 0,
                Err(now) => owner = now,
            }
        }
    }

    /// Frees it; whether one of the queue must be woken.
    #[inline(always)]
    pub(crate) fn release(&self) -> bool {
        self.word.swap(0, Ordering::Release) & WAITERS != 0
    }

    /// The word now (a hint).
    #[inline(always)]
    pub(crate) fn peek(&self) -> usize {
        self.word.load(Ordering::Relaxed)
    }

    /// Its address, as the lock's identity.
    #[inline(always)]
    pub(crate) fn address(&self) -> usize {
        (&raw const self.word).addr()
    }
}

const WRITER: u32 = 1 << 31;
const MAX_READERS: u32 = 1 << 30;

/// Who holds a read-write lock, and how many writers wait: readers let them go first.
pub(crate) struct Share {
    /// Readers, or [`WRITER`].
    state: AtomicU32,
    waiting_writers: AtomicU32,
}

new!(Share { state: AtomicU32::new(0), waiting_writers: AtomicU32::new(0) });

/// Whom an unlock has to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// One writer of the queue.
    Writer,
    /// All readers of the queue.
    Readers,
    /// Nobody.
    Nobody,
}

impl Share {
    /// Takes it to read, unless a writer has it or waits.
    #[inline]
    pub(crate) fn try_read(&self) -> bool {
        if self.waiting_writers.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let mut state = self.state.load(Ordering::Relaxed);
        while state < MAX_READERS {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Takes it to write if nobody has it.
    #[inline]
    pub(crate) fn try_write(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// A writer is about to wait.
    pub(crate) fn begin_write_wait(&self) {
        self.waiting_writers.fetch_add(1, Ordering::SeqCst);
    }

    /// It waits no more, as it has the lock or gave up; whom to wake.
    pub(crate) fn end_write_wait(&self, has_it: bool) -> Wake {
        let was_last = self.waiting_writers.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && !has_it { Wake::Readers } else { Wake::Nobody }
    }

    /// A reader lets go; whom to wake.
    #[inline]
    pub(crate) fn release_read(&self) -> Wake {
        if self.state.fetch_sub(1, Ordering::Release) == 1 { Wake::Writer } else { Wake::Nobody }
    }

    /// The writer lets go; whom to wake: another writer first, else all readers.
    #[inline]
    pub(crate) fn release_write(&self) -> Wake {
        self.state.store(0, Ordering::Release);
        self.after_write()
    }

    /// The writer goes on as a reader; whom to wake.
    #[inline]
    pub(crate) fn downgrade(&self) -> Wake {
        self.state.store(1, Ordering::Release);
        self.after_write()
    }

    fn after_write(&self) -> Wake {
        fence(Ordering::SeqCst);
        if self.waiting_writers.load(Ordering::Relaxed) != 0 { Wake::Writer } else { Wake::Readers }
    }

    /// Its address, as the lock's identity.
    #[inline(always)]
    pub(crate) fn address(&self) -> usize {
        (&raw const self.state).addr()
    }
}

/// The counter of a sequence lock: odd while a writer changes the value.
pub(crate) struct Sequence {
    word: AtomicU32,
}

new!(Sequence { word: AtomicU32::new(0) });

impl Sequence {
    /// Before a copy; `None` while a writer is there.
    #[inline(always)]
    pub(crate) fn begin_read(&self) -> Option<u32> {
        let before = self.word.load(Ordering::Acquire);
        (before & 1 == 0).then_some(before)
    }
    /// After a copy: whether no writer was there since `before`.
    #[inline(always)]
    pub(crate) fn is_unchanged(&self, before: u32) -> bool {
        fence(Ordering::Acquire);
        self.word.load(Ordering::Relaxed) == before
    }
    /// Before the value is changed. One writer at a time.
    #[inline(always)]
    pub(crate) fn begin_write(&self) {
        self.word.store(self.word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
    }
    /// After it was changed.
    #[inline(always)]
    pub(crate) fn end_write(&self) {
        self.word.store(self.word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }
}
