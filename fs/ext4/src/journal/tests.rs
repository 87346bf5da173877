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
    let number = vfs::DeviceId::new(254, 0);
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
    /// Anything; this operation freed it.
    Free(u64),
}

/// What an operation writes into a block. Some look like the journal's own.
fn fill(bytes: &mut [u8], block: u64, operation: u64) {
    for word in bytes.chunks_mut(8) {
        word.copy_from_slice(&(operation << 16 | block).to_be_bytes());
    }
    if operation.is_multiple_of(5) {
        bytes[..4].copy_from_slice(&format::MAGIC.to_be_bytes());
    }
}

fn expected(block_size: usize, block: u64, content: Content) -> Option<Vec<u8>> {
    let mut bytes = vec![0; block_size];
    match content {
        Content::Zeros => {}
        Content::Metadata(operation) | Content::Data(operation, _) => fill(&mut bytes, block, operation),
        Content::Free(_) => return None,
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
    reusable: Arc<SpinLock<Vec<(u64, u64)>>>,
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
                    *content = Content::Free(operation);
                    let reusable = self.reusable.clone();
                    handle.on_commit(Box::new(move || reusable.lock().push((block, operation))));
                }
                Content::Zeros | Content::Metadata(_) => {
                    let buffer = self.journal.buffers.read(block).unwrap();
                    handle.modify(&buffer, |bytes| fill(bytes, block, operation)).unwrap();
                    *content = Content::Metadata(operation);
                }
                // Freed in an operation before, perhaps of this transaction: metadata again.
                Content::Free(_) if self.dice.once_in(2) => {
                    self.recreate(&mut handle, block, operation, content)
                }
                Content::Data(..) if self.dice.once_in(2) => {
                    self.recreate(&mut handle, block, operation, content)
                }
                Content::Free(_) | Content::Data(..) => {}
            }
        }
        self.history.states.push(state);
        handle.tid()
    }

    fn recreate(&self, handle: &mut Handle, block: u64, operation: u64, content: &mut Content) {
        let buffer = handle.create(block).unwrap();
        handle.modify(&buffer, |bytes| fill(bytes, block, operation)).unwrap();
        *content = Content::Metadata(operation);
    }

    /// Uses a block as a file's contents, past the journal.
    fn write_data(&mut self) {
        let Some((block, freed_by)) = self.reusable.lock().pop() else { return };
        let mut state = self.now();
        if state[block as usize] != Content::Free(freed_by) {
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
                Content::Data(_, safe) if safe > moment => Content::Free(0),
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

#[test]
fn a_journal_wraps_and_ends_empty() {
    sched::host::run(3, 2, || {
        let mut world = World::new(SHAPES[0], 1);
        world.run(4000);
        let state = world.now();
        world.journal.shut_down().unwrap();
        let image = world.disk.contents();
        let size = world.shape.block_size;
        for (block, content) in state.iter().enumerate() {
            if let Some(bytes) = expected(size, block as u64, *content) {
                assert!(image[block * size..][..size] == bytes, "block {block} is not {content:?}");
            }
        }
        assert_eq!(world.journal.start(1).err(), Some(Errno::EROFS));
        let writes = world.disk.moment();
        world.journal.shut_down().unwrap();
        assert_eq!(world.disk.moment(), writes);
    });
}

/// Many threads, each with blocks of its own, on a disk that is late: each thread's blocks are a prefix of its operations.
#[test]
fn operations_of_many_threads_are_whole() {
    const THREADS: u64 = 3;
    const EACH: u64 = BLOCKS / THREADS;
    type Forced = Arc<SpinLock<Vec<(usize, u64, u64)>>>;
    fn work(journal: &Arc<Journal>, disk: &SimulatedDisk, thread: u64, forced: &Forced) {
        let mut dice = Dice::new(thread);
        for operation in 1..=60 {
            // All blocks of the thread say the same operation, or the operation was torn.
            let mut handle = journal.start(EACH as u32).unwrap();
            let tid = handle.tid();
            for block in thread * EACH..(thread + 1) * EACH {
                let buffer = journal.buffers.read(block).unwrap();
                handle.modify(&buffer, |bytes| fill(bytes, block, operation)).unwrap();
            }
            drop(handle);
            if dice.once_in(10) {
                journal.commit_and_wait(tid).unwrap();
                forced.lock().push((disk.moment(), thread, operation));
            }
        }
    }
    sched::host::run_seeds(4, 2, || {
        let shape = SHAPES[0];
        let world = World::new(shape, 0);
        world.disk.be_late(5);
        let (crew, server) = (sched::host::Crew::new(), sched::host::Crew::new());
        let disk = world.disk.clone();
        server.spawn("disk", move || disk.serve());
        let forced = Forced::default();
        for thread in 0..THREADS {
            let (journal, disk, forced) = (world.journal.clone(), world.disk.clone(), forced.clone());
            crew.spawn("writer", move || work(&journal, &disk, thread, &forced));
        }
        crew.join();
        let mut dice = Dice::new(9);
        for _ in 0..40 {
            let moment = dice.below(world.disk.moment() as u64 + 1) as usize;
            let image = recovered(shape, world.disk.image(moment, dice.roll())).unwrap();
            for thread in 0..THREADS {
                let least = forced
                    .lock()
                    .iter()
                    .filter(|(at, by, _)| *at <= moment && *by == thread)
                    .map(|one| one.2)
                    .max();
                let block = thread * EACH;
                let found = (least.unwrap_or(0)..=60).rev().find(|operation| {
                    (block..block + EACH).all(|block| {
                        let content =
                            if *operation == 0 { Content::Zeros } else { Content::Metadata(*operation) };
                        let at = block as usize * shape.block_size;
                        expected(shape.block_size, block, content).unwrap()
                            == image[at..at + shape.block_size]
                    })
                });
                assert!(found.is_some(), "thread {thread} at {moment}: not an operation from {least:?} on");
            }
        }
        world.journal.shut_down().unwrap();
        world.disk.close();
        server.join();
    });
}

#[test]
fn concurrent_syncs_share_commits() {
    sched::host::run(5, 2, || {
        let world = World::new(SHAPES[0], 0);
        world.disk.be_late(5);
        let (crew, server) = (sched::host::Crew::new(), sched::host::Crew::new());
        let disk = world.disk.clone();
        server.spawn("disk", move || disk.serve());
        let before = world.journal.newest().1;
        const THREADS: u64 = 8;
        for block in 0..THREADS {
            let journal = world.journal.clone();
            crew.spawn("writer", move || {
                for operation in 1..=10 {
                    let buffer = journal.buffers.read(block).unwrap();
                    let mut handle = journal.start(1).unwrap();
                    handle.modify(&buffer, |bytes| fill(bytes, block, operation)).unwrap();
                    let tid = handle.tid();
                    drop(handle);
                    journal.commit_and_wait(tid).unwrap();
                }
            });
        }
        crew.join();
        let commits = world.journal.newest().1.wrapping_sub(before);
        println!("80 syncs of 8 threads: {commits} commits");
        assert!(commits <= 40, "{commits} commits for 80 syncs");
        world.journal.shut_down().unwrap();
        world.disk.close();
        server.join();
    });
}

/// Each write and flush fails in turn: an error where somebody waits, `EROFS` afterwards, and what was forced before is there.
#[test]
fn errors_of_the_disk_abort_the_journal() {
    sched::host::run(2, 2, || {
        let mut aborted = 0;
        for after in 0..120 {
            let mut world = World::new(SHAPES[0], 4);
            let operation = if after % 3 == 0 { Operation::Flush } else { Operation::Write };
            let fault = Fault { operation, sectors: 0..u64::MAX, after, times: 1, error: Errno::EIO };
            world.disk.fail(fault);
            let mut result = Ok(());
            for _ in 0..30 {
                if world.journal.aborted().is_some() {
                    break;
                }
                let tid = world.operate();
                result = world.journal.commit_and_wait(tid);
                if result.is_err() {
                    break;
                }
                world.history.forced.push((world.disk.moment(), world.history.states.len() - 1));
            }
            if result.is_ok() {
                result = world.journal.shut_down();
            }
            if let Some(error) = world.journal.aborted().filter(|_| result.is_err()) {
                aborted += 1;
                assert_eq!(error, Errno::EIO);
                assert_eq!(world.journal.start(1).err(), Some(Errno::EROFS));
                assert!(world.journal.force_commit().is_err());
                let _ = world.journal.shut_down();
            }
            world.disk.heal();
            for seed in 0..3 {
                world.cut(world.disk.moment(), seed);
            }
        }
        assert!(aborted > 60, "only {aborted} of 120 faults were met");
    });
}

/// Damaged journals: an error or a recovery, in bounded time.
#[test]
fn damaged_journals_do_no_harm() {
    sched::host::run(13, 1, || {
        let mut world = World::new(SHAPES[0], 21);
        world.run(120);
        let newest = world.journal.newest().0;
        world.force(newest);
        let image = world.disk.contents();
        let mut dice = Dice::new(99);
        let (mut refused, mut passed) = (0, 0);
        // The parts of the journal that say something: the superblock, and headers and tags of the log.
        let size = SHAPES[0].block_size as u64;
        for mutant in 0..10_000u64 {
            let mut shape = SHAPES[0];
            let mut bytes = image.clone();
            for _ in 0..=dice.below(4) {
                let block = match dice.below(3) {
                    0 => PIECES[0].1,
                    1 => PIECES[0].1 + dice.below(100),
                    _ => PIECES[1].1 + dice.below(200),
                };
                let at =
                    (block * size + if dice.once_in(2) { dice.below(64) } else { dice.below(size) }) as usize;
                bytes[at] = match dice.below(3) {
                    0 => 0,
                    1 => 0xff,
                    _ => dice.roll() as u8,
                };
            }
            // Half of them with a superblock that passes for right, so that what is behind it is reached; a third without checksums at all.
            let superblock = &mut bytes[(PIECES[0].1 * size) as usize..][..1024];
            if mutant % 3 == 0 {
                format::put(superblock, 0x28, &3u32.to_be_bytes());
                shape.checksums = false;
            } else if mutant % 2 == 0 {
                format::put(superblock, 0xfc, &[0; 4]);
                let sum = crc32c(START, superblock);
                format::put(superblock, 0xfc, &sum.to_be_bytes());
            }
            match recovered(shape, bytes) {
                Ok(_) => passed += 1,
                Err(_) => refused += 1,
            }
        }
        println!("{passed} recovered, {refused} refused");
        assert!(passed > 1000 && refused > 1000, "{passed} {refused}");
    });
}

#[test]
fn without_a_log_a_commit_writes_in_place() {
    sched::host::run(2, 2, || {
        let shape = SHAPES[0];
        let image = blank(shape);
        let bytes = image.len();
        let disk = SimulatedDisk::new(image);
        let buffers = Buffers::new(device(disk.clone(), bytes), shape.block_size as u32).unwrap();
        let journal = Journal::none(buffers.clone(), options(shape)).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let mut handle = journal.start(4).unwrap();
        for block in 0..3 {
            let buffer = buffers.read(block).unwrap();
            handle.modify(&buffer, |bytes| fill(bytes, block, 9)).unwrap();
        }
        handle.forget(2).unwrap();
        let told = done.clone();
        handle.on_commit(Box::new(move || told.store(true, Ordering::Relaxed)));
        drop(handle);
        assert!(!done.load(Ordering::Relaxed));
        journal.force_commit().unwrap();
        assert!(done.load(Ordering::Relaxed));
        for seed in 0..20 {
            let image = disk.image(disk.moment(), seed);
            for block in 0..2 {
                let at = block as usize * shape.block_size;
                let bytes = expected(shape.block_size, block, Content::Metadata(9)).unwrap();
                assert!(image[at..at + shape.block_size] == bytes);
            }
        }
        assert_eq!(buffers.reads(), 3);
        assert!(buffers.shrink(10) > 0);
        journal.shut_down().unwrap();
    });
}

#[test]
fn a_frozen_file_system_is_whole_on_the_disk() {
    sched::host::run(2, 2, || {
        let mut world = World::new(SHAPES[0], 6);
        world.run(50);
        world.journal.freeze().unwrap();
        let frozen = world.disk.moment();
        let at = PIECES[0].1 as usize * SHAPES[0].block_size;
        let parsed = format::SuperBlock::parse(&world.disk.contents()[at..], 1024).unwrap();
        assert_eq!(parsed.start, 0);
        let crew = sched::host::Crew::new();
        let journal = world.journal.clone();
        let started = Arc::new(AtomicBool::new(false));
        let told = started.clone();
        crew.spawn("writer", move || {
            drop(journal.start(1).unwrap());
            told.store(true, Ordering::Relaxed);
        });
        for _ in 0..20 {
            sched::yield_now();
        }
        assert!(!started.load(Ordering::Relaxed));
        assert_eq!(world.disk.moment(), frozen);
        world.journal.thaw();
        crew.join();
        world.journal.shut_down().unwrap();
    });
}

#[test]
fn reads_are_shared_and_failures_are_not_kept() {
    sched::host::run_seeds(6, 2, || {
        let shape = SHAPES[0];
        let mut image = blank(shape);
        fill(&mut image[5 * 1024..6 * 1024], 5, 77);
        let bytes = image.len();
        let disk = SimulatedDisk::new(image);
        disk.be_late(1);
        let buffers = Buffers::new(device(disk.clone(), bytes), 1024).unwrap();
        let (crew, server) = (sched::host::Crew::new(), sched::host::Crew::new());
        let served = disk.clone();
        server.spawn("disk", move || served.serve());
        for _ in 0..6 {
            let buffers = buffers.clone();
            crew.spawn("reader", move || {
                let buffer = buffers.read(5).unwrap();
                assert!(*buffer.read() == expected(1024, 5, Content::Metadata(77)).unwrap());
            });
        }
        crew.join();
        assert_eq!(buffers.reads(), 1);
        buffers.read_ahead(&[8, 9, 10, 20]);
        assert!(buffers.read(9).unwrap().read().iter().all(|byte| *byte == 0));
        assert_eq!(buffers.reads(), 5);
        let fault =
            Fault { operation: Operation::Read, sectors: 60..62, after: 0, times: 1, error: Errno::EIO };
        disk.fail(fault);
        assert_eq!(buffers.read(30).err(), Some(Errno::EIO));
        assert!(buffers.read(30).is_ok());
        assert_eq!(buffers.read(1 << 40).err(), Some(Errno::EIO));
        disk.close();
        server.join();
    });
}
