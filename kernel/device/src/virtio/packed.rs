//! The packed ring: one ring of descriptors that both sides write (Virtual I/O Device 1.2, 2.8).
//!
//! Key type: [`Packed`]. A descriptor is available when its two flags differ from each other in the way of the current lap, and used
//! when they are equal. Locks: the queue's.

use super::Broken;
use super::queue::{Addresses, DESCRIPTOR, Direction, Part, Pieces};
use abi::errno::Result;
use alloc::vec::Vec;
use machine::dma::{self, DmaRegion};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// Values of an event structure's flags.
const EVENTS_OFF: u16 = 1;
const EVENTS_AT: u16 = 2;

/// A position in the ring and the lap's bit there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    at: u16,
    lap: bool,
}

impl Place {
    fn advance(&mut self, count: u16, size: u16) {
        // Positions are below the size, and so are counts or equal to it: the sum may pass 16 bits.
        let sum = u32::from(self.at) + u32::from(count);
        if sum >= u32::from(size) {
            self.lap = !self.lap;
        }
        self.at = (sum % u32::from(size)) as u16;
    }

    /// As event structures have it.
    fn encode(self) -> u16 {
        self.at | u16::from(self.lap) << 15
    }
}

/// One ring.
pub(super) struct Packed {
    memory: DmaRegion,
    size: u16,
    event_index: bool,
    /// Where the event structures begin: ours, the device's.
    ours: usize,
    theirs: usize,
    /// Where the next descriptor goes, and where the next used one will be.
    next: Place,
    used: Place,
    free: u16,
    /// Descriptors shown since the device was last told.
    untold: u16,
    /// How many descriptors each buffer takes, by id.
    lengths: Vec<u16>,
}

impl Packed {
    /// A ring of `size` descriptors. Errors: `ENOMEM`.
    pub(super) fn new(size: u16, event_index: bool) -> Result<Packed> {
        let ours = usize::from(size) * DESCRIPTOR;
        let theirs = ours + 4;
        let memory = DmaRegion::alloc(theirs + 4)?;
        let start = Place { at: 0, lap: true };
        let lengths = alloc::vec![0; usize::from(size)];
        Ok(Packed {
            memory,
            size,
            event_index,
            ours,
            theirs,
            next: start,
            used: start,
            free: size,
            untold: 0,
            lengths,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            descriptors: self.memory.address(),
            driver: self.memory.address_at(self.ours),
            device: self.memory.address_at(self.theirs),
        }
    }

    /// Descriptors that are free.
    pub(super) fn room(&self) -> usize {
        usize::from(self.free)
    }

    /// Writes a table of parts: their order is their chain.
    pub(super) fn write_table(memory: &DmaRegion, offset: usize, parts: &[Part]) {
        for (number, part) in parts.iter().enumerate() {
            let at = offset + number * DESCRIPTOR;
            memory.write(at, part.address.0);
            memory.write(at + 8, part.length);
            memory.write(at + 12, 0u16);
            memory.write(at + 14, if part.direction == Direction::FromDevice { WRITE } else { 0 });
        }
    }

    /// Writes a descriptor but for its flags.
    fn write_body(&self, place: Place, address: u64, length: u32, id: u16) {
        let at = usize::from(place.at) * DESCRIPTOR;
        self.memory.write(at, address);
        self.memory.write(at + 8, length);
        self.memory.write(at + 12, id);
    }

    fn write_flags(&self, place: Place, flags: u16) {
        let lap = if place.lap { AVAILABLE } else { USED };
        self.memory.write(usize::from(place.at) * DESCRIPTOR + 14, flags | lap);
    }

    /// Puts a buffer into the next descriptors and makes it available. There is room.
    pub(super) fn show(&mut self, id: u16, pieces: Pieces<'_>) {
        let first = self.next;
        let mut place = first;
        let (count, first_flags) = match pieces {
            Pieces::Indirect(table, bytes) => {
                self.write_body(place, table.0, bytes, id);
                (1, INDIRECT)
            }
            Pieces::Direct(parts) => {
                let mut first_flags = 0;
                for (number, part) in parts.iter().enumerate() {
                    let write = if part.direction == Direction::FromDevice { WRITE } else { 0 };
                    let flags = write | if number + 1 < parts.len() { NEXT } else { 0 };
                    self.write_body(place, part.address.0, part.length, id);
                    // The first one's flags show the whole buffer, so they come last.
                    if number == 0 {
                        first_flags = flags;
                    } else {
                        self.write_flags(place, flags);
                    }
                    place.advance(1, self.size);
                }
                (parts.len() as u16, first_flags)
            }
        };
        dma::publish();
        self.write_flags(first, first_flags);
        self.next.advance(count, self.size);
        self.free -= count;
        self.untold += count;
        if let Some(length) = self.lengths.get_mut(usize::from(id)) {
            *length = count;
        }
    }

    fn is_used(&self) -> bool {
        let flags = self.memory.read::<u16>(usize::from(self.used.at) * DESCRIPTOR + 14);
        (flags & AVAILABLE != 0) == self.used.lap && (flags & USED != 0) == self.used.lap
    }

    /// The next used descriptor: id and bytes written, as the device says.
    pub(super) fn take_used(&mut self, in_flight: u16) -> core::result::Result<Option<(u32, u32)>, Broken> {
        if !self.is_used() {
            return Ok(None);
        }
        if in_flight == 0 {
            return Err(Broken);
        }
        dma::acquire();
        let at = usize::from(self.used.at) * DESCRIPTOR;
        Ok(Some((u32::from(self.memory.read::<u16>(at + 12)), self.memory.read(at + 8))))
    }

    /// Steps over the descriptors of a buffer that came back.
    pub(super) fn release(&mut self, id: u16) {
        let count = self.lengths.get(usize::from(id)).copied().unwrap_or(0);
        self.used.advance(count, self.size);
        self.free += count;
    }

    pub(super) fn rearm(&mut self) -> bool {
        if self.event_index {
            self.memory.write(self.ours, self.used.encode());
            dma::publish();
            self.memory.write(self.ours + 2, EVENTS_AT);
        }
        dma::settle();
        self.is_used()
    }

    pub(super) fn wants_kick(&mut self) -> bool {
        let fresh = core::mem::take(&mut self.untold);
        dma::settle();
        if fresh == 0 {
            return false;
        }
        // Both halves at once: they belong together.
        let event = self.memory.read::<u32>(self.theirs);
        let (place, flags) = (event as u16, (event >> 16) as u16);
        match flags {
            EVENTS_OFF => false,
            EVENTS_AT if self.event_index => {
                let mut event = i32::from(place & 0x7fff);
                if (place >> 15 != 0) != self.next.lap {
                    event -= i32::from(self.size);
                }
                let new = i32::from(self.next.at);
                // The descriptor that it waits for is among the new ones.
                event < new && event >= new - i32::from(fresh)
            }
            _ => true,
        }
    }
}
