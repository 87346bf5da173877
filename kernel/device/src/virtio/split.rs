//! The split ring: descriptors, a ring of what is available, a ring of what was used (Virtual I/O Device 1.2, 2.7).
//!
//! Key type: [`Split`]. The three parts lie as old devices want them, so that one layout serves all. Locks: the queue's.

use super::Broken;
use super::queue::{Addresses, DESCRIPTOR, Direction, Part, Pieces};
use abi::errno::Result;
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use machine::dma::{self, DmaRegion};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// In the used ring's flags: "do not tell me".
const NO_NOTIFY: u16 = 1;
/// End of a chain.
const NO_ID: u16 = u16::MAX;

/// One ring.
pub(super) struct Split {
    memory: DmaRegion,
    size: u16,
    event_index: bool,
    /// Where the available and the used ring begin.
    available: usize,
    used: usize,
    /// How many buffers were ever shown, shown when the device was last told, and taken back; they wrap.
    shown: u16,
    told: u16,
    taken: u16,
    /// The id after each in its chain. The device can write its own copy, so that one is not believed.
    next: Vec<u16>,
}

impl Split {
    /// A ring of `size` descriptors, a power of two. Errors: `ENOMEM`.
    pub(super) fn new(size: u16, event_index: bool) -> Result<Split> {
        let length = usize::from(size);
        let available = length * DESCRIPTOR;
        let used = (available + 6 + 2 * length).next_multiple_of(PAGE_SIZE);
        let memory = DmaRegion::alloc(used + 6 + 8 * length)?;
        let next = alloc::vec![NO_ID; length];
        Ok(Split { memory, size, event_index, available, used, shown: 0, told: 0, taken: 0, next })
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            descriptors: self.memory.address(),
            driver: self.memory.address_at(self.available),
            device: self.memory.address_at(self.used),
        }
    }

    /// Writes a descriptor at `offset` of some memory.
    fn write_descriptor(memory: &DmaRegion, offset: usize, address: u64, length: u32, flags: u16, next: u16) {
        memory.write(offset, address);
        memory.write(offset + 8, length);
        memory.write(offset + 12, flags);
        memory.write(offset + 14, next);
    }

    /// Writes a part, with more to follow at `next`.
    fn write_part(memory: &DmaRegion, offset: usize, part: &Part, next: Option<u16>) {
        let write = if part.direction == Direction::FromDevice { WRITE } else { 0 };
        let more = if next.is_some() { NEXT } else { 0 };
        let flags = write | more;
        Split::write_descriptor(memory, offset, part.address.0, part.length, flags, next.unwrap_or(0));
    }

    /// Writes a table of parts.
    pub(super) fn write_table(memory: &DmaRegion, offset: usize, parts: &[Part]) {
        for (number, part) in parts.iter().enumerate() {
            let next = (number + 1 < parts.len()).then_some(number as u16 + 1);
            Split::write_part(memory, offset + number * DESCRIPTOR, part, next);
        }
    }

    /// Puts a buffer into the descriptors `ids`, the first of which is its name, and makes it available.
    pub(super) fn show(&mut self, ids: &[u16], pieces: Pieces<'_>) {
        let Some(&head) = ids.first() else { return };
        match pieces {
            Pieces::Indirect(table, bytes) => {
                let offset = usize::from(head) * DESCRIPTOR;
                Split::write_descriptor(&self.memory, offset, table.0, bytes, INDIRECT, 0);
                self.link(head, NO_ID);
            }
            Pieces::Direct(parts) => {
                for (number, (&id, part)) in ids.iter().zip(parts).enumerate() {
                    let next = ids.get(number + 1).copied();
                    Split::write_part(&self.memory, usize::from(id) * DESCRIPTOR, part, next);
                    self.link(id, next.unwrap_or(NO_ID));
                }
            }
        }
        let place = usize::from(self.shown & (self.size - 1));
        self.memory.write(self.available + 4 + 2 * place, head);
        self.shown = self.shown.wrapping_add(1);
        dma::publish();
        self.memory.write(self.available + 2, self.shown);
    }

    fn link(&mut self, id: u16, next: u16) {
        if let Some(place) = self.next.get_mut(usize::from(id)) {
            *place = next;
        }
    }

    /// The next entry of the used ring: id and bytes written, as the device says.
    pub(super) fn take_used(&mut self, in_flight: u16) -> core::result::Result<Option<(u32, u32)>, Broken> {
        let index = self.memory.read::<u16>(self.used + 2);
        let waiting = index.wrapping_sub(self.taken);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > in_flight {
            return Err(Broken);
        }
        dma::acquire();
        let entry = self.used + 4 + 8 * usize::from(self.taken & (self.size - 1));
        self.taken = self.taken.wrapping_add(1);
        Ok(Some((self.memory.read(entry), self.memory.read(entry + 4))))
    }

    /// Gives the ids of a buffer back.
    pub(super) fn release(&mut self, head: u16, count: u16, free: &mut Vec<u16>) {
        let mut id = head;
        for _ in 0..count {
            free.push(id);
            id = self.next.get(usize::from(id)).copied().unwrap_or(NO_ID);
        }
    }

    pub(super) fn rearm(&mut self) -> bool {
        if self.event_index {
            let used_event = self.available + 4 + 2 * usize::from(self.size);
            self.memory.write(used_event, self.taken);
        }
        dma::settle();
        self.memory.read::<u16>(self.used + 2) != self.taken
    }

    pub(super) fn wants_kick(&mut self) -> bool {
        let (old, new) = (self.told, self.shown);
        self.told = new;
        dma::settle();
        if !self.event_index {
            return old != new && self.memory.read::<u16>(self.used) & NO_NOTIFY == 0;
        }
        let event = self.memory.read::<u16>(self.used + 4 + 8 * usize::from(self.size));
        // 2.7.10: the entry that it waits for is among the new ones.
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }
}
