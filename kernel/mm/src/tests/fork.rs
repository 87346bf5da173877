//! Fork: isolation, sharing, accounting, failure.

use super::*;
use abi::errno::Errno;

#[test]
fn private_memory_is_isolated_and_shared_memory_is_not() {
    kernel(|| {
        let parent = new_space();
        let private = map_private(&parent, 3);
        let shared =
            parent.mmap(&anonymous(0, 3 * PAGE_SIZE, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
        poke(&parent, private, 1).unwrap();
        poke(&parent, shared, 1).unwrap();
        let child = parent.fork().unwrap();
        assert_eq!(child.usage().rss_anonymous, 1);
        poke(&child, private, 2).unwrap();
        poke(&child, shared, 2).unwrap();
        poke(&parent, private + PAGE_SIZE, 3).unwrap();
        assert_eq!((peek(&parent, private), peek(&child, private)), (Ok(1), Ok(2)));
        assert_eq!((peek(&parent, shared), peek(&child, shared)), (Ok(2), Ok(2)));
        assert_eq!(peek(&child, private + PAGE_SIZE), Ok(0));
        let grandchild = child.fork().unwrap();
        drop(child);
        assert_eq!(peek(&grandchild, private), Ok(2));
        assert_eq!(maps(&grandchild), maps(&parent));
    });
}

#[test]
fn advice_about_fork_is_obeyed() {
    kernel(|| {
        let parent = new_space();
        let at = map_private(&parent, 3);
        for page in 0..3 {
            poke(&parent, at + page * PAGE_SIZE, 7).unwrap();
        }
        parent.madvise(at, PAGE_SIZE, mman::MADV_DONTFORK).unwrap();
        parent.madvise(at + PAGE_SIZE, PAGE_SIZE, mman::MADV_WIPEONFORK).unwrap();
        let child = parent.fork().unwrap();
        assert_eq!(peek(&child, at), Err(Errno::EFAULT));
        assert_eq!(peek(&child, at + PAGE_SIZE), Ok(0));
        assert_eq!(peek(&child, at + 2 * PAGE_SIZE), Ok(7));
        assert_eq!(child.usage().total, 2);
    });
}

#[test]
fn a_private_file_page_that_was_written_goes_to_the_child() {
    kernel(|| {
        let disk = Disk::new(4);
        let cache = PageCache::new(disk, 4 * PAGE_SIZE as u64);
        let file = TestFile::shared(cache, FileAccess::READ);
        let parent = new_space();
        let at = parent.mmap(&file_request(&file, 0, 4, RW, mman::MAP_PRIVATE), &Limits::UNLIMITED).unwrap();
        assert_eq!(peek(&parent, at), Ok(1));
        assert_eq!(parent.fork().unwrap().usage().rss(), 0, "clean pages are left to refault");
        parent.munmap(at + 3 * PAGE_SIZE, PAGE_SIZE).unwrap();
        poke(&parent, at + PAGE_SIZE, 99).unwrap();
        let child = parent.fork().unwrap();
        poke(&parent, at + PAGE_SIZE, 98).unwrap();
        assert_eq!(peek(&child, at + PAGE_SIZE), Ok(99));
        assert_eq!(peek(&child, at), Ok(1));
    });
}

#[test]
fn promises_and_pages_come_back() {
    kernel(|| {
        let before =
            (commit::committed_pages(), stats::SHMEM_PAGES.get(), machine::memory::stats().free_pages);
        {
            let parent = new_space();
            let at = map_private(&parent, 100);
            let shared =
                parent.mmap(&anonymous(0, 50 * PAGE_SIZE, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
            for page in 0..50 {
                poke(&parent, at + page * PAGE_SIZE, 1).unwrap();
                poke(&parent, shared + page * PAGE_SIZE, 1).unwrap();
            }
            let children: Vec<_> = (0..5).map(|_| parent.fork().unwrap()).collect();
            assert_eq!(commit::committed_pages() - before.0, 150 * 6);
            for child in &children {
                poke(child, at, 2).unwrap();
            }
        }
        machine::sync::rcu::synchronize();
        while machine::sync::rcu::run_callbacks() {}
        machine::memory::heap::shrink();
        assert_eq!((commit::committed_pages(), stats::SHMEM_PAGES.get()), (before.0, before.1));
        assert!(machine::memory::stats().free_pages + 64 >= before.2, "frames leaked");
    });
}

#[test]
fn fork_without_memory_fails_whole() {
    kernel(|| {
        let parent = new_space();
        let at = map_private(&parent, 600);
        for page in 0..600 {
            poke(&parent, at + page * PAGE_SIZE, page as u8).unwrap();
        }
        let committed = commit::committed_pages();
        let mut failures = 0;
        for count in 0..64 {
            machine::memory::fail_after(Some(count));
            let child = parent.fork();
            machine::memory::fail_after(None);
            match child {
                Ok(child) => {
                    assert_eq!(peek(&child, at + 599 * PAGE_SIZE), Ok(87));
                    break;
                }
                Err(error) => assert_eq!(error, Errno::ENOMEM),
            }
            failures += 1;
            assert_eq!(commit::committed_pages(), committed);
            poke(&parent, at, 1).unwrap();
        }
        assert!(failures > 0);
        assert_eq!(peek(&parent, at + PAGE_SIZE), Ok(1));
    });
}
