//! The queue of pending signals: one per thread, one per process.
//!
//! Rules (signal(7)): a standard signal is pending once, with the information of its first instance; real-time
//! signals (32 and up) queue every instance in order. Delivery takes synchronous signals first, then the lowest
//! number, and instances of one number in the order they came. Memory for information may be missing or over
//! `RLIMIT_SIGPENDING`: a standard signal is then pending without information, a real-time one sent by
//! `sigqueue` is refused with EAGAIN.
//!
//! Pure data; the owner's lock protects it (see `crate` for the order). Cost: O(number of distinct pending
//! signals) ≤ 64, whatever the number of instances.

use super::info::{Cause, SignalInfo, code};
use super::set::{Signal, SignalSet};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Pending signals with their information.
#[derive(Default, Debug)]
pub struct PendingSignals {
    set: SignalSet,
    /// One lane for each signal number that has information, in no order; at most 64.
    lanes: Vec<Lane>,
    /// Instances in all lanes.
    instances: usize,
}

#[derive(Debug)]
struct Lane {
    signal: Signal,
    waiting: VecDeque<SignalInfo>,
}

/// What [`PendingSignals::push`] did.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Pushed {
    /// The instance is queued with its information.
    Queued,
    /// The signal is pending; its information had no room.
    WithoutInformation,
    /// A standard signal that was pending already.
    AlreadyPending,
    /// No room, and the sender must be told (EAGAIN).
    Refused,
}

impl PendingSignals {
    /// An empty queue.
    pub const fn new() -> PendingSignals {
        PendingSignals { set: SignalSet::EMPTY, lanes: Vec::new(), instances: 0 }
    }

    /// Which signals are pending.
    pub fn set(&self) -> SignalSet {
        self.set
    }

    /// Queued instances; each counts against `RLIMIT_SIGPENDING` of its user.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// Adds one instance. `room` says whether the user's limit allows one more.
    pub fn push(&mut self, info: SignalInfo, room: bool) -> Pushed {
        let signal = info.signal;
        if !signal.is_real_time() && self.set.contains(signal) {
            return Pushed::AlreadyPending;
        }
        // signal(7): sigqueue of a real-time signal fails; kill() of one only loses its information.
        let must_queue = signal.is_real_time() && info.is_from_user() && info.code != code::SI_USER;
        // A standard signal of the kernel or of kill(2) is recorded even over the limit, as Linux does; a timer's comes with
        // a place of its own.
        let without_limit = info.code >= code::SI_USER || matches!(info.cause, Cause::Timer { .. });
        let allowed = room || (!signal.is_real_time() && without_limit);
        if allowed && self.try_append(info) {
            self.set.insert(signal);
            self.instances += 1;
            return Pushed::Queued;
        }
        if must_queue {
            return Pushed::Refused;
        }
        self.set.insert(signal);
        Pushed::WithoutInformation
    }

    fn try_append(&mut self, info: SignalInfo) -> bool {
        let signal = info.signal;
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.signal == signal) {
            if lane.waiting.try_reserve(1).is_err() {
                return false;
            }
            lane.waiting.push_back(info);
            return true;
        }
        let mut waiting = VecDeque::new();
        if waiting.try_reserve_exact(1).is_err() || self.lanes.try_reserve(1).is_err() {
            return false;
        }
        waiting.push_back(info);
        self.lanes.push(Lane { signal, waiting });
        true
    }

    /// Whether an instance of `signal` that `matches` accepts is queued.
    pub fn any_instance(&self, signal: Signal, matches: impl Fn(&SignalInfo) -> bool) -> bool {
        self.lanes.iter().any(|lane| lane.signal == signal && lane.waiting.iter().any(&matches))
    }

    /// Takes the next signal that is not in `blocked`.
    pub fn pop(&mut self, blocked: SignalSet) -> Option<SignalInfo> {
        let signal = self.set.without(blocked).first_to_deliver()?;
        Some(self.take(signal))
    }

    /// Takes the oldest instance of `signal`, which is pending.
    fn take(&mut self, signal: Signal) -> SignalInfo {
        let Some(position) = self.lanes.iter().position(|lane| lane.signal == signal) else {
            self.set.remove(signal);
            // Its information was lost: report it as kill(2) by an unknown process, as Linux does.
            return SignalInfo::from_user(signal, 0, 0);
        };
        let info = self.lanes[position].waiting.pop_front();
        if self.lanes[position].waiting.is_empty() {
            self.lanes.swap_remove(position);
            self.set.remove(signal);
        }
        match info {
            Some(info) => {
                self.instances -= 1;
                info
            }
            None => SignalInfo::from_user(signal, 0, 0),
        }
    }

    /// Drops every instance of the signals in `set`; returns how many instances went.
    pub fn discard(&mut self, set: SignalSet) -> usize {
        if self.set.intersection(set).is_empty() {
            return 0;
        }
        let mut dropped = 0;
        self.lanes.retain(|lane| {
            let goes = set.contains(lane.signal);
            if goes {
                dropped += lane.waiting.len();
            }
            !goes
        });
        self.set = self.set.without(set);
        self.instances -= dropped;
        dropped
    }

    /// Drops the queued instances of `signal` that `matches` accepts (a deleted timer's); returns how many.
    pub fn discard_matching(&mut self, signal: Signal, matches: impl Fn(&SignalInfo) -> bool) -> usize {
        let Some(position) = self.lanes.iter().position(|lane| lane.signal == signal) else { return 0 };
        let lane = &mut self.lanes[position];
        let before = lane.waiting.len();
        lane.waiting.retain(|info| !matches(info));
        let dropped = before - lane.waiting.len();
        if lane.waiting.is_empty() {
            self.lanes.swap_remove(position);
            self.set.remove(signal);
        }
        self.instances -= dropped;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn user(number: i32, pid: i32) -> SignalInfo {
        SignalInfo::from_user(Signal::new(number).unwrap(), pid, 0)
    }

    fn queued(number: i32, value: u64) -> SignalInfo {
        SignalInfo {
            signal: Signal::new(number).unwrap(),
            errno: 0,
            code: code::SI_QUEUE,
            cause: Cause::Queued { pid: 1, uid: 0, value },
        }
    }

    #[test]
    fn standard_signals_are_pending_once_with_the_first_information() {
        let mut pending = PendingSignals::new();
        assert_eq!(pending.push(user(10, 1), true), Pushed::Queued);
        assert_eq!(pending.push(user(10, 2), true), Pushed::AlreadyPending);
        assert_eq!(pending.pop(SignalSet::EMPTY), Some(user(10, 1)));
        assert_eq!(pending.pop(SignalSet::EMPTY), None);
    }

    #[test]
    fn real_time_signals_over_the_limit_are_refused_or_lose_information() {
        let mut pending = PendingSignals::new();
        assert_eq!(pending.push(queued(40, 1), false), Pushed::Refused);
        assert!(pending.set().is_empty());
        assert_eq!(pending.push(user(40, 7), false), Pushed::WithoutInformation);
        assert_eq!(pending.pop(SignalSet::EMPTY), Some(user(40, 0)));
        assert!(pending.set().is_empty());
    }

    #[test]
    fn blocked_signals_stay() {
        let mut pending = PendingSignals::new();
        pending.push(user(10, 1), true);
        assert_eq!(pending.pop(SignalSet::of(&[Signal::SIGUSR1])), None);
        assert!(pending.pop(SignalSet::EMPTY).is_some());
    }

    #[test]
    fn discarding_a_timer_leaves_the_others() {
        let mut pending = PendingSignals::new();
        pending.push(queued(40, 1), true);
        pending.push(queued(40, 2), true);
        let one = |info: &SignalInfo| matches!(info.cause, Cause::Queued { value: 1, .. });
        assert_eq!(pending.discard_matching(Signal::new(40).unwrap(), one), 1);
        assert_eq!(pending.pop(SignalSet::EMPTY), Some(queued(40, 2)));
        assert_eq!(pending.instances(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(i32, u64),
        Pop(u64),
        Discard(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..=64i32, any::<u64>()).prop_map(|(n, v)| Step::Push(n, v)),
            any::<u64>().prop_map(Step::Pop),
            any::<u64>().prop_map(|a| Step::Discard(a & (a >> 7) & (a >> 13))),
        ]
    }

    proptest! {
        /// The model: a sorted map from number to the values in order.
        #[test]
        fn agrees_with_the_model(steps in proptest::collection::vec(step(), 0..200)) {
            let mut pending = PendingSignals::new();
            let mut model: BTreeMap<i32, std::vec::Vec<u64>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Push(number, value) => {
                        let entry = model.entry(number).or_default();
                        if number >= 32 || entry.is_empty() {
                            entry.push(value);
                        }
                        pending.push(queued(number, value), true);
                    }
                    Step::Pop(blocked) => {
                        let blocked = SignalSet::from_bits(blocked);
                        let candidates = || model.iter().filter(|(n, v)| {
                            !v.is_empty() && !blocked.contains(Signal::new(**n).unwrap())
                        }).map(|(n, _)| *n);
                        let synchronous = candidates().find(|n| [4, 5, 7, 8, 11, 31].contains(n));
                        let expected = synchronous.or_else(|| candidates().next());
                        let expected = expected.map(|n| queued(n, model.get_mut(&n).unwrap().remove(0)));
                        prop_assert_eq!(pending.pop(blocked), expected);
                    }
                    Step::Discard(set) => {
                        let set = SignalSet::from_bits(set);
                        model.retain(|n, _| !set.contains(Signal::new(*n).unwrap()));
                        pending.discard(set);
                    }
                }
                let total: usize = model.values().map(|v| v.len()).sum();
                prop_assert_eq!(pending.instances(), total);
                for number in 1..=64 {
                    let expected = model.get(&number).is_some_and(|v| !v.is_empty());
                    prop_assert_eq!(pending.set().contains(Signal::new(number).unwrap()), expected);
                }
            }
        }
    }
}
