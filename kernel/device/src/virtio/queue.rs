//! Virtqueues: how a driver hands memory to a device and learns what became of it.
//!
//! Key types: [`Queue`] (one queue, with the lock around it), [`Part`] (a piece of memory), [`QueueGuard`] (the lock held). Each buffer
//! that is handed over carries a token of the driver's, which comes back with it and which owns the memory meanwhile. The two
//! formats of rings are [`super::split`] and [`super::packed`].
//!
//! The device is not trusted. A used entry must name a buffer that it has, and cannot have written more than there was room;
//! else the queue is broken: it gives nothing back any more until the device has been reset and [`Queue::drain`] is called.
//! Reference: Virtual I/O Device 1.2, 2.6 to 2.9.
//!
//! Locks: one spin lock with interrupts off for each queue, under which only registers are written.

use super::packed::Packed;
use super::split::Split;
use super::{Broken, Features, Virtio};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use machine::dma::{DmaAddress, DmaRegion};
use machine::sync::{IrqSpinLock, IrqSpinLockGuard};

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The device reads it.
    ToDevice,
    /// The device writes it.
    FromDevice,
}

/// A piece of memory for the device.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Where.
    pub address: DmaAddress,
    /// Bytes, at least one.
    pub length: u32,
    /// Which way.
    pub direction: Direction,
}

/// Bytes of a descriptor, in rings and in tables of either format.
pub(super) const DESCRIPTOR: usize = 16;
/// The most parts of one buffer, so that its table is half a page.
pub const MAX_PARTS: usize = 128;
/// The longest ring that is made.
pub(super) const MAX_SIZE: u16 = 256;
/// Buffers that are given back between two looks at the lock.
const BATCH: usize = 16;

/// What a ring must be able to do. Ids are below the ring's size; each is in use by one buffer at most.
pub(super) enum Format {
    Split(Split),
    Packed(Packed),
}

/// Where a ring's three parts are, for the device.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Descriptors.
    pub descriptors: DmaAddress,
    /// What the driver writes.
    pub driver: DmaAddress,
    /// What the device writes.
    pub device: DmaAddress,
}

/// A buffer that the device has.
struct Given<T> {
    token: T,
    /// The most the device may write, bytes.
    writable: u32,
    /// The ids that it uses, its own first, then those chained to it: how many.
    ids: u16,
}

/// The ring and what is in it.
pub(super) struct Ring<T> {
    format: Format,
    size: u16,
    given: Vec<Option<Given<T>>>,
    free: Vec<u16>,
    in_flight: u16,
    /// A table for each id, if the device knows indirect descriptors.
    tables: Option<DmaRegion>,
    max_parts: usize,
    broken: bool,
}

/// Bytes of a table with room for [`MAX_PARTS`].
fn table_bytes(parts: usize) -> usize {
    parts.next_power_of_two() * DESCRIPTOR
}

impl<T> Ring<T> {
    fn new(size: u16, features: Features, max_parts: usize) -> Result<Ring<T>> {
        let packed = features.contains(Features::RING_PACKED);
        let event_index = features.contains(Features::EVENT_INDEX);
        let format = if packed {
            Format::Packed(Packed::new(size, event_index)?)
        } else {
            Format::Split(Split::new(size, event_index)?)
        };
        let indirect = max_parts > 1 && features.contains(Features::INDIRECT_DESCRIPTORS);
        let max_parts = if indirect { max_parts.min(MAX_PARTS) } else { max_parts.min(usize::from(size)) };
        let tables = match indirect {
            true => Some(DmaRegion::alloc(usize::from(size) * table_bytes(max_parts))?),
            false => None,
        };
        let mut given = Vec::new();
        given.try_reserve_exact(usize::from(size)).map_err(|_| Errno::ENOMEM)?;
        given.resize_with(usize::from(size), || None);
        let mut free = Vec::new();
        free.try_reserve_exact(usize::from(size)).map_err(|_| Errno::ENOMEM)?;
        free.extend((0..size).rev());
        Ok(Ring { format, size, given, free, in_flight: 0, tables, max_parts, broken: false })
    }

    /// Writes a buffer's parts where the device will look, and shows it. The caller has looked at the room.
    fn give(&mut self, parts: &[Part], token: T) {
        let mut ids: ArrayVec<u16, MAX_PARTS> = ArrayVec::new();
        let indirect;
        let pieces = match &self.tables {
            Some(tables) if parts.len() > 1 => {
                let Some(id) = self.free.pop() else { return };
                ids.push(id);
                let offset = usize::from(id) * table_bytes(self.max_parts);
                match &self.format {
                    Format::Split(_) => Split::write_table(tables, offset, parts),
                    Format::Packed(_) => Packed::write_table(tables, offset, parts),
                }
                indirect = (tables.address_at(offset), (parts.len() * DESCRIPTOR) as u32);
                Pieces::Indirect(indirect.0, indirect.1)
            }
            _ => {
                // A packed ring's buffer has one id however many descriptors it takes.
                let wanted = if matches!(self.format, Format::Packed(_)) { 1 } else { parts.len() };
                ids.extend((0..wanted).filter_map(|_| self.free.pop()));
                Pieces::Direct(parts)
            }
        };
        let Some(&head) = ids.first() else { return };
        let writable = parts.iter().filter(|part| part.direction == Direction::FromDevice);
        let writable = writable.fold(0u32, |sum, part| sum.saturating_add(part.length));
        if let Some(place) = self.given.get_mut(usize::from(head)) {
            *place = Some(Given { token, writable, ids: ids.len() as u16 });
        }
        self.in_flight += 1;
        match &mut self.format {
            Format::Split(ring) => ring.show(&ids, pieces),
            Format::Packed(ring) => ring.show(head, pieces),
        }
    }

    /// Whether a buffer of so many parts fits now.
    fn has_room(&self, parts: usize) -> bool {
        let indirect = self.tables.is_some() || parts == 1;
        match &self.format {
            Format::Split(_) => self.free.len() >= if indirect { 1 } else { parts },
            Format::Packed(ring) => !self.free.is_empty() && ring.room() >= if indirect { 1 } else { parts },
        }
    }

    /// The next buffer that the device is done with.
    fn take_used(&mut self) -> core::result::Result<Option<(T, u32)>, Broken> {
        if self.broken {
            return Err(Broken);
        }
        let used = match &mut self.format {
            Format::Split(ring) => ring.take_used(self.in_flight),
            Format::Packed(ring) => ring.take_used(self.in_flight),
        };
        let result = match used {
            Ok(None) => return Ok(None),
            Ok(Some((id, written))) => self.accept(id, written),
            Err(Broken) => Err(Broken),
        };
        self.broken = result.is_err();
        result.map(Some)
    }

    /// Checks what the device says of a buffer and takes it back.
    fn accept(&mut self, id: u32, written: u32) -> core::result::Result<(T, u32), Broken> {
        let place = usize::try_from(id).ok().and_then(|id| self.given.get_mut(id)).ok_or(Broken)?;
        let given = place.take_if(|given| written <= given.writable).ok_or(Broken)?;
        self.in_flight -= 1;
        match &mut self.format {
            Format::Split(ring) => ring.release(id as u16, given.ids, &mut self.free),
            Format::Packed(ring) => {
                ring.release(id as u16);
                self.free.push(id as u16);
            }
        }
        Ok((given.token, written))
    }

    /// Asks to be interrupted from now on; says whether something has come meanwhile.
    fn rearm(&mut self) -> bool {
        match &mut self.format {
            Format::Split(ring) => ring.rearm(),
            Format::Packed(ring) => ring.rearm(),
        }
    }

    /// Whether the device wants to be told of what was given since this was asked last.
    fn wants_kick(&mut self) -> bool {
        match &mut self.format {
            Format::Split(ring) => ring.wants_kick(),
            Format::Packed(ring) => ring.wants_kick(),
        }
    }

    pub(super) fn addresses(&self) -> Addresses {
        match &self.format {
            Format::Split(ring) => ring.addresses(),
            Format::Packed(ring) => ring.addresses(),
        }
    }
}

/// What is put into a ring for one buffer.
pub(super) enum Pieces<'a> {
    /// Each part, in descriptors of the ring itself.
    Direct(&'a [Part]),
    /// A table of descriptors: where, and its bytes.
    Indirect(DmaAddress, u32),
}

/// A queue of a device. `T` is the driver's token, which owns the memory of a buffer.
pub struct Queue<T: Send> {
    device: Arc<Virtio>,
    index: u16,
    ring: IrqSpinLock<Ring<T>>,
}

impl<T: Send> Queue<T> {
    /// Makes the ring of queue `index`, for buffers of at most `max_parts` parts ([`MAX_PARTS`] at most); the device learns of it when
    /// it is started. Features must have been negotiated.
    ///
    /// Errors: `ENODEV`: the device has no such queue; `ENOMEM`.
    pub fn new(device: &Arc<Virtio>, index: u16, max_parts: usize) -> Result<Queue<T>> {
        let offered = device.transport().queue_size(index);
        let mut size = offered.min(MAX_SIZE);
        if !device.features().contains(Features::RING_PACKED) && size != 0 && !size.is_power_of_two() {
            // A split ring's length is a power of two.
            size = 1 << size.ilog2();
        }
        if size == 0 {
            return Err(Errno::ENODEV);
        }
        let ring = Ring::new(size, device.features(), max_parts.max(1))?;
        Ok(Queue { device: device.clone(), index, ring: IrqSpinLock::new(ring) })
    }

    /// Its number.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// How many buffers it holds at most.
    pub fn size(&self) -> u16 {
        self.ring.lock().size
    }

    /// How many parts a buffer may have.
    pub fn max_parts(&self) -> usize {
        self.ring.lock().max_parts
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.ring.lock().addresses()
    }

    /// Takes the lock, to add buffers.
    pub fn lock(&self) -> QueueGuard<'_, T> {
        QueueGuard { ring: self.ring.lock() }
    }

    /// Tells the device of what was added, if it wants to know. Any context.
    pub fn kick(&self) {
        if self.ring.lock().wants_kick() {
            self.tell();
        }
    }

    /// Gives every buffer that the device is done with to `each`, with the bytes that it wrote; asks for an interrupt when the next one
    /// is. The lock is not held meanwhile, and a new buffer may have the id already: what lies at the id's place `settle` reads, which is
    /// called under the lock. Any context.
    ///
    /// Errors: the device does not keep the rules. It is marked broken; somebody must shut it off.
    pub fn complete(
        &self,
        mut settle: impl FnMut(&mut T),
        mut each: impl FnMut(T, u32),
    ) -> core::result::Result<(), Broken> {
        loop {
            let mut done: ArrayVec<(T, u32), BATCH> = ArrayVec::new();
            let outcome = self.collect(&mut settle, &mut done);
            let empty = done.is_empty();
            done.into_iter().for_each(|(token, written)| each(token, written));
            match outcome {
                Err(Broken) => {
                    self.device.mark_broken();
                    return Err(Broken);
                }
                Ok(()) if empty => return Ok(()),
                Ok(()) => {}
            }
        }
    }

    /// Takes some buffers back; if there is none even after asking for interrupts, takes none.
    fn collect(
        &self,
        settle: &mut impl FnMut(&mut T),
        done: &mut ArrayVec<(T, u32), BATCH>,
    ) -> core::result::Result<(), Broken> {
        let mut ring = self.ring.lock();
        loop {
            while !done.is_full() {
                let Some((mut token, written)) = ring.take_used()? else { break };
                settle(&mut token);
                done.push((token, written));
            }
            if !done.is_empty() || !ring.rearm() {
                return Ok(());
            }
        }
    }

    /// Takes one buffer back, if the device is done with one. Any context. Errors: as [`Queue::complete`].
    pub fn take_used(&self) -> core::result::Result<Option<(T, u32)>, Broken> {
        let mut ring = self.ring.lock();
        loop {
            let used = ring.take_used();
            if used.is_err() {
                self.device.mark_broken();
            }
            match used? {
                Some(buffer) => return Ok(Some(buffer)),
                None if ring.rearm() => {}
                None => return Ok(None),
            }
        }
    }

    /// Hands one buffer to the device, unless somebody has the lock just now: then, and if there is no room, the token comes back. Says whether the
    /// device wants to be [told](Queue::tell). Any context, also one that has interrupted the holder of the lock.
    pub fn try_add(&self, parts: &[Part], token: T) -> core::result::Result<bool, T> {
        let Some(ring) = self.ring.try_lock() else { return Err(token) };
        let mut guard = QueueGuard { ring };
        guard.add(parts, token)?;
        Ok(guard.ring.wants_kick())
    }

    /// Tells the device that there is something new. Any context; takes no lock.
    pub fn tell(&self) {
        if !self.device.is_broken() {
            self.device.transport().notify(self.index);
        }
    }

    /// [`Queue::take_used`] for a kernel that panics: without asking for interrupts, and nothing if somebody has the lock.
    pub fn try_take_used(&self) -> Option<(T, u32)> {
        self.ring.try_lock()?.take_used().ok()?
    }

    /// Takes all buffers back that the device has. Only after it was reset: it may use them until then. What is added later stays
    /// out.
    pub fn drain(&self) -> Vec<T> {
        let mut ring = self.ring.lock();
        ring.broken = true;
        ring.given.iter_mut().filter_map(|place| place.take()).map(|given| given.token).collect()
    }
}

/// A locked queue.
pub struct QueueGuard<'a, T: Send> {
    ring: IrqSpinLockGuard<'a, Ring<T>>,
}

impl<T: Send> QueueGuard<'_, T> {
    /// The id that the next buffer will have, below the queue's size: a place for what goes with it. `None`: the queue is
    /// full or broken, as far as a buffer of so many parts is concerned.
    pub fn next_id(&self, parts: usize) -> Option<u16> {
        let fits =
            parts != 0 && parts <= self.ring.max_parts && !self.ring.broken && self.ring.has_room(parts);
        if fits { self.ring.free.last().copied() } else { None }
    }

    /// Hands a buffer to the device: parts that it reads first, then those that it writes. Gives the token back if there is no room
    /// (see [`QueueGuard::next_id`]).
    pub fn add(&mut self, parts: &[Part], token: T) -> core::result::Result<(), T> {
        if self.next_id(parts.len()).is_none() {
            return Err(token);
        }
        self.ring.give(parts, token);
        Ok(())
    }
}
