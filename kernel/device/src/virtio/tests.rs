//! Queues against a device in software, one that keeps the rules and ones that do not.
//!
//! Key type: [`Fake`], the device's side of both kinds of rings. It looks at a queue only when it was notified, and the driver only when
//! it was interrupted, so that a missing signal leaves something undone. Locks: the fake's own.

use super::*;
use machine::dma::DmaRegion;
use machine::host::dma;
use proptest::prelude::*;
use std::sync::Mutex;
use std::vec;

/// What one queue looks like from the device.
struct Side {
    size: u16,
    at: Addresses,
    /// Buffers or descriptors taken, and given back; in a packed ring positions with the lap.
    taken: u16,
    used: u16,
    taken_lap: bool,
    used_lap: bool,
}

/// A buffer as the device sees it: id, descriptors in the ring, parts.
struct Buffer {
    id: u16,
    descriptors: u16,
    parts: Vec<(u64, u32, bool)>,
}

struct Registers {
    status: u8,
    accepted: u64,
    side: Option<Side>,
    notified: bool,
    generation: u32,
}

struct Fake {
    offered: u64,
    size: u16,
    registers: Arc<Mutex<Registers>>,
}

fn read<const N: usize>(address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    dma::read(address, &mut bytes).expect("the driver gave a wrong address");
    bytes
}

fn read_u16(address: u64) -> u16 {
    u16::from_le_bytes(read(address))
}

fn read_u32(address: u64) -> u32 {
    u32::from_le_bytes(read(address))
}

fn write(address: u64, bytes: &[u8]) {
    dma::write(address, bytes).expect("the driver gave a wrong address");
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

impl Registers {
    fn has(&self, feature: Features) -> bool {
        Features::from_bits_retain(self.accepted).contains(feature)
    }

    /// The next buffer that the driver has made available.
    fn take(&mut self) -> Option<Buffer> {
        let (packed, event) = (self.has(Features::RING_PACKED), self.has(Features::EVENT_INDEX));
        let side = self.side.as_mut()?;
        if packed { side.take_packed() } else { side.take_split(event) }
    }

    /// Gives a buffer back; says whether the driver wants an interrupt.
    fn give(&mut self, id: u32, written: u32, descriptors: u16) -> bool {
        let (packed, event) = (self.has(Features::RING_PACKED), self.has(Features::EVENT_INDEX));
        let side = self.side.as_mut().expect("started");
        if packed {
            side.give_packed(id as u16, written, descriptors, event)
        } else {
            side.give_split(id, written, event)
        }
    }
}

impl Side {
    fn take_split(&mut self, event: bool) -> Option<Buffer> {
        let size = self.size;
        if event {
            write(self.at.device.0 + 4 + 8 * u64::from(size), &self.taken.to_le_bytes());
        }
        if read_u16(self.at.driver.0 + 2) == self.taken {
            return None;
        }
        let id = read_u16(self.at.driver.0 + 4 + 2 * u64::from(self.taken % size));
        self.taken = self.taken.wrapping_add(1);
        let (mut parts, mut next) = (Vec::new(), id);
        loop {
            let at = self.at.descriptors.0 + 16 * u64::from(next);
            let (address, length) = (u64::from_le_bytes(read(at)), read_u32(at + 8));
            let flags = read_u16(at + 12);
            if flags & INDIRECT != 0 {
                assert_eq!(flags, INDIRECT);
                parts = split_table(address, length);
                break;
            }
            parts.push((address, length, flags & WRITE != 0));
            if flags & NEXT == 0 {
                break;
            }
            next = read_u16(at + 14);
        }
        Some(Buffer { id, descriptors: 1, parts })
    }

    fn give_split(&mut self, id: u32, written: u32, event: bool) -> bool {
        let entry = self.at.device.0 + 4 + 8 * u64::from(self.used % self.size);
        write(entry, &id.to_le_bytes());
        write(entry + 4, &written.to_le_bytes());
        let old = self.used;
        self.used = old.wrapping_add(1);
        write(self.at.device.0 + 2, &self.used.to_le_bytes());
        let wanted = read_u16(self.at.driver.0 + 4 + 2 * u64::from(self.size));
        !event || wanted == old
    }

    fn advance(at: &mut u16, lap: &mut bool, count: u16, size: u16) {
        *at += count;
        if *at >= size {
            *at -= size;
            *lap = !*lap;
        }
    }

    fn take_packed(&mut self) -> Option<Buffer> {
        // Always to be told.
        write(self.at.device.0, &[0; 4]);
        let mut parts = Vec::new();
        let mut descriptors = 0;
        loop {
            let at = self.at.descriptors.0 + 16 * u64::from(self.taken);
            let flags = read_u16(at + 14);
            let is_ours = (flags & AVAILABLE != 0) == self.taken_lap && (flags & USED != 0) != self.taken_lap;
            if descriptors == 0 && !is_ours {
                return None;
            }
            assert!(is_ours, "half a buffer");
            Side::advance(&mut self.taken, &mut self.taken_lap, 1, self.size);
            descriptors += 1;
            let (address, length) = (u64::from_le_bytes(read(at)), read_u32(at + 8));
            if flags & INDIRECT != 0 {
                for place in (address..address + u64::from(length)).step_by(16) {
                    let flags = read_u16(place + 14);
                    parts.push((u64::from_le_bytes(read(place)), read_u32(place + 8), flags & WRITE != 0));
                }
            } else {
                parts.push((address, length, flags & WRITE != 0));
            }
            if flags & NEXT == 0 {
                return Some(Buffer { id: read_u16(at + 12), descriptors, parts });
            }
        }
    }

    fn give_packed(&mut self, id: u16, written: u32, descriptors: u16, event: bool) -> bool {
        let at = self.at.descriptors.0 + 16 * u64::from(self.used);
        write(at + 8, &written.to_le_bytes());
        write(at + 12, &id.to_le_bytes());
        let flags = if self.used_lap { AVAILABLE | USED } else { 0 };
        write(at + 14, &flags.to_le_bytes());
        let was = self.used | u16::from(self.used_lap) << 15;
        Side::advance(&mut self.used, &mut self.used_lap, descriptors, self.size);
        let (place, mode) = (read_u16(self.at.driver.0), read_u16(self.at.driver.0 + 2));
        !event || mode != 2 || place == was
    }
}

fn split_table(address: u64, length: u32) -> Vec<(u64, u32, bool)> {
    let count = length / 16;
    let mut parts = Vec::new();
    for number in 0..count {
        let at = address + 16 * u64::from(number);
        let flags = read_u16(at + 12);
        parts.push((u64::from_le_bytes(read(at)), read_u32(at + 8), flags & WRITE != 0));
        assert_eq!(flags & NEXT != 0, number + 1 < count);
        assert!(flags & NEXT == 0 || read_u16(at + 14) == number as u16 + 1);
    }
    parts
}

impl Transport for Fake {
    fn status(&self) -> u8 {
        self.registers.lock().unwrap().status
    }
    fn set_status(&self, status: u8) {
        let mut registers = self.registers.lock().unwrap();
        registers.status = status;
        if status == 0 {
            registers.side = None;
        }
    }
    fn features(&self) -> u64 {
        self.offered
    }
    fn accept_features(&self, features: u64) {
        self.registers.lock().unwrap().accepted = features;
    }
    fn queue_size(&self, index: u16) -> u16 {
        if index == 0 { self.size } else { 0 }
    }
    fn start(&self, _config_changed: Handler, queues: Vec<Start>) -> Result<()> {
        let start = queues.first().ok_or(Errno::ENODEV)?;
        self.registers.lock().unwrap().side = Some(Side {
            size: start.size,
            at: start.addresses,
            taken: 0,
            used: 0,
            taken_lap: true,
            used_lap: true,
        });
        Ok(())
    }
    fn notify(&self, _index: u16) {
        self.registers.lock().unwrap().notified = true;
    }
    fn stop(&self) {}
    fn config(&self, offset: usize, width: usize) -> u32 {
        (0..width).fold(0, |all, byte| all | ((offset + byte) as u32) << (8 * byte))
    }
    fn config_generation(&self) -> u32 {
        let mut registers = self.registers.lock().unwrap();
        registers.generation += 1;
        registers.generation
    }
}

/// The token: the memory and what the device is expected to see.
struct Token {
    memory: DmaRegion,
    number: u32,
}

struct Rig {
    queue: Queue<Token>,
    device: Arc<Virtio>,
    registers: Arc<Mutex<Registers>>,
}

fn rig(features: u64, size: u16, max_parts: usize) -> Rig {
    let registers = Registers { status: 0, accepted: 0, side: None, notified: false, generation: 0 };
    let registers = Arc::new(Mutex::new(registers));
    let offered = features | Features::VERSION_1.bits();
    let fake = Fake { offered, size, registers: registers.clone() };
    let device = Virtio::new(Box::new(fake), 2, 0);
    device.negotiate(0).unwrap();
    let queue = Queue::new(&device, 0, max_parts).unwrap();
    let start = vec![(&queue, CpuId::default(), Box::new(|| {}) as Handler)];
    device.start(Box::new(|| {}), start).unwrap();
    Rig { queue, device, registers }
}

impl Rig {
    /// Adds a buffer of so many parts that the device reads, and one that it writes. Says whether there was room.
    fn add(&self, readable: usize, number: u32) -> bool {
        let memory = DmaRegion::alloc(4096).unwrap();
        let mut parts = Vec::new();
        for index in 0..readable {
            memory.write(8 * index, number + index as u32);
            let address = memory.address_at(8 * index);
            parts.push(Part { address, length: 4, direction: Direction::ToDevice });
        }
        let address = memory.address_at(2048);
        parts.push(Part { address, length: 8, direction: Direction::FromDevice });
        let mut ring = self.queue.lock();
        let id = ring.next_id(parts.len());
        assert!(id.is_none_or(|id| id < 256));
        let added = ring.add(&parts, Token { memory, number }).is_ok();
        assert_eq!(added, id.is_some());
        added
    }

    /// The device takes what it was told of: checks what it reads, answers with the number that it read.
    fn take_all(&self) -> Vec<Buffer> {
        let mut registers = self.registers.lock().unwrap();
        if !core::mem::take(&mut registers.notified) {
            return Vec::new();
        }
        let mut buffers = Vec::new();
        while let Some(buffer) = registers.take() {
            let first = buffer.parts.first().map_or(0, |part| read_u32(part.0));
            for (index, (address, length, is_written)) in buffer.parts.iter().enumerate() {
                if *is_written {
                    assert_eq!((index, *length), (buffer.parts.len() - 1, 8), "what is written comes last");
                    write(*address, &first.to_le_bytes());
                } else {
                    assert_eq!(read_u32(*address), first + index as u32);
                }
            }
            buffers.push(buffer);
        }
        buffers
    }

    /// The device gives buffers back; whether the driver wanted to be interrupted by any.
    fn give_all(&self, buffers: Vec<Buffer>) -> bool {
        let mut registers = self.registers.lock().unwrap();
        let give = |buffer: Buffer| registers.give(u32::from(buffer.id), 4, buffer.descriptors);
        buffers.into_iter().map(give).fold(false, |any, wanted| any | wanted)
    }

    /// What came back, as numbers.
    fn complete(&self) -> core::result::Result<Vec<u32>, Broken> {
        let mut numbers = Vec::new();
        self.queue.complete(
            |_| (),
            |token, written| {
                assert_eq!(written, 4);
                assert_eq!(token.memory.read::<u32>(2048), token.number);
                numbers.push(token.number);
            },
        )?;
        Ok(numbers)
    }
}

/// All kinds of rings.
fn kinds() -> impl Iterator<Item = u64> {
    let bits = [Features::RING_PACKED, Features::INDIRECT_DESCRIPTORS, Features::EVENT_INDEX];
    (0..8).map(move |set: u32| {
        let chosen = bits.iter().enumerate().filter(|(bit, _)| set >> bit & 1 != 0);
        chosen.fold(0, |all, (_, bit)| all | bit.bits())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever is added comes back once, with no signal missing, in rings that wrap many times and orders that differ.
    #[test]
    fn everything_comes_back(steps in proptest::collection::vec((1usize..6, 1usize..12, any::<u64>()), 1..60)) {
        for kind in kinds() {
            let rig = rig(kind, 16, 8);
            let mut number = 1;
            let mut expected = std::collections::BTreeSet::new();
            for (readable, count, order) in &steps {
                for _ in 0..*count {
                    if rig.add(*readable, number) {
                        expected.insert(number);
                    }
                    number += 100;
                }
                rig.queue.kick();
                let mut buffers = rig.take_all();
                // A packed ring's device must give chains back at the places where they lie; ours gives them in any order.
                let length = buffers.len().max(1);
                buffers.rotate_left((*order % length as u64) as usize);
                if rig.give_all(buffers) {
                    for number in rig.complete().unwrap() {
                        prop_assert!(expected.remove(&number), "{number} twice");
                    }
                }
                prop_assert!(expected.is_empty(), "{expected:?} were lost, kind {kind:#x}");
            }
            prop_assert!(!rig.device.is_broken());
        }
    }
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    for kind in kinds() {
        let rig = rig(kind, 4, 2);
        let fit = (0..10).filter(|number| rig.add(1, 100 * number + 1)).count();
        let indirect = kind & Features::INDIRECT_DESCRIPTORS.bits() != 0;
        assert_eq!(fit, if indirect { 4 } else { 2 }, "kind {kind:#x}");
        assert!(!rig.add(5, 1), "more parts than were said");
        rig.queue.kick();
        assert!(rig.give_all(rig.take_all()));
        assert_eq!(rig.complete().unwrap().len(), fit);
        assert!(rig.add(1, 1));
        assert_eq!(rig.queue.drain().len(), 1);
        assert!(!rig.add(1, 1), "nothing is added to a drained queue");
    }
}

/// What a device may do wrong with the only buffer that it has.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    UnknownId,
    FarId,
    TooLong,
    Twice,
    TooMany,
}

#[test]
fn a_device_that_breaks_the_rules_is_shut_off() {
    use Wrong::*;
    for kind in kinds() {
        let packed = kind & Features::RING_PACKED.bits() != 0;
        for wrong in [UnknownId, FarId, TooLong, Twice, TooMany] {
            let rig = rig(kind, 16, 2);
            assert!(rig.add(1, 7) && rig.add(1, 107));
            rig.queue.kick();
            let buffers = rig.take_all();
            let (id, descriptors) = (u32::from(buffers[0].id), buffers[0].descriptors);
            let mut registers = rig.registers.lock().unwrap();
            match wrong {
                UnknownId => registers.give(id ^ 8, 4, descriptors),
                FarId => registers.give(0xffff, 4, descriptors),
                TooLong => registers.give(id, 9, descriptors),
                Twice => {
                    registers.give(id, 4, descriptors);
                    registers.give(id, 4, descriptors)
                }
                TooMany => {
                    registers.give(id, 4, descriptors);
                    registers.give(u32::from(buffers[1].id), 4, descriptors);
                    registers.give(0, 4, descriptors)
                }
            };
            drop(registers);
            let mut came = 0;
            let outcome = rig.queue.complete(|_| (), |_, _| came += 1);
            assert_eq!(outcome, Err(Broken), "{wrong:?}, packed: {packed}");
            assert!(rig.device.is_broken() && came <= 2);
            assert_eq!(rig.queue.complete(|_| (), |_, _| came += 1), Err(Broken), "and stays so");
            rig.device.reset().unwrap();
            assert_eq!(rig.queue.drain().len() + came, 2, "nothing is lost");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever a device scribbles over the memory that it shares with the driver, the driver neither panics nor hands out anything
    /// twice, and comes to an end.
    #[test]
    fn scribbling_does_no_harm(kind in 0usize..8, scribbles in proptest::collection::vec((0u64..3, 0u64..600, any::<[u8; 4]>()), 1..40)) {
        let kind = kinds().nth(kind).unwrap();
        let rig = rig(kind, 16, 4);
        let mut number = 1;
        let mut seen = std::collections::BTreeSet::new();
        for (area, offset, bytes) in scribbles {
            if rig.add(2, number) {
                seen.insert(number);
            }
            number += 100;
            rig.queue.kick();
            if let Some(side) = &rig.registers.lock().unwrap().side {
                let base = match area {
                    0 => side.at.descriptors.0,
                    1 => side.at.driver.0,
                    _ => side.at.device.0,
                };
                let _ = dma::write(base + offset, &bytes);
            }
            let _ = rig.queue.complete(|_| (), |token, _| assert!(seen.remove(&token.number)));
        }
        rig.device.reset().unwrap();
        for token in rig.queue.drain() {
            prop_assert!(seen.remove(&token.number));
        }
        prop_assert!(seen.is_empty());
    }
}

#[test]
fn what_lies_at_an_id_is_settled_before_the_id_is_given_again() {
    for kind in kinds() {
        let rig = rig(kind, 4, 3);
        // A token's number is its id, and a place for each id holds what the last buffer with it has put there.
        let places = std::cell::RefCell::new([""; 4]);
        let add = |what| {
            let id = rig.queue.lock().next_id(1).unwrap();
            places.borrow_mut()[usize::from(id)] = what;
            assert!(rig.add(0, u32::from(id)));
            id
        };
        let first = [add("first"), add("first")];
        rig.queue.kick();
        rig.give_all(rig.take_all());
        let (mut settled, mut again) = (Vec::new(), Vec::new());
        let settle = |token: &mut Token| settled.push(places.borrow()[token.number as usize]);
        rig.queue.complete(settle, |_, _| again.push(add("second"))).unwrap();
        assert_eq!(settled, ["first", "first"], "rings of kind {kind:#x}");
        assert!(again.iter().all(|id| first.contains(id)), "or this shows nothing");
        rig.device.reset().unwrap();
    }
}

#[test]
fn configuration_that_never_rests_is_read_all_the_same() {
    let rig = rig(0, 4, 1);
    assert_eq!(rig.device.config_u64(0), 0x0706_0504_0302_0100);
    assert_eq!((rig.device.config_u8(3), rig.device.config_u16(2)), (3, 0x0302));
}
