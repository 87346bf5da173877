//! The page cache on a disk that takes its time: transfers end later, in another order, with interrupts off, and sometimes fail. The orders
//! are those that seeds choose.

use super::*;
use crate::io::{SliceReader, VecWriter};
use crate::page_cache::Seen;
use crate::write_back::{self, BackingDevice, Wait};
use abi::errno::Errno;
use alloc::collections::BTreeSet;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, WaitKind, WaitQueue};
use machine::time::now_ns;
use sched::host::{Crew, point, run_seeds};

const SEEDS: u64 = 12;
const PAGE: u64 = PAGE_SIZE as u64;

enum Transfer {
    Read(Fill),
    Write(WriteBack),
}

/// What the disk holds and was promised.
#[derive(Default)]
struct Blocks {
    pages: Vec<[u8; PAGE_SIZE]>,
    /// Reserved and not written yet.
    reserved: BTreeSet<u64>,
    /// Pages the file has no more: a transfer to one of them would destroy another file.
    end: u64,
}

/// A disk with a thread of its own.
pub(super) struct SlowDisk {
    device: Arc<BackingDevice>,
    blocks: IrqSpinLock<Blocks>,
    queue: IrqSpinLock<Vec<Transfer>>,
    arrived: WaitQueue,
    reads: AtomicUsize,
    runs_written: AtomicUsize,
    pub(super) pages_written: AtomicUsize,
    failing_reads: AtomicBool,
    failing_writes: AtomicBool,
    postpones: AtomicBool,
    room: AtomicUsize,
}

fn random(below: usize) -> usize {
    let mut bytes = [0; 8];
    machine::random::fill(&mut bytes);
    usize::from_le_bytes(bytes) % below.max(1)
}

impl SlowDisk {
    /// A disk of `pages` pages, each full of its number and 1, and its thread.
    pub(super) fn start(pages: usize) -> Arc<SlowDisk> {
        let contents = (0..pages).map(|number| [(number as u8).wrapping_add(1); PAGE_SIZE]).collect();
        let disk = Arc::new(SlowDisk {
            device: BackingDevice::new("8:0"),
            blocks: IrqSpinLock::new(Blocks { pages: contents, reserved: BTreeSet::new(), end: u64::MAX }),
            queue: IrqSpinLock::new(Vec::new()),
            arrived: WaitQueue::new(),
            reads: AtomicUsize::new(0),
            runs_written: AtomicUsize::new(0),
            pages_written: AtomicUsize::new(0),
            failing_reads: AtomicBool::new(false),
            failing_writes: AtomicBool::new(false),
            postpones: AtomicBool::new(false),
            room: AtomicUsize::new(usize::MAX),
        });
        let worker = disk.clone();
        sched::spawn("disk", sched::SpawnOptions::default(), move || worker.work()).unwrap();
        disk
    }

    pub(super) fn cache(self: &Arc<Self>, size: u64) -> Arc<PageCache> {
        PageCache::new(self.clone(), size)
    }

    fn submit(&self, transfer: Transfer) {
        self.queue.lock().push(transfer);
        self.arrived.wake_all();
    }

    fn work(&self) {
        loop {
            let some = || (!self.queue.lock().is_empty()).then_some(());
            self.arrived.wait_until(WaitKind::Uninterruptible, None, some).unwrap();
            let pause = now_ns() + 1000 * random(200) as u64;
            let _ = sched::sleep_until(pause, WaitKind::Uninterruptible);
            let transfer = {
                let mut queue = self.queue.lock();
                let place = random(queue.len());
                queue.swap_remove(place)
            };
            let _irq = machine::irq::disable();
            match transfer {
                Transfer::Read(fill) => self.read(fill),
                Transfer::Write(batch) => self.write(batch),
            }
        }
    }

    /// In two parts, as where a file lies in pieces.
    fn read(&self, mut fill: Fill) {
        let rest = fill.split_off(1 + random(fill.frames().len()));
        for part in [fill, rest] {
            self.reads.fetch_add(part.frames().len(), Ordering::Relaxed);
            let blocks = self.blocks.lock();
            for (index, frame) in (part.first()..).zip(part.frames()) {
                match blocks.pages.get(index as usize) {
                    Some(page) => frame.write(0, page),
                    None => frame.zero(),
                }
            }
            drop(blocks);
            let fails = self.failing_reads.load(Ordering::Relaxed);
            part.complete(if fails { Err(Errno::EIO) } else { Ok(()) });
        }
    }

    fn write(&self, batch: WriteBack) {
        if self.failing_writes.load(Ordering::Relaxed) {
            batch.complete(Err(Errno::EIO));
            return;
        }
        let mut blocks = self.blocks.lock();
        self.runs_written.fetch_add(1, Ordering::Relaxed);
        self.pages_written.fetch_add(batch.frames().len(), Ordering::Relaxed);
        for (index, frame) in (batch.first()..).zip(batch.frames()) {
            assert!(index < blocks.end, "page {index} is written after the file was cut to {}", blocks.end);
            if blocks.pages.len() <= index as usize {
                blocks.pages.resize(index as usize + 1, [0; PAGE_SIZE]);
            }
            frame.read(0, &mut blocks.pages[index as usize]);
            blocks.reserved.remove(&index);
        }
        drop(blocks);
        batch.complete(Ok(()));
    }

    /// What a file system does after its cache has been cut: blocks behind the end are given to others.
    fn cut(&self, size: u64) {
        let end = size.div_ceil(PAGE);
        let mut blocks = self.blocks.lock();
        blocks.end = end;
        blocks.pages.truncate(end as usize);
        if let Some(page) = blocks.pages.get_mut((size / PAGE) as usize) {
            page[(size % PAGE) as usize..].fill(0);
        }
        assert!(
            blocks.reserved.iter().all(|index| *index < end),
            "room reserved behind the end: {:?}",
            blocks.reserved
        );
    }
}

impl Pager for SlowDisk {
    fn retention(&self) -> Retention {
        Retention::Reloadable
    }
    fn device(&self) -> Option<Arc<BackingDevice>> {
        Some(self.device.clone())
    }
    fn read_pages(&self, fill: Fill) {
        self.submit(Transfer::Read(fill));
    }
    fn write_pages(&self, mut batch: WriteBack) {
        if self.postpones.load(Ordering::Relaxed) {
            batch.split_off(1).postpone();
        }
        self.submit(Transfer::Write(batch));
    }
    fn reserve(&self, index: u64) -> Result<()> {
        point();
        let mut blocks = self.blocks.lock();
        if blocks.pages.len() as u64 <= index && !blocks.reserved.contains(&index) {
            let took =
                self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(1));
            took.map_err(|_| Errno::ENOSPC)?;
            blocks.reserved.insert(index);
        }
        blocks.end = blocks.end.max(index + 1);
        Ok(())
    }
    fn unreserve(&self, index: u64) {
        if self.blocks.lock().reserved.remove(&index) {
            self.room.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn read_all(cache: &PageCache) -> Vec<u8> {
    let mut writer = VecWriter::new(1 << 20);
    cache.read(0, &mut writer).unwrap();
    writer.into_bytes()
}

fn write(cache: &PageCache, offset: u64, bytes: &[u8]) -> Result<usize> {
    cache.write(offset, &mut SliceReader::new(bytes))
}

#[test]
fn readers_of_the_same_pages_wait_for_one_transfer() {
    run_seeds(SEEDS, 4, || {
        let disk = SlowDisk::start(40);
        let cache = disk.cache(40 * PAGE);
        let crew = Crew::new();
        for number in 0..4 {
            let cache = cache.clone();
            crew.spawn("reader", move || {
                let ahead = ReadAhead::new();
                for page in (0..40).map(|page| (page + number * 7) % 40) {
                    let mut writer = VecWriter::new(PAGE_SIZE);
                    assert_eq!(cache.read_ahead_of(&ahead, page * PAGE, &mut writer), Ok(PAGE_SIZE));
                    assert!(writer.into_bytes().iter().all(|byte| u64::from(*byte) == page + 1));
                }
            });
        }
        crew.join();
        assert_eq!(disk.reads.load(Ordering::Relaxed), 40, "each page once");
    });
}

#[test]
fn a_failed_read_is_eio_and_sigbus_and_is_tried_again() {
    run_seeds(SEEDS, 2, || {
        let disk = SlowDisk::start(8);
        let cache = disk.cache(8 * PAGE);
        disk.failing_reads.store(true, Ordering::Relaxed);
        let mut writer = VecWriter::new(PAGE_SIZE);
        assert_eq!(cache.read_ahead_of(&ReadAhead::new(), 0, &mut writer), Err(Errno::EIO));
        let space = new_space();
        let file = TestFile::shared(cache.clone(), FileAccess::all());
        let at = space.mmap(&file_request(&file, 0, 8, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
        assert_eq!(touch(&space, at + PAGE_SIZE, FaultAccess::READ), Err(FaultError::BusError));
        disk.failing_reads.store(false, Ordering::Relaxed);
        assert_eq!(touch(&space, at + PAGE_SIZE, FaultAccess::READ), Ok(()));
        assert_eq!(peek(&space, at + 3 * PAGE_SIZE), Ok(4));
        assert_eq!(read_all(&cache).len(), 8 * PAGE_SIZE);
    });
}

#[test]
fn an_error_of_write_back_is_told_once_to_every_description() {
    run_seeds(2, 2, || {
        let disk = SlowDisk::start(0);
        let cache = disk.cache(0);
        let (first, second, later, late) = (Seen::new(), Seen::new(), Seen::new(), Seen::new());
        let errors = cache.errors().unwrap();
        errors.sample(&first);
        errors.sample(&second);
        write(&cache, 0, &[1; PAGE_SIZE]).unwrap();
        disk.failing_writes.store(true, Ordering::Relaxed);
        assert_eq!(cache.sync(0..u64::MAX), Err(Errno::EIO));
        // Opened when nobody had seen the error yet: it must not be lost.
        errors.sample(&later);
        assert_eq!(cache.error_since(&first), Err(Errno::EIO));
        errors.sample(&late);
        disk.failing_writes.store(false, Ordering::Relaxed);
        write(&cache, 0, &[2; PAGE_SIZE]).unwrap();
        assert_eq!(cache.sync(0..u64::MAX), Ok(()));
        for seen in [&second, &later] {
            assert_eq!(cache.error_since(seen), Err(Errno::EIO));
        }
        for seen in [&first, &second, &later, &late] {
            assert_eq!(cache.error_since(seen), Ok(()));
        }
        disk.failing_writes.store(true, Ordering::Relaxed);
        write(&cache, 0, &[3; PAGE_SIZE]).unwrap();
        assert_eq!(cache.sync(0..u64::MAX), Err(Errno::EIO));
        for seen in [&first, &second, &later, &late] {
            assert_eq!(cache.error_since(seen), Err(Errno::EIO));
        }
    });
}

#[test]
fn neighbours_are_written_as_one_run_and_stores_are_noticed_again() {
    run_seeds(SEEDS, 2, || {
        let disk = SlowDisk::start(0);
        let cache = disk.cache(0);
        write(&cache, 0, &[7; 20 * PAGE_SIZE]).unwrap();
        cache.sync(0..u64::MAX).unwrap();
        assert_eq!(
            (disk.runs_written.load(Ordering::Relaxed), disk.pages_written.load(Ordering::Relaxed)),
            (1, 20)
        );
        let space = new_space();
        let file = TestFile::shared(cache.clone(), FileAccess::all());
        let at = space.mmap(&file_request(&file, 0, 20, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
        for value in [8, 9] {
            poke(&space, at + 3 * PAGE_SIZE, value).unwrap();
            assert!(cache.has_dirty_pages());
            cache.sync(0..u64::MAX).unwrap();
            assert!(!cache.has_dirty_pages());
            assert_eq!(disk.blocks.lock().pages[3][0], value);
        }
        assert_eq!(disk.pages_written.load(Ordering::Relaxed), 22);
    });
}

#[test]
fn what_the_pager_postpones_stays_dirty() {
    run_seeds(SEEDS, 2, || {
        let disk = SlowDisk::start(0);
        let cache = disk.cache(0);
        write(&cache, 0, &[7; 4 * PAGE_SIZE]).unwrap();
        disk.postpones.store(true, Ordering::Relaxed);
        cache.sync_allotted(0..u64::MAX).unwrap();
        assert!(cache.has_dirty_pages());
        assert_eq!(disk.pages_written.load(Ordering::Relaxed), 1);
        disk.postpones.store(false, Ordering::Relaxed);
        cache.sync(0..u64::MAX).unwrap();
        assert!(!cache.has_dirty_pages());
        assert_eq!(disk.pages_written.load(Ordering::Relaxed), 4);
        assert_eq!(stats::DIRTY_PAGES.get() + stats::WRITEBACK_PAGES.get(), 0);
    });
}

#[test]
fn no_room_is_enospc_for_a_write_and_a_bus_error_for_a_store() {
    run_seeds(2, 2, || {
        let disk = SlowDisk::start(0);
        let cache = disk.cache(4 * PAGE);
        disk.room.store(2, Ordering::Relaxed);
        assert_eq!(write(&cache, 0, &[1; 3 * PAGE_SIZE]), Ok(2 * PAGE_SIZE));
        assert_eq!(write(&cache, 2 * PAGE, &[1; PAGE_SIZE]), Err(Errno::ENOSPC));
        let space = new_space();
        let file = TestFile::shared(cache.clone(), FileAccess::all());
        let at = space.mmap(&file_request(&file, 0, 4, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
        assert_eq!(touch(&space, at + 3 * PAGE_SIZE, FaultAccess::READ), Ok(()), "a hole can be read");
        assert_eq!(touch(&space, at + 3 * PAGE_SIZE, FaultAccess::WRITE), Err(FaultError::BusError));
        cache.truncate(PAGE).unwrap();
        disk.cut(PAGE);
        cache.truncate(4 * PAGE).unwrap();
        assert_eq!(touch(&space, at + 3 * PAGE_SIZE, FaultAccess::WRITE), Ok(()), "room was given back");
        assert_eq!(disk.room.load(Ordering::Relaxed), 0);
    });
}

/// A file is written, stored to, cut and extended, read and synced at once: nothing of it reaches the disk behind its end, and what is in memory in the
/// end is what the disk holds.
#[test]
fn truncation_faults_and_write_back_leave_no_stale_page() {
    run_seeds(SEEDS * 4, 4, || {
        write_back::enable();
        write_back::limits::set_expire_centiseconds(0).unwrap();
        write_back::limits::set_write_back_centiseconds(1).unwrap();
        let disk = SlowDisk::start(6);
        let cache = disk.cache(6 * PAGE);
        let inode_lock = Arc::new(machine::sync::Mutex::new(()));
        let space = new_space();
        let file = TestFile::shared(cache.clone(), FileAccess::all());
        let at = space.mmap(&file_request(&file, 0, 12, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
        let crew = Crew::new();
        let (c, d, l) = (cache.clone(), disk.clone(), inode_lock.clone());
        crew.spawn("cutter", move || {
            for _ in 0..12 {
                let _inode = l.lock();
                let size = random(12 * PAGE_SIZE) as u64;
                let shrinks = size < c.size();
                c.truncate(size).unwrap();
                if shrinks {
                    d.cut(size);
                    let tail = (size % PAGE) as usize;
                    if let Some(page) = c.lookup(size / PAGE).filter(|_| tail > 0) {
                        let mut bytes = [0];
                        page.read(PAGE_SIZE - 1, &mut bytes);
                        // A store through the mapping may have come since, behind the end, where nobody sees it.
                        assert!(
                            bytes[0] == 0 || (90..100).contains(&bytes[0]),
                            "the cut page keeps {}",
                            bytes[0]
                        );
                    }
                }
                point();
            }
        });
        let (c, l) = (cache.clone(), inode_lock);
        crew.spawn("writer", move || {
            for round in 0..20 {
                let _inode = l.lock();
                let offset = random(10 * PAGE_SIZE) as u64;
                let bytes = alloc::vec![round as u8 + 100; 1 + random(2 * PAGE_SIZE)];
                assert_eq!(write(&c, offset, &bytes), Ok(bytes.len()));
                assert!(c.size() >= offset + bytes.len() as u64);
            }
        });
        crew.spawn("storer", move || {
            for _ in 0..30 {
                let page = random(12);
                match poke(&space, at + page * PAGE_SIZE + PAGE_SIZE - 1, 90 + random(10) as u8) {
                    Ok(()) | Err(Errno::EFAULT) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        let c = cache.clone();
        crew.spawn("syncer", move || {
            for _ in 0..6 {
                c.sync(0..u64::MAX).unwrap();
                crate::reclaim::reclaim(4);
            }
        });
        crew.join();
        cache.sync(0..u64::MAX).unwrap();
        assert!(!cache.has_dirty_pages());
        let there = read_all(&cache);
        assert_eq!(there.len() as u64, cache.size());
        let blocks = disk.blocks.lock();
        assert!(blocks.reserved.is_empty(), "{:?}", blocks.reserved);
        let mut on_disk = blocks.pages.as_flattened().to_vec();
        drop(blocks);
        on_disk.resize(there.len().max(on_disk.len()), 0);
        assert!(there[..] == on_disk[..there.len()], "memory and disk differ");
        assert_eq!(stats::DIRTY_PAGES.get() + stats::WRITEBACK_PAGES.get(), 0);
        assert_eq!(disk.device.dirty_pages(), 0);
    });
}

#[test]
fn the_flusher_writes_what_is_old_and_lets_go_of_the_cache() {
    run_seeds(SEEDS, 2, || {
        write_back::enable();
        let disk = SlowDisk::start(0);
        let cache = disk.cache(0);
        write(&cache, 0, &[5; 3 * PAGE_SIZE]).unwrap();
        // Nobody has the file open any more.
        let gone = Arc::downgrade(&cache);
        drop(cache);
        let _ = sched::sleep_until(now_ns() + 20_000_000_000, WaitKind::Uninterruptible);
        assert_eq!(disk.pages_written.load(Ordering::Relaxed), 0, "not old yet");
        let _ = sched::sleep_until(now_ns() + 25_000_000_000, WaitKind::Uninterruptible);
        assert_eq!(disk.pages_written.load(Ordering::Relaxed), 3);
        let _ = sched::sleep_until(now_ns() + 10_000_000_000, WaitKind::Uninterruptible);
        assert!(gone.upgrade().is_none(), "the list lets go");
    });
}

#[test]
fn sync_waits_for_every_device() {
    run_seeds(SEEDS, 2, || {
        let disks: Vec<_> = (0..2).map(|_| SlowDisk::start(0)).collect();
        let caches: Vec<_> = disks.iter().map(|disk| disk.cache(0)).collect();
        for cache in &caches {
            write(cache, 0, &[5; 9 * PAGE_SIZE]).unwrap();
        }
        write_back::write_all(Wait::ForAll);
        for disk in &disks {
            assert_eq!(disk.pages_written.load(Ordering::Relaxed), 9);
        }
    });
}

#[test]
fn writers_wait_above_the_limit_and_share_the_device() {
    run_seeds(3, 4, || {
        write_back::enable();
        write_back::limits::BACKGROUND.set_bytes(32 * PAGE, 1).unwrap();
        write_back::limits::FOREGROUND.set_bytes(128 * PAGE, 2).unwrap();
        let disk = SlowDisk::start(0);
        let crew = Crew::new();
        let done = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let most = Arc::new(AtomicUsize::new(0));
        for number in 0..2 {
            let (cache, done, most) = (disk.cache(0), done.clone(), most.clone());
            let device = disk.device.clone();
            crew.spawn("writer", move || {
                for page in 0..600 {
                    write(&cache, page * PAGE, &[3; PAGE_SIZE]).unwrap();
                    done[number].fetch_add(1, Ordering::Relaxed);
                    most.fetch_max(device.dirty_pages(), Ordering::Relaxed);
                    let other = done[1 - number].load(Ordering::Relaxed);
                    assert!(
                        page < 300 || other > 60,
                        "one writes {page} pages while the other writes {other}"
                    );
                }
            });
        }
        crew.join();
        let most = most.load(Ordering::Relaxed);
        // Each may go on for as many pages as it looks at the limits for.
        assert!(most <= 128 + 2 * 32, "{most} pages were dirty at once");
        assert!(most > 64, "nobody wrote ahead of the disk");
    });
}
