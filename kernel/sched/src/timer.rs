//! High-resolution timers: a callback at a time, to the nanosecond the hardware allows.
//!
//! Each CPU has a [`crate::timer_queue::TimerQueue`] behind its own lock; a timer is queued on the CPU that arms
//! it and expires there, in interrupt context. The hardware is programmed only for the earliest of the queue and
//! the end of the running thread's slice ([`crate::cpu`]); nothing ticks.
//!
//! Key types: [`Timer`] for users; [`TimerCore`], the part that is embedded (each thread has one for its sleeps).
//!
//! Locks: a timer's `place`, then a CPU's timer queue. Both are leaves otherwise: callbacks run with neither
//! held. A popped timer is *in flight* until its place is updated; who arms or cancels it meanwhile says so in
//! `place`, and the expiring CPU obeys.

use alloc::sync::Arc;
use core::mem;

use machine::cpu::CpuId;
use machine::sync::IrqSpinLock;
use machine::{irq, time};

use crate::cpu;
use crate::timer_queue::{Alarm, AlarmBox, TimerKey};

/// What happens when a timer expires.
pub trait TimerCallback: Send + Sync {
    /// Called in interrupt context with no lock of the timer held; may wake threads, must not sleep.
    fn expire(&self, now_ns: u64) -> TimerAction;
}

/// What a callback wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerAction {
    /// Nothing.
    Done,
    /// The same timer again, unless somebody armed or cancelled it during the callback.
    RearmAt(u64),
}

/// What a CPU's queue holds a counted reference of.
pub(crate) trait TimerOwner: Send + Sync {
    fn core(&self) -> &TimerCore;
    fn expire(&self, now_ns: u64) -> TimerAction;
}

pub(crate) type TimerNode = AlarmBox<Arc<dyn TimerOwner>>;

/// Where the timer is. `Absent` is the first state of a lazily made one.
enum Place {
    Absent,
    Unarmed(TimerNode),
    Armed { cpu: CpuId, key: TimerKey },
    InFlight { rearm_at_ns: Option<u64> },
}

struct State {
    place: Place,
    /// Counts `arm` and `cancel`, so that an expiry can tell whether its `RearmAt` is outdated.
    generation: u64,
}

/// The state of one timer, to be embedded in its owner.
pub(crate) struct TimerCore {
    state: IrqSpinLock<State>,
}

impl TimerCore {
    pub(crate) const fn new() -> Self {
        Self { state: IrqSpinLock::new(State { place: Place::Absent, generation: 0 }) }
    }

    /// Arms or re-arms. Allocates the node at the first time: not in interrupts unless [`Self::prepare`] was called.
    pub(crate) fn arm(&self, owner: Arc<dyn TimerOwner>, deadline_ns: u64) {
        let spare = if self.needs_node() { Some(Alarm::boxed()) } else { None };
        let _irq = irq::disable();
        let mut state = self.state.lock();
        state.generation += 1;
        self.arm_locked(&mut state, spare, owner, deadline_ns);
    }

    /// Makes the node now, so that arming will not allocate.
    pub(crate) fn prepare(&self) {
        let node = Alarm::boxed();
        let mut state = self.state.lock();
        if matches!(state.place, Place::Absent) {
            state.place = Place::Unarmed(node);
        }
    }

    fn needs_node(&self) -> bool {
        matches!(self.state.lock().place, Place::Absent)
    }

    fn arm_locked(
        &self,
        state: &mut State,
        spare: Option<TimerNode>,
        owner: Arc<dyn TimerOwner>,
        deadline_ns: u64,
    ) {
        state.place = match withdraw(mem::replace(&mut state.place, Place::Absent)) {
            Place::Unarmed(node) => enqueue(node, owner, deadline_ns),
            Place::Absent => match spare {
                Some(node) => enqueue(node, owner, deadline_ns),
                None => Place::Absent,
            },
            Place::Armed { .. } | Place::InFlight { .. } => {
                Place::InFlight { rearm_at_ns: Some(deadline_ns) }
            }
        };
    }

    /// Disarms; whether it was armed. After `false` the callback may be running on another CPU.
    pub(crate) fn cancel(&self) -> bool {
        let mut state = self.state.lock();
        state.generation += 1;
        let place = mem::replace(&mut state.place, Place::Absent);
        let armed = match &place {
            Place::Absent | Place::Unarmed(_) => false,
            Place::Armed { .. } => true,
            Place::InFlight { rearm_at_ns } => rearm_at_ns.is_some(),
        };
        state.place = match withdraw(place) {
            Place::InFlight { .. } => Place::InFlight { rearm_at_ns: None },
            other => other,
        };
        armed
    }

    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        match &self.state.lock().place {
            Place::Armed { key, .. } => Some(key.deadline_ns),
            Place::InFlight { rearm_at_ns } => *rearm_at_ns,
            Place::Absent | Place::Unarmed(_) => None,
        }
    }

    /// The expiring CPU gives the node back. Whether the callback should run, and for which generation.
    fn land(&self, node: TimerNode, owner: &Arc<dyn TimerOwner>) -> Option<u64> {
        let mut state = self.state.lock();
        let generation = state.generation;
        match state.place {
            Place::InFlight { rearm_at_ns: Some(deadline_ns) } => {
                state.place = enqueue(node, owner.clone(), deadline_ns);
                None
            }
            Place::InFlight { rearm_at_ns: None } => {
                state.place = Place::Unarmed(node);
                None
            }
            _ => {
                state.place = Place::Unarmed(node);
                Some(generation)
            }
        }
    }

    fn rearm_if_untouched(&self, owner: Arc<dyn TimerOwner>, deadline_ns: u64, generation: u64) {
        let mut state = self.state.lock();
        if state.generation == generation {
            self.arm_locked(&mut state, None, owner, deadline_ns);
        }
    }
}

/// Takes an armed timer out of its queue. If it is being expired just now: `InFlight`.
fn withdraw(place: Place) -> Place {
    let Place::Armed { cpu, key } = place else { return place };
    let removed = cpu::data(cpu).timers.lock().remove(&key);
    match removed {
        Some(mut node) => {
            // The owner's reference goes with the node's payload. It is not the last: somebody called us.
            node.payload = None;
            Place::Unarmed(node)
        }
        None => Place::InFlight { rearm_at_ns: None },
    }
}

/// Queues on this CPU. Interrupts are off (the caller holds the timer's lock).
fn enqueue(node: TimerNode, owner: Arc<dyn TimerOwner>, deadline_ns: u64) -> Place {
    let cpu = machine::cpu::current();
    let data = cpu::data(cpu);
    let mut queue = data.timers.lock();
    let key = queue.insert(node, owner, deadline_ns);
    let is_first = queue.next_deadline_ns() == Some(deadline_ns);
    drop(queue);
    if is_first {
        data.clock.want(deadline_ns);
    }
    Place::Armed { cpu, key }
}

/// Runs what is due on this CPU; the next deadline. Interrupt context.
pub(crate) fn run_expired(data: &cpu::Cpu) -> Option<u64> {
    loop {
        let now_ns = time::now_ns();
        let mut queue = data.timers.lock();
        let Some(mut node) = queue.pop_expired(now_ns) else { return queue.next_deadline_ns() };
        drop(queue);
        let Some(owner) = node.payload.take() else { continue };
        if let Some(generation) = owner.core().land(node, &owner)
            && let TimerAction::RearmAt(deadline_ns) = owner.expire(now_ns)
        {
            owner.clone().core().rearm_if_untouched(owner, deadline_ns, generation);
        }
    }
}

struct CallbackTimer {
    core: TimerCore,
    callback: Arc<dyn TimerCallback>,
}

impl TimerOwner for CallbackTimer {
    fn core(&self) -> &TimerCore {
        &self.core
    }

    fn expire(&self, now_ns: u64) -> TimerAction {
        self.callback.expire(now_ns)
    }
}

/// A timer that calls back. Dropping it cancels it (a callback that runs already is not waited for).
pub struct Timer {
    owner: Arc<CallbackTimer>,
}

impl Timer {
    /// An unarmed timer.
    ///
    /// # Errors
    /// `ENOMEM` (reserved: the allocator reclaims rather than fails for something this small).
    pub fn new(callback: Arc<dyn TimerCallback>) -> abi::errno::Result<Self> {
        let owner = Arc::new(CallbackTimer { core: TimerCore::new(), callback });
        owner.core.prepare();
        Ok(Self { owner })
    }

    /// Arms or re-arms it for `deadline_ns` of [`machine::time::now_ns`]; a past one expires at once. Any context.
    pub fn arm(&self, deadline_ns: u64) {
        self.owner.core.arm(self.owner.clone(), deadline_ns);
    }

    /// Disarms it; whether it was armed. After `false` the callback may still be running on another CPU.
    pub fn cancel(&self) -> bool {
        self.owner.core.cancel()
    }

    /// When it will expire.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.owner.core.deadline_ns()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}
