//! Faults on several processors at once, against each other, against changes of the map, and against truncation; in the orders
//! that seeds choose.

use super::*;
use abi::errno::Errno;
use sched::host::{Crew, point, repeats, run_seeds};

const SEEDS: u64 = 15;
const PAGES: usize = 8;

/// Each thread writes its own byte of every page; all bytes are there in the end, and each page was made once.
fn faults_at_the_same_pages() {
    let space = new_space();
    let at = map_private(&space, PAGES);
    let crew = Crew::new();
    for number in 0..4 {
        let space = space.clone();
        crew.spawn("faulter", move || {
            for page in 0..PAGES {
                let page = (page + 2 * number) % PAGES;
                touch(&space, at + page * PAGE_SIZE, FaultAccess::WRITE).unwrap();
                poke(&space, at + page * PAGE_SIZE + number, number as u8 + 1).unwrap();
            }
        });
    }
    crew.join();
    for page in 0..PAGES {
        for number in 0..4 {
            assert_eq!(peek(&space, at + page * PAGE_SIZE + number), Ok(number as u8 + 1));
        }
    }
    assert_eq!(space.usage().rss_anonymous, PAGES);
}

#[test]
fn parallel_faults_make_each_page_once() {
    run_seeds(SEEDS, 4, faults_at_the_same_pages);
}

#[test]
fn a_seed_repeats_with_faults() {
    repeats(4, 4, faults_at_the_same_pages);
}

#[test]
fn faults_during_changes_of_the_map_hit_or_miss() {
    run_seeds(SEEDS, 4, || {
        let space = new_space();
        let fixed = map_private(&space, PAGES);
        let fleeting = map_private(&space, PAGES);
        let crew = Crew::new();
        for _ in 0..2 {
            let space = space.clone();
            crew.spawn("faulter", move || {
                for round in 0..20 {
                    let page = round % PAGES * PAGE_SIZE;
                    assert_eq!(touch(&space, fixed + page, FaultAccess::WRITE), Ok(()));
                    let result = touch(&space, fleeting + page, FaultAccess::WRITE);
                    let expected = [Ok(()), Err(FaultError::NotMapped), Err(FaultError::AccessDenied)];
                    assert!(expected.contains(&result), "{result:?}");
                }
            });
        }
        for _ in 0..6 {
            space.munmap(fleeting + PAGE_SIZE, 3 * PAGE_SIZE).unwrap();
            point();
            let again = anonymous(fleeting, PAGES * PAGE_SIZE, RW, mman::MAP_PRIVATE | mman::MAP_FIXED);
            assert_eq!(space.mmap(&again, &Limits::UNLIMITED), Ok(fleeting));
        }
        crew.join();
        space.munmap(fleeting, PAGES * PAGE_SIZE).unwrap();
        assert_eq!(space.usage().rss_anonymous, PAGES, "what is unmapped counts no more");
    });
}

#[test]
fn forks_during_faults_share_what_was_written() {
    run_seeds(SEEDS, 3, || {
        let space = new_space();
        let at = map_private(&space, PAGES);
        for page in 0..PAGES {
            poke(&space, at + page * PAGE_SIZE, 1).unwrap();
        }
        let crew = Crew::new();
        let writer = space.clone();
        crew.spawn("writer", move || {
            for value in 2..8 {
                for page in 0..PAGES {
                    poke(&writer, at + page * PAGE_SIZE, value).unwrap();
                }
            }
        });
        for _ in 0..4 {
            let child = space.fork().unwrap();
            let seen: Vec<u8> = (0..PAGES).map(|page| peek(&child, at + page * PAGE_SIZE).unwrap()).collect();
            poke(&child, at, 99).unwrap();
            for (page, byte) in seen.iter().enumerate().skip(1) {
                sched::yield_now();
                assert_eq!(peek(&child, at + page * PAGE_SIZE), Ok(*byte), "the parent's write came through");
            }
        }
        crew.join();
        assert_eq!(peek(&space, at), Ok(7), "the child's write came through");
    });
}

/// A file shrinks and grows while it is mapped and faulted: past its end is SIGBUS, never an old page; in the end no page past
/// the end is left in the cache.
#[test]
fn truncation_and_faults_agree() {
    run_seeds(SEEDS, 4, || {
        let cache = PageCache::new(Disk::new(PAGES), (PAGES * PAGE_SIZE) as u64);
        let file = TestFile::shared(cache.clone(), FileAccess::READ | FileAccess::WRITE);
        let space = new_space();
        let at =
            space.mmap(&file_request(&file, 0, PAGES, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
        let crew = Crew::new();
        for number in 0..2 {
            let space = space.clone();
            crew.spawn("faulter", move || {
                for round in 0..16 {
                    let page = (round * 3 + number) % PAGES;
                    let access = if round % 2 == 0 { FaultAccess::WRITE } else { FaultAccess::READ };
                    let result = touch(&space, at + page * PAGE_SIZE, access);
                    assert!(result.is_ok() || page >= 2, "{result:?} for a page that is always there");
                }
            });
        }
        for _ in 0..4 {
            cache.truncate((2 * PAGE_SIZE) as u64).unwrap();
            point();
            cache.truncate((PAGES * PAGE_SIZE) as u64).unwrap();
        }
        cache.truncate((2 * PAGE_SIZE) as u64).unwrap();
        crew.join();
        assert!((2..PAGES as u64).all(|index| !cache.contains_page(index)), "a page past the end");
        assert_eq!(peek(&space, at + 3 * PAGE_SIZE), Err(Errno::EFAULT));
        assert!(peek(&space, at).is_ok());
    });
}
