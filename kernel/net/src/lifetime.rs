//! How network namespaces end: whoever drops the last reference removes its ids at once, its devices go beside others'.
//!
//! Key types: [`Grave`] (a dying namespace in a queue). A program that drops the last reference to one with few ids cleans up at the end of its
//! system call ([`sched::errand`]); where the reference is dropped under a lock, by an interrupt or by the kernel, the thread `netns` does.
//! That thread also cleans what has many ids, while the program goes on: what dies meanwhile is cleaned together, holder by holder.
//! First the ids are removed and listeners told, whatever other namespaces' devices still have to do; then each namespace is torn down,
//! those with more than a loopback on the CPUs' workers, so that independent ones go in parallel. Nothing here waits for a grace period.
//!
//! Back-pressure: who makes a namespace while [`DYING_MAX`] are dying waits until some are gone.
//! Locks: the queues', leaves, usable in any context.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use linnet_lib::tree::{Item, Node, Pile};
use machine::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, Once, WaitKind, WaitQueue};
use sched::errand::{self, Errand, ErrandId};

use alloc::boxed::Box;

use crate::ids::{self, Event, EventKind, Holder, Sides};
use crate::namespace::{NetNamespace, NetState};
use crate::sync::{Sleep, Spin};

/// How many namespaces may be dying before making one waits.
const DYING_MAX: usize = 512;
/// How many are cleaned in one go.
const BATCH: usize = 64;
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

/// Those that the program cleans up after, or the thread if the program sleeps first.
static SMALL: IrqSpinLock<Pile<Grave>> = IrqSpinLock::new(Pile::new());
/// Those with many ids, or whose last reference was dropped where no errand is taken on: the thread's.
static LARGE: IrqSpinLock<Pile<Grave>> = IrqSpinLock::new(Pile::new());
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
    queue.lock().push(grave);
    if !(is_small && ERRAND.get().is_some_and(|errand| errand::take_on(*errand))) {
        QUEUED.wake_all();
    }
}

/// Makes the initial namespace and starts the thread that cleans. Once, at boot. `ENOMEM`.
pub fn start() -> Result<()> {
    let _ = NetNamespace::initial();
    if let Some(id) = errand::register(Errand { run: || clean(&SMALL), hand_back: || QUEUED.wake_all() }) {
        let _ = ERRAND.set(id);
    }
    sched::spawn("netns", sched::SpawnOptions::default(), || {
        loop {
            let some = || (!LARGE.lock().is_empty() || !SMALL.lock().is_empty()).then_some(());
            let _ = QUEUED.wait_until(WaitKind::Uninterruptible, None, some);
            clean_queued();
        }
    })
    .map(drop)
}

/// Cleans all that are queued now.
pub fn clean_queued() {
    clean(&SMALL);
    clean(&LARGE);
}

/// Cleans all that are in one queue now, oldest first.
fn clean(queue: &IrqSpinLock<Pile<Grave>>) {
    let mut graves = core::mem::take(&mut *queue.lock()).reversed();
    loop {
        let mut batch = ArrayVec::<Arc<NetState>, BATCH>::new();
        while batch.remaining_capacity() > 0
            && let Some(grave) = graves.pop()
        {
            batch.push(grave.state.clone());
        }
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
