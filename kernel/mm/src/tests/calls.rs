//! The system calls' rules: errors, placement, merging, limits, the text of `maps`.

use super::*;
use crate::user::UserBuffer;
use abi::errno::Errno;

const PRIVATE: u32 = mman::MAP_PRIVATE;
const FIXED: u32 = mman::MAP_PRIVATE | mman::MAP_FIXED;

fn map(space: &AddressSpace, address: usize, pages: usize, flags: u32) -> Result<usize> {
    space.mmap(&anonymous(address, pages * PAGE_SIZE, RW, flags), &Limits::UNLIMITED)
}

#[test]
fn mmap_refuses_what_linux_refuses() {
    kernel(|| {
        let space = new_space();
        assert_eq!(map(&space, 0, 0, PRIVATE), Err(Errno::EINVAL));
        assert_eq!(map(&space, 0, 1, 0), Err(Errno::EINVAL));
        assert_eq!(map(&space, 0x1234, 1, FIXED), Err(Errno::EINVAL));
        assert_eq!(map(&space, machine::USER_END, 1, FIXED), Err(Errno::ENOMEM));
        assert_eq!(map(&space, 0, usize::MAX / PAGE_SIZE, PRIVATE), Err(Errno::ENOMEM));
        let unprivileged = Limits { privileges: Privileges::empty(), ..Limits::UNLIMITED };
        let low = anonymous(0x1000, PAGE_SIZE, RW, FIXED);
        assert_eq!(space.mmap(&low, &unprivileged), Err(Errno::EPERM));
        let at = map(&space, 0x10_0000, 2, FIXED).unwrap();
        assert_eq!(map(&space, at + PAGE_SIZE, 1, PRIVATE | mman::MAP_FIXED_NOREPLACE), Err(Errno::EEXIST));
        let limits = Limits { address_space: 3 * PAGE_SIZE as u64, ..Limits::UNLIMITED };
        assert_eq!(space.mmap(&anonymous(0, 2 * PAGE_SIZE, RW, PRIVATE), &limits), Err(Errno::ENOMEM));
        let replace = anonymous(at, 2 * PAGE_SIZE, RW, FIXED);
        assert_eq!(space.mmap(&replace, &limits), Ok(at), "what is replaced does not count");
        let limits = Limits { data: PAGE_SIZE as u64, ..Limits::UNLIMITED };
        assert_eq!(space.mmap(&anonymous(0, PAGE_SIZE, RW, PRIVATE), &limits), Err(Errno::ENOMEM));
        assert!(space.mmap(&anonymous(0, PAGE_SIZE, Protection::READ, PRIVATE), &limits).is_ok());
    });
}

#[test]
fn file_access_limits_mappings() {
    kernel(|| {
        let space = new_space();
        let cache = PageCache::new_in_memory(4096);
        let go = |access, protection, flags| {
            let file = TestFile::shared(cache.clone(), access);
            space.mmap(&file_request(&file, 0, 1, protection, flags), &Limits::UNLIMITED)
        };
        let read = FileAccess::READ;
        assert_eq!(go(FileAccess::WRITE, Protection::READ, PRIVATE), Err(Errno::EACCES));
        assert_eq!(go(read, RW, mman::MAP_SHARED), Err(Errno::EACCES));
        assert_eq!(go(read, Protection::EXEC, PRIVATE), Err(Errno::EPERM));
        let at = go(read, Protection::READ, mman::MAP_SHARED).unwrap();
        let protect = |bits| space.mprotect(at, PAGE_SIZE, bits, &Limits::UNLIMITED);
        assert_eq!(protect(mman::PROT_READ | mman::PROT_WRITE), Err(Errno::EACCES));
        assert_eq!(protect(mman::PROT_EXEC), Err(Errno::EACCES));
        assert_eq!(protect(mman::PROT_NONE), Ok(()));
        assert!(go(read, RW, PRIVATE).is_ok());
        assert_eq!(
            go(read, Protection::READ, mman::MAP_SHARED_VALIDATE | 0x4000_0000),
            Err(Errno::EOPNOTSUPP)
        );
    });
}

#[test]
fn mappings_go_top_down_and_join() {
    kernel(|| {
        let space = new_space();
        let base = space.layout().mmap_base;
        assert_eq!(map(&space, 0, 2, PRIVATE), Ok(base - 2 * PAGE_SIZE));
        assert_eq!(map(&space, 0, 3, PRIVATE), Ok(base - 5 * PAGE_SIZE));
        assert_eq!(space.snapshot().len(), 1);
        space.munmap(base - 4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        assert_eq!(space.snapshot().len(), 2);
        assert_eq!(map(&space, 0, 1, PRIVATE), Ok(base - 4 * PAGE_SIZE));
        assert_eq!(space.snapshot().len(), 1);
        assert_eq!(map(&space, 0x7000_0123, 1, PRIVATE), Ok(0x7000_1000), "a hint is rounded and taken");
        let low = map(&space, 0, 1, PRIVATE | mman::MAP_32BIT).unwrap();
        assert!((0x4000_0000..0x8000_0000).contains(&low));
        let usage = space.usage();
        assert_eq!((usage.total, usage.data, usage.map_count), (7, 7, 3));
    });
}

#[test]
fn mprotect_stops_at_holes_and_splits() {
    kernel(|| {
        let space = new_space();
        let at = map(&space, 0x10_0000, 6, FIXED).unwrap();
        space.munmap(at + 4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        let protect = |page: usize, pages: usize, bits| {
            space.mprotect(at + page * PAGE_SIZE, pages * PAGE_SIZE, bits, &Limits::UNLIMITED)
        };
        assert_eq!(space.mprotect(at + 1, 1, 1, &Limits::UNLIMITED), Err(Errno::EINVAL));
        assert_eq!(protect(0, 1, 0x100), Err(Errno::EINVAL));
        assert_eq!(protect(0, 0, mman::PROT_READ), Ok(()));
        poke(&space, at + 3 * PAGE_SIZE, 1).unwrap();
        assert_eq!(protect(2, 4, mman::PROT_READ), Err(Errno::ENOMEM));
        assert_eq!(poke(&space, at + 3 * PAGE_SIZE, 1), Err(Errno::EFAULT));
        assert_eq!(poke(&space, at + 5 * PAGE_SIZE, 1), Ok(()));
        assert_eq!(space.snapshot().len(), 3);
        assert_eq!(protect(2, 2, mman::PROT_READ | mman::PROT_WRITE), Ok(()));
        assert_eq!(space.snapshot().len(), 2);
        assert_eq!(peek(&space, at + 3 * PAGE_SIZE), Ok(1));
        assert_eq!(protect(3, 1, mman::PROT_NONE), Ok(()));
        assert_eq!(peek(&space, at + 3 * PAGE_SIZE), Err(Errno::EFAULT));
        assert_eq!(protect(0, 4, mman::PROT_READ), Ok(()));
        assert_eq!(peek(&space, at + 3 * PAGE_SIZE), Ok(1));
        assert_eq!(protect(0, 1, mman::PROT_READ | mman::PROT_GROWSDOWN), Err(Errno::EINVAL));
    });
}

#[test]
fn munmap_rules() {
    kernel(|| {
        let space = new_space();
        assert_eq!(space.munmap(1, PAGE_SIZE), Err(Errno::EINVAL));
        assert_eq!(space.munmap(0, 0), Err(Errno::EINVAL));
        assert_eq!(space.munmap(PAGE_SIZE, usize::MAX), Err(Errno::EINVAL));
        assert_eq!(space.munmap(machine::USER_END, PAGE_SIZE), Err(Errno::EINVAL));
        assert_eq!(space.munmap(0x10_0000, 1), Ok(()), "holes are no error");
    });
}

#[test]
fn the_number_of_mappings_is_limited() {
    kernel(|| {
        let space = new_space();
        let pages = 2 * MAX_MAP_COUNT;
        let at = map(&space, 0x10_0000, pages, FIXED | mman::MAP_NORESERVE).unwrap();
        let mut result = Ok(());
        let mut page = 1;
        while result.is_ok() && page < pages {
            result = space.mprotect(at + page * PAGE_SIZE, PAGE_SIZE, mman::PROT_READ, &Limits::UNLIMITED);
            page += 2;
        }
        assert_eq!(result, Err(Errno::ENOMEM));
        assert!((MAX_MAP_COUNT - 2..=MAX_MAP_COUNT).contains(&space.snapshot().len()));
        assert_eq!(space.munmap(at, 4 * PAGE_SIZE), Ok(()));
    });
}

#[test]
fn mremap_shrinks_grows_and_moves() {
    kernel(|| {
        let space = new_space();
        let unlimited = &Limits::UNLIMITED;
        let at = map(&space, 0x10_0000, 4, FIXED).unwrap();
        for page in 0..4 {
            poke(&space, at + page * PAGE_SIZE, page as u8 + 1).unwrap();
        }
        let remap = |old, old_pages: usize, new_pages: usize, flags, to| {
            space.mremap(old, old_pages * PAGE_SIZE, new_pages * PAGE_SIZE, flags, to, unlimited)
        };
        let may = mman::MREMAP_MAYMOVE;
        assert_eq!(remap(at + 1, 1, 1, 0, 0), Err(Errno::EINVAL));
        assert_eq!(remap(at, 1, 0, 0, 0), Err(Errno::EINVAL));
        assert_eq!(remap(at, 1, 1, 8, 0), Err(Errno::EINVAL));
        assert_eq!(remap(at, 1, 1, mman::MREMAP_FIXED, 0x20_0000), Err(Errno::EINVAL));
        assert_eq!(remap(at, 1, 1, may | mman::MREMAP_FIXED, at), Err(Errno::EINVAL));
        assert_eq!(remap(0x50_0000, 1, 1, 0, 0), Err(Errno::EFAULT));
        assert_eq!(remap(at, 5, 6, may, 0), Err(Errno::EFAULT));
        assert_eq!(remap(at, 0, 1, may, 0), Err(Errno::EINVAL));
        assert_eq!(remap(at, 4, 3, 0, 0), Ok(at));
        assert_eq!(remap(at, 3, 8, 0, 0), Ok(at), "there is room");
        let obstacle = map(&space, at + 8 * PAGE_SIZE, 1, FIXED).unwrap();
        space.mprotect(obstacle, PAGE_SIZE, 1, unlimited).unwrap();
        assert_eq!(remap(at, 8, 9, 0, 0), Err(Errno::ENOMEM));
        let moved = remap(at, 8, 9, may, 0).unwrap();
        assert_eq!(peek(&space, at), Err(Errno::EFAULT));
        assert_eq!(peek(&space, moved + 2 * PAGE_SIZE), Ok(3));
        assert_eq!(peek(&space, moved + 3 * PAGE_SIZE), Ok(0));
        assert_eq!(remap(moved, 9, 2, may | mman::MREMAP_FIXED, 0x20_0000), Ok(0x20_0000));
        assert_eq!(peek(&space, moved), Err(Errno::EFAULT));
        assert_eq!(peek(&space, 0x20_0000 + PAGE_SIZE), Ok(2));
        assert_eq!(space.usage().total, 3);
        let dont = may | mman::MREMAP_DONTUNMAP;
        let copy = remap(0x20_0000, 2, 2, dont, 0).unwrap();
        assert_eq!((peek(&space, 0x20_0000), peek(&space, copy)), (Ok(0), Ok(1)));
        assert_eq!(space.usage().total, 5);
    });
}

#[test]
fn mremap_of_nothing_duplicates_shared_memory() {
    kernel(|| {
        let space = new_space();
        let at = map(&space, 0, 2, mman::MAP_SHARED).unwrap();
        poke(&space, at, 4).unwrap();
        let twin = space.mremap(at, 0, 2 * PAGE_SIZE, mman::MREMAP_MAYMOVE, 0, &Limits::UNLIMITED).unwrap();
        assert_eq!(peek(&space, twin), Ok(4));
        poke(&space, twin, 5).unwrap();
        assert_eq!(peek(&space, at), Ok(5));
        assert_eq!(space.futex_key(at), space.futex_key(twin));
        assert_ne!(space.futex_key(at), space.futex_key(at + 4));
    });
}

#[test]
fn the_heap_moves_both_ways() {
    kernel(|| {
        let space = new_space();
        space.set_brk_start(0x60_0123);
        assert_eq!(space.brk(0, &Limits::UNLIMITED), 0x60_1000);
        assert_eq!(space.brk(0x60_3456, &Limits::UNLIMITED), 0x60_3456);
        poke(&space, 0x60_3455, 1).unwrap();
        assert_eq!(peek(&space, 0x60_4000), Err(Errno::EFAULT));
        assert!(maps(&space).contains("[heap]"), "{}", maps(&space));
        assert_eq!(space.brk(0x60_2000, &Limits::UNLIMITED), 0x60_2000);
        assert_eq!(peek(&space, 0x60_3455), Err(Errno::EFAULT));
        let small = Limits { data: 0x2000, ..Limits::UNLIMITED };
        assert_eq!(space.brk(0x60_9000, &small), 0x60_2000);
        map(&space, 0x60_8000, 1, FIXED).unwrap();
        assert_eq!(space.brk(0x60_8000, &Limits::UNLIMITED), 0x60_2000, "a page of distance");
        assert_eq!(space.brk(0x60_7000, &Limits::UNLIMITED), 0x60_7000);
    });
}

#[test]
fn madvise_rules() {
    kernel(|| {
        let space = new_space();
        let at = map(&space, 0x10_0000, 4, FIXED).unwrap();
        let advise = |page: usize, pages: usize, advice| {
            space.madvise(at + page * PAGE_SIZE, pages * PAGE_SIZE, advice)
        };
        poke(&space, at, 1).unwrap();
        assert_eq!(space.madvise(at + 1, 1, mman::MADV_DONTNEED), Err(Errno::EINVAL));
        assert_eq!(advise(0, 1, 77), Err(Errno::EINVAL));
        assert_eq!(advise(0, 1, mman::MADV_COLLAPSE), Err(Errno::EINVAL));
        assert_eq!(advise(0, 4, mman::MADV_DONTNEED), Ok(()));
        assert_eq!(peek(&space, at), Ok(0));
        assert_eq!(advise(0, 5, mman::MADV_DONTNEED), Err(Errno::ENOMEM));
        assert_eq!(advise(0, 4, mman::MADV_POPULATE_WRITE), Ok(()));
        assert_eq!(space.usage().rss_anonymous, 4);
        space.mlock(at, PAGE_SIZE, 0, &Limits::UNLIMITED).unwrap();
        assert_eq!(advise(0, 1, mman::MADV_DONTNEED), Err(Errno::EINVAL));
        assert_eq!(advise(0, 1, mman::MADV_DONTNEED_LOCKED), Ok(()));
        assert_eq!(advise(1, 1, mman::MADV_REMOVE), Err(Errno::EINVAL));
        assert_eq!(advise(0, 0, mman::MADV_NORMAL), Ok(()));
        let shared = map(&space, 0, 2, mman::MAP_SHARED).unwrap();
        poke(&space, shared, 3).unwrap();
        assert_eq!(space.madvise(shared, PAGE_SIZE, mman::MADV_WIPEONFORK), Err(Errno::EINVAL));
        assert_eq!(space.madvise(shared, PAGE_SIZE, mman::MADV_DONTNEED), Ok(()));
        assert_eq!(peek(&space, shared), Ok(3), "shared memory keeps its contents");
        assert_eq!(space.madvise(shared, PAGE_SIZE, mman::MADV_REMOVE), Ok(()));
        assert_eq!(peek(&space, shared), Ok(0));
    });
}

#[test]
fn locking_obeys_its_limit() {
    kernel(|| {
        let space = new_space();
        let at = map(&space, 0x10_0000, 8, FIXED).unwrap();
        let limits = |pages: usize| Limits {
            memlock: (pages * PAGE_SIZE) as u64,
            privileges: Privileges::empty(),
            ..Limits::UNLIMITED
        };
        assert_eq!(space.mlock(at, 1, 0, &limits(0)), Err(Errno::EPERM));
        assert_eq!(space.mlock(at, 4 * PAGE_SIZE, 0, &limits(3)), Err(Errno::ENOMEM));
        assert_eq!(space.mlock(at + 5, 3 * PAGE_SIZE - 5, 0, &limits(3)), Ok(()));
        assert_eq!(space.mlock(at, 3 * PAGE_SIZE, 0, &limits(3)), Ok(()), "what is locked counts once");
        assert_eq!(space.usage().rss_anonymous, 3);
        assert_eq!(space.usage().locked, 3);
        let request = anonymous(0, PAGE_SIZE, RW, PRIVATE | mman::MAP_LOCKED);
        assert_eq!(space.mmap(&request, &limits(3)), Err(Errno::EAGAIN));
        assert_eq!(space.mmap(&request, &limits(0)), Err(Errno::EPERM));
        assert_eq!(space.mlock(at, 9 * PAGE_SIZE, 0, &limits(99)), Err(Errno::ENOMEM));
        assert_eq!(space.usage().locked, 8);
        assert_eq!(space.munlock(at, 8 * PAGE_SIZE), Ok(()));
        assert_eq!(space.mlockall(mman::MCL_ONFAULT, &limits(99)), Err(Errno::EINVAL));
        assert_eq!(space.mlockall(mman::MCL_CURRENT, &limits(7)), Err(Errno::ENOMEM));
        assert_eq!(space.mlockall(mman::MCL_FUTURE, &limits(9)), Ok(()));
        assert_eq!(map(&space, 0x30_0000, 1, FIXED), Ok(0x30_0000));
        assert_eq!(space.usage().locked, 1);
        assert_eq!(space.munlockall(), Ok(()));
        assert_eq!(space.usage().locked, 0);
    });
}

#[test]
fn mincore_and_msync_report_holes() {
    kernel(|| {
        let space = new_space();
        let at = map(&space, 0x10_0000, 3, FIXED).unwrap();
        poke(&space, at + PAGE_SIZE, 1).unwrap();
        let mut bytes = Vec::new();
        let mut report = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        space.mincore(at, 3 * PAGE_SIZE, &mut report).unwrap();
        assert_eq!(space.mincore(at, 4 * PAGE_SIZE, &mut report), Err(Errno::ENOMEM));
        assert_eq!(bytes.get(..3), Some(&[0, 1, 0][..]));
        assert_eq!(space.msync(at, PAGE_SIZE, mman::MS_SYNC), Ok(()));
        assert_eq!(space.msync(at, PAGE_SIZE, mman::MS_SYNC | mman::MS_ASYNC), Err(Errno::EINVAL));
        assert_eq!(space.msync(at + 1, PAGE_SIZE, mman::MS_SYNC), Err(Errno::EINVAL));
        assert_eq!(space.msync(at, 4 * PAGE_SIZE, mman::MS_ASYNC), Err(Errno::ENOMEM));
        assert_eq!(space.msync(0x50_0000, 0, mman::MS_ASYNC), Ok(()));
    });
}

#[test]
fn overcommit_modes() {
    kernel(|| {
        let space = new_space();
        let total = machine::memory::stats().total_pages;
        assert_eq!(map(&space, 0, total + 1, PRIVATE), Err(Errno::ENOMEM));
        assert!(map(&space, 0, total + 1, PRIVATE | mman::MAP_NORESERVE).is_ok());
        commit::set_mode(1).unwrap();
        assert!(map(&space, 0, total + 1, PRIVATE).is_ok());
        commit::set_mode(2).unwrap();
        assert_eq!(map(&space, 0, 1, PRIVATE), Err(Errno::ENOMEM));
        commit::set_mode(0).unwrap();
        assert_eq!(commit::set_mode(3), Err(Errno::EINVAL));
    });
}

#[test]
fn maps_looks_like_linux() {
    kernel(|| {
        let space = new_space();
        let cache = PageCache::new_in_memory(3 * PAGE_SIZE as u64);
        let file = TestFile::shared(cache, FileAccess::all());
        let rx = Protection::READ | Protection::EXEC;
        space.mmap(&file_request(&file, 0x40_0000, 2, rx, FIXED), &Limits::UNLIMITED).unwrap();
        map(&space, 0x7f00_0000_0000, 1, FIXED).unwrap();
        let frame = machine::memory::Frame::alloc(machine::memory::AllocFlags::ZEROED).unwrap();
        space.map_special("[vdso]", 0x7fff_0000_0000, alloc::vec![frame], rx).unwrap();
        let expected = "\
00400000-00402000 r-xp 00000000 08:11 77                                 /bin/te\\012st
7f0000000000-7f0000001000 rw-p 00000000 00:00 0 
7fff00000000-7fff00001000 r-xp 00000000 00:00 0                          [vdso]
";
        assert_eq!(maps(&space), expected);
        let mut text = std::string::String::new();
        poke(&space, 0x7f00_0000_0000, 1).unwrap();
        let vma = space.find_vma(0x7f00_0000_0000).unwrap();
        space.write_smaps(&vma, &mut text).unwrap();
        assert!(text.contains("\nRss:                   4 kB\n"), "{text}");
        assert!(text.contains("\nPrivate_Dirty:         4 kB\n"), "{text}");
        assert!(text.ends_with("VmFlags: rd wr mr mw me ac \n"), "{text}");
    });
}

#[test]
fn a_debugger_reaches_what_the_program_cannot() {
    kernel(|| {
        let space = new_space();
        let cache = PageCache::new(Disk::new(2), 2 * PAGE_SIZE as u64);
        let file = TestFile::shared(cache.clone(), FileAccess::READ | FileAccess::EXEC);
        let rx = Protection::READ | Protection::EXEC;
        let at = space.mmap(&file_request(&file, 0x40_0000, 2, rx, FIXED), &Limits::UNLIMITED).unwrap();
        assert_eq!(space.write_remote(at, &[0xcc], RemoteAccess::Checked), Err(Errno::EFAULT));
        assert_eq!(space.write_remote(at, &[0xcc], RemoteAccess::Forced), Ok(1));
        assert_eq!(peek(&space, at), Ok(0xcc));
        assert_eq!(poke(&space, at, 1), Err(Errno::EFAULT));
        let mut byte = [0];
        cache.get_page(0, Access::Read).unwrap().read(0, &mut byte);
        assert_eq!(byte, [1], "the file keeps its text");
        space.mprotect(at, PAGE_SIZE, mman::PROT_NONE, &Limits::UNLIMITED).unwrap();
        assert_eq!(space.read_remote(at, &mut byte, RemoteAccess::Checked), Err(Errno::EFAULT));
        assert_eq!(space.read_remote(at, &mut byte, RemoteAccess::Forced), Ok(1));
        assert_eq!(byte, [0xcc]);
    });
}

#[test]
fn buffers_are_checked_and_cut() {
    kernel(|| {
        assert_eq!(UserBuffer::new(0, usize::MAX).err(), Some(Errno::EINVAL));
        assert_eq!(UserBuffer::new(machine::USER_END, 1).err(), Some(Errno::EFAULT));
        assert_eq!(UserBuffer::new(0, 1 << 40).unwrap().remaining(), user::MAX_RW_COUNT);
        let mut buffer = UserBuffer::new(0x1000, 10).unwrap();
        buffer.advance(4);
        buffer.truncate(3);
        let piece = buffer.piece().unwrap();
        assert_eq!((piece.address, piece.len), (0x1004, 3));
    });
}
