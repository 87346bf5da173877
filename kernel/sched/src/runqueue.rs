//! One CPU's run queue: who is runnable here, who runs, and for how long. Pure: no lock, no clock, no CPU.
//!
//! Two trees. *Real-time* threads are sorted by priority, then by turn, and come first. *Fair* threads are
//! sorted by virtual deadline ([`crate::fair`]). The running thread is in neither tree but counted in both
//! sums. Real-time threads that never block leave 5 % of the time to fair ones ([`RT_RUNTIME_NS`]), as Linux
//! does, so that a runaway `SCHED_FIFO` program can be killed from a shell.
//!
//! Key types: [`RunQueue`]; [`Entity`], what is queued: its owner's [`Payload`] and the scheduling state, in a
//! box that moves between trees, so nothing here allocates.
//!
//! Neighbours: [`crate::cpu`] wraps each queue in its lock and drives it. Times are nanoseconds of any
//! monotonic clock, given by the caller. All operations are O(log n), [`RunQueue::steal`] aside, which looks
//! at a bounded number of candidates.

use alloc::boxed::Box;
use core::cmp::Ordering;

use crate::fair::{Arrival, Average, FairState};
use crate::policy::{Class, Parameters, ROUND_ROBIN_NS};
use crate::tree::{Item, Node, Tree};

/// How long real-time threads may run in each [`RT_PERIOD_NS`] while fair threads wait.
pub const RT_RUNTIME_NS: u64 = 950_000_000;
/// See [`RT_RUNTIME_NS`].
pub const RT_PERIOD_NS: u64 = 1_000_000_000;
/// A fair thread runs at least this long before an equal one preempts it on wake-up.
pub const GRANULARITY_NS: u64 = 700_000;
/// How many queued threads [`RunQueue::steal`] looks at before it gives up.
const STEAL_SCAN_LIMIT: usize = 32;

/// Where an entity is in its tree. Compared by wrapping difference, because virtual time may wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Key {
    /// Virtual deadline, or minus the real-time priority.
    pub primary: i64,
    /// Turn among equals; unique in the queue.
    pub turn: i64,
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.primary.wrapping_sub(other.primary).cmp(&0).then(self.turn.cmp(&other.turn))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a queue carries for its owner.
pub trait Payload {
    /// The entity is about to be queued under this key; whoever wants to find it again remembers it.
    fn note_key(&self, key: Key);
}

/// A schedulable thing.
pub struct Entity<P> {
    /// Whose it is.
    pub payload: P,
    parameters: Parameters,
    fair: FairState,
    key: Key,
    turn_left_ns: u64,
}

/// An entity in the box that moves between the queues.
pub type EntityBox<P> = Box<Node<Entity<P>>>;

impl<P: Payload> Entity<P> {
    /// An entity that is in no queue.
    pub fn new(payload: P, parameters: Parameters) -> Self {
        let slice_ns = u64::from(parameters.slice_us) * 1000;
        let fair = FairState::new(parameters.weight(), slice_ns);
        Self { payload, parameters, fair, key: Key::default(), turn_left_ns: ROUND_ROBIN_NS }
    }

    /// The parameters in force.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Changes the parameters. Only while in no queue.
    pub fn set_parameters(&mut self, parameters: Parameters) {
        if parameters == self.parameters {
            return;
        }
        self.parameters = parameters;
        self.fair.reweight(parameters.weight(), u64::from(parameters.slice_us) * 1000);
        self.turn_left_ns = ROUND_ROBIN_NS;
    }
}

impl<P> Item for Entity<P> {
    type Key = Key;
    /// The least virtual runtime: somebody below is eligible exactly when this one is.
    type Summary = i64;

    fn key(&self) -> Key {
        self.key
    }

    fn summary(&self) -> i64 {
        self.fair.vruntime
    }

    fn merge(left: i64, right: i64) -> i64 {
        if left.wrapping_sub(right) < 0 { left } else { right }
    }
}

/// Whether the running thread should give way after an arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preemption {
    /// Not because of this arrival; the end of the slice ([`RunQueue::slice_end_ns`]) may have come nearer.
    No,
    /// At once.
    Now,
}

/// Why the running thread is put back to the runnable ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// Something else should run.
    Preempted,
    /// It asked for others to run.
    Yielded,
}

/// What [`RunQueue::reschedule`] decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The running thread goes on (also: the idle thread, when nothing is runnable).
    Same,
    /// [`RunQueue::current`] is another one now.
    Switched,
}

/// See the module's head.
pub struct RunQueue<P> {
    realtime: Tree<Entity<P>>,
    fair: Tree<Entity<P>>,
    average: Average,
    current: Option<EntityBox<P>>,
    /// When the running thread was last charged.
    charged_until_ns: u64,
    /// When the running thread was picked.
    picked_at_ns: u64,
    next_turn: i64,
    next_front_turn: i64,
    rt_period_start_ns: u64,
    rt_used_ns: u64,
    /// How many of the real-time threads, the running one included.
    realtime_running: usize,
}

impl<P: Payload> Default for RunQueue<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Payload> RunQueue<P> {
    /// A CPU with nothing to run.
    pub const fn new() -> Self {
        Self {
            realtime: Tree::new(),
            fair: Tree::new(),
            average: Average::new(),
            current: None,
            charged_until_ns: 0,
            picked_at_ns: 0,
            next_turn: 0,
            next_front_turn: -1,
            rt_period_start_ns: 0,
            rt_used_ns: 0,
            realtime_running: 0,
        }
    }

    /// The running entity; `None` while the idle thread runs.
    pub fn current(&self) -> Option<&Entity<P>> {
        self.current.as_deref().map(|node| &**node)
    }

    /// How many are queued, the running one not counted.
    pub fn queued(&self) -> usize {
        self.realtime.len() + self.fair.len()
    }

    /// How many are runnable, the running one counted.
    pub fn runnable(&self) -> usize {
        self.queued() + usize::from(self.current.is_some())
    }

    /// How many real-time threads are runnable.
    pub fn realtime_runnable(&self) -> usize {
        self.realtime_running
    }

    /// The load: the weights of the fair ones; a real-time one counts as two of nice 0.
    pub fn load(&self) -> u64 {
        self.average.total_weight() + self.realtime_running as u64 * 2 * crate::policy::WEIGHT_NICE_0
    }

    /// Charges the running thread up to now.
    pub fn charge(&mut self, now_ns: u64) {
        let ran_ns = now_ns.saturating_sub(self.charged_until_ns);
        self.charged_until_ns = now_ns.max(self.charged_until_ns);
        let Some(current) = &mut self.current else { return };
        if ran_ns == 0 {
            return;
        }
        if current.parameters.is_realtime() {
            current.turn_left_ns = current.turn_left_ns.saturating_sub(ran_ns);
            self.rt_used_ns += ran_ns;
        } else {
            self.average.run(&mut current.fair, ran_ns);
        }
    }

    /// Adds an entity that became runnable here. [`Self::charge`] must have been called with the same time.
    pub fn enqueue(&mut self, mut node: EntityBox<P>, arrival: Arrival) -> Preemption {
        self.join(&mut node, arrival);
        let preemption = self.should_preempt(&node, arrival);
        self.insert(node, Place::Back);
        preemption
    }

    /// Counts an entity among the runnable ones.
    fn join(&mut self, node: &mut Node<Entity<P>>, arrival: Arrival) {
        if node.parameters.is_realtime() {
            self.realtime_running += 1;
        } else {
            self.average.join(&mut node.fair, arrival);
        }
    }

    /// No longer counts an entity among the runnable ones.
    fn leave(&mut self, node: &mut Node<Entity<P>>) {
        if node.parameters.is_realtime() {
            self.realtime_running = self.realtime_running.saturating_sub(1);
        } else {
            self.average.leave(&mut node.fair);
        }
    }

    fn insert(&mut self, mut node: EntityBox<P>, place: Place) {
        let turn = match place {
            Place::Back => {
                self.next_turn += 1;
                self.next_turn
            }
            Place::Front => {
                self.next_front_turn -= 1;
                self.next_front_turn
            }
        };
        let realtime = node.parameters.is_realtime();
        let primary = if realtime { -i64::from(node.parameters.priority) } else { node.fair.deadline };
        node.key = Key { primary, turn };
        node.payload.note_key(node.key);
        if realtime { self.realtime.insert(node) } else { self.fair.insert(node) }
    }

    /// Whether a newcomer (not in a tree yet) beats the running thread.
    fn should_preempt(&self, new: &Entity<P>, arrival: Arrival) -> Preemption {
        let Some(current) = self.current() else { return Preemption::Now };
        let now = match (new.parameters.is_realtime(), current.parameters.is_realtime()) {
            (true, true) => new.parameters.priority > current.parameters.priority,
            (true, false) => !self.is_realtime_throttled(),
            (false, true) => false,
            (false, false) => self.should_preempt_fair(new, current, arrival),
        };
        if now { Preemption::Now } else { Preemption::No }
    }

    fn should_preempt_fair(&self, new: &Entity<P>, current: &Entity<P>, arrival: Arrival) -> bool {
        match (new.parameters.class, current.parameters.class) {
            (Class::Idle | Class::Batch, _) => return false,
            (_, Class::Idle) => return true,
            _ => {}
        }
        let shorter = new.fair.slice_ns() < current.fair.slice_ns();
        let ran_ns = self.charged_until_ns.saturating_sub(self.picked_at_ns);
        if arrival == Arrival::New || (ran_ns < GRANULARITY_NS && !shorter) {
            return false;
        }
        self.beats(new, current)
    }

    /// EEVDF's order between a queued thread and the running one.
    fn beats(&self, queued: &Entity<P>, current: &Entity<P>) -> bool {
        self.average.is_eligible(queued.fair.vruntime)
            && (!self.average.is_eligible(current.fair.vruntime) || queued.fair.is_before(&current.fair))
    }

    /// Takes the running entity out: it blocks, exits or goes elsewhere. The CPU has no current one then, until
    /// [`Self::reschedule`] or [`Self::put_back`].
    pub fn take_current(&mut self) -> Option<EntityBox<P>> {
        let mut node = self.current.take()?;
        self.leave(&mut node);
        Some(node)
    }

    /// Undoes [`Self::take_current`]: it does not block after all.
    pub fn put_back(&mut self, mut node: EntityBox<P>) {
        self.join(&mut node, Arrival::Move);
        self.current = Some(node);
    }

    /// Takes a queued entity out by the key that was last noted to it, if it is (still) the one meant.
    pub fn remove(&mut self, key: Key, is_meant: impl Fn(&P) -> bool) -> Option<EntityBox<P>> {
        let is_there =
            |tree: &Tree<Entity<P>>| tree.get(&key).is_some_and(|entity| is_meant(&entity.payload));
        let mut node = if is_there(&self.fair) {
            self.fair.remove(&key)?
        } else if is_there(&self.realtime) {
            self.realtime.remove(&key)?
        } else {
            return None;
        };
        self.leave(&mut node);
        Some(node)
    }

    /// The running thread's parameters changed.
    pub fn change_current(&mut self, parameters: Parameters) {
        if let Some(mut node) = self.take_current() {
            node.set_parameters(parameters);
            self.put_back(node);
        }
    }

    /// Takes a queued entity out for another CPU, the most urgent that is `wanted` among the first few.
    pub fn steal(&mut self, mut wanted: impl FnMut(&P) -> bool) -> Option<EntityBox<P>> {
        let mut budget = STEAL_SCAN_LIMIT;
        let mut look = |entity: &Entity<P>| {
            budget = budget.saturating_sub(1);
            budget == 0 || wanted(&entity.payload)
        };
        let found = self.realtime.find(&mut look).or_else(|| self.fair.find(&mut look))?;
        let key = found.key;
        if budget == 0 {
            return None;
        }
        self.remove(key, |_| true)
    }

    /// Picks who runs now. [`Self::charge`] must have been called with the same time. A running thread that is
    /// still runnable competes with the queued ones.
    pub fn reschedule(&mut self, now_ns: u64, release: Release) -> Decision {
        self.roll_rt_period(now_ns);
        let mut displaced = None;
        if let Some(current) = self.current.take() {
            match self.compete(current, release) {
                Ok(current) => {
                    self.current = Some(current);
                    return Decision::Same;
                }
                Err(loser) => displaced = Some(loser),
            }
        }
        self.current = self.pick();
        if let Some((node, place)) = displaced {
            self.insert(node, place);
        }
        self.picked_at_ns = now_ns;
        self.charged_until_ns = now_ns;
        if self.current.is_some() { Decision::Switched } else { Decision::Same }
    }

    /// Whether the running thread goes on (`Ok`), or which end of its priority it queues at.
    fn compete(
        &mut self,
        mut current: EntityBox<P>,
        release: Release,
    ) -> Result<EntityBox<P>, (EntityBox<P>, Place)> {
        if self.queued() == 0 {
            if current.turn_left_ns == 0 {
                current.turn_left_ns = ROUND_ROBIN_NS;
            }
            return Ok(current);
        }
        if current.parameters.is_realtime() {
            return self.compete_realtime(current, release);
        }
        if release == Release::Yielded {
            self.average.forfeit(&mut current.fair);
        }
        if !self.realtime.is_empty() && !self.is_realtime_throttled() {
            return Err((current, Place::Back));
        }
        let average = &self.average;
        let best = self.fair.first_where(|vruntime| average.is_eligible(vruntime));
        match best {
            Some(best) if release == Release::Yielded || !current.fair.is_before(&best.fair) => {
                Err((current, Place::Back))
            }
            Some(_) if !average.is_eligible(current.fair.vruntime) => Err((current, Place::Back)),
            _ => Ok(current),
        }
    }

    fn compete_realtime(
        &mut self,
        mut current: EntityBox<P>,
        release: Release,
    ) -> Result<EntityBox<P>, (EntityBox<P>, Place)> {
        let turn_over = current.parameters.class == Class::RoundRobin && current.turn_left_ns == 0;
        if current.turn_left_ns == 0 {
            current.turn_left_ns = ROUND_ROBIN_NS;
        }
        if self.is_realtime_throttled() && !self.fair.is_empty() {
            return Err((current, Place::Front));
        }
        let first = self.realtime.first().map_or(0, |entity| entity.parameters.priority);
        let own = current.parameters.priority;
        match first.cmp(&own) {
            Ordering::Greater => Err((current, if turn_over { Place::Back } else { Place::Front })),
            Ordering::Equal if turn_over || release == Release::Yielded => Err((current, Place::Back)),
            _ => Ok(current),
        }
    }

    /// Takes the one that should run out of its tree.
    fn pick(&mut self) -> Option<EntityBox<P>> {
        let throttled = self.is_realtime_throttled() && !self.fair.is_empty();
        if !throttled && !self.realtime.is_empty() {
            return self.realtime.pop_first();
        }
        let average = &self.average;
        self.fair.take_first_where(|vruntime| average.is_eligible(vruntime)).or_else(|| self.fair.pop_first())
    }

    fn is_realtime_throttled(&self) -> bool {
        self.rt_used_ns >= RT_RUNTIME_NS
    }

    fn roll_rt_period(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.rt_period_start_ns) >= RT_PERIOD_NS {
            self.rt_period_start_ns = now_ns;
            self.rt_used_ns = 0;
        }
    }

    /// When [`Self::reschedule`] must be called at the latest; `None` when the running thread may go on until
    /// something arrives. This is all that arms a timer for scheduling: a CPU with one thread has no tick.
    pub fn slice_end_ns(&self) -> Option<u64> {
        let current = self.current()?;
        let now_ns = self.charged_until_ns;
        if !current.parameters.is_realtime() {
            return self.fair_slice_end_ns(current);
        }
        let mut end = None;
        if !self.fair.is_empty() {
            end = Some(now_ns + RT_RUNTIME_NS.saturating_sub(self.rt_used_ns));
        }
        let has_equal = self
            .realtime
            .first()
            .is_some_and(|first| first.parameters.priority == current.parameters.priority);
        if current.parameters.class == Class::RoundRobin && has_equal {
            let turn = now_ns + current.turn_left_ns;
            end = Some(end.map_or(turn, |end: u64| end.min(turn)));
        }
        end
    }

    fn fair_slice_end_ns(&self, current: &Entity<P>) -> Option<u64> {
        let now_ns = self.charged_until_ns;
        let unthrottle = (!self.realtime.is_empty()).then_some(self.rt_period_start_ns + RT_PERIOD_NS);
        if self.fair.is_empty() {
            return unthrottle;
        }
        let average = &self.average;
        let waiting = self.fair.first_where(|vruntime| average.is_eligible(vruntime));
        let end = if waiting.is_some_and(|best| self.beats(best, current)) {
            (self.picked_at_ns + GRANULARITY_NS).max(now_ns)
        } else {
            now_ns + current.fair.slice_left_ns()
        };
        Some(unthrottle.map_or(end, |unthrottle| unthrottle.min(end)))
    }
}

/// Which end of its equals an entity is queued at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Front,
    Back,
}

#[cfg(test)]
#[path = "runqueue_tests.rs"]
mod tests;
