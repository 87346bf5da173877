//! EEVDF arithmetic: who has had less than its share, and until when it should get it.
//!
//! *Earliest eligible virtual deadline first* (Stoica and Abdel-Wahab, 1995). Each thread has a weight. Its
//! *virtual runtime* grows by `time * 1024 / weight` while it runs, so with perfect sharing all virtual
//! runtimes would be equal to their weighted average. The difference between the average and a thread's own is
//! its *lag*: positive when the thread is owed time. A thread is *eligible* when its lag is not negative. Each
//! request for a slice gets a *virtual deadline*, `virtual runtime + slice * 1024 / weight`. The next to run
//! is the eligible thread with the earliest deadline: the weight decides how much, the slice how soon.
//!
//! * [`FairState`] is one thread's part of it,
//! * [`Average`] the queue's: it knows sum(weight) and sum(weight * (virtual runtime - zero)), which answers
//!   "eligible?" with one multiplication and no division.
//!
//! Virtual times are `i64` nanoseconds that may wrap; they are only ever compared by difference. Sums stay
//! far from overflow because the lag of a queued thread is bounded by [`FairState::lag_limit`] and `zero`
//! follows the average.
//!
//! Neighbours: [`crate::runqueue`] keeps the tree by deadline. No locks, no clock: tested as arithmetic.

use crate::policy::WEIGHT_NICE_0;

/// How a thread comes to a queue; decides its virtual deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Never ran: gets half a slice first, so that a burst of forks does not delay everyone.
    New,
    /// Slept: starts a new request.
    Wakeup,
    /// Came from another queue or changed its parameters: its request goes on.
    Move,
}

/// The fair part of one thread. While it is in a queue `vruntime` and `deadline` are absolute; while it is in
/// none, `lag` and `deadline_left` carry them over relatively.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FairState {
    /// Virtual time it has had.
    pub vruntime: i64,
    /// Virtual time by which its current request should be served.
    pub deadline: i64,
    lag: i64,
    deadline_left: i64,
    weight: u64,
    /// 2^32 * 1024 / weight: turns the division by the weight into a multiplication.
    scale: u64,
    slice_ns: u64,
}

impl FairState {
    /// A thread that never ran.
    pub fn new(weight: u64, slice_ns: u64) -> Self {
        let weight = weight.max(1);
        let scale = (WEIGHT_NICE_0 << 32) / weight;
        Self { vruntime: 0, deadline: 0, lag: 0, deadline_left: 0, weight, scale, slice_ns }
    }

    /// The share, 1024 for nice 0.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The slice it asks for.
    pub fn slice_ns(&self) -> u64 {
        self.slice_ns
    }

    /// What it was owed when it last left a queue, in its own virtual time.
    pub fn lag(&self) -> i64 {
        self.lag
    }

    /// Changes weight and slice of a thread that is in no queue. What it is owed stays the same in real time.
    pub fn reweight(&mut self, weight: u64, slice_ns: u64) {
        let changed = Self::new(weight, slice_ns);
        let rescale =
            |value: i64| (i128::from(value) * i128::from(self.weight) / i128::from(changed.weight)) as i64;
        *self = Self { lag: rescale(self.lag), deadline_left: rescale(self.deadline_left), ..changed };
    }

    /// Real nanoseconds to virtual ones.
    pub fn to_virtual(&self, real_ns: u64) -> i64 {
        if self.weight == WEIGHT_NICE_0 {
            return real_ns as i64;
        }
        ((u128::from(real_ns) * u128::from(self.scale)) >> 32) as i64
    }

    /// Virtual nanoseconds to real ones, rounded up.
    pub fn to_real(&self, virtual_ns: i64) -> u64 {
        let virtual_ns = virtual_ns.max(0) as u64;
        if self.weight == WEIGHT_NICE_0 {
            return virtual_ns;
        }
        ((u128::from(virtual_ns) * u128::from(self.weight)).div_ceil(u128::from(WEIGHT_NICE_0))) as u64
    }

    /// The most it can be owed, or owe, after leaving: two slices. Bounds what one can gain by sleeping.
    pub fn lag_limit(&self) -> i64 {
        self.to_virtual(2 * self.slice_ns)
    }

    /// Real time until its request is used up.
    pub fn slice_left_ns(&self) -> u64 {
        self.to_real(self.deadline.wrapping_sub(self.vruntime))
    }

    /// Charges time it ran; returns the virtual time to add to the average.
    fn charge(&mut self, ran_ns: u64) -> i64 {
        let advance = self.to_virtual(ran_ns);
        self.vruntime = self.vruntime.wrapping_add(advance);
        if self.deadline.wrapping_sub(self.vruntime) <= 0 {
            self.renew();
        }
        advance
    }

    /// Starts the next request.
    fn renew(&mut self) {
        self.deadline = self.vruntime.wrapping_add(self.to_virtual(self.slice_ns));
    }

    /// Whether its deadline comes before the other's.
    pub fn is_before(&self, other: &Self) -> bool {
        self.deadline.wrapping_sub(other.deadline) < 0
    }
}

/// The weighted average of the virtual runtimes of a queue, the running thread included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Average {
    /// Origin of the sum, kept near the average.
    zero: i64,
    /// sum(weight * (virtual runtime - zero)).
    weighted_sum: i64,
    total_weight: u64,
}

impl Average {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { zero: 0, weighted_sum: 0, total_weight: 0 }
    }

    /// Sum of the weights.
    pub fn total_weight(&self) -> u64 {
        self.total_weight
    }

    /// The average; where the last thread was when the queue is empty.
    pub fn value(&self) -> i64 {
        if self.weighted_sum == 0 || self.total_weight == 0 {
            return self.zero;
        }
        self.zero.wrapping_add(self.weighted_sum.div_euclid(self.total_weight as i64))
    }

    /// Whether a thread with this virtual runtime has not had more than its share. No division.
    pub fn is_eligible(&self, vruntime: i64) -> bool {
        let offset = vruntime.wrapping_sub(self.zero);
        self.weighted_sum >= offset.saturating_mul(self.total_weight as i64)
    }

    /// A thread joins: decides its virtual runtime and deadline. What it was owed is kept: since its own
    /// weight will pull the average along, the lag is put in enlarged by (W + w) / W.
    pub fn join(&mut self, state: &mut FairState, arrival: Arrival) {
        let average = self.value();
        let lag = if self.total_weight == 0 {
            0
        } else {
            let with = i128::from(self.total_weight + state.weight);
            (i128::from(state.lag) * with / i128::from(self.total_weight)) as i64
        };
        state.vruntime = average.wrapping_sub(lag);
        let slice = state.to_virtual(state.slice_ns);
        let until = match arrival {
            Arrival::New => slice / 2,
            Arrival::Wakeup => slice,
            Arrival::Move if state.deadline_left > 0 => state.deadline_left.min(slice),
            Arrival::Move => slice,
        };
        state.deadline = state.vruntime.wrapping_add(until);
        if self.total_weight == 0 {
            self.zero = state.vruntime;
            self.weighted_sum = 0;
        }
        self.total_weight += state.weight;
        self.add(state.vruntime, state.weight);
    }

    /// A thread leaves: notes what it is owed and how much of its request is left.
    pub fn leave(&mut self, state: &mut FairState) {
        let limit = state.lag_limit();
        let average = self.value();
        state.lag = average.wrapping_sub(state.vruntime).clamp(-limit, limit);
        state.deadline_left = state.deadline.wrapping_sub(state.vruntime);
        self.total_weight = self.total_weight.saturating_sub(state.weight);
        if self.total_weight == 0 {
            self.zero = average;
            self.weighted_sum = 0;
            return;
        }
        let offset = state.vruntime.wrapping_sub(self.zero);
        self.weighted_sum = self.weighted_sum.wrapping_sub(offset.wrapping_mul(state.weight as i64));
        self.follow();
    }

    /// The running thread, which must have joined, ran for this long.
    pub fn run(&mut self, state: &mut FairState, ran_ns: u64) {
        let advance = state.charge(ran_ns);
        self.weighted_sum = self.weighted_sum.wrapping_add(advance.wrapping_mul(state.weight as i64));
        self.follow();
    }

    /// The running thread gives up the rest of its request (`sched_yield(2)`).
    pub fn forfeit(&mut self, state: &mut FairState) {
        let rest = state.deadline.wrapping_sub(state.vruntime).max(0);
        state.vruntime = state.vruntime.wrapping_add(rest);
        state.renew();
        self.weighted_sum = self.weighted_sum.wrapping_add(rest.wrapping_mul(state.weight as i64));
        self.follow();
    }

    fn add(&mut self, vruntime: i64, weight: u64) {
        let offset = vruntime.wrapping_sub(self.zero);
        self.weighted_sum = self.weighted_sum.wrapping_add(offset.wrapping_mul(weight as i64));
        self.follow();
    }

    /// Moves `zero` to the average once they are more than about two seconds of virtual time apart.
    fn follow(&mut self) {
        if self.weighted_sum.unsigned_abs() >> 31 < self.total_weight {
            return;
        }
        let distance = self.weighted_sum.div_euclid(self.total_weight.max(1) as i64);
        self.zero = self.zero.wrapping_add(distance);
        self.weighted_sum -= distance.wrapping_mul(self.total_weight as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::weight_of_nice;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Join(i8, u64),
        Leave(usize),
        Run(usize, u64),
        Forfeit(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (-20i8..20, 100_000u64..10_000_000).prop_map(|(nice, slice)| Step::Join(nice, slice)),
            1 => any::<usize>().prop_map(Step::Leave),
            6 => (any::<usize>(), 1u64..20_000_000).prop_map(|(who, ran)| Step::Run(who, ran)),
            1 => any::<usize>().prop_map(Step::Forfeit),
        ]
    }

    /// The definition, in wide arithmetic and without the moving origin.
    fn weighted_sum_about(members: &[FairState], origin: i64) -> i128 {
        members
            .iter()
            .map(|state| i128::from(state.vruntime.wrapping_sub(origin)) * i128::from(state.weight()))
            .sum()
    }

    proptest! {
        #[test]
        fn the_average_is_the_weighted_average(steps in proptest::collection::vec(step(), 1..300)) {
            let mut average = Average::new();
            let mut members: Vec<FairState> = Vec::new();
            for step in steps {
                let count = members.len();
                match step {
                    Step::Join(nice, slice) => {
                        let mut state = FairState::new(weight_of_nice(nice), slice);
                        average.join(&mut state, Arrival::New);
                        members.push(state);
                    }
                    Step::Leave(who) if count > 0 => {
                        let mut state = members.swap_remove(who % count);
                        average.leave(&mut state);
                        prop_assert!(state.lag().abs() <= state.lag_limit());
                    }
                    Step::Run(who, ran) if count > 0 => average.run(&mut members[who % count], ran),
                    Step::Forfeit(who) if count > 0 => average.forfeit(&mut members[who % count]),
                    _ => {}
                }
                let total: u64 = members.iter().map(FairState::weight).sum();
                prop_assert_eq!(average.total_weight(), total);
                if members.is_empty() {
                    continue;
                }
                prop_assert_eq!(i128::from(average.weighted_sum), weighted_sum_about(&members, average.zero));
                for state in &members {
                    let exact = weighted_sum_about(&members, state.vruntime) >= 0;
                    prop_assert_eq!(average.is_eligible(state.vruntime), exact);
                    prop_assert!(state.deadline.wrapping_sub(state.vruntime) > 0);
                }
                prop_assert!(members.iter().any(|state| average.is_eligible(state.vruntime)), "nobody may run");
            }
        }

        #[test]
        fn lag_survives_leaving_and_joining(nices in proptest::collection::vec(-20i8..20, 2..20), ran in 1u64..2_000_000) {
            let mut average = Average::new();
            let mut members: Vec<FairState> =
                nices.iter().map(|nice| FairState::new(weight_of_nice(*nice), 3_000_000)).collect();
            for state in &mut members {
                average.join(state, Arrival::New);
            }
            average.run(&mut members[0], ran);
            let mut state = members.pop().unwrap();
            average.leave(&mut state);
            let owed = state.lag();
            average.join(&mut state, Arrival::Wakeup);
            let now_owed = average.value().wrapping_sub(state.vruntime);
            prop_assert!((owed - now_owed).abs() <= 2, "{owed} became {now_owed}");
        }
    }

    #[test]
    fn reweighting_keeps_what_is_owed_in_real_time() {
        let mut state = FairState::new(1024, 3_000_000);
        state.lag = 1_000_000;
        state.reweight(2048, 3_000_000);
        assert_eq!(state.lag, 500_000);
        assert_eq!(state.to_real(state.lag), 1_000_000);
    }
}
