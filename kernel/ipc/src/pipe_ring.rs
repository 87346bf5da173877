//! The buffer of a pipe: a ring of pages. Pure: no lock, no waiting.
//!
//! Each slot is a page frame with a range of bytes in it. Small writes are appended to the last page when they fit
//! wholly, as Linux does, so that what fits into a pipe is the same here as there; in packet mode every write of up
//! to a page is a slot of its own and read as one. One or two emptied pages are kept to be filled again, so that
//! traffic back and forth allocates nothing.
//!
//! Key type: [`Ring`]. Neighbours: [`crate::pipe`] locks it and waits.

use alloc::vec::Vec;

use abi::errno::{Errno, Result};
use machine::PAGE_SIZE;
use machine::memory::Frame;
use mm::io::{IoReader, IoWriter};

/// Whether writes keep their boundaries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// A stream of bytes.
    Stream,
    /// Each write is read as one (`O_DIRECT`).
    Packets,
}

struct Slot {
    frame: Frame,
    offset: usize,
    length: usize,
    framing: Framing,
}

/// How many emptied pages are kept.
const SPARES: usize = 2;

/// See the module's head.
pub struct Ring {
    slots: Vec<Option<Slot>>,
    first: usize,
    used: usize,
    bytes: usize,
    spares: [Option<Frame>; SPARES],
}

impl Ring {
    /// An empty ring of this many pages.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(pages: usize) -> Result<Self> {
        Ok(Self { slots: empty_slots(pages)?, first: 0, used: 0, bytes: 0, spares: [const { None }; SPARES] })
    }

    /// How many slots hold something.
    pub fn used(&self) -> usize {
        self.used
    }

    /// How many bytes are in it (`FIONREAD`).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.used >= self.slots.len()
    }

    /// How many bytes the free slots hold.
    pub fn room(&self) -> usize {
        (self.slots.len() - self.used) * PAGE_SIZE
    }

    /// Changes the number of slots (`F_SETPIPE_SZ`).
    ///
    /// # Errors
    /// `EBUSY`: more are in use. `ENOMEM`.
    pub fn resize(&mut self, pages: usize) -> Result<()> {
        if pages < self.used {
            return Err(Errno::EBUSY);
        }
        let mut slots = empty_slots(pages)?;
        for to in slots.iter_mut().take(self.used) {
            *to = self.slots.get_mut(self.first).and_then(Option::take);
            self.first = (self.first + 1) % self.slots.len();
        }
        self.slots = slots;
        self.first = 0;
        Ok(())
    }

    /// Drops what is in it.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = None);
        self.spares = [const { None }; SPARES];
        (self.first, self.used, self.bytes) = (0, 0, 0);
    }

    fn index(&self, position: usize) -> usize {
        (self.first + position) % self.slots.len()
    }

    /// Appends the odd bytes of a write (its length modulo the page size) to the last page, if they fit wholly. Gives
    /// the bytes taken.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn merge(&mut self, from: &mut dyn IoReader) -> Result<usize> {
        let odd = from.remaining() % PAGE_SIZE;
        if odd == 0 || self.used == 0 {
            return Ok(0);
        }
        let last = self.index(self.used - 1);
        let Some(Some(slot)) = self.slots.get_mut(last) else { return Ok(0) };
        let end = slot.offset + slot.length;
        if slot.framing == Framing::Packets || end + odd > PAGE_SIZE || slot.frame.ref_count() > 1 {
            return Ok(0);
        }
        let copied = from.read_frame(&slot.frame, end, odd)?;
        slot.length += copied;
        self.bytes += copied;
        Ok(copied)
    }

    /// Fills one free slot with up to a page. Gives the bytes taken; 0 when the ring is full or `from` is empty.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`; nothing was taken then.
    pub fn push(&mut self, from: &mut dyn IoReader, framing: Framing) -> Result<usize> {
        let wanted = from.remaining().min(PAGE_SIZE);
        if wanted == 0 || self.is_full() {
            return Ok(0);
        }
        let frame = self.take_frame()?;
        match from.read_frame(&frame, 0, wanted) {
            Ok(length) if length > 0 => {
                self.append(Slot { frame, offset: 0, length, framing });
                Ok(length)
            }
            other => {
                self.keep(frame);
                other
            }
        }
    }

    fn append(&mut self, slot: Slot) {
        let index = self.index(self.used);
        self.bytes += slot.length;
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
            self.used += 1;
        }
    }

    fn take_frame(&mut self) -> Result<Frame> {
        match self.spares.iter_mut().find_map(Option::take) {
            Some(frame) => Ok(frame),
            None => Frame::alloc(machine::memory::AllocFlags::empty()).map_err(|_| Errno::ENOMEM),
        }
    }

    /// Keeps an emptied frame for the next write, if nobody else has it.
    fn keep(&mut self, frame: Frame) {
        if frame.ref_count() == 1
            && let Some(place) = self.spares.iter_mut().find(|spare| spare.is_none())
        {
            *place = Some(frame);
        }
    }

    /// Takes bytes from the first slot, up to what `to` has room for; the whole slot in packet mode, whatever fits.
    /// Gives the bytes moved and whether a packet ended.
    ///
    /// # Errors
    /// `EFAULT`; nothing was taken then.
    pub fn pop(&mut self, to: &mut dyn IoWriter) -> Result<(usize, Framing)> {
        let Some(Some(slot)) = self.slots.get_mut(self.first) else { return Ok((0, Framing::Stream)) };
        let wanted = slot.length.min(to.remaining());
        let copied = to.write_frame(&slot.frame, slot.offset, wanted)?;
        let framing = slot.framing;
        let taken = if framing == Framing::Packets { slot.length } else { copied };
        slot.offset += taken;
        slot.length -= taken;
        let emptied = slot.length == 0;
        self.bytes -= taken;
        if emptied {
            self.drop_first();
        }
        Ok((copied, framing))
    }

    /// Appends up to `count` bytes of this ring to `other` without copying: both then have the pages. Nothing is taken from here.
    /// Gives the bytes; fewer when `other` is full.
    pub fn share(&self, other: &mut Ring, count: usize) -> usize {
        let mut done = 0;
        for position in 0..self.used {
            if done == count || other.is_full() {
                break;
            }
            let Some(Some(slot)) = self.slots.get(self.index(position)) else { break };
            let length = slot.length.min(count - done);
            let (frame, offset, framing) = (slot.frame.clone(), slot.offset, slot.framing);
            other.append(Slot { frame, offset, length, framing });
            done += length;
        }
        done
    }

    fn drop_first(&mut self) {
        let slot = self.slots.get_mut(self.first).and_then(Option::take);
        self.first = self.index(1);
        self.used -= 1;
        if let Some(slot) = slot {
            self.keep(slot.frame);
        }
    }
}

fn empty_slots(pages: usize) -> Result<Vec<Option<Slot>>> {
    let mut slots = Vec::new();
    slots.try_reserve_exact(pages).map_err(|_| Errno::ENOMEM)?;
    slots.resize_with(pages, || None);
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mm::io::{SliceReader, SliceWriter};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize),
        Read(usize),
        Resize(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop_oneof![1..300usize, 3000..9000usize].prop_map(Step::Write),
            4 => prop_oneof![1..300usize, 3000..9000usize].prop_map(Step::Read),
            1 => (1..9usize).prop_map(Step::Resize),
        ]
    }

    /// As `pipe` writes: the odd bytes to the last page if they fit, then page by page. Gives the bytes taken.
    fn write(ring: &mut Ring, bytes: &[u8]) -> usize {
        let mut from = SliceReader::new(bytes);
        let mut taken = ring.merge(&mut from).unwrap();
        loop {
            match ring.push(&mut from, Framing::Stream).unwrap() {
                0 => return taken,
                count => taken += count,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// The model is a queue of bytes: what comes out is what went in, in order, and nothing is lost or made up.
        #[test]
        fn bytes_come_out_as_they_went_in(steps in proptest::collection::vec(step(), 1..60)) {
            machine::host::run(1, 1, || {
                let mut ring = Ring::new(4).unwrap();
                let mut slots = 4;
                let mut next = 0u8;
                let mut model: VecDeque<u8> = VecDeque::new();
                for step in &steps {
                    match *step {
                        Step::Write(length) => {
                            let bytes: Vec<u8> = (0..length).map(|at| next.wrapping_add((at % 251) as u8)).collect();
                            let was_empty = ring.is_empty();
                            let free = slots - ring.used();
                            let taken = write(&mut ring, &bytes);
                            // What fits into the free pages is taken whole; an empty pipe takes PIPE_BUF at once.
                            assert!(taken >= length.min(free * PAGE_SIZE), "{taken} of {length} into {free}");
                            assert!(!was_empty || taken >= length.min(PAGE_SIZE));
                            model.extend(bytes.iter().take(taken));
                            next = next.wrapping_add(17);
                        }
                        Step::Read(length) => {
                            let mut bytes = alloc::vec![0; length];
                            let mut to = SliceWriter::new(&mut bytes);
                            let mut count = 0;
                            while count < length && !ring.is_empty() {
                                count += ring.pop(&mut to).unwrap().0;
                            }
                            assert_eq!(count, length.min(model.len()));
                            let expected: Vec<u8> = model.drain(..count).collect();
                            assert_eq!(bytes.get(..count), Some(&expected[..]));
                        }
                        Step::Resize(pages) => match ring.resize(pages) {
                            Ok(()) => slots = pages,
                            Err(errno) => assert!(errno == Errno::EBUSY && pages < ring.used()),
                        },
                    }
                    assert_eq!(ring.bytes(), model.len());
                    assert!(ring.used() <= slots && ring.is_empty() == model.is_empty());
                }
            });
        }
    }
}
