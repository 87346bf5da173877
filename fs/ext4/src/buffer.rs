//! Metadata blocks in memory: a cache of the file system's own, which programs never map.
//!
//! Key types: [`Buffers`] (the cache of one device), [`Buffer`] (one block). Neighbours: `block` below; `journal`, which decides when a changed
//! block may be written, and keeps what it needs for that in [`Buffer::membership`].
//!
//! A buffer comes into being empty, is read at most once at a time whoever asks (the others wait), and stays until it is unused, clean and
//! memory is wanted. Whatever is not on the disk yet is held by a transaction of the journal, so being unused is being referred to
//! by the cache alone. What a transfer brought stays in its frame until the first reader copies it: completions come with interrupts off and may not
//! take a sleeping lock.
//!
//! Locks: a buffer's contents (a sleeping `RwLock`) → the tree of buffers or [`Buffer::state`] or [`Buffer::membership`], which are leaves. A
//! thread that holds contents must not wait for the journal (`start`, `restart`, `commit_and_wait`): the commit reads contents.

use crate::journal::Membership;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use block::{Bio, BioFlags, BlockDevice, Operation, SECTOR_SIZE, Segment};
use core::ops::Deref;
use linnet_lib::radix_tree::RadixTree;
use machine::memory::{AllocFlags, Frame};
use machine::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{
    IrqSpinLock, RwLock, RwLockReadGuard, RwLockWriteGuard, RwSpinLock, SpinLock, WaitKind, WaitQueue,
};
use mm::reclaim::Shrinker;

/// The largest block size: what fits a page.
const MAX_BLOCK_SIZE: u32 = 4096;
/// How many buffers one turn under the tree's lock looks at, when memory is wanted.
const SHRINK_BATCH: usize = 32;

/// The metadata blocks of one device that are in memory.
pub struct Buffers {
    device: Arc<BlockDevice>,
    block_size: u32,
    blocks: u64,
    tree: RwSpinLock<RadixTree<Arc<Buffer>>>,
    /// Where the next look for unused buffers begins.
    hand: AtomicU64,
    /// More than this many buffers are not kept just because memory is free.
    limit: usize,
    reads: AtomicUsize,
}

/// Blocks are kept for as long as there is memory for them.
impl Shrinker for Buffers {
    fn shrink(&self, wanted: usize) -> usize {
        Buffers::shrink(self, wanted)
    }
}

/// One block of metadata.
pub struct Buffer {
    block: u64,
    contents: RwLock<Box<[u8]>>,
    state: IrqSpinLock<State>,
    ready: AtomicBool,
    referenced: AtomicBool,
    /// See [`Buffer::is_verified`].
    verified: AtomicBool,
    /// Whoever waits for `state` or `membership` to change.
    changed: WaitQueue,
    /// What the journal knows of it.
    pub(crate) membership: SpinLock<Membership>,
}

/// Where the contents are.
enum State {
    /// On the disk only.
    Empty,
    /// On their way.
    Reading,
    /// In a frame, not copied yet.
    Arrived(Frame),
    /// The transfer failed; whoever waits first is told.
    Failed(Errno),
    /// In the buffer.
    Ready,
}

/// A buffer's contents, locked against changes.
pub struct Contents<'a>(RwLockReadGuard<'a, Box<[u8]>>);

impl Deref for Contents<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Buffers {
    /// An empty cache. Errors: `EINVAL`: not a block size from 1024 to 4096, or smaller than the device's blocks.
    pub fn new(device: Arc<BlockDevice>, block_size: u32) -> Result<Arc<Buffers>> {
        let fits = block_size.is_power_of_two() && (1024..=MAX_BLOCK_SIZE).contains(&block_size);
        if !fits || block_size < device.disk().limits().logical_block_size {
            return Err(Errno::EINVAL);
        }
        let memory = machine::memory::stats().total_pages * machine::PAGE_SIZE;
        let limit = (memory / 8 / block_size as usize).max(1024);
        let blocks = device.size() / u64::from(block_size);
        let (tree, hand, reads) = (RwSpinLock::new(RadixTree::new()), AtomicU64::new(0), AtomicUsize::new(0));
        Ok(Arc::new(Buffers { device, block_size, blocks, tree, hand, limit, reads }))
    }

    /// The device.
    pub fn device(&self) -> &Arc<BlockDevice> {
        &self.device
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// How many buffers are in memory.
    pub fn cached(&self) -> u64 {
        self.tree.read().len()
    }

    /// How many blocks were read from the device.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// The sector where a block begins.
    pub(crate) fn sector(&self, block: u64) -> u64 {
        block.saturating_mul(u64::from(self.block_size) / SECTOR_SIZE as u64)
    }

    /// A block with its contents. Sleeps. Errors: `EIO` (also beyond the device's end), `ENOMEM`.
    pub fn read(&self, block: u64) -> Result<Arc<Buffer>> {
        let buffer = self.get(block)?;
        while !buffer.ready.load(Ordering::Acquire) {
            let begun = buffer.begin_read();
            if begun {
                self.start_reading(vec![buffer.clone()], BioFlags::METADATA | BioFlags::SYNC);
            }
            buffer.settle()?;
        }
        Ok(buffer)
    }

    /// Starts to read blocks that will be wanted, and does not wait. Neighbours go to the device together. What cannot be read is ignored.
    pub fn read_ahead(&self, blocks: &[u64]) {
        let _plug = block::Plug::new();
        let mut run: Vec<Arc<Buffer>> = Vec::new();
        let longest = self.longest_run();
        for block in blocks {
            let Ok(buffer) = self.get(*block) else { continue };
            let follows = run.last().is_none_or(|last| last.block + 1 == *block) && run.len() < longest;
            if !follows {
                self.start_reading(core::mem::take(&mut run), BioFlags::METADATA | BioFlags::READ_AHEAD);
            }
            if buffer.begin_read() {
                run.push(buffer);
            }
        }
        self.start_reading(run, BioFlags::METADATA | BioFlags::READ_AHEAD);
    }

    /// How many blocks one transfer may have.
    pub(crate) fn longest_run(&self) -> usize {
        let limits = self.device.disk().limits();
        let sectors = limits.max_sectors as usize / (self.block_size as usize / SECTOR_SIZE);
        sectors.min(usize::from(limits.max_segments)).clamp(1, 256)
    }

    /// Drops about `wanted` buffers that nobody uses and that are on the disk as they are, those not used lately first. Any thread; does not
    /// sleep. How many it dropped.
    pub fn shrink(&self, wanted: usize) -> usize {
        let mut dropped = 0;
        // Twice round: the first time takes the marks of use away.
        let mut left = 2 * self.cached() as usize;
        while dropped < wanted && left > 0 {
            let victims = self.victims(SHRINK_BATCH.min(wanted - dropped));
            dropped += victims.len();
            left = left.saturating_sub(SHRINK_BATCH);
        }
        dropped
    }

    /// Takes some unused buffers out of the tree; they are freed when the caller drops them, without the lock.
    fn victims(&self, most: usize) -> Vec<Arc<Buffer>> {
        let mut victims = Vec::new();
        if victims.try_reserve(most).is_err() {
            return victims;
        }
        let mut at = self.hand.load(Ordering::Relaxed);
        let mut tree = self.tree.write();
        for _ in 0..SHRINK_BATCH {
            let Some((block, buffer)) = tree.next(at, None) else {
                at = 0;
                continue;
            };
            at = block + 1;
            // One reference is the tree's; with the tree locked nobody can get another.
            let unused = Arc::strong_count(buffer) == 1 && !buffer.referenced.swap(false, Ordering::Relaxed);
            if unused && let Some(buffer) = tree.remove(block) {
                victims.push(buffer);
                if victims.len() == most {
                    break;
                }
            }
        }
        drop(tree);
        self.hand.store(at, Ordering::Relaxed);
        victims
    }

    /// The buffer of a block, perhaps without contents. Errors: `EIO`: beyond the end; `ENOMEM`.
    pub(crate) fn get(&self, block: u64) -> Result<Arc<Buffer>> {
        if let Some(buffer) = self.peek(block) {
            return Ok(buffer);
        }
        if block >= self.blocks {
            return Err(Errno::EIO);
        }
        if self.cached() as usize >= self.limit {
            self.shrink(2);
        }
        let fresh = Arc::new(Buffer::new(block, self.block_size)?);
        let mut tree = self.tree.write();
        if let Some(buffer) = tree.get(block) {
            return Ok(buffer.clone());
        }
        tree.insert(block, fresh.clone());
        Ok(fresh)
    }

    /// The buffer of a block if there is one.
    pub(crate) fn peek(&self, block: u64) -> Option<Arc<Buffer>> {
        let buffer = self.tree.read().get(block).cloned()?;
        buffer.referenced.store(true, Ordering::Relaxed);
        Some(buffer)
    }

    /// Puts contents that the journal had into the buffer of a block, if there is one.
    pub(crate) fn replace(&self, block: u64, bytes: &[u8]) {
        let Some(buffer) = self.peek(block) else { return };
        buffer.wait_while_reading();
        let mut contents = buffer.contents.write();
        if contents.len() == bytes.len() {
            contents.copy_from_slice(bytes);
            buffer.set_ready();
        }
    }

    /// Starts the transfer of neighbouring buffers, all of which are in state `Reading`.
    fn start_reading(&self, run: Vec<Arc<Buffer>>, flags: BioFlags) {
        let Some(first) = run.first() else { return };
        let sector = self.sector(first.block);
        let mut frames = Vec::new();
        for _ in &run {
            match Frame::alloc(AllocFlags::empty()) {
                Ok(frame) => frames.push(frame),
                Err(_) => return run.iter().for_each(|buffer| buffer.arrive(Err(Errno::ENOMEM), flags)),
            }
        }
        self.reads.fetch_add(run.len(), Ordering::Relaxed);
        let arrived = frames.clone();
        let completion = Box::new(move |result: Result<()>| {
            for (buffer, frame) in run.iter().zip(arrived) {
                buffer.arrive(result.map(|()| frame), flags);
            }
        });
        let mut bio = Bio::new(Operation::Read, sector, completion);
        bio.flags = flags;
        for frame in frames {
            if bio.push(Segment { frame, offset: 0, length: self.block_size }).is_err() {
                return; // dropping it completes it
            }
        }
        self.device.submit(bio);
    }
}

impl Buffer {
    fn new(block: u64, block_size: u32) -> Result<Buffer> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(block_size as usize).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(block_size as usize, 0);
        Ok(Buffer {
            block,
            contents: RwLock::new(bytes.into_boxed_slice()),
            state: IrqSpinLock::new(State::Empty),
            ready: AtomicBool::new(false),
            referenced: AtomicBool::new(true),
            verified: AtomicBool::new(false),
            changed: WaitQueue::new(),
            membership: SpinLock::new(Membership::new()),
        })
    }

    /// Whether its owner has checked what it holds since it was read.
    pub fn is_verified(&self) -> bool {
        self.verified.load(Ordering::Relaxed)
    }

    /// Its owner has.
    pub fn set_verified(&self) {
        self.verified.store(true, Ordering::Relaxed);
    }

    /// Its place on the device.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// Its contents, which do not change while the result lives. Sleeps.
    pub fn read(&self) -> Contents<'_> {
        Contents(self.contents.read())
    }

    /// Its contents, to change: the journal's alone, which keeps account of it.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Box<[u8]>> {
        self.contents.write()
    }

    /// Whether the caller is to read it: it is empty, and nobody else does.
    fn begin_read(&self) -> bool {
        let mut state = self.state.lock();
        let empty = matches!(*state, State::Empty);
        if empty {
            *state = State::Reading;
        }
        empty
    }

    /// The transfer has ended. Any context.
    fn arrive(&self, result: Result<Frame>, flags: BioFlags) {
        let state = match result {
            Ok(frame) => State::Arrived(frame),
            // Nobody has asked: whoever does, tries again.
            Err(_) if flags.contains(BioFlags::READ_AHEAD) => State::Empty,
            Err(error) => State::Failed(error),
        };
        *self.state.lock() = state;
        self.changed.wake_all();
    }

    /// Waits for a transfer and copies what it brought. `Ok` does not say that there was one.
    fn settle(&self) -> Result<()> {
        self.wait_while_reading();
        let mut contents = self.contents.write();
        let mut state = self.state.lock();
        match &*state {
            State::Arrived(frame) => {
                let frame = frame.clone();
                // Under the lock of the contents nobody else takes it out of this state.
                drop(state);
                frame.read(0, &mut contents);
                self.set_ready();
                Ok(())
            }
            State::Failed(error) => {
                let error = *error;
                *state = State::Empty;
                Err(error)
            }
            State::Empty | State::Reading | State::Ready => Ok(()),
        }
    }

    /// Waits until no transfer is under way.
    pub(crate) fn wait_while_reading(&self) {
        self.wait_until(|| !matches!(*self.state.lock(), State::Reading));
    }

    /// It has contents now. With the contents locked.
    pub(crate) fn set_ready(&self) {
        *self.state.lock() = State::Ready;
        self.ready.store(true, Ordering::Release);
        self.changed.wake_all();
    }

    /// Waits until what the journal knows of it is so.
    pub(crate) fn wait_until(&self, condition: impl Fn() -> bool) {
        let _ = self.changed.wait_until(WaitKind::Uninterruptible, None, || condition().then_some(()));
    }

    /// What the journal knows of it has changed.
    pub(crate) fn wake(&self) {
        self.changed.wake_all();
    }
}
