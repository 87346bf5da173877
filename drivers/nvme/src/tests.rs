//! A controller in software: one that works, one that loses commands, one that dies. The clock is the simulator's.

use crate::controller::{Controller, Place};
use crate::namespace::Namespace;
use abi::errno::Errno;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use block::{BioFlags, BlockDevice, Disk, Operation, Segment};
use machine::PAGE_SIZE;
use machine::cpu::CpuId;
use machine::host::dma;
use machine::irq::{Handler, MessageInterrupt};
use machine::memory::{AllocFlags, Frame};
use machine::mmio::{Emulated, MmioWindow};
use machine::sync::SpinLock;
use vfs::DeviceId;

const NUMBER: DeviceId = DeviceId::new(240, 3);
const SECOND: u64 = 1_000_000_000;
const BLOCK: usize = 512;
/// Registers and doorbells of eight queues.
const LENGTH: usize = 0x1000 + 16 * 4;

/// A ring of the driver's.
#[derive(Clone, Copy, Default)]
struct Ring {
    address: u64,
    entries: u16,
    place: u16,
    laps: u16,
}

impl Ring {
    fn step(&mut self) {
        self.place = (self.place + 1) % self.entries.max(1);
        self.laps += u16::from(self.place == 0);
    }
}

/// What the controller does with commands to its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Works,
    /// It loses the next one, and can be told to give it up.
    LosesOne,
    /// It loses all until it is reset, and abortions change nothing.
    Hangs,
    /// It loses all, and does not come up again after a reset.
    Dies,
}

struct State {
    mood: Mood,
    configuration: u32,
    status: u32,
    submissions: BTreeMap<u16, Ring>,
    completions: BTreeMap<u16, Ring>,
    admin: (u32, u64, u64),
    blocks: BTreeMap<u64, [u8; BLOCK]>,
    /// Ids of commands that were lost, with their queue.
    lost: Vec<(u16, u16)>,
    /// Opcodes of administration, in order.
    asked: Vec<u8>,
    discarded: Vec<(u64, u32)>,
    resets: u32,
    pending: Vec<usize>,
}

/// The controller.
struct Fake {
    state: SpinLock<State>,
    interrupts: SpinLock<Vec<MessageInterrupt>>,
}

impl Fake {
    fn new() -> Arc<Fake> {
        let state = State {
            mood: Mood::Works,
            configuration: 0,
            status: 0,
            submissions: BTreeMap::new(),
            completions: BTreeMap::new(),
            admin: (0, 0, 0),
            blocks: BTreeMap::new(),
            lost: Vec::new(),
            asked: Vec::new(),
            discarded: Vec::new(),
            resets: 0,
            pending: Vec::new(),
        };
        Arc::new(Fake { state: SpinLock::new(state), interrupts: SpinLock::new(Vec::new()) })
    }

    fn place(self: &Arc<Self>) -> Place {
        let own = self.clone();
        let wire = move |handlers: Vec<(CpuId, Handler)>| {
            let made =
                handlers.into_iter().map(|(cpu, handler)| MessageInterrupt::new(cpu, handler).unwrap());
            *own.interrupts.lock() = made.collect();
            Ok(None)
        };
        Place {
            name: String::from("fake"),
            registers: MmioWindow::emulated(self.clone(), LENGTH),
            messages: 4,
            wire: Box::new(wire),
            is_present: Box::new(|| true),
            detach: Box::new(|| {}),
        }
    }

    fn set_mood(&self, mood: Mood) {
        self.state.lock().mood = mood;
    }

    fn asked(&self, opcode: u8) -> usize {
        self.state.lock().asked.iter().filter(|asked| **asked == opcode).count()
    }
}

impl State {
    fn configure(&mut self, value: u32) {
        let was_on = self.configuration & 1 != 0;
        self.configuration = value;
        if value & 1 == 0 {
            self.resets += u32::from(was_on);
            self.status = 0;
            self.submissions.clear();
            self.completions.clear();
            self.lost.clear();
            if self.mood == Mood::Hangs {
                self.mood = Mood::Works;
            }
        } else if !was_on && self.mood != Mood::Dies {
            self.status = 1;
            let (sizes, submission, completion) = self.admin;
            let ring =
                |address, entries: u32| Ring { address, entries: entries as u16 + 1, place: 0, laps: 0 };
            self.submissions.insert(0, ring(submission, sizes & 0xfff));
            self.completions.insert(0, ring(completion, sizes >> 16 & 0xfff));
        }
        if value & 1 << 14 != 0 {
            self.status |= 2 << 2;
        }
    }

    /// The driver has put commands into a queue, up to `tail`.
    fn work(&mut self, queue: u16, tail: u16) {
        while let Some(ring) = self.submissions.get_mut(&queue).filter(|ring| ring.place != tail) {
            let mut command = [0; 64];
            dma::read(ring.address + u64::from(ring.place) * 64, &mut command).unwrap();
            ring.step();
            let id = u16::from_le_bytes([command[2], command[3]]);
            let outcome =
                if queue == 0 { Some(self.administer(&command)) } else { self.transfer(queue, id, &command) };
            if let Some((status, result)) = outcome {
                self.complete(queue, id, status, result);
            }
        }
    }

    fn complete(&mut self, queue: u16, id: u16, status: u16, result: u32) {
        let ring = self.completions.get_mut(&queue).unwrap();
        let mut entry = [0; 16];
        entry[..4].copy_from_slice(&result.to_le_bytes());
        entry[12..14].copy_from_slice(&id.to_le_bytes());
        let lap = u16::from(ring.laps.is_multiple_of(2));
        entry[14..].copy_from_slice(&(status << 1 | lap).to_le_bytes());
        dma::write(ring.address + u64::from(ring.place) * 16, &entry).unwrap();
        ring.step();
        if queue != 0 {
            self.pending.push(usize::from(queue) - 1);
        }
    }

    fn administer(&mut self, command: &[u8; 64]) -> (u16, u32) {
        let dword = |at: usize| u32::from_le_bytes(command[at..at + 4].try_into().unwrap());
        let page = u64::from_le_bytes(command[24..32].try_into().unwrap());
        self.asked.push(command[0]);
        let ring = Ring { address: page, entries: (dword(40) >> 16) as u16 + 1, place: 0, laps: 0 };
        match command[0] {
            0x01 => drop(self.submissions.insert(dword(40) as u16, ring)),
            0x05 => drop(self.completions.insert(dword(40) as u16, ring)),
            0x06 => self.identify(dword(40), page),
            0x08 => {
                let (queue, id) = (dword(40) as u16, (dword(40) >> 16) as u16);
                if self.mood == Mood::Works && self.lost.contains(&(queue, id)) {
                    self.lost.retain(|lost| *lost != (queue, id));
                    self.complete(queue, id, 7, 0);
                }
            }
            0x09 => return (0, 3 << 16 | 3),
            other => panic!("command {other:#x}"),
        }
        (0, 0)
    }

    fn identify(&self, what: u32, page: u64) {
        let mut bytes = vec![0; PAGE_SIZE];
        match what {
            // A disk of 1 MiB in blocks of 512 bytes.
            0 => {
                bytes[..8].copy_from_slice(&2048u64.to_le_bytes());
                bytes[130] = 9;
            }
            // It discards and zeroes, and has a cache.
            1 => {
                bytes[520] = 4 | 8;
                bytes[525] = 1;
            }
            _ => bytes[0] = 1,
        }
        dma::write(page, &bytes).unwrap();
    }

    fn transfer(&mut self, queue: u16, id: u16, command: &[u8; 64]) -> Option<(u16, u32)> {
        match self.mood {
            Mood::Works => {}
            Mood::LosesOne => {
                self.mood = Mood::Works;
                self.lost.push((queue, id));
                return None;
            }
            Mood::Hangs | Mood::Dies => return None,
        }
        let number = |at: usize| u64::from_le_bytes(command[at..at + 8].try_into().unwrap());
        let (page, first, count) = (number(24), number(40), u64::from(number(48) as u16) + 1);
        match command[0] {
            0 => {}
            1 => {
                for index in 0..count {
                    let mut block = [0; BLOCK];
                    dma::read(page + index * BLOCK as u64, &mut block).unwrap();
                    self.blocks.insert(first + index, block);
                }
            }
            2 => {
                for index in 0..count {
                    let block = self.blocks.get(&(first + index)).copied().unwrap_or([0; BLOCK]);
                    dma::write(page + index * BLOCK as u64, &block).unwrap();
                }
            }
            8 => self.blocks.retain(|block, _| !(first..first + count).contains(block)),
            9 => {
                assert_eq!(command[40..48], [0, 0, 0, 0, 4, 0, 0, 0], "one range, deallocated");
                let mut range = [0; 16];
                dma::read(page, &mut range).unwrap();
                let count = u32::from_le_bytes(range[4..8].try_into().unwrap());
                self.discarded.push((u64::from_le_bytes(range[8..].try_into().unwrap()), count));
            }
            other => panic!("command {other:#x}"),
        }
        Some((0, 0))
    }
}

impl Emulated for Fake {
    fn read(&self, offset: usize, _width: usize) -> u64 {
        let state = self.state.lock();
        match offset {
            // 256 entries, half a second to start, doorbells beside each other.
            0 => 255 | 1 << 16 | 1 << 24,
            0x14 => u64::from(state.configuration),
            0x1c => u64::from(state.status),
            _ => 0,
        }
    }

    fn write(&self, offset: usize, _width: usize, value: u64) {
        let due = {
            let mut state = self.state.lock();
            let low = |whole: u64| whole & !0xffff_ffff | value;
            let high = |whole: u64| whole & 0xffff_ffff | value << 32;
            match offset {
                0x14 => state.configure(value as u32),
                0x24 => state.admin.0 = value as u32,
                0x28 => state.admin.1 = low(state.admin.1),
                0x2c => state.admin.1 = high(state.admin.1),
                0x30 => state.admin.2 = low(state.admin.2),
                0x34 => state.admin.2 = high(state.admin.2),
                0x1000.. if offset.is_multiple_of(8) => {
                    state.work(((offset - 0x1000) / 8) as u16, value as u16)
                }
                _ => {}
            }
            core::mem::take(&mut state.pending)
        };
        for index in due {
            let message = self.interrupts.lock().get(index).map(MessageInterrupt::message);
            if let Some(message) = message {
                machine::host::raise(message);
            }
        }
    }
}

/// Runs a test with a controller that works, its disk, and the thread for what interrupts may not do.
fn run(test: impl Fn(&Arc<Fake>, &Arc<BlockDevice>) + Send + Sync + 'static) {
    sched::host::run(1, 1, move || {
        sched::spawn("kdevices", sched::SpawnOptions::default(), device::work::run).unwrap();
        let fake = Fake::new();
        let controller = Controller::start(fake.place()).unwrap();
        let disks = Namespace::make_all(&controller, 0).unwrap();
        let disk: &Arc<Disk> = disks.first().unwrap();
        test(&fake, &BlockDevice::whole(disk.clone(), NUMBER));
    });
}

/// Moves a page of these bytes to or from the disk.
fn transfer(disk: &BlockDevice, operation: Operation, sector: u64, byte: u8) -> Result<u8, Errno> {
    let frame = Frame::alloc(AllocFlags::empty()).unwrap();
    dma::expose(&frame);
    frame.write(0, &[byte; PAGE_SIZE]);
    let segment = Segment { frame: frame.clone(), offset: 0, length: PAGE_SIZE as u32 };
    disk.transfer(operation, BioFlags::empty(), sector, &[segment])?;
    let mut found = [0];
    frame.read(PAGE_SIZE - 1, &mut found);
    Ok(found[0])
}

/// How long something takes, in seconds.
fn seconds(action: impl FnOnce()) -> u64 {
    let before = machine::time::now_ns();
    action();
    (machine::time::now_ns() - before) / SECOND
}

#[test]
fn what_is_written_is_read_and_what_is_discarded_is_told() {
    run(|fake, disk| {
        assert_eq!(transfer(disk, Operation::Write, 8, 7), Ok(7));
        assert_eq!(transfer(disk, Operation::Read, 8, 0), Ok(7));
        disk.discard(16, 1024).unwrap();
        assert_eq!(fake.state.lock().discarded, [(16, 1024)]);
        disk.write_zeroes(8, 8).unwrap();
        assert_eq!(transfer(disk, Operation::Read, 8, 1), Ok(0));
        assert_eq!((disk.disk().limits().max_discard_sectors, fake.asked(8)), (u32::MAX, 0));
    });
}

#[test]
fn a_command_that_is_lost_is_aborted_after_30_seconds_and_tried_again() {
    run(|fake, disk| {
        fake.set_mood(Mood::LosesOne);
        let took = seconds(|| assert_eq!(transfer(disk, Operation::Write, 0, 9), Ok(9)));
        assert_eq!((took, fake.asked(8), fake.state.lock().resets), (30, 1, 0));
        assert_eq!(transfer(disk, Operation::Read, 0, 0), Ok(9));
    });
}

#[test]
fn a_controller_that_does_not_even_abort_is_reset_and_goes_on() {
    run(|fake, disk| {
        assert_eq!(transfer(disk, Operation::Write, 0, 5), Ok(5));
        fake.set_mood(Mood::Hangs);
        let took = seconds(|| assert_eq!(transfer(disk, Operation::Read, 0, 0), Ok(5)));
        assert!((60..62).contains(&took), "{took} s");
        assert_eq!((fake.asked(8), fake.state.lock().resets), (1, 1));
        // And again: its queues are as new.
        for sector in 0..300 {
            assert_eq!(
                transfer(disk, Operation::Read, sector % 2 * 8, 1),
                Ok(if sector % 2 == 0 { 5 } else { 0 })
            );
        }
    });
}

#[test]
fn a_controller_that_is_dead_fails_everything() {
    run(|fake, disk| {
        fake.set_mood(Mood::Dies);
        let took = seconds(|| assert_eq!(transfer(disk, Operation::Read, 0, 0), Err(Errno::EIO)));
        assert!((60..64).contains(&took), "{took} s");
        let took = seconds(|| assert_eq!(transfer(disk, Operation::Write, 0, 1), Err(Errno::EIO)));
        assert_eq!(took, 0, "at once");
        assert_eq!(disk.flush(), Err(Errno::EIO));
    });
}
