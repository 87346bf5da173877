//! The input queue of a terminal: a ring of 4096 bytes, each with a mark that says whether it ends a line.
//!
//! Positions are counters that only grow (and wrap); `finished` is the end of the last complete line. Erasing
//! never goes back beyond it. Used only by the line discipline.

use abi::{Errno, Result};
use alloc::vec::Vec;

/// Bytes in the queue (`N_TTY_BUF_SIZE`).
pub const CAPACITY: usize = 4096;

/// What a byte in the queue means for lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    None,
    /// It ends a line and belongs to it.
    Delimiter,
    /// It ends a line and is not given to the reader.
    EndOfFile,
}

#[derive(Clone, Copy)]
struct Slot {
    byte: u8,
    mark: Mark,
}

/// The ring.
pub struct InputQueue {
    slots: Vec<Slot>,
    /// Where the next byte goes.
    head: usize,
    /// The next byte to read.
    tail: usize,
    /// End of the complete lines.
    finished: usize,
}

impl InputQueue {
    /// An empty queue.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(CAPACITY).map_err(|_| Errno::ENOMEM)?;
        slots.resize(CAPACITY, Slot { byte: 0, mark: Mark::None });
        Ok(Self { slots, head: 0, tail: 0, finished: 0 })
    }

    /// Bytes in it, marks of ends of file too.
    pub fn len(&self) -> usize {
        self.head.wrapping_sub(self.tail)
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Is a complete line in it?
    pub fn has_line(&self) -> bool {
        self.finished != self.tail
    }

    /// Bytes after the last complete line.
    pub fn unfinished_len(&self) -> usize {
        self.head.wrapping_sub(self.finished)
    }

    /// Byte `index` of the unfinished line.
    pub fn unfinished(&self, index: usize) -> Option<u8> {
        (index < self.unfinished_len()).then(|| self.slot(self.finished.wrapping_add(index)).byte)
    }

    /// Bytes in complete lines that a reader would get.
    pub fn bytes_in_lines(&self) -> usize {
        let lines = self.finished.wrapping_sub(self.tail);
        (0..lines).filter(|offset| self.slot(self.tail.wrapping_add(*offset)).mark != Mark::EndOfFile).count()
    }

    /// Puts a byte in; a full queue drops it.
    pub fn push(&mut self, byte: u8, mark: Mark) {
        if self.len() >= CAPACITY {
            return;
        }
        let head = self.head;
        *self.slot_mut(head) = Slot { byte, mark };
        self.head = head.wrapping_add(1);
        if mark != Mark::None {
            self.finished = self.head;
        }
    }

    /// Takes the last byte of the unfinished line back.
    pub fn pop_unfinished(&mut self) -> Option<u8> {
        if self.head == self.finished {
            return None;
        }
        self.head = self.head.wrapping_sub(1);
        Some(self.slot(self.head).byte)
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.tail = self.head;
        self.finished = self.head;
    }

    /// Forgets the lines; going to canonical mode, all that is there becomes one.
    pub fn change_mode(&mut self, canonical: bool) {
        let (mut position, head) = (self.tail, self.head);
        while position != head {
            self.slot_mut(position).mark = Mark::None;
            position = position.wrapping_add(1);
        }
        self.finished = self.tail;
        if canonical && !self.is_empty() {
            self.slot_mut(head.wrapping_sub(1)).mark = Mark::Delimiter;
            self.finished = head;
        }
    }

    /// Takes bytes without regard to lines.
    pub fn take_bytes(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.len());
        for place in buffer.iter_mut().take(count) {
            *place = self.slot(self.tail).byte;
            self.tail = self.tail.wrapping_add(1);
        }
        self.finished = self.tail;
        count
    }

    /// Takes the rest of the first line, as far as `buffer` goes. An end-of-file mark right behind a full
    /// buffer goes with it: the bytes before it are delivered, so it must not show as an end of file.
    pub fn take_line(&mut self, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        while self.tail != self.finished {
            let slot = self.slot(self.tail);
            if slot.mark == Mark::EndOfFile && (count > 0 || !buffer.is_empty()) {
                self.tail = self.tail.wrapping_add(1);
                break;
            }
            let Some(place) = buffer.get_mut(count) else { break };
            *place = slot.byte;
            count += 1;
            self.tail = self.tail.wrapping_add(1);
            if slot.mark == Mark::Delimiter {
                break;
            }
        }
        count
    }

    fn slot(&self, position: usize) -> Slot {
        self.slots[position % CAPACITY]
    }

    fn slot_mut(&mut self, position: usize) -> &mut Slot {
        &mut self.slots[position % CAPACITY]
    }
}
