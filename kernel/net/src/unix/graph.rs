//! Which sockets in flight keep each other alive: the pure part of the collector.
//!
//! A descriptor of socket A that waits in the queue of socket R is an edge from R to A: as long as R can be read, A can be had. A
//! socket in flight that is held neither from outside nor, over such edges, by a socket that is, can never be had
//! again: it is garbage, though its count is not zero. Key type: [`Graph`]. One collection costs O(vertices + edges) of the
//! sockets in flight, and nothing where no circle can be. No locks: the caller has one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

struct Vertex<P> {
    payload: P,
    /// How many messages carry it, counted once for each descriptor.
    in_flight: usize,
}

struct Holder<P> {
    payload: P,
    /// What is in its queue, and how often.
    holds: BTreeMap<u64, usize>,
}

/// See the module's head. `P` is what the caller needs to find a socket again.
pub struct Graph<P> {
    vertices: BTreeMap<u64, Vertex<P>>,
    holders: BTreeMap<u64, Holder<P>>,
    /// Some edge may have closed a circle since the last collection found none.
    maybe_cyclic: bool,
}

impl<P> Graph<P> {
    /// Nothing is in flight.
    pub const fn new() -> Graph<P> {
        Graph { vertices: BTreeMap::new(), holders: BTreeMap::new(), maybe_cyclic: false }
    }

    /// A descriptor of `socket` gets into the queue of `receiver`, which `owner` reads (a listener, for one not accepted yet).
    pub fn add(&mut self, socket: (u64, P), receiver: (u64, P), owner: u64) {
        let number = socket.0;
        let vertex = self.vertices.entry(number).or_insert(Vertex { payload: socket.1, in_flight: 0 });
        vertex.in_flight += 1;
        let holder =
            self.holders.entry(receiver.0).or_insert(Holder { payload: receiver.1, holds: BTreeMap::new() });
        *holder.holds.entry(number).or_insert(0) += 1;
        // A circle goes through sockets that are all in flight: the edge that closes it starts at one that is.
        self.maybe_cyclic |= self.vertices.contains_key(&owner);
    }

    /// Such a descriptor left the queue.
    pub fn remove(&mut self, socket: u64, receiver: u64) {
        if let Some(vertex) = self.vertices.get_mut(&socket) {
            vertex.in_flight -= 1;
            if vertex.in_flight == 0 {
                self.vertices.remove(&socket);
            }
        }
        if let Some(holder) = self.holders.get_mut(&receiver) {
            if let Some(count) = holder.holds.get_mut(&socket) {
                *count -= 1;
                if *count == 0 {
                    holder.holds.remove(&socket);
                }
            }
            if holder.holds.is_empty() {
                self.holders.remove(&receiver);
            }
        }
    }

    /// Whether a collection could find anything.
    pub fn maybe_cyclic(&self) -> bool {
        self.maybe_cyclic
    }

    /// How many sockets are in flight.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    /// The garbage. `owner_of` says whose reader gets at a holder's queue; `has_outside` whether a socket in flight (that so many
    /// messages carry) is also held from outside of them.
    pub fn garbage(
        &mut self,
        owner_of: impl Fn(u64, &P) -> u64,
        has_outside: impl Fn(u64, &P, usize) -> bool,
    ) -> Vec<&P> {
        // What each reader can get at.
        let mut queues: BTreeMap<u64, Vec<&Holder<P>>> = BTreeMap::new();
        for (number, holder) in &self.holders {
            queues.entry(owner_of(*number, &holder.payload)).or_default().push(holder);
        }
        let mut alive: BTreeMap<u64, bool> = BTreeMap::new();
        let mut open: Vec<u64> = Vec::new();
        for (number, vertex) in &self.vertices {
            let outside = has_outside(*number, &vertex.payload, vertex.in_flight);
            alive.insert(*number, outside);
            if outside {
                open.push(*number);
            }
        }
        open.extend(queues.keys().filter(|owner| !self.vertices.contains_key(owner)));
        while let Some(owner) = open.pop() {
            let held = queues.get(&owner).into_iter().flatten().flat_map(|holder| holder.holds.keys());
            for number in held {
                if let Some(seen) = alive.get_mut(number).filter(|seen| !**seen) {
                    *seen = true;
                    open.push(*number);
                }
            }
        }
        // Nothing is left that was reached only from itself: whatever comes later says so again.
        self.maybe_cyclic = queues.keys().any(|owner| self.vertices.contains_key(owner));
        let dead = self.vertices.iter().filter(|(number, _)| alive.get(number) == Some(&false));
        dead.map(|(_, vertex)| &vertex.payload).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, VecDeque};

    /// Sockets as a program has them: which it holds descriptors of, and what waits in each queue.
    #[derive(Default, Debug)]
    struct Model {
        outside: BTreeMap<u64, usize>,
        queues: BTreeMap<u64, VecDeque<u64>>,
    }

    impl Model {
        fn reachable(&self) -> BTreeSet<u64> {
            let mut seen: BTreeSet<u64> =
                self.outside.iter().filter(|(_, count)| **count > 0).map(|(number, _)| *number).collect();
            let mut open: Vec<u64> = seen.iter().copied().collect();
            while let Some(number) = open.pop() {
                for held in self.queues.get(&number).into_iter().flatten() {
                    if seen.insert(*held) {
                        open.push(*held);
                    }
                }
            }
            seen
        }

        fn in_flight(&self) -> BTreeSet<u64> {
            self.queues.values().flatten().copied().collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open(u64),
        Send(u64, u64),
        Receive(u64),
        Close(u64),
        Collect,
    }

    fn step() -> impl Strategy<Value = Step> {
        let socket = || 0..8_u64;
        prop_oneof![
            3 => socket().prop_map(Step::Open),
            6 => (socket(), socket()).prop_map(|(what, to)| Step::Send(what, to)),
            3 => socket().prop_map(Step::Receive),
            4 => socket().prop_map(Step::Close),
            2 => Just(Step::Collect),
        ]
    }

    fn collect(graph: &mut Graph<u64>, model: &Model) -> BTreeSet<u64> {
        let outside = |number: u64| model.outside.get(&number).copied().unwrap_or(0) > 0;
        graph.garbage(|number, _| number, |number, _, _| outside(number)).into_iter().copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Exactly the sockets that nobody can get at any more are garbage, and where there is some the graph knows that there
        /// may be.
        #[test]
        fn garbage_is_what_cannot_be_reached(steps in proptest::collection::vec(step(), 1..80)) {
            let mut graph: Graph<u64> = Graph::new();
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Open(number) => *model.outside.entry(number).or_insert(0) += 1,
                    Step::Send(what, to) => {
                        let has = |number| model.outside.get(&number).is_some_and(|count| *count > 0);
                        // A message to a socket goes through another end; the receiver need not be held itself, but it is there.
                        let there = has(to) || model.in_flight().contains(&to);
                        if has(what) && there {
                            graph.add((what, what), (to, to), to);
                            model.queues.entry(to).or_default().push_back(what);
                        }
                    }
                    Step::Receive(from) => {
                        let can = model.outside.get(&from).is_some_and(|count| *count > 0);
                        if can && let Some(got) = model.queues.entry(from).or_default().pop_front() {
                            graph.remove(got, from);
                            *model.outside.entry(got).or_insert(0) += 1;
                        }
                    }
                    Step::Close(number) => {
                        if let Some(count) = model.outside.get_mut(&number).filter(|count| **count > 0) {
                            *count -= 1;
                        }
                    }
                    Step::Collect => {}
                }
                // A socket that is neither held nor in flight goes, with its queue; and so on.
                loop {
                    let in_flight = model.in_flight();
                    let gone: Vec<u64> = model.queues.keys().copied()
                        .filter(|number| !in_flight.contains(number))
                        .filter(|number| model.outside.get(number).copied().unwrap_or(0) == 0)
                        .collect();
                    if gone.is_empty() { break; }
                    for number in gone {
                        for held in model.queues.remove(&number).unwrap_or_default() {
                            graph.remove(held, number);
                        }
                    }
                }
                let expected: BTreeSet<u64> = model.in_flight().difference(&model.reachable()).copied().collect();
                prop_assert!(expected.is_empty() || graph.maybe_cyclic());
                prop_assert_eq!(graph.len(), model.in_flight().len());
                prop_assert_eq!(collect(&mut graph, &model), expected.clone());
                // What is garbage is taken out of the queues of garbage.
                for number in expected {
                    for held in model.queues.remove(&number).unwrap_or_default() {
                        graph.remove(held, number);
                    }
                }
            }
        }

        /// A queue of a connection that is not accepted yet is read through its listener.
        #[test]
        fn embryos_belong_to_their_listener(count in 1..20_u64) {
            let mut graph: Graph<u64> = Graph::new();
            const LISTENER: u64 = 1000;
            for embryo in 0..count {
                graph.add((LISTENER, LISTENER), (embryo, embryo), LISTENER);
            }
            prop_assert!(graph.maybe_cyclic());
            let garbage = graph.garbage(|_, _| LISTENER, |_, _, _| false).len();
            prop_assert_eq!(garbage, 1);
            let garbage = graph.garbage(|_, _| LISTENER, |_, _, _| true).len();
            prop_assert_eq!(garbage, 0);
        }
    }
}
