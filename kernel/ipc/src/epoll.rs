//! epoll(7): waits on many files, at a cost of the ready ones.
//!
//! * [`Epoll`] is the open file. It has the *interests* by descriptor and file, and the tree of *ready* ones in the
//!   order in which they became so.
//! * `Readiness` is that tree and the wait queues: the part that callbacks reach. It does not own the interests, so that
//!   a callback never drops the last reference to what must unregister callbacks.
//! * An `Interest` hangs a callback on the wait queues of its file. When one is woken, the interest's node goes into
//!   the ready tree (it is allocated with the interest: the callback runs with a queue's lock held and interrupts off)
//!   and whoever waits on the epoll is woken.
//! * Waiting takes ready interests out one at a time, asks the file what is so *now*, and reports it. A level-triggered
//!   one goes back to the end, so that it is asked again the next time. An interest is taken out before its file is
//!   asked: what happens meanwhile puts it in again, so no edge is lost.
//!
//! Files are held weakly: a file that is closed everywhere leaves all epolls by itself. Epolls may watch epolls, not too deep
//! and never in a circle: `nesting`.
//!
//! Locks: `interests` (sleeping; also held while events are delivered), the graph of epolls (only when one is added to or taken
//! from another), a file's wait queue, `ready`, an interest's `node`, the epoll's own wait queues.

mod nesting;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::user_limit::{UserLimit, share_of_memory};
use abi::epoll::{EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP, EpollEvent};
use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use machine::memory::try_arc;
use machine::sync::{IrqSpinLock, Mutex, Registration, WaitError, WaitKind, WaitQueue, WakeCallback};
use nesting::Link;
use sched::tree::{Item, Node, Tree};
use vfs::{File, FileOperations, PollTable, Positioning};

/// Bits that say how to report rather than what.
const MODE_BITS: u32 = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

/// Watches of one user's epolls (`/proc/sys/fs/epoll`): by default what takes a twenty-fifth of the memory, as on Linux.
pub static MAX_USER_WATCHES: UserLimit = UserLimit::new(|| share_of_memory(4, 512), Errno::ENOSPC);

/// Which interest: a descriptor number and the file it meant. (One file may be watched under two descriptors.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct InterestKey {
    descriptor: i32,
    file: usize,
}

impl InterestKey {
    fn new(descriptor: i32, file: &Arc<File>) -> Self {
        Self { descriptor, file: Arc::as_ptr(file) as usize }
    }
}

/// One watched file.
struct Interest {
    key: InterestKey,
    file: Weak<File>,
    /// What was asked for, with the mode bits; 0 after a one-shot fired.
    events: AtomicU32,
    data: AtomicU64,
    readiness: Arc<Readiness>,
    /// That an epoll is watched by this one.
    link: Option<Link>,
    /// Whose it is, for [`MAX_USER_WATCHES`].
    user: u32,
    /// Its place in the ready tree, when it is there.
    turn: AtomicU64,
    /// The node, when it is not in the ready tree.
    node: IrqSpinLock<Option<ReadyBox>>,
    /// Its callbacks on the file's queues. Dropping them stops them.
    registrations: Mutex<Vec<Registration>>,
}

impl Interest {
    fn wanted(&self) -> PollEvents {
        PollEvents::from_bits_truncate(self.events.load(Ordering::Relaxed) & !MODE_BITS)
    }

    fn has_mode(&self, bit: u32) -> bool {
        self.events.load(Ordering::Relaxed) & bit != 0
    }

    fn is_disarmed(&self) -> bool {
        self.events.load(Ordering::Relaxed) & !MODE_BITS == 0
    }

    /// Ends it: no callback runs afterwards, and it is not in the ready tree. Once it is out of the map.
    fn discard(&self) {
        self.events.store(0, Ordering::SeqCst);
        drop(core::mem::take(&mut *self.registrations.lock()));
        self.readiness.withdraw(self);
        if let Some(link) = &self.link {
            link.remove();
        }
        MAX_USER_WATCHES.give_back(self.user);
    }

    /// What the file is ready for now, of what is wanted.
    fn look(&self, table: &mut PollTable<'_>) -> PollEvents {
        let Some(file) = self.file.upgrade() else { return PollEvents::empty() };
        let found = file.operations().poll(&file, table);
        if self.is_disarmed() { PollEvents::empty() } else { found & (self.wanted() | PollEvents::ALWAYS) }
    }
}

/// The callback. It is separate from the interest because the queue's registration owns it: the interest owns the
/// registration.
struct Alarm {
    interest: Weak<Interest>,
}

impl WakeCallback for Alarm {
    fn wake(&self, events: u32) {
        let Some(interest) = self.interest.upgrade() else { return };
        let told = PollEvents::from_bits_truncate(events);
        let irrelevant = events != 0 && (told & (interest.wanted() | PollEvents::ALWAYS)).is_empty();
        if interest.is_disarmed() || irrelevant {
            return;
        }
        interest.readiness.note_ready(&interest);
    }
}

/// An interest in the ready tree.
struct Ready {
    turn: u64,
    interest: Option<Arc<Interest>>,
}

impl Item for Ready {
    type Key = u64;
    type Summary = ();

    fn key(&self) -> u64 {
        self.turn
    }

    fn summary(&self) {}

    fn merge((): (), (): ()) {}
}

type ReadyBox = Box<Node<Ready>>;

struct ReadyTree {
    tree: Tree<Ready>,
    next_turn: u64,
}

/// See the module's head.
struct Readiness {
    ready: IrqSpinLock<ReadyTree>,
    /// Who is in `epoll_wait`.
    waiters: WaitQueue,
    /// Who polls the epoll file (other epolls, poll).
    pollers: Arc<WaitQueue>,
}

impl Readiness {
    /// Takes an interest out of the ready tree, if it is there.
    fn withdraw(&self, interest: &Interest) {
        let mut ready = self.ready.lock();
        let node = ready.tree.remove(&interest.turn.load(Ordering::Relaxed));
        drop(ready);
        drop(node);
    }

    /// Puts an interest at the end of the ready tree, unless it is there; wakes who waits. Any context.
    fn note_ready(&self, interest: &Arc<Interest>) {
        if !self.queue(interest) {
            return;
        }
        self.waiters.wake_one();
        self.pollers.wake_with(usize::MAX, PollEvents::READABLE.bits());
    }

    /// Whether it was not queued before.
    fn queue(&self, interest: &Arc<Interest>) -> bool {
        let mut ready = self.ready.lock();
        let Some(mut node) = interest.node.lock().take() else { return false };
        ready.next_turn += 1;
        node.turn = ready.next_turn;
        node.interest = Some(interest.clone());
        interest.turn.store(node.turn, Ordering::Relaxed);
        ready.tree.insert(node);
        true
    }

    /// Takes the first ready interest out, if it became ready before `end`.
    fn take_ready(&self, end: u64) -> Option<Arc<Interest>> {
        let mut ready = self.ready.lock();
        if ready.tree.first()?.turn > end {
            return None;
        }
        let mut node = ready.tree.pop_first()?;
        let interest = node.interest.take()?;
        *interest.node.lock() = Some(node);
        Some(interest)
    }

    fn has_ready(&self) -> bool {
        !self.ready.lock().tree.is_empty()
    }

    /// Every interest that is ready now has a turn up to this.
    fn last_turn(&self) -> u64 {
        self.ready.lock().next_turn
    }
}

struct Interests {
    by_key: BTreeMap<InterestKey, Arc<Interest>>,
    /// When there are this many, those whose file is gone are dropped.
    sweep_at: usize,
}

/// The operations of an epoll file.
pub struct Epoll {
    user: u32,
    interests: Mutex<Interests>,
    readiness: Arc<Readiness>,
}

/// `epoll_ctl(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// `EPOLL_CTL_ADD`.
    Add,
    /// `EPOLL_CTL_MOD`.
    Modify,
    /// `EPOLL_CTL_DEL`.
    Delete,
}

impl Control {
    /// From the number. `EINVAL`.
    pub fn from_linux(operation: i32) -> Result<Self> {
        match operation {
            1 => Ok(Self::Add),
            2 => Ok(Self::Delete),
            3 => Ok(Self::Modify),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Epoll {
    /// An epoll that watches nothing, of the user with this (kernel's) id.
    pub fn new(user: u32) -> Arc<Self> {
        Arc::new(Self {
            user,
            interests: Mutex::new(Interests { by_key: BTreeMap::new(), sweep_at: 64 }),
            readiness: Arc::new(Readiness {
                ready: IrqSpinLock::new(ReadyTree { tree: Tree::new(), next_turn: 0 }),
                waiters: WaitQueue::new(),
                pollers: Arc::new(WaitQueue::new()),
            }),
        })
    }

    /// Adds, changes or removes the interest in `file` under the number `descriptor`. `event` is not used to delete.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`: it is there already, or not. `EPERM`: the file cannot be waited for. `EINVAL`: the epoll itself,
    /// or `EPOLLEXCLUSIVE` where it is not allowed. `ELOOP`: a circle of epolls, or too deep. `ENOSPC`: the
    /// user watches too much. `ENOMEM`.
    pub fn control(
        &self,
        control: Control,
        descriptor: i32,
        file: &Arc<File>,
        event: EpollEvent,
    ) -> Result<()> {
        if !file.operations().can_poll() {
            return Err(Errno::EPERM);
        }
        let target = file.operations_as::<Self>();
        if target.is_some_and(|target| core::ptr::eq(target, self)) {
            return Err(Errno::EINVAL);
        }
        Self::check_exclusive(control, event.events, target.is_some())?;
        let key = InterestKey::new(descriptor, file);
        match control {
            Control::Add => self.add(key, file, target, event),
            Control::Modify => self.modify(key, event),
            Control::Delete => self.delete(key),
        }
    }

    fn check_exclusive(control: Control, events: u32, nested: bool) -> Result<()> {
        if events & EPOLLEXCLUSIVE == 0 || control == Control::Delete {
            return Ok(());
        }
        let allowed = MODE_BITS
            | (PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::ALWAYS | PollEvents::RDHUP).bits();
        let wrong =
            control == Control::Modify || nested || events & EPOLLONESHOT != 0 || events & !allowed != 0;
        if wrong { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// The address by which the graph knows it.
    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    fn add(
        &self,
        key: InterestKey,
        file: &Arc<File>,
        target: Option<&Self>,
        event: EpollEvent,
    ) -> Result<()> {
        let mut interests = self.interests.lock();
        interests.sweep();
        if interests.by_key.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        MAX_USER_WATCHES.charge(self.user)?;
        let link = target.map(|target| Link::new(self.address(), target.address())).transpose();
        let link = link.inspect_err(|_| MAX_USER_WATCHES.give_back(self.user))?;
        let interest = Arc::new(Interest {
            key,
            file: Arc::downgrade(file),
            events: AtomicU32::new(event.events),
            data: AtomicU64::new(event.data),
            readiness: self.readiness.clone(),
            link,
            user: self.user,
            turn: AtomicU64::new(0),
            node: IrqSpinLock::new(Some(Box::new(Node::new(Ready { turn: 0, interest: None })))),
            registrations: Mutex::new(Vec::new()),
        });
        let found = watch(&interest).inspect_err(|_| interest.discard())?;
        interests.by_key.insert(key, interest.clone());
        drop(interests);
        if !found.is_empty() {
            self.readiness.note_ready(&interest);
        }
        Ok(())
    }

    fn modify(&self, key: InterestKey, event: EpollEvent) -> Result<()> {
        let interests = self.interests.lock();
        let interest = interests.by_key.get(&key).cloned().ok_or(Errno::ENOENT)?;
        if interest.has_mode(EPOLLEXCLUSIVE) {
            return Err(Errno::EINVAL);
        }
        interest.data.store(event.data, Ordering::Relaxed);
        interest.events.store(event.events, Ordering::SeqCst);
        let found = interest.look(&mut PollTable::probe());
        if !found.is_empty() {
            self.readiness.note_ready(&interest);
        }
        Ok(())
    }

    fn delete(&self, key: InterestKey) -> Result<()> {
        let removed = self.interests.lock().by_key.remove(&key).ok_or(Errno::ENOENT)?;
        removed.discard();
        Ok(())
    }

    /// Waits until something is ready, and gives up to `limit` events to `deliver`; how many. `epoll_wait(2)` and its kin.
    ///
    /// # Errors
    /// `EINTR`: a signal came. What `deliver` gives (`EFAULT`) if it fails for the first event.
    pub fn wait(
        &self,
        limit: usize,
        deadline_ns: Option<u64>,
        mut deliver: impl FnMut(EpollEvent) -> Result<()>,
    ) -> Result<usize> {
        loop {
            if self.readiness.has_ready() {
                let count = self.deliver_ready(limit, &mut deliver)?;
                if count > 0 {
                    return Ok(count);
                }
            }
            if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= machine::time::now_ns()) {
                return Ok(0);
            }
            let ready = || self.readiness.has_ready().then_some(());
            match self.readiness.waiters.wait_until_exclusive(WaitKind::Interruptible, deadline_ns, ready) {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(0),
                Err(WaitError::Interrupted) => return Err(Errno::EINTR),
            }
        }
    }

    /// One pass over what is ready now.
    fn deliver_ready(
        &self,
        limit: usize,
        deliver: &mut impl FnMut(EpollEvent) -> Result<()>,
    ) -> Result<usize> {
        let interests = self.interests.lock();
        let end = self.readiness.last_turn();
        let mut count = 0;
        let mut outcome = Ok(());
        while count < limit
            && let Some(interest) = self.readiness.take_ready(end)
        {
            let events = interest.look(&mut PollTable::probe());
            if events.is_empty() {
                continue;
            }
            let data = interest.data.load(Ordering::Relaxed);
            if let Err(error) = deliver(EpollEvent { events: events.bits(), data }) {
                self.readiness.queue(&interest);
                outcome = Err(error);
                break;
            }
            count += 1;
            if interest.has_mode(EPOLLONESHOT) {
                interest.events.fetch_and(MODE_BITS, Ordering::SeqCst);
            } else if !interest.has_mode(EPOLLET) {
                self.readiness.queue(&interest);
            }
        }
        drop(interests);
        if self.readiness.has_ready() {
            // Another waiter may take the rest.
            self.readiness.waiters.wake_one();
        }
        if count == 0 { outcome.map(|()| 0) } else { Ok(count) }
    }
}

impl Interests {
    /// Drops the interests whose files are gone, when there are twice as many as after the last time: O(1) each.
    fn sweep(&mut self) {
        if self.by_key.len() < self.sweep_at {
            return;
        }
        self.by_key.retain(|_, interest| {
            let alive = interest.file.strong_count() > 0;
            if !alive {
                interest.discard();
            }
            alive
        });
        self.sweep_at = (self.by_key.len() * 2).max(64);
    }
}

/// Hangs the interest's callback on its file's queues; what the file is ready for.
fn watch(interest: &Arc<Interest>) -> Result<PollEvents> {
    let mut failed = false;
    let mut registrations = Vec::new();
    let mut register = |queue: &Arc<WaitQueue>| {
        if registrations.try_reserve(1).is_err() {
            failed = true;
            return;
        }
        let alarm = try_arc(Alarm { interest: Arc::downgrade(interest) });
        match alarm.and_then(|alarm| queue.add_callback(alarm)) {
            Ok(registration) => registrations.push(registration),
            Err(_) => failed = true,
        }
    };
    let found = interest.look(&mut PollTable::for_each(&mut register));
    if failed {
        return Err(Errno::ENOMEM);
    }
    *interest.registrations.lock() = registrations;
    Ok(found)
}

impl FileOperations for Epoll {
    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    /// Readable when one of the watched files is: asks the ready ones, since level-triggered ones linger in the tree.
    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.readiness.pollers);
        let end = self.readiness.last_turn();
        while let Some(interest) = self.readiness.take_ready(end) {
            if !interest.look(&mut PollTable::probe()).is_empty() {
                self.readiness.queue(&interest);
                return PollEvents::READABLE;
            }
        }
        PollEvents::empty()
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        for interest in self.interests.lock().by_key.values() {
            let Some(file) = interest.file.upgrade() else { continue };
            let (inode, device) = match file.inode() {
                Ok(inode) => (inode.number(), inode.superblock().device()),
                Err(_) => (0, vfs::DeviceId::default()),
            };
            writeln!(
                out,
                "tfd: {:8} events: {:8x} data: {:16x}  pos:{} ino:{:x} sdev:{:x}",
                interest.key.descriptor,
                interest.events.load(Ordering::Relaxed),
                interest.data.load(Ordering::Relaxed),
                file.position(),
                inode,
                device.encode()
            )?;
        }
        Ok(())
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        nesting::forget(self.address());
        let interests = core::mem::take(&mut self.interests.get_mut().by_key);
        for interest in interests.into_values() {
            // Also takes it out of the ready tree, which would keep it alive.
            interest.discard();
        }
    }
}
