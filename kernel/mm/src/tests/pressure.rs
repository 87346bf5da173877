//! Reclaim: what goes first, what is left alone, and a machine with little memory that reads and writes much.

use super::device::SlowDisk;
use super::*;
use crate::io::{SliceReader, VecWriter};
use crate::reclaim::{self, generations};
use crate::write_back;
use core::sync::atomic::Ordering;
use machine::memory::{AllocFlags, Frame};
use sched::host::{Crew, run_seeds};

const PAGE: u64 = PAGE_SIZE as u64;

fn read_page(cache: &PageCache, page: u64) -> u8 {
    let mut writer = VecWriter::new(PAGE_SIZE);
    assert_eq!(cache.read(page * PAGE, &mut writer), Ok(PAGE_SIZE));
    writer.into_bytes()[0]
}

#[test]
fn pages_used_twice_outlive_a_long_file_read_once() {
    run_seeds(2, 2, || {
        let (hot_disk, long_disk) = (SlowDisk::start(64), SlowDisk::start(1024));
        let (hot, long) = (hot_disk.cache(64 * PAGE), long_disk.cache(1024 * PAGE));
        for _ in 0..2 {
            (0..64).for_each(|page| assert_eq!(u64::from(read_page(&hot, page)), page + 1));
        }
        (0..1024).for_each(|page| _ = read_page(&long, page));
        let mut freed = 0;
        while freed < 900 {
            let now = generations::shrink(64, 64);
            assert!(now > 0, "nothing more after {freed}");
            freed += now;
        }
        assert_eq!(hot.page_count(), 64, "{} of the long file are left", long.page_count());
        while generations::shrink(64, generations::listed() * 4) > 0 {}
        assert_eq!((hot.page_count(), long.page_count()), (0, 0), "what nobody uses goes in the end");
        assert_eq!(generations::listed(), 0);
    });
}

#[test]
fn blocks_of_files_that_are_gone_are_forgotten() {
    run_seeds(2, 2, || {
        let disk = SlowDisk::start(1);
        for _ in 0..6000 {
            let cache = disk.cache(PAGE);
            read_page(&cache, 0);
            cache.truncate(0).unwrap();
            assert_eq!(cache.write(0, &mut SliceReader::new(&[1])), Ok(1));
            cache.truncate(0).unwrap();
        }
        assert!(generations::wants_pruning());
        generations::prune();
        assert!(generations::listed() <= 1, "{}", generations::listed());
    });
}

/// No program that could be ended: memory must come from reclaim.
struct Nobody;

impl oom::OomVictims for Nobody {
    fn for_each(&self, _: &mut dyn FnMut(oom::OomCandidate)) {}
    fn kill(&self, _: u64, _: &oom::OomReport) {
        panic!("the OOM killer was called");
    }
    fn current_is_dying(&self) -> bool {
        false
    }
}

/// Takes all memory but `pages` pages.
fn leave(pages: usize) -> Vec<Frame> {
    let stats = machine::memory::stats();
    let free = stats.free_pages.saturating_sub(stats.reserve_pages);
    let take = free.saturating_sub(pages);
    (0..take).map_while(|_| Frame::alloc(AllocFlags::NO_RECLAIM).ok()).collect()
}

#[test]
fn a_machine_with_little_memory_copies_files_larger_than_it() {
    run_seeds(3, 2, || {
        init();
        oom::register(&Nobody);
        start_threads();
        let from = SlowDisk::start(1500);
        let to = SlowDisk::start(0);
        let taken = leave(400);
        let (source, target) = (from.cache(1500 * PAGE), to.cache(0));
        let crew = Crew::new();
        let (reader, writer) = (source.clone(), target.clone());
        crew.spawn("copier", move || {
            let ahead = ReadAhead::new();
            for page in 0..1500 {
                let mut bytes = VecWriter::new(PAGE_SIZE);
                assert_eq!(reader.read_ahead_of(&ahead, page * PAGE, &mut bytes), Ok(PAGE_SIZE));
                assert_eq!(
                    writer.write(page * PAGE, &mut SliceReader::new(&bytes.into_bytes())),
                    Ok(PAGE_SIZE)
                );
            }
        });
        crew.join();
        assert!(source.page_count() + target.page_count() < 1500, "both files cannot have been kept");
        target.sync(0..u64::MAX).unwrap();
        drop(taken);
        assert_eq!(to.pages_written.load(Ordering::Relaxed) as u64 / 1500, 1);
        for page in [0, 1, 700, 1499] {
            assert_eq!(u64::from(read_page(&target, page)), (page + 1) % 256);
        }
        assert!(reclaim::reclaimed_pages() > 1000);
        write_back::write_all(write_back::Wait::ForAll);
    });
}
