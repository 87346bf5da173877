//! The journal: changes of metadata that reach the disk together or not at all (jbd2's format).
//!
//! Key types: [`Journal`], [`Handle`] (one operation of the file system), [`OrderedData`], [`JournalMap`] (where the journal is). Neighbours:
//! `buffer` below; the file system above, which changes metadata through handles only.
//!
//! A *transaction* gathers what many handles change. At most one is *running*, which handles join, and one *committing*. The journal's thread
//! commits (`commit`): it lets no more handles in, waits for those inside, then starts the next transaction's time: from here handles that change a
//! block that the committing one has not copied yet leave it a *frozen* copy. It writes the ordered data, the revoke records and the blocks to
//! the log, and at last the commit block, after a flush and through the cache. From then on the transaction survives. Its blocks stay in
//! memory until they are written where they belong, which `checkpoint` does when the log's space is wanted. `recovery` does the same from the
//! log after a cut.
//!
//! Space cannot run out inside an operation: a transaction is begun only when there is room in the log for the largest that it may
//! become, and handles join only as far as their credits fit into it. Whoever waits for room holds no handle, so what it waits for can end.
//!
//! Without a log ([`Journal::none`], ext2) it is the same, except that a commit writes the blocks where they belong.
//!
//! After an error of the device the journal is *aborted*: nothing is written any more, new handles get `EROFS`.
//!
//! Locks: [`Journal::checkpointing`] (sleeping) → a buffer's contents (sleeping) → the superblock (sleeping) → [`Journal::state`] → a
//! transaction's parts; a buffer's membership is a leaf. A handle counts as a lock outside all of them; waiting for a commit with a handle,
//! or with a buffer's contents locked, never ends.

mod batch;
mod checkpoint;
mod commit;
mod format;
mod handle;
#[cfg(test)]
mod judged;
mod log;
mod map;
mod recovery;
#[cfg(test)]
mod tests;
mod transaction;

pub use handle::Handle;
pub use map::JournalMap;
pub(crate) use transaction::Membership;

use crate::buffer::Buffers;
use abi::errno::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use checkpoint::Checkpoint;
use log::Log;
use machine::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use machine::sync::{Mutex, SpinLock, WaitKind, WaitQueue};
use sched::SpawnOptions;
use transaction::Transaction;

/// A transaction's number. Compare with [`is_newer`]: they wrap.
pub type Tid = u32;

/// Whether `tid` began after `than`.
pub fn is_newer(tid: Tid, than: Tid) -> bool {
    (tid.wrapping_sub(than) as i32) > 0
}

/// Contents of files that have to be on the disk before a transaction that makes them visible.
pub trait OrderedData: Send + Sync {
    /// Writes them and waits. Called by the journal's thread: must not start a handle, nor wait for one who does. The thread may also be the
    /// last that refers to the object: dropping it must not start a handle either.
    fn write_data(&self) -> Result<()>;
}

/// How a journal is used.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The thread is called `jbd2/` and this.
    pub name: String,
    /// No handle is given out (`EROFS`). A log that is not empty is brought to where it belongs all the same, as on Linux.
    pub read_only: bool,
    /// Checksums in the log (`metadata_csum`).
    pub checksums: bool,
    /// Block numbers of 64 bits in the log (`64bit`).
    pub wide: bool,
    /// The device's cache is flushed where order demands it.
    pub barriers: bool,
    /// A transaction is committed after so many seconds (`commit=`).
    pub commit_seconds: u32,
}

impl Default for JournalOptions {
    fn default() -> JournalOptions {
        let name = String::from("-");
        JournalOptions {
            name,
            read_only: false,
            checksums: true,
            wide: true,
            barriers: true,
            commit_seconds: 5,
        }
    }
}

/// The most blocks of one transaction without a log.
const UNLOGGED_TRANSACTION: u32 = 8192;

/// What a file system's metadata goes through.
pub struct Journal {
    buffers: Arc<Buffers>,
    log: Option<Log>,
    /// The most blocks of a transaction, revoke blocks included.
    largest: u32,
    commit_ns: AtomicU64,
    state: SpinLock<State>,
    /// Something in `state`, or the number of handles of a transaction, has changed.
    changed: WaitQueue,
    thread: Arc<Alarm>,
    checkpointing: Mutex<()>,
    /// What the superblock said when it was opened.
    recorded_error: i32,
    replayed: bool,
    /// `state.aborted` is set: for those who look often.
    dead: AtomicBool,
}

/// How the journal's thread is called.
struct Alarm {
    bell: WaitQueue,
    rung: AtomicBool,
    ended: AtomicBool,
    stopped: AtomicBool,
}

struct State {
    running: Option<Arc<Transaction>>,
    committing: Option<Arc<Transaction>>,
    /// The newest transaction that is complete.
    committed: Tid,
    /// Transactions up to here are to be committed without delay.
    requested: Tid,
    /// How many hold new handles back.
    barriers: u32,
    aborted: Option<Errno>,
    /// What is in the log and not yet where it belongs, oldest first.
    checkpoints: VecDeque<Arc<Checkpoint>>,
    /// Where the next transaction goes in the log.
    head: u32,
    /// Where the log begins.
    tail: u32,
    /// Blocks between head and tail.
    free: u32,
}

impl Journal {
    /// Opens a journal, bringing what it has to where it belongs if the last use was cut off. Contents of `buffers` are brought up to date,
    /// but what was parsed of them before is not: look again if [`Journal::has_replayed`].
    ///
    /// Errors: `EUCLEAN`, `EBADMSG`: it is damaged; `EOPNOTSUPP`: it needs something not known here (fast commits among it); `EROFS`: it needs
    /// recovery and nothing may be written; `EIO`, `ENOMEM`.
    pub fn open(buffers: Arc<Buffers>, map: JournalMap, options: JournalOptions) -> Result<Arc<Journal>> {
        let mut log = Log::open(&buffers, map, options.barriers)?;
        let recorded_error = log.superblock.lock().parsed.error;
        let replayed = recovery::recover(&buffers, &log)?;
        if !options.read_only {
            log.set_features(&buffers, &options)?;
        }
        let parsed = log.superblock.lock().parsed.clone();
        let largest = (parsed.end - parsed.first) / 4;
        // The next number is left out, as on Linux: blocks of a transaction that was cut off may have it.
        let state = State {
            committed: parsed.sequence,
            requested: parsed.sequence,
            head: parsed.first,
            tail: parsed.first,
            free: parsed.end - parsed.first,
            ..State::new()
        };
        Journal::begin(buffers, Some(log), largest, state, &options, (recorded_error, replayed))
    }

    /// For a file system without a journal. Errors: `ENOMEM`.
    pub fn none(buffers: Arc<Buffers>, options: JournalOptions) -> Result<Arc<Journal>> {
        Journal::begin(buffers, None, UNLOGGED_TRANSACTION, State::new(), &options, (0, false))
    }

    fn begin(
        buffers: Arc<Buffers>,
        log: Option<Log>,
        largest: u32,
        state: State,
        options: &JournalOptions,
        (recorded_error, replayed): (i32, bool),
    ) -> Result<Arc<Journal>> {
        let stopped = AtomicBool::new(options.read_only);
        let (rung, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let thread = Arc::new(Alarm { bell: WaitQueue::new(), rung, ended, stopped });
        let journal = Arc::new(Journal {
            buffers,
            log,
            largest,
            commit_ns: AtomicU64::new(0),
            state: SpinLock::new(state),
            changed: WaitQueue::new(),
            thread: thread.clone(),
            checkpointing: Mutex::new(()),
            recorded_error,
            replayed,
            dead: AtomicBool::new(options.read_only),
        });
        journal.set_commit_interval(options.commit_seconds);
        if options.read_only {
            journal.state.lock().aborted = Some(Errno::EROFS);
            return Ok(journal);
        }
        let weak = Arc::downgrade(&journal);
        let name = alloc::format!("jbd2/{}", options.name);
        sched::spawn(&name, SpawnOptions::default(), move || run(&weak, &thread))?;
        Ok(journal)
    }

    /// After how many seconds a transaction is committed; 0: 5, as on Linux.
    pub fn set_commit_interval(&self, seconds: u32) {
        let seconds = if seconds == 0 { 5 } else { seconds };
        self.commit_ns.store(u64::from(seconds) * 1_000_000_000, Ordering::Relaxed);
    }

    /// Whether opening it brought something to where it belongs.
    pub fn has_replayed(&self) -> bool {
        self.replayed
    }

    /// The error that ended the journal's last use, negative; 0: none. The file system is then to be marked so.
    pub fn recorded_error(&self) -> i32 {
        self.recorded_error
    }

    /// The most credits that one handle may have.
    pub fn largest_transaction(&self) -> u32 {
        self.largest
    }

    /// Why nothing is written any more.
    pub fn aborted(&self) -> Option<Errno> {
        self.state.lock().aborted
    }

    /// Nothing is written any more. Any thread; does not sleep.
    pub fn abort(&self, error: Errno) {
        self.dead.store(true, Ordering::Release);
        let first = {
            let mut state = self.state.lock();
            let first = state.aborted.is_none();
            state.aborted.get_or_insert(error);
            first
        };
        if first {
            ::log::error!("ext4: the journal is aborted: {}", error.name());
        }
        self.changed.wake_all();
        self.thread.ring();
    }

    /// Whether a transaction survives a cut.
    pub fn is_committed(&self, tid: Tid) -> bool {
        !is_newer(tid, self.state.lock().committed)
    }

    /// The transaction that an operation begun now would join, and the newest that survives.
    pub fn newest(&self) -> (Tid, Tid) {
        let state = self.state.lock();
        (state.newest(), state.committed)
    }

    /// Asks for the commit of everything until now and does not wait.
    pub fn request_commit(&self) {
        let mut state = self.state.lock();
        let newest = state.newest();
        self.request(&mut state, newest);
    }

    fn request(&self, state: &mut State, tid: Tid) {
        if is_newer(tid, state.requested) {
            state.requested = tid;
        }
        self.thread.ring();
    }

    /// Waits until a transaction survives a cut, and has it committed if need be. The caller has no handle.
    ///
    /// Errors: `EIO`, or what else the journal was aborted with.
    pub fn commit_and_wait(&self, tid: Tid) -> Result<()> {
        {
            let mut state = self.state.lock();
            if !is_newer(tid, state.committed) || is_newer(tid, state.newest()) {
                return Ok(());
            }
            self.request(&mut state, tid);
        }
        self.wait(|state| match state.aborted {
            _ if !is_newer(tid, state.committed) => Some(Ok(())),
            Some(error) => Some(Err(error)),
            None => None,
        })
    }

    /// Commits everything until now and waits. Errors: as [`Journal::commit_and_wait`].
    pub fn force_commit(&self) -> Result<()> {
        let (newest, aborted) = {
            let state = self.state.lock();
            (state.newest(), state.aborted)
        };
        aborted.map_or(Ok(()), Err)?;
        self.commit_and_wait(newest)
    }

    /// Holds new handles back, waits for those that are under way, and brings everything to where it belongs: the device has the whole file
    /// system then. [`Journal::thaw`] lets them go on. Errors: as [`Journal::commit_and_wait`]; nothing is held back then.
    pub fn freeze(&self) -> Result<()> {
        self.state.lock().barriers += 1;
        let result = self.force_commit().and_then(|()| self.empty_log());
        if result.is_err() {
            self.thaw();
        }
        result
    }

    /// Ends a [`Journal::freeze`].
    pub fn thaw(&self) {
        {
            let mut state = self.state.lock();
            state.barriers = state.barriers.saturating_sub(1);
        }
        self.changed.wake_all();
    }

    /// Brings everything to where it belongs, marks the log empty and ends the thread. Nobody has or takes a handle. Errors: as
    /// [`Journal::commit_and_wait`]; the thread has ended all the same.
    pub fn shut_down(&self) -> Result<()> {
        if self.thread.stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        let result = self.force_commit().and_then(|()| self.empty_log());
        self.thread.end();
        let ended = || self.thread.stopped.load(Ordering::Acquire).then_some(());
        let _ = self.thread.bell.wait_until(WaitKind::Uninterruptible, None, ended);
        if result.is_err() {
            self.note_error();
        }
        self.dead.store(true, Ordering::Release);
        self.let_go();
        result
    }

    /// Drops what will not be written any more: inodes and the file system itself may hang on it, and the journal on them.
    fn let_go(&self) {
        let (running, committing, checkpoints) = {
            let mut state = self.state.lock();
            state.aborted.get_or_insert(Errno::EROFS);
            (state.running.take(), state.committing.take(), core::mem::take(&mut state.checkpoints))
        };
        for transaction in [running, committing].into_iter().flatten() {
            let parts = core::mem::take(&mut *transaction.parts.lock());
            drop(parts);
        }
        drop(checkpoints);
    }

    /// Sleeps until the state is as `condition` wants it.
    fn wait<R>(&self, mut condition: impl FnMut(&State) -> Option<R>) -> R {
        loop {
            let look = || condition(&self.state.lock());
            if let Ok(result) = self.changed.wait_until(WaitKind::Uninterruptible, None, look) {
                return result;
            }
        }
    }

    /// The journal's thread has work, or a time when it will have.
    fn due(&self) -> core::result::Result<(), Option<u64>> {
        let state = self.state.lock();
        let Some(running) = state.running.as_ref() else { return Err(None) };
        let due = running.begun_ns.saturating_add(self.commit_ns.load(Ordering::Relaxed));
        let now = !is_newer(running.tid, state.requested) || due <= machine::time::now_ns();
        if state.aborted.is_none() && now { Ok(()) } else { Err(state.aborted.is_none().then_some(due)) }
    }

    /// Remembers in the superblock that it was aborted.
    fn note_error(&self) {
        if let (Some(log), Some(error)) = (self.log.as_ref(), self.aborted()) {
            let _ = log.update(&self.buffers, |parsed| parsed.error = -error.code());
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.thread.end();
    }
}

impl State {
    fn new() -> State {
        State {
            running: None,
            committing: None,
            committed: 0,
            requested: 0,
            barriers: 0,
            aborted: None,
            checkpoints: VecDeque::new(),
            head: 0,
            tail: 0,
            free: 0,
        }
    }

    /// The newest transaction that there is.
    fn newest(&self) -> Tid {
        let unfinished = self.running.as_ref().or(self.committing.as_ref());
        unfinished.map_or(self.committed, |transaction| transaction.tid)
    }
}

impl Alarm {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.bell.wake_all();
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.ring();
    }
}

/// The journal's thread.
fn run(journal: &Weak<Journal>, alarm: &Arc<Alarm>) {
    let mut error_noted = false;
    loop {
        let mut deadline = None;
        if let Some(journal) = journal.upgrade() {
            match journal.due() {
                Ok(()) => {
                    journal.commit();
                    continue;
                }
                Err(next) => deadline = next,
            }
            if !error_noted && journal.aborted().is_some() {
                error_noted = true;
                journal.note_error();
            }
        }
        if alarm.ended.load(Ordering::Acquire) {
            break;
        }
        let rung = || alarm.rung.swap(false, Ordering::AcqRel).then_some(());
        let _ = alarm.bell.wait_until(WaitKind::Uninterruptible, deadline, rung);
    }
    alarm.stopped.store(true, Ordering::Release);
    alarm.bell.wake_all();
}
