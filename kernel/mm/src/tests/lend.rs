//! Pages lent to devices: what a device writes is the program's, and nobody else's.

use super::*;
use crate::lend::{Lending, Lent, lend};
use abi::errno::Errno;
use machine::memory::PageTable;

/// Pages of `space` as its own thread would lend them.
fn borrow(space: &AddressSpace, address: usize, bytes: usize, lending: Lending) -> Option<Lent> {
    space.activate();
    let lent = lend(address, bytes, lending);
    PageTable::activate_kernel();
    lent
}

/// What a device does.
fn device_writes(lent: &Lent, page: usize, value: u8) {
    lent.frames()[page].write(0, &[value]);
}

fn two_pages() -> (Arc<AddressSpace>, usize) {
    let space = new_space();
    let at = map_private(&space, 2);
    poke(&space, at, 1).unwrap();
    poke(&space, at + PAGE_SIZE, 2).unwrap();
    (space, at)
}

#[test]
fn a_fork_copies_what_is_lent_and_shares_it_afterwards() {
    kernel(|| {
        let (parent, at) = two_pages();
        let lent = borrow(&parent, at, 2 * PAGE_SIZE, Lending::ToWrite).unwrap();
        device_writes(&lent, 0, 10);
        let child = parent.fork().unwrap();
        device_writes(&lent, 1, 20);
        assert_eq!((peek(&parent, at), peek(&parent, at + PAGE_SIZE)), (Ok(10), Ok(20)));
        assert_eq!((peek(&child, at), peek(&child, at + PAGE_SIZE)), (Ok(10), Ok(2)));
        assert_eq!(child.usage().rss_anonymous, 2);
        poke(&parent, at, 11).unwrap();
        poke(&child, at, 12).unwrap();
        device_writes(&lent, 1, 21);
        assert_eq!((peek(&parent, at + PAGE_SIZE), peek(&child, at)), (Ok(21), Ok(12)));
        drop(lent);
        let free = machine::memory::stats().free_pages;
        let late = parent.fork().unwrap();
        poke(&late, at, 13).unwrap();
        assert_eq!((peek(&parent, at), peek(&late, at)), (Ok(11), Ok(13)));
        assert!(free - machine::memory::stats().free_pages < 8, "nothing is lent any more");
    });
}

#[test]
fn a_store_after_the_page_was_read_only_is_made_in_place() {
    kernel(|| {
        let (space, at) = two_pages();
        let lent = borrow(&space, at, PAGE_SIZE, Lending::ToWrite).unwrap();
        space.mprotect(at, PAGE_SIZE, mman::PROT_READ, &Limits::UNLIMITED).unwrap();
        space.mprotect(at, PAGE_SIZE, mman::PROT_READ | mman::PROT_WRITE, &Limits::UNLIMITED).unwrap();
        poke(&space, at, 7).unwrap();
        device_writes(&lent, 0, 8);
        assert_eq!(peek(&space, at), Ok(8), "the program has another page than the device");
    });
}

#[test]
fn the_page_outlives_its_mapping() {
    kernel(|| {
        let (space, at) = two_pages();
        let free = machine::memory::stats().free_pages;
        let lent = borrow(&space, at, 2 * PAGE_SIZE, Lending::ToWrite).unwrap();
        let read = borrow(&space, at, 2 * PAGE_SIZE, Lending::ToRead).unwrap();
        space.munmap(at, 2 * PAGE_SIZE).unwrap();
        device_writes(&lent, 1, 9);
        let mut byte = [0];
        read.frames()[1].read(0, &mut byte);
        assert_eq!(byte, [9]);
        drop((lent, read));
        assert!(machine::memory::stats().free_pages >= free);
    });
}

#[test]
fn what_cannot_be_lent_is_not() {
    kernel(|| {
        let cache = PageCache::new(Disk::new(2), 2 * PAGE_SIZE as u64);
        let file = TestFile::shared(cache, FileAccess::READ | FileAccess::WRITE);
        let (space, private) = two_pages();
        let request = file_request(&file, 0, 2, RW, mman::MAP_SHARED);
        let shared = space.mmap(&request, &Limits::UNLIMITED).unwrap();
        poke(&space, shared, 5).unwrap();
        assert!(borrow(&space, shared, PAGE_SIZE, Lending::ToWrite).is_none(), "a page of a file");
        assert!(borrow(&space, shared, PAGE_SIZE, Lending::ToRead).is_some());
        assert!(borrow(&space, private + 512, PAGE_SIZE, Lending::ToRead).is_none(), "not a page");
        assert!(borrow(&space, private, 3 * PAGE_SIZE, Lending::ToRead).is_none(), "beyond the mapping");
        assert!(borrow(&space, private, usize::MAX, Lending::ToRead).is_none());
        space.mprotect(private, PAGE_SIZE, mman::PROT_READ, &Limits::UNLIMITED).unwrap();
        assert!(borrow(&space, private, PAGE_SIZE, Lending::ToWrite).is_none(), "read-only");
        // A loan that comes to nothing has ended.
        assert!(borrow(&space, private + PAGE_SIZE, 2 * PAGE_SIZE, Lending::ToWrite).is_none());
        let child = space.fork().unwrap();
        assert_eq!(child.page_table().query(private + PAGE_SIZE).unwrap().frame.ref_count(), 3);
    });
}

#[test]
fn a_fork_without_memory_for_the_copy_fails_whole() {
    kernel(|| {
        let (parent, at) = two_pages();
        let lent = borrow(&parent, at, 2 * PAGE_SIZE, Lending::ToWrite).unwrap();
        let committed = commit::committed_pages();
        let mut failures = 0;
        for count in 0..64 {
            machine::memory::fail_after(Some(count));
            let child = parent.fork();
            machine::memory::fail_after(None);
            match child {
                Ok(child) => {
                    assert_eq!(peek(&child, at + PAGE_SIZE), Ok(2));
                    break;
                }
                Err(error) => assert_eq!(error, Errno::ENOMEM),
            }
            failures += 1;
            assert_eq!(commit::committed_pages(), committed);
        }
        assert!(failures > 2);
        device_writes(&lent, 0, 4);
        assert_eq!(peek(&parent, at), Ok(4));
    });
}
