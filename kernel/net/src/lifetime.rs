//! How network namespaces end: whoever drops the last reference removes its ids at once, its devices go beside others'.
//!
//! Key types: [`Grave`] (a dying namespace in a queue). A program that drops the last reference to one with few ids cleans up at the end of its
//! system call ([`sched::errand`]); where the reference is dropped under a lock, by an interrupt or by the kernel, a thread `netns` does.
//! These threads, one for each CPU, also clean what has many ids, while the program goes on: what dies meanwhile is cleaned together, holder by
//! holder, each thread with some of them.
//! First the ids are removed and listeners told, whatever other namespaces' devices still have to do; then each namespace is torn down,
//! those with more than a loopback on the CPUs' workers, so that independent ones go in parallel. Nothing here waits for a grace period.
//!
//! Back-pressure: who makes a namespace while [`DYING_MAX`] are dying waits until some are gone.
//! Locks: the queues': one for who adds, a leaf, usable in any context; one outside it for who takes, sleeping.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use linnet_lib::tree::{Item, Node, Pile};
use machine::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, Mutex, Once, WaitKind, WaitQueue};
use sched::errand::{self, Errand, ErrandId};

use alloc::boxed::Box;

use crate::ids::{self, Event, EventKind, Holder, Sides};
use crate::namespace::{NetNamespace, NetState};
use crate::sync::{Sleep, Spin};

/// How many namespaces may be dying before making one waits.
const DYING_MAX: usize = 512;
/// How many are cleaned in one go: more would not touch a holder less often ([`ids::clean`]), and leave other threads without work.
const BATCH: usize = 64;
/// Threads that clean.
const THREADS_MAX: usize = 8;
/// How many ids a program removes by itself: about what waking the thread would cost.
const ERRAND_IDS_MAX: usize = 32;

/// A namespace that has lost its last reference.
pub struct Grave {
    state: Arc<NetState>,
}

impl Grave {
    pub(crate) fn new(state: Arc<NetState>) -> Grave {
        Grave { state }
    }
}

impl Item for Grave {
    type Key = ();
    type Summary = ();
    fn key(&self) {}
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// Graves, to be taken oldest first.
struct Graves {
    /// How many there are.
    count: AtomicUsize,
    /// The newest on top.
    newer: IrqSpinLock<Pile<Grave>>,
    /// All older than those; the oldest on top. Held outside the other, by who takes.
    older: Mutex<Pile<Grave>>,
}

impl Graves {
    const fn new() -> Graves {
        Graves {
            count: AtomicUsize::new(0),
            newer: IrqSpinLock::new(Pile::new()),
            older: Mutex::new(Pile::new()),
        }
    }

    /// Any context.
    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Any context.
    fn push(&self, grave: Box<Node<Grave>>) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.newer.lock().push(grave);
    }

    /// Takes as many as there are, or a batch. May sleep.
    fn take(&self) -> ArrayVec<Arc<NetState>, BATCH> {
        let mut batch = ArrayVec::new();
        let mut older = self.older.lock();
        while batch.remaining_capacity() > 0 {
            if older.is_empty() {
                let newer = core::mem::take(&mut *self.newer.lock());
                *older = newer.reversed();
            }
            let Some(grave) = older.pop() else { break };
            batch.push(grave.state.clone());
        }
        self.count.fetch_sub(batch.len(), Ordering::AcqRel);
        batch
    }
}

/// Those that the program cleans up after, or a thread if the program sleeps first.
static SMALL: Graves = Graves::new();
/// Those with many ids, or whose last reference was dropped where no errand is taken on: the threads'.
static LARGE: Graves = Graves::new();
static QUEUED: WaitQueue = WaitQueue::new();
static ERRAND: Once<ErrandId> = Once::new();
static GONE: WaitQueue = WaitQueue::new();
static LIVE: AtomicUsize = AtomicUsize::new(0);
static DYING: AtomicUsize = AtomicUsize::new(0);

/// How many namespaces are alive and how many are dying.
pub fn counts() -> (usize, usize) {
    (LIVE.load(Ordering::Relaxed), DYING.load(Ordering::Relaxed))
}

pub(crate) fn count_birth() {
    LIVE.fetch_add(1, Ordering::Relaxed);
}

/// Waits until not too many are dying. `EINTR`: killed.
pub(crate) fn wait_for_room() -> Result<()> {
    let room = || (DYING.load(Ordering::Acquire) < DYING_MAX).then_some(());
    GONE.wait_until(WaitKind::Killable, None, room).map_err(|_| Errno::EINTR)
}

/// Queues a namespace whose last reference is gone. Any context.
pub(crate) fn bury(grave: Box<Node<Grave>>) {
    LIVE.fetch_sub(1, Ordering::Relaxed);
    DYING.fetch_add(1, Ordering::AcqRel);
    // The locks of ids are free here if one may sleep.
    let is_small = machine::preempt::may_sleep() && {
        let (gave, named_by) = grave.state.ids.counts();
        gave + named_by <= ERRAND_IDS_MAX
    };
    let queue = if is_small { &SMALL } else { &LARGE };
    queue.push(grave);
    if !(is_small && ERRAND.get().is_some_and(|errand| errand::take_on(*errand))) {
        QUEUED.wake_one();
    }
}

/// Makes the initial namespace and starts the threads that clean. Once, at boot. `ENOMEM`.
pub fn start() -> Result<()> {
    let _ = NetNamespace::initial();
    if let Some(id) = errand::register(Errand { run: || clean(&SMALL), hand_back: || QUEUED.wake_all() }) {
        let _ = ERRAND.set(id);
    }
    let clean_for_ever = || loop {
        let some = || (!LARGE.is_empty() || !SMALL.is_empty()).then_some(());
        let _ = QUEUED.wait_until_exclusive(WaitKind::Uninterruptible, None, some);
        clean_queued();
    };
    (0..machine::cpu::count().min(THREADS_MAX))
        .try_for_each(|_| sched::spawn("netns", sched::SpawnOptions::default(), clean_for_ever).map(drop))
}

/// Cleans all that are queued now.
pub fn clean_queued() {
    clean(&SMALL);
    clean(&LARGE);
}

/// Cleans what is in a queue until it is empty, oldest first. Several threads may do so.
fn clean(queue: &Graves) {
    loop {
        let batch = queue.take();
        if batch.is_empty() {
            return;
        }
        ids::clean(&batch);
        batch.into_iter().for_each(tear_down);
    }
}

/// Lets go of what a namespace holds: here if it is little, else on a CPU's worker.
fn tear_down(state: Arc<NetState>) {
    fn finish(state: Arc<NetState>) {
        state.tear_down();
        drop(state);
        DYING.fetch_sub(1, Ordering::AcqRel);
        GONE.wake_all();
    }
    if state.devices.len() > 1 {
        let other = state.clone();
        if sched::work::queue_on(next_cpu(), move || finish(other)).is_ok() {
            return;
        }
    }
    finish(state);
}

/// The CPUs in turn.
fn next_cpu() -> machine::cpu::CpuId {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let turn = NEXT.fetch_add(1, Ordering::Relaxed) % machine::cpu::count().max(1);
    machine::cpu::online().nth(turn).unwrap_or_else(machine::cpu::current)
}

impl Holder for NetState {
    type Spin<T: Send> = Spin<T>;
    type Sleep = Sleep;
    type Live = Arc<NetNamespace>;
    type Origin = crate::netlink::Origin;

    fn sides(&self) -> &Sides<NetState> {
        &self.ids
    }
    fn number(&self) -> u64 {
        self.cookie()
    }
    fn live(&self) -> Option<Arc<NetNamespace>> {
        NetState::live(self)
    }
    fn is_heard(&self, origin: &crate::netlink::Origin) -> bool {
        crate::netlink::route::nsid::is_heard(self, origin)
    }
    fn deliver(&self, event: &Event<crate::netlink::Origin>) {
        let given = event.kind == EventKind::Given;
        crate::netlink::route::nsid::announce(self, given, event.id, &event.origin);
    }
}
