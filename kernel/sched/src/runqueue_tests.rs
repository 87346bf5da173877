//! Simulated CPUs for [`super::RunQueue`]: shares, turns, priorities, starvation.

extern crate std;

use super::*;
use crate::policy::{Attributes, Policy, Priority, weight_of_nice};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use proptest::prelude::*;
use std::rc::Rc;

#[derive(Clone)]
struct Probe {
    name: usize,
    key: Rc<Cell<Key>>,
}

impl Payload for Probe {
    fn note_key(&self, key: Key) {
        self.key.set(key);
    }
}

struct Simulation {
    queue: RunQueue<Probe>,
    now_ns: u64,
    ran_ns: Vec<u64>,
    longest_wait_ns: Vec<u64>,
    last_ran_ns: Vec<u64>,
    switches: usize,
    probes: Vec<Probe>,
}

impl Simulation {
    fn new() -> Self {
        Self {
            queue: RunQueue::new(),
            now_ns: 1,
            ran_ns: vec![],
            longest_wait_ns: vec![],
            last_ran_ns: vec![],
            switches: 0,
            probes: vec![],
        }
    }

    fn entity(&mut self, attributes: Attributes) -> EntityBox<Probe> {
        let probe = Probe { name: self.probes.len(), key: Rc::default() };
        self.probes.push(probe.clone());
        self.ran_ns.push(0);
        self.longest_wait_ns.push(0);
        self.last_ran_ns.push(self.now_ns);
        Box::new(Node::new(Entity::new(probe, attributes.validated().unwrap().parameters(Priority::FAIR))))
    }

    fn add(&mut self, attributes: Attributes) -> Preemption {
        let node = self.entity(attributes);
        self.queue.charge(self.now_ns);
        let preemption = self.queue.enqueue(node, Arrival::New);
        if preemption == Preemption::Now {
            self.reschedule(Release::Preempted);
        }
        preemption
    }

    fn current(&self) -> Option<usize> {
        self.queue.current().map(|entity| entity.payload.name)
    }

    fn reschedule(&mut self, release: Release) {
        self.queue.charge(self.now_ns);
        if self.queue.reschedule(self.now_ns, release) == Decision::Switched {
            self.switches += 1;
        }
    }

    /// Lets the CPU run, with nothing but the slice timer.
    fn run(&mut self, duration_ns: u64) {
        let end_ns = self.now_ns + duration_ns;
        while self.now_ns < end_ns {
            let next_ns = self.queue.slice_end_ns().unwrap_or(end_ns).clamp(self.now_ns + 1, end_ns);
            self.advance(next_ns - self.now_ns);
            self.reschedule(Release::Preempted);
        }
    }

    fn advance(&mut self, step_ns: u64) {
        if let Some(name) = self.current() {
            let waited_ns = self.now_ns - self.last_ran_ns[name];
            self.longest_wait_ns[name] = self.longest_wait_ns[name].max(waited_ns);
            self.ran_ns[name] += step_ns;
            self.last_ran_ns[name] = self.now_ns + step_ns;
        }
        self.now_ns += step_ns;
    }
}

fn nice(nice: i8) -> Attributes {
    Attributes { nice, ..Attributes::default() }
}

fn realtime(policy: Policy, realtime_priority: u8) -> Attributes {
    Attributes { policy, realtime_priority, ..Attributes::default() }
}

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn shares_follow_weights(nices in proptest::collection::vec(-20i8..20, 1..12)) {
        let mut simulation = Simulation::new();
        for level in &nices {
            simulation.add(nice(*level));
        }
        let duration = 20 * SECOND;
        simulation.run(duration);
        let total: u64 = nices.iter().map(|level| weight_of_nice(*level)).sum();
        for (name, level) in nices.iter().enumerate() {
            let due = (u128::from(duration) * u128::from(weight_of_nice(*level)) / u128::from(total)) as u64;
            let bound = 2 * crate::policy::SLICE_DEFAULT_NS + duration / 10_000;
            prop_assert!(simulation.ran_ns[name].abs_diff(due) <= bound,
                "nice {level} ran {} instead of {due}", simulation.ran_ns[name]);
        }
    }

    #[test]
    fn shares_hold_with_sleepers(seed in proptest::collection::vec((1u64..5, 0u64..10), 50..200)) {
        let mut simulation = Simulation::new();
        for _ in 0..3 {
            simulation.add(nice(0));
        }
        for (run_ms, sleep_ms) in seed {
            simulation.run(run_ms * MILLISECOND);
            simulation.queue.charge(simulation.now_ns);
            let sleeper = simulation.queue.take_current().unwrap();
            simulation.queue.reschedule(simulation.now_ns, Release::Preempted);
            simulation.run(sleep_ms * MILLISECOND);
            simulation.queue.charge(simulation.now_ns);
            if simulation.queue.enqueue(sleeper, Arrival::Wakeup) == Preemption::Now {
                simulation.reschedule(Release::Preempted);
            }
        }
        let waited = simulation.longest_wait_ns.iter().max().copied().unwrap();
        prop_assert!(waited < 60 * MILLISECOND, "somebody waited {waited}");
    }

    #[test]
    fn removal_by_noted_key_finds_everybody(nices in proptest::collection::vec(-20i8..20, 1..50), run_ms in 1u64..100) {
        let mut simulation = Simulation::new();
        for level in &nices {
            simulation.add(nice(*level));
        }
        simulation.run(run_ms * MILLISECOND);
        let current = simulation.current();
        for name in 0..nices.len() {
            let key = simulation.probes[name].key.get();
            let found = simulation.queue.remove(key, |probe| probe.name == name);
            prop_assert_eq!(found.is_some(), Some(name) != current);
        }
        prop_assert_eq!(simulation.queue.runnable(), 1);
    }
}

#[test]
fn one_thread_needs_no_timer() {
    let mut simulation = Simulation::new();
    assert_eq!(simulation.queue.slice_end_ns(), None);
    simulation.add(nice(0));
    assert_eq!(simulation.queue.slice_end_ns(), None);
    simulation.add(nice(0));
    assert!(simulation.queue.slice_end_ns().is_some());
}

#[test]
fn nobody_starves_beside_the_greatest_weight() {
    let mut simulation = Simulation::new();
    simulation.add(nice(19));
    simulation.add(Attributes { policy: Policy::Idle, ..Attributes::default() });
    for _ in 0..4 {
        simulation.add(nice(-20));
    }
    simulation.run(600 * SECOND);
    assert!(simulation.ran_ns[0] > 0 && simulation.ran_ns[1] > 0, "{:?}", simulation.ran_ns);
}

#[test]
fn switches_are_as_rare_as_slices() {
    let mut simulation = Simulation::new();
    simulation.add(nice(0));
    simulation.add(nice(0));
    simulation.run(3 * SECOND);
    assert!((800..=1100).contains(&simulation.switches), "{} switches", simulation.switches);
}

#[test]
fn a_shorter_slice_waits_less() {
    let mut simulation = Simulation::new();
    simulation.add(Attributes { slice_ns: MILLISECOND / 2, ..Attributes::default() });
    for _ in 0..4 {
        simulation.add(nice(0));
    }
    simulation.run(10 * SECOND);
    let others = simulation.longest_wait_ns[1..].iter().max().copied().unwrap();
    assert!(simulation.longest_wait_ns[0] < others, "{:?}", simulation.longest_wait_ns);
    assert!(simulation.ran_ns[0].abs_diff(2 * SECOND) < 20 * MILLISECOND, "the share does not change");
}

#[test]
fn round_robin_takes_turns_and_fifo_does_not() {
    let mut simulation = Simulation::new();
    for _ in 0..3 {
        simulation.add(realtime(Policy::RoundRobin, 10));
    }
    simulation.run(3 * SECOND);
    assert!(
        simulation.ran_ns.iter().all(|ran| ran.abs_diff(SECOND) <= 100 * MILLISECOND),
        "{:?}",
        simulation.ran_ns
    );
    let mut simulation = Simulation::new();
    for _ in 0..3 {
        simulation.add(realtime(Policy::Fifo, 10));
    }
    simulation.run(3 * SECOND);
    assert_eq!(simulation.ran_ns, vec![3 * SECOND, 0, 0]);
    simulation.reschedule(Release::Yielded);
    assert_eq!(simulation.current(), Some(1));
}

#[test]
fn priority_decides_and_the_preempted_comes_first_among_equals() {
    let mut simulation = Simulation::new();
    simulation.add(realtime(Policy::Fifo, 10));
    simulation.add(realtime(Policy::Fifo, 10));
    assert_eq!(simulation.add(realtime(Policy::Fifo, 9)), Preemption::No);
    assert_eq!(simulation.add(realtime(Policy::Fifo, 11)), Preemption::Now);
    assert_eq!(simulation.current(), Some(3));
    for expected in [0, 1, 2] {
        simulation.queue.take_current();
        simulation.reschedule(Release::Preempted);
        assert_eq!(simulation.current(), Some(expected));
    }
}

#[test]
fn real_time_leaves_a_twentieth() {
    let mut simulation = Simulation::new();
    simulation.add(realtime(Policy::Fifo, 99));
    simulation.add(nice(0));
    simulation.run(20 * SECOND);
    assert!(simulation.ran_ns[1].abs_diff(SECOND) < 100 * MILLISECOND, "{:?}", simulation.ran_ns);
}

#[test]
fn a_real_time_arrival_preempts_and_an_idle_one_never() {
    let mut simulation = Simulation::new();
    simulation.add(nice(0));
    simulation.run(10 * MILLISECOND);
    assert_eq!(simulation.add(Attributes { policy: Policy::Idle, ..Attributes::default() }), Preemption::No);
    assert_eq!(simulation.add(realtime(Policy::RoundRobin, 1)), Preemption::Now);
    assert_eq!(simulation.current(), Some(2));
}

#[test]
fn yield_lets_the_other_run() {
    let mut simulation = Simulation::new();
    simulation.add(nice(0));
    simulation.add(nice(0));
    for _ in 0..100 {
        let before = simulation.current();
        simulation.advance(1000);
        simulation.reschedule(Release::Yielded);
        assert_ne!(simulation.current(), before);
    }
}

#[test]
fn steal_respects_the_filter() {
    let mut simulation = Simulation::new();
    for _ in 0..5 {
        simulation.add(nice(0));
    }
    let stolen = simulation.queue.steal(|probe| probe.name == 3).map(|node| node.payload.name);
    assert_eq!(stolen, Some(3));
    assert!(simulation.queue.steal(|_| false).is_none());
    assert_eq!(simulation.queue.runnable(), 4);
}

#[test]
fn a_boost_takes_effect_on_the_running_thread() {
    let mut simulation = Simulation::new();
    simulation.add(nice(0));
    simulation.add(realtime(Policy::Fifo, 5));
    assert_eq!(simulation.current(), Some(1));
    let key = simulation.probes[0].key.get();
    let mut node = simulation.queue.remove(key, |probe| probe.name == 0).unwrap();
    node.set_parameters(nice(0).parameters(Priority::realtime(6)));
    assert_eq!(simulation.queue.enqueue(node, Arrival::Move), Preemption::Now);
    simulation.reschedule(Release::Preempted);
    assert_eq!(simulation.current(), Some(0));
    simulation.queue.change_current(nice(0).parameters(Priority::FAIR));
    simulation.reschedule(Release::Preempted);
    assert_eq!(simulation.current(), Some(1));
}
