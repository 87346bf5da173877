//! Which epolls watch which: circles and long chains are refused before they exist.
//!
//! Key type: [`Link`]. Both directions are kept, because a chain grows at either end: a new link joins the longest chain above
//! the watcher to the longest below the watched. As no chain is ever longer than [`NESTING_LIMIT`], waking and polling
//! through epolls ends there, and so does the recursion here. A new link costs O(log n) for each link it can reach.
//!
//! Locks: one sleeping mutex over the graph, a leaf.

use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use machine::sync::Mutex;

/// As many links as a chain may have: epolls in epolls, five in all (epoll_ctl(2), `ELOOP`).
pub const NESTING_LIMIT: usize = 4;

/// Neighbours, by an epoll's address and the link's number.
type Direction = BTreeMap<(usize, u64), usize>;

struct Graph {
    below: Direction,
    above: Direction,
    last_number: u64,
}

static GRAPH: Mutex<Graph> =
    Mutex::new(Graph { below: Direction::new(), above: Direction::new(), last_number: 0 });

/// That one epoll watches another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    watcher: usize,
    watched: usize,
    number: u64,
}

/// The neighbours of an epoll in one direction.
fn neighbours(direction: &Direction, of: usize) -> impl Iterator<Item = ((usize, u64), usize)> {
    direction.range((of, 0)..=(of, u64::MAX)).map(|(key, neighbour)| (*key, *neighbour))
}

/// The longest chain from an epoll on. `known` has those that were measured. Errors: `ELOOP` if it leads to `forbidden`.
fn longest(
    direction: &Direction,
    from: usize,
    forbidden: usize,
    known: &mut BTreeMap<usize, usize>,
) -> Result<usize> {
    if from == forbidden {
        return Err(Errno::ELOOP);
    }
    if let Some(length) = known.get(&from) {
        return Ok(*length);
    }
    let mut length = 0;
    for (_, next) in neighbours(direction, from) {
        length = length.max(longest(direction, next, forbidden, known)? + 1);
    }
    known.insert(from, length);
    Ok(length)
}

impl Graph {
    fn add(&mut self, watcher: usize, watched: usize) -> Result<Link> {
        let below = longest(&self.below, watched, watcher, &mut BTreeMap::new())?;
        let above = longest(&self.above, watcher, watched, &mut BTreeMap::new())?;
        if above + 1 + below > NESTING_LIMIT {
            return Err(Errno::ELOOP);
        }
        self.last_number += 1;
        let link = Link { watcher, watched, number: self.last_number };
        self.below.insert((watcher, link.number), watched);
        self.above.insert((watched, link.number), watcher);
        Ok(link)
    }

    fn remove(&mut self, link: &Link) {
        self.below.remove(&(link.watcher, link.number));
        self.above.remove(&(link.watched, link.number));
    }

    fn forget(&mut self, epoll: usize) {
        loop {
            let next = neighbours(&self.above, epoll).next();
            let Some(((_, number), watcher)) = next else { break };
            self.remove(&Link { watcher, watched: epoll, number });
        }
    }
}

impl Link {
    /// Notes that the epoll at one address watches that at the other. Errors: `ELOOP`: a circle, or too long a chain.
    pub fn new(watcher: usize, watched: usize) -> Result<Link> {
        GRAPH.lock().add(watcher, watched)
    }

    /// Takes it back; does nothing if the watched one has gone.
    pub fn remove(&self) {
        GRAPH.lock().remove(self);
    }
}

/// An epoll goes: whoever watched it does not any more.
pub(super) fn forget(epoll: usize) {
    GRAPH.lock().forget(epoll);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn graph() -> Graph {
        Graph { below: Direction::new(), above: Direction::new(), last_number: 0 }
    }

    #[test]
    fn chains_end_whichever_end_grows() {
        let mut downwards = graph();
        for at in 1..=NESTING_LIMIT {
            downwards.add(at, at + 1).unwrap();
        }
        assert_eq!(downwards.add(NESTING_LIMIT + 1, 100).err(), Some(Errno::ELOOP));
        let mut upwards = graph();
        for at in (1..=NESTING_LIMIT).rev() {
            upwards.add(at, at + 1).unwrap();
        }
        assert_eq!(upwards.add(100, 1).err(), Some(Errno::ELOOP));
        let mut middle = graph();
        middle.add(1, 2).unwrap();
        middle.add(2, 3).unwrap();
        middle.add(11, 12).unwrap();
        middle.add(12, 13).unwrap();
        assert_eq!(middle.add(3, 11).err(), Some(Errno::ELOOP));
        middle.add(2, 11).unwrap();
    }

    #[test]
    fn circles_are_refused_and_removed_links_forgotten() {
        let mut graph = graph();
        let first = graph.add(1, 2).unwrap();
        graph.add(2, 3).unwrap();
        assert_eq!(graph.add(3, 1).err(), Some(Errno::ELOOP));
        graph.remove(&first);
        graph.add(3, 1).unwrap();
        graph.forget(1);
        graph.add(1, 2).unwrap();
        assert_eq!((graph.below.len(), graph.above.len()), (2, 2));
    }

    #[test]
    fn many_ways_to_the_same_epolls_are_walked_once() {
        let mut graph = graph();
        // 50^4 ways from 0 to the last layer.
        let layer = |index: usize| (index * 100..index * 100 + 50).collect::<Vec<_>>();
        for (above, below) in [(1, 2), (2, 3)] {
            for watcher in layer(above) {
                for watched in layer(below) {
                    graph.add(watcher, watched).unwrap();
                }
            }
        }
        graph.add(1, 100).unwrap();
        assert_eq!(graph.above.len(), 5001);
    }
}
