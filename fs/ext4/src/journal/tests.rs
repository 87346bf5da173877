//! The journal against a model, on a disk whose power is cut.
//!
//! A *world* is a small device with a journal; a *script* is a list of operations that a seed chooses, each of which changes a few blocks
//! through one handle. Every block that an operation writes says which operation it was, all over, so that nothing torn or mixed goes
//! unnoticed. After a cut and recovery the blocks must be as they were after some prefix of the operations, no shorter than what was forced.
//!
//! `LINNET_POWER_CUTS` in the environment says how many cuts (300 without it).

use super::*;
use crate::format::checksum::{START, crc32c};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use block::simulate::{Dice, Fault, SimulatedDisk};
use block::{BioFlags, BlockDevice, Disk, Driver, Operation, SECTOR_SIZE, Segment};
use machine::memory::{AllocFlags, Frame};
use std::println;

const BLOCKS: u64 = 48;
const LOG_BLOCKS: u32 = 1024;
/// Where the pieces of the journal are: `(blocks, place)`.
const PIECES: [(u32, u64); 3] = [(100, 700), (500, 100), (424, 900)];
const DEVICE_BLOCKS: u64 = 1400;

/// What a superblock is written with.
#[derive(Clone, Copy)]
struct Shape {
    block_size: usize,
    features: u32,
    checksums: bool,
    wide: bool,
}

const SHAPES: [Shape; 4] = [
    Shape { block_size: 1024, features: 0, checksums: true, wide: true },
    Shape { block_size: 4096, features: 1 | 2 | 16, checksums: true, wide: true },
    Shape { block_size: 1024, features: 8, checksums: false, wide: false },
    Shape { block_size: 2048, features: 0, checksums: false, wide: false },
];

fn map() -> JournalMap {
    let mut map = JournalMap::new();
    for (blocks, place) in PIECES {
        map.push(blocks, place).unwrap();
    }
    map
}

/// A device with an empty journal.
fn blank(shape: Shape) -> Vec<u8> {
    let mut image = vec![0; DEVICE_BLOCKS as usize * shape.block_size];
    let at = PIECES[0].1 as usize * shape.block_size;
    let bytes = &mut image[at..at + 1024];
    let numbers = [
        (0, format::MAGIC),
        (4, 4),
        (0xc, shape.block_size as u32),
        (0x10, LOG_BLOCKS),
        (0x14, 1),
        (0x18, 7),
    ];
    for (offset, value) in numbers.into_iter().chain([(0x28, shape.features)]) {
        format::put(bytes, offset, &u32::to_be_bytes(value));
    }
    format::put(bytes, 0x30, b"0123456789abcdef");
    bytes[0x50] = 4;
    let sum = crc32c(START, bytes);
    format::put(bytes, 0xfc, &sum.to_be_bytes());
    image
}

fn device(driver: Arc<dyn Driver>, bytes: usize) -> Arc<BlockDevice> {
    let number = vfs::DeviceId { major: 254, minor: 0 };
    BlockDevice::whole(Disk::new("cut0".into(), driver, (bytes / SECTOR_SIZE) as u64, false), number)
}

fn options(shape: Shape) -> JournalOptions {
    JournalOptions { checksums: shape.checksums, wide: shape.wide, ..JournalOptions::default() }
}

/// What a block is to contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    /// It was never written.
    Zeros,
    /// Metadata that this operation wrote.
    Metadata(u64),
    /// Contents of a file, which were safe at this moment.
    Data(u64, usize),
    /// Anything.
    Free,
}

/// What an operation writes into a block. Some look like the journal's own.
fn fill(bytes: &mut [u8], block: u64, operation: u64) {
    for word in bytes.chunks_mut(8) {
        word.copy_from_slice(&(operation << 16 | block).to_be_bytes());
    }
    if operation % 5 == 0 {
        bytes[..4].copy_from_slice(&format::MAGIC.to_be_bytes());
    }
}

fn expected(block_size: usize, block: u64, content: Content) -> Option<Vec<u8>> {
    let mut bytes = vec![0; block_size];
    match content {
        Content::Zeros => {}
        Content::Metadata(operation) | Content::Data(operation, _) => fill(&mut bytes, block, operation),
        Content::Free => return None,
    }
    Some(bytes)
}

/// What all blocks are to contain after each operation, and what must have survived when.
struct History {
    states: Vec<Vec<Content>>,
    /// From a moment of the disk on, at least so many operations survive.
    forced: Vec<(usize, usize)>,
}

/// A journal on a simulated disk, and what should be on it.
struct World {
    shape: Shape,
    disk: Arc<SimulatedDisk>,
    device: Arc<BlockDevice>,
    journal: Arc<Journal>,
    history: History,
    dice: Dice,
    /// Blocks that were freed by an operation that is complete: told by the journal.
    reusable: Arc<SpinLock<Vec<u64>>>,
}

impl World {
    fn new(shape: Shape, seed: u64) -> World {
        let image = blank(shape);
        let bytes = image.len();
        let disk = SimulatedDisk::new(image);
        let device = device(disk.clone(), bytes);
        let buffers = Buffers::new(device.clone(), shape.block_size as u32).unwrap();
        let journal = Journal::open(buffers, map(), options(shape)).unwrap();
        let history = History { states: vec![vec![Content::Zeros; BLOCKS as usize]], forced: vec![(0, 0)] };
        let reusable = Arc::new(SpinLock::new(Vec::new()));
        World { shape, disk, device, journal, history, dice: Dice::new(seed), reusable }
    }

    fn now(&self) -> Vec<Content> {
        self.history.states.last().unwrap().clone()
    }

    /// One operation through one handle.
    fn operate(&mut self) -> Tid {
        let operation = self.history.states.len() as u64;
        let mut state = self.now();
        let mut handle = self.journal.start(12).unwrap();
        for _ in 0..=self.dice.below(5) {
            let block = self.dice.below(BLOCKS);
            let content = &mut state[block as usize];
            match *content {
                Content::Zeros | Content::Metadata(_) if self.dice.once_in(6) => {
                    handle.forget(block).unwrap();
                    *content = Content::Free;
                    let reusable = self.reusable.clone();
                    handle.on_commit(Box::new(move || reusable.lock().push(block)));
                }
                Content::Zeros | Content::Metadata(_) => {
                    let buffer = self.journal.buffers.read(block).unwrap();
                    handle.modify(&buffer, |bytes| fill(bytes, block, operation)).unwrap();
                    *content = Content::Metadata(operation);
                }
                // Freed in an operation before, perhaps of this transaction: metadata again.
                Content::Free if self.dice.once_in(2) => {
                    self.recreate(&mut handle, block, operation, content)
                }
                Content::Data(..) if self.dice.once_in(2) => {
                    self.recreate(&mut handle, block, operation, content)
                }
                Content::Free | Content::Data(..) => {}
            }
        }
        self.history.states.push(state);
        handle.tid()
    }

    fn recreate(&self, handle: &mut Handle, block: u64, operation: u64, content: &mut Content) {
        self.reusable.lock().retain(|freed| *freed != block);
        let buffer = handle.create(block).unwrap();
        handle.modify(&buffer, |bytes| fill(bytes, block, operation)).unwrap();
        *content = Content::Metadata(operation);
    }

    /// Uses a block as a file's contents, past the journal.
    fn write_data(&mut self) {
        let Some(block) = self.reusable.lock().pop() else { return };
        let mut state = self.now();
        if state[block as usize] != Content::Free {
            return;
        }
        let operation = self.history.states.len() as u64;
        let frame = Frame::alloc(AllocFlags::empty()).unwrap();
        let mut bytes = vec![0; self.shape.block_size];
        fill(&mut bytes, block, operation);
        frame.write(0, &bytes);
        let segment = Segment { frame, offset: 0, length: self.shape.block_size as u32 };
        let sector = block * (self.shape.block_size / SECTOR_SIZE) as u64;
        self.device.transfer(Operation::Write, BioFlags::empty(), sector, &[segment]).unwrap();
        self.device.flush().unwrap();
        state[block as usize] = Content::Data(operation, self.disk.moment());
        self.history.states.push(state);
    }

    fn force(&mut self, tid: Tid) {
        self.journal.commit_and_wait(tid).unwrap();
        assert!(self.journal.is_committed(tid));
        self.history.forced.push((self.disk.moment(), self.history.states.len() - 1));
    }

    fn run(&mut self, operations: usize) {
        for _ in 0..operations {
            let tid = self.operate();
            match self.dice.below(12) {
                0 => self.force(tid),
                1 => self.write_data(),
                2 => self.journal.request_commit(),
                3 => self.device_pause(),
                _ => {}
            }
        }
    }

    fn device_pause(&self) {
        sched::yield_now();
        self.journal.buffers.shrink(4);
    }

    /// Cuts the power at a moment, recovers, and compares.
    fn cut(&self, moment: usize, seed: u64) {
        let image = self.disk.image(moment, seed);
        let recovered = recovered(self.shape, image).unwrap();
        let forced =
            self.history.forced.iter().filter(|(at, _)| *at <= moment).map(|(_, count)| *count).max();
        let candidates = forced.unwrap_or(0)..self.history.states.len();
        let fits = |count: usize| self.first_difference(&recovered, moment, count).is_none();
        if !candidates.clone().rev().any(fits) {
            let closest =
                candidates.max_by_key(|count| self.first_difference(&recovered, moment, *count)).unwrap();
            let difference = self.first_difference(&recovered, moment, closest);
            panic!(
                "cut at {moment} (seed {seed}), forced {forced:?}: closest is {closest}, but block {difference:?}"
            );
        }
    }

    /// The first block that is not as it was after `count` operations.
    fn first_difference(&self, image: &[u8], moment: usize, count: usize) -> Option<u64> {
        let size = self.shape.block_size;
        let state = &self.history.states[count];
        (0..BLOCKS).find(|block| {
            let content = match state[*block as usize] {
                Content::Data(_, safe) if safe > moment => Content::Free,
                content => content,
            };
            let at = *block as usize * size;
            expected(size, *block, content).is_some_and(|bytes| image[at..at + size] != bytes)
        })
    }
}

/// An image after recovery.
fn recovered(shape: Shape, image: Vec<u8>) -> Result<Vec<u8>> {
    let bytes = image.len();
    let disk = MemoryDisk::new(image);
    let buffers = Buffers::new(device(disk.clone(), bytes), shape.block_size as u32)?;
    let log = Log::open(&buffers, map(), true)?;
    recovery::recover(&buffers, &log)?;
    // Twice changes nothing: the log is empty now.
    let log = Log::open(&buffers, map(), true)?;
    assert!(!recovery::recover(&buffers, &log)?);
    Ok(disk.contents())
}

fn cuts() -> usize {
    std::env::var("LINNET_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// Cuts at every boundary, as far as they go, and elsewhere at random.
fn cut_everywhere(world: &World, cuts: usize, seed: u64) {
    let mut dice = Dice::new(seed);
    let boundaries = world.disk.boundaries();
    for index in 0..cuts {
        let moment = match boundaries.get(index % (2 * boundaries.len().max(1))) {
            Some(moment) => *moment,
            None => dice.below(world.disk.moment() as u64 + 1) as usize,
        };
        world.cut(moment, dice.roll());
    }
}

#[test]
fn cuts_leave_a_prefix_of_the_operations() {
    // Each world is cut this often: the journal wraps several times in each.
    let per_world = (cuts() / SHAPES.len()).clamp(1, 2000);
    let worlds = cuts().div_ceil(per_world);
    sched::host::run(11, 2, move || {
        for seed in 0..worlds as u64 {
            let mut world = World::new(SHAPES[seed as usize % SHAPES.len()], seed);
            world.run(600);
            let newest = world.journal.newest().0;
            world.force(newest);
            cut_everywhere(&world, per_world, seed);
            world.journal.shut_down().unwrap();
            world.cut(world.disk.moment(), seed);
        }
    });
}
