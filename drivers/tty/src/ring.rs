//! A byte queue of fixed size, allocated once: output on its way out, input on its way in from an interrupt.

use abi::{Errno, Result};
use alloc::vec::Vec;

/// The queue.
pub struct Ring {
    bytes: Vec<u8>,
    /// Counters that only grow; their difference is the fill.
    head: usize,
    tail: usize,
}

impl Ring {
    /// An empty queue for `capacity` bytes. Errors: `ENOMEM`.
    pub fn new(capacity: usize) -> Result<Ring> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(capacity).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(capacity, 0);
        Ok(Ring { bytes, head: 0, tail: 0 })
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.head.wrapping_sub(self.tail)
    }

    /// Is it empty?
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.len()
    }

    /// Puts a byte in; a full queue drops it.
    pub fn push(&mut self, byte: u8) {
        if self.room() == 0 {
            return;
        }
        let at = self.head % self.bytes.len();
        if let Some(place) = self.bytes.get_mut(at) {
            *place = byte;
            self.head = self.head.wrapping_add(1);
        }
    }

    /// Takes bytes out into the front of `buffer`, gives how many.
    pub fn pop(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.peek(buffer);
        self.consume(count);
        count
    }

    /// Copies bytes into the front of `buffer` and leaves them in.
    pub fn peek(&self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.len());
        for (offset, place) in buffer.iter_mut().take(count).enumerate() {
            let at = self.tail.wrapping_add(offset) % self.bytes.len();
            *place = self.bytes.get(at).copied().unwrap_or(0);
        }
        count
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.tail = self.tail.wrapping_add(count.min(self.len()));
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.tail = self.head;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_deque(steps in prop::collection::vec((0u8..4, any::<u8>()), 0..300)) {
            let mut ring = Ring::new(13).unwrap();
            let mut model = VecDeque::new();
            for (step, value) in steps {
                if step > 0 {
                    ring.push(value);
                    if model.len() < 13 {
                        model.push_back(value);
                    }
                } else {
                    let mut buffer = [0; 5];
                    let count = ring.pop(&mut buffer[..usize::from(value % 6)]);
                    let expected: Vec<u8> = model.drain(..count.min(model.len())).collect();
                    prop_assert_eq!(&buffer[..count], &expected[..]);
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(ring.room(), 13 - model.len());
            }
        }
    }
}
