//! Page faults: demand zero, copy-on-write, files, stacks.

use super::*;
use abi::errno::Errno;

#[test]
fn anonymous_memory_reads_as_zeros_and_takes_a_page_when_written() {
    kernel(|| {
        let space = new_space();
        let at = map_private(&space, 4);
        assert_eq!(peek(&space, at), Ok(0));
        assert_eq!(space.usage().rss(), 0, "the page of zeros counts as nothing");
        poke(&space, at, 5).unwrap();
        poke(&space, at + PAGE_SIZE, 6).unwrap();
        assert_eq!((peek(&space, at), peek(&space, at + PAGE_SIZE)), (Ok(5), Ok(6)));
        assert_eq!(space.usage().rss_anonymous, 2);
        space.munmap(at, PAGE_SIZE).unwrap();
        assert_eq!(space.usage().rss_anonymous, 1);
        assert_eq!(space.usage().peak_rss, 2);
        assert_eq!(peek(&space, at), Err(Errno::EFAULT));
    });
}

#[test]
fn faults_say_why() {
    kernel(|| {
        let space = new_space();
        let none = space
            .mmap(&anonymous(0, PAGE_SIZE, Protection::empty(), mman::MAP_PRIVATE), &Limits::UNLIMITED)
            .unwrap();
        let text = space
            .mmap(&anonymous(0, PAGE_SIZE, Protection::READ, mman::MAP_PRIVATE), &Limits::UNLIMITED)
            .unwrap();
        assert_eq!(touch(&space, 0x1000, FaultAccess::READ), Err(FaultError::NotMapped));
        assert_eq!(touch(&space, none, FaultAccess::READ), Err(FaultError::AccessDenied));
        assert_eq!(touch(&space, text, FaultAccess::WRITE), Err(FaultError::AccessDenied));
        assert_eq!(touch(&space, text, FaultAccess::EXEC), Err(FaultError::AccessDenied));
        assert_eq!(touch(&space, text, FaultAccess::READ), Ok(()));
    });
}

#[test]
fn a_page_that_no_one_else_has_is_taken_over_not_copied() {
    kernel(|| {
        let space = new_space();
        let at = map_private(&space, 1);
        poke(&space, at, 9).unwrap();
        let before = space.page_table().query(at).unwrap().frame.number();
        drop(space.fork().unwrap());
        poke(&space, at, 10).unwrap();
        assert_eq!(space.page_table().query(at).unwrap().frame.number(), before);
        assert_eq!(space.usage().rss_anonymous, 1);
    });
}

#[test]
fn file_faults_map_what_is_cached_around() {
    kernel(|| {
        let disk = Disk::new(40);
        let cache = PageCache::new(disk.clone(), 40 * PAGE_SIZE as u64);
        for index in 0..20 {
            cache.get_page(index, Access::Read).unwrap();
        }
        let space = new_space();
        let file = TestFile::shared(cache, FileAccess::READ);
        let request =
            file_request(&file, 0x10_0000, 40, Protection::READ, mman::MAP_PRIVATE | mman::MAP_FIXED);
        let at = space.mmap(&request, &Limits::UNLIMITED).unwrap();
        touch(&space, at + 3 * PAGE_SIZE, FaultAccess::READ).unwrap();
        assert_eq!(space.usage().rss_file, 16);
        touch(&space, at + 17 * PAGE_SIZE, FaultAccess::READ).unwrap();
        assert_eq!(space.usage().rss_file, 20, "only what is cached");
        assert_eq!(disk.reads.lock().unwrap().len(), 20);
        assert_eq!(peek(&space, at + 39 * PAGE_SIZE), Ok(40));
        assert_eq!(disk.reads.lock().unwrap().len(), 20 + 17, "what lies around a miss comes with it");
    });
}

#[test]
fn who_reads_a_mapping_in_order_faults_ever_less() {
    kernel(|| {
        const PAGES: usize = 1024;
        let cache = PageCache::new_in_memory((PAGES * PAGE_SIZE) as u64);
        for index in 0..PAGES as u64 {
            cache.get_page(index, Access::Create).unwrap();
        }
        let space = new_space();
        let file = TestFile::shared(cache, FileAccess::READ);
        let request =
            file_request(&file, 0x20_0000, PAGES, Protection::READ, mman::MAP_PRIVATE | mman::MAP_FIXED);
        let at = space.mmap(&request, &Limits::UNLIMITED).unwrap();
        let mut faults = 0;
        for page in 0..PAGES {
            let address = at + page * PAGE_SIZE;
            if space.page_table().query(address).is_none() {
                touch(&space, address, FaultAccess::READ).unwrap();
                faults += 1;
            }
        }
        // In each leaf table 16 pages, then twice as many as are there: 32, 64, 128, 256, and the rest.
        assert_eq!(faults, 12);
        assert_eq!(space.usage().rss(), PAGES);
        space.munmap(at, PAGES * PAGE_SIZE).unwrap();
        assert_eq!(space.usage().rss(), 0);
        // Here and there: the neighbourhood only.
        let at = space.mmap(&request, &Limits::UNLIMITED).unwrap();
        touch(&space, at + 100 * PAGE_SIZE, FaultAccess::READ).unwrap();
        touch(&space, at + 700 * PAGE_SIZE, FaultAccess::READ).unwrap();
        assert_eq!(space.usage().rss(), 32);
    });
}

#[test]
fn beyond_the_end_of_a_file_is_a_bus_error() {
    kernel(|| {
        let space = new_space();
        let cache = PageCache::new_in_memory(PAGE_SIZE as u64 + 1);
        let file = TestFile::shared(cache.clone(), FileAccess::all());
        let at = space.mmap(&file_request(&file, 0, 4, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
        assert_eq!(touch(&space, at + PAGE_SIZE, FaultAccess::WRITE), Ok(()));
        assert_eq!(touch(&space, at + 2 * PAGE_SIZE, FaultAccess::WRITE), Err(FaultError::BusError));
        cache.truncate(PAGE_SIZE as u64).unwrap();
        assert_eq!(space.usage().rss_shmem, 0);
        assert_eq!(touch(&space, at + PAGE_SIZE, FaultAccess::READ), Err(FaultError::BusError));
        cache.truncate(4 * PAGE_SIZE as u64).unwrap();
        assert_eq!(touch(&space, at + 3 * PAGE_SIZE, FaultAccess::READ), Ok(()));
    });
}

#[test]
fn truncation_takes_private_copies_too_but_a_hole_does_not() {
    kernel(|| {
        let space = new_space();
        let cache = PageCache::new_in_memory(4 * PAGE_SIZE as u64);
        let file = TestFile::shared(cache.clone(), FileAccess::all());
        let at = space.mmap(&file_request(&file, 0, 4, RW, mman::MAP_PRIVATE), &Limits::UNLIMITED).unwrap();
        poke(&space, at, 1).unwrap();
        poke(&space, at + 3 * PAGE_SIZE, 2).unwrap();
        cache.punch_hole(0..4 * PAGE_SIZE as u64).unwrap();
        assert_eq!((peek(&space, at), peek(&space, at + 3 * PAGE_SIZE)), (Ok(1), Ok(2)));
        cache.truncate(3 * PAGE_SIZE as u64).unwrap();
        assert_eq!((peek(&space, at), peek(&space, at + 3 * PAGE_SIZE)), (Ok(1), Err(Errno::EFAULT)));
    });
}

#[test]
fn stores_to_a_shared_file_make_it_dirty_each_time() {
    kernel(|| {
        let disk = Disk::new(4);
        let cache = PageCache::new(disk.clone(), 4 * PAGE_SIZE as u64);
        let file = TestFile::shared(cache.clone(), FileAccess::all());
        let space = new_space();
        let at = space.mmap(&file_request(&file, 0, 4, RW, mman::MAP_SHARED), &Limits::UNLIMITED).unwrap();
        assert_eq!(peek(&space, at + PAGE_SIZE), Ok(2));
        assert!(!cache.has_dirty_pages());
        for round in 0..3 {
            poke(&space, at + PAGE_SIZE, 50 + round).unwrap();
            assert!(cache.has_dirty_pages());
            space.msync(at, 4 * PAGE_SIZE, mman::MS_SYNC).unwrap();
            assert!(!cache.has_dirty_pages());
            assert_eq!(disk.pages.lock().unwrap()[1][0], 50 + round);
        }
        assert_eq!(*disk.writes.lock().unwrap(), [1, 1, 1]);
    });
}

#[test]
fn stacks_grow_to_their_limit_and_keep_their_distance() {
    kernel(|| {
        let space = new_space();
        let limits = Limits { stack: 1 << 20, ..Limits::UNLIMITED };
        let top = space.setup_stack(RW, 100, &limits).unwrap();
        let grow = |address| {
            let access = FaultAccess::WRITE;
            space.handle_fault(&FaultInfo { address, access, present: false }, || limits)
        };
        assert_eq!(grow(top - (1 << 19)), Ok(()));
        assert_eq!(grow(top - (1 << 20)), Ok(()));
        assert_eq!(grow(top - (1 << 20) - 1), Err(FaultError::NotMapped));
        assert_eq!(space.usage().stack, 256);
        let near = top - (1 << 20) - (1 << 20);
        let request = anonymous(near, PAGE_SIZE, RW, mman::MAP_PRIVATE | mman::MAP_FIXED);
        space.mmap(&request, &Limits::UNLIMITED).unwrap();
        let fault = FaultInfo { address: near + 8 * PAGE_SIZE, access: FaultAccess::WRITE, present: false };
        assert_eq!(space.handle_fault(&fault, || Limits::UNLIMITED), Err(FaultError::NotMapped));
        assert!(maps(&space).lines().count() == 2);
    });
}

#[test]
fn without_memory_a_fault_fails_and_nothing_is_lost() {
    kernel(|| {
        let space = new_space();
        let at = map_private(&space, 2);
        poke(&space, at, 1).unwrap();
        machine::memory::fail_after(Some(0));
        let result = touch(&space, at + PAGE_SIZE, FaultAccess::WRITE);
        machine::memory::fail_after(None);
        assert_eq!(result, Err(FaultError::OutOfMemory));
        assert_eq!(touch(&space, at + PAGE_SIZE, FaultAccess::WRITE), Ok(()));
        assert_eq!(peek(&space, at), Ok(1));
    });
}
