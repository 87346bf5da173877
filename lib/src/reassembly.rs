//! Putting the parts of a packet together again (RFC 791, RFC 815; RFC 5722 for parts that overlap).
//!
//! Key type: [`Reassembly`]: the parts of one packet, by offset. Pure: who keeps the packet's parts gives any value with each, and a
//! node of memory. Parts that overlap make the packet bad; what is there already does not: a part that lies within parts that came
//! one right after the other (a run), as a copy of one of them does.

use crate::tree::{Item, Node, Tree};
use alloc::boxed::Box;

/// A part: its place and what the caller keeps of it.
pub struct Part<P> {
    offset: usize,
    length: usize,
    /// Where its run begins.
    run: usize,
    payload: P,
}

impl<P> Part<P> {
    /// A part.
    pub fn new(offset: usize, length: usize, payload: P) -> Part<P> {
        Part { offset, length, run: offset, payload }
    }

    /// What the caller gave.
    pub fn payload(&self) -> &P {
        &self.payload
    }
}

impl<P> Item for Part<P> {
    type Key = usize;
    /// Where the set of parts ends.
    type Summary = usize;
    fn key(&self) -> usize {
        self.offset
    }
    fn summary(&self) -> usize {
        self.offset + self.length
    }
    fn merge(left: usize, right: usize) -> usize {
        left.max(right)
    }
}

/// What a part did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Others are missing.
    Waits,
    /// It was the last that was missing.
    Complete,
    /// All of it is there already.
    Twice,
    /// It cannot be of the same packet: the packet is to be dropped.
    Bad,
}

/// The parts of one packet.
pub struct Reassembly<P> {
    parts: Tree<Part<P>>,
    bytes: usize,
    /// Where the packet ends, once its last part is there.
    end: Option<usize>,
}

impl<P> Default for Reassembly<P> {
    fn default() -> Self {
        Reassembly { parts: Tree::default(), bytes: 0, end: None }
    }
}

impl<P> Reassembly<P> {
    /// Adds a part; what was given for one that is not kept is dropped. `is_last`: nothing follows it.
    pub fn put(&mut self, mut part: Box<Node<Part<P>>>, is_last: bool) -> Put {
        let (offset, end) = (part.offset, part.offset + part.length);
        let last = self.parts.summary().unwrap_or(0);
        let is_beyond = self.end.is_some_and(|known| if is_last { known != end } else { end > known });
        if is_beyond || (is_last && end < last) || part.length == 0 {
            return Put::Bad;
        }
        // The parts that its first and its last byte are in, or that come last before them.
        let (first, final_one) = (self.before(offset + 1), self.before(end));
        if let (Some((from, to, run)), Some((_, final_to, final_run))) = (first, final_one)
            && (from <= offset && offset < to && end <= final_to && run == final_run)
        {
            return Put::Twice;
        }
        if first.is_some_and(|(_, to, _)| to > offset) || first.map(|one| one.0) != final_one.map(|one| one.0)
        {
            return Put::Bad;
        }
        if let Some((_, to, run)) = first
            && to == offset
            && to == last
        {
            part.run = run;
        }
        if is_last {
            self.end = Some(end);
        }
        self.bytes += part.length;
        self.parts.insert(part);
        if self.end == Some(self.bytes) { Put::Complete } else { Put::Waits }
    }

    /// The last part that begins before `place`: where it begins and ends, and its run.
    fn before(&self, place: usize) -> Option<(usize, usize, usize)> {
        let mut before = None;
        self.parts.descend(|_, part| {
            if part.offset < place {
                before = Some((part.offset, part.offset + part.length, part.run));
                crate::tree::Turn::Right
            } else {
                crate::tree::Turn::Left
            }
        });
        before
    }

    /// How many bytes the packet has, once it is complete.
    pub fn length(&self) -> Option<usize> {
        self.end.filter(|end| *end == self.bytes)
    }

    /// The first part, if it begins the packet.
    pub fn first(&self) -> Option<&P> {
        self.parts.first().filter(|part| part.offset == 0).map(Part::payload)
    }

    /// Takes the parts out, first to last.
    pub fn take(&mut self) -> Option<Box<Node<Part<P>>>> {
        self.parts.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn part(offset: usize, bytes: &[u8]) -> Box<Node<Part<Vec<u8>>>> {
        Box::new(Node::new(Part::new(offset, bytes.len(), bytes.to_vec())))
    }

    fn drain(mut all: Reassembly<Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(part) = all.take() {
            bytes.extend_from_slice(part.payload());
        }
        bytes
    }

    #[test]
    fn overlaps_are_bad_and_copies_are_not() {
        let mut all = Reassembly::default();
        assert_eq!(all.put(part(8, &[1; 8]), false), Put::Waits);
        assert_eq!(all.put(part(8, &[1; 8]), false), Put::Twice);
        assert_eq!(all.put(part(0, &[0; 9]), false), Put::Bad);
        assert_eq!(all.put(part(12, &[0; 9]), false), Put::Bad);
        assert_eq!(all.put(part(8, &[1; 17]), false), Put::Bad);
        assert_eq!(all.put(part(16, &[2; 3]), true), Put::Waits);
        assert_eq!(all.put(part(19, &[2; 3]), false), Put::Bad);
        assert_eq!(all.put(part(0, &[0; 8]), false), Put::Complete);
        assert_eq!(all.length(), Some(19));
        assert_eq!(drain(all).len(), 19);
    }

    #[test]
    fn what_is_in_a_run_is_there_already() {
        let mut all = Reassembly::default();
        assert_eq!(all.put(part(8, &[1; 8]), false), Put::Waits);
        assert_eq!(all.put(part(16, &[2; 8]), false), Put::Waits);
        assert_eq!(all.put(part(10, &[1; 4]), false), Put::Twice, "within one");
        assert_eq!(all.put(part(8, &[1; 16]), false), Put::Twice, "two of a run");
        assert_eq!(all.put(part(0, &[0; 8]), false), Put::Waits, "before the run: one of its own");
        assert_eq!(all.put(part(4, &[0; 8]), false), Put::Bad, "across two runs");
        let mut all = Reassembly::default();
        assert_eq!(all.put(part(0, &[0; 8]), false), Put::Waits);
        assert_eq!(all.put(part(8, &[]), true), Put::Bad, "an end without anything");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A packet cut anywhere and sent in any order, some parts twice, comes back; before the last part it is not complete.
        #[test]
        fn any_order_gives_the_packet(
            bytes in proptest::collection::vec(any::<u8>(), 1..600), cuts in proptest::collection::btree_set(1usize..599, 0..12),
            order in any::<u64>(), twice in any::<u64>(),
        ) {
            let mut ends: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            ends.push(bytes.len());
            let mut parts = Vec::new();
            let mut start = 0;
            for end in ends {
                parts.push((start, end));
                start = end;
            }
            let mut mixed = order;
            for index in (1..parts.len()).rev() {
                mixed = mixed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                parts.swap(index, (mixed >> 33) as usize % (index + 1));
            }
            let mut all = Reassembly::default();
            for (number, (start, end)) in parts.iter().enumerate() {
                let is_last = *end == bytes.len();
                let result = all.put(part(*start, &bytes[*start..*end]), is_last);
                let wanted = if number + 1 == parts.len() { Put::Complete } else { Put::Waits };
                prop_assert_eq!(result, wanted);
                if twice >> number & 1 != 0 {
                    prop_assert_eq!(all.put(part(*start, &bytes[*start..*end]), is_last), Put::Twice);
                }
            }
            prop_assert_eq!(all.length(), Some(bytes.len()));
            prop_assert_eq!(drain(all), bytes);
        }

        /// Whatever comes: what is kept never overlaps, and a complete packet has every byte once.
        #[test]
        fn garbage_never_overlaps(parts in proptest::collection::vec((0usize..100, 0usize..40, any::<bool>()), 0..40)) {
            let mut all = Reassembly::default();
            let mut kept = std::collections::BTreeMap::new();
            let mut was_complete = false;
            for (offset, length, is_last) in parts {
                let result = all.put(part(offset, &std::vec![0; length]), is_last);
                if matches!(result, Put::Waits | Put::Complete) {
                    prop_assert!(kept.insert(offset, length).is_none());
                }
                let mut end = 0;
                for (offset, length) in &kept {
                    prop_assert!(*offset >= end);
                    end = offset + length;
                }
                was_complete |= result == Put::Complete;
                prop_assert_eq!(all.length().is_some(), was_complete);
                if let Some(whole) = all.length() {
                    prop_assert_eq!(kept.values().sum::<usize>(), whole);
                    prop_assert_eq!(end, whole);
                }
            }
        }
    }
}
