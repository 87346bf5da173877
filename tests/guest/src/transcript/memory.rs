//! Address spaces: the errors of mmap(2) and its family, mlock(2), madvise(2), mincore(2), protection keys, limits,
//! reading another process.

use super::{Section, Transcript, sys};
use crate::case::Outcome;
use crate::sys::{fork, map, sleep_ms, wait};

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("memory_mmap_errors", mmap),
    ("memory_mprotect_errors", mprotect),
    ("memory_mremap", mremap),
    ("memory_madvise", madvise),
    ("memory_mincore_msync", mincore),
    ("memory_lock", lock),
    ("memory_limits", limits),
    ("memory_of_another", another),
    ("memory_brk", brk),
    ("memory_maps_text", maps),
    ("memory_membarrier", membarrier),
    ("memory_protection_keys", keys),
    ("memory_protection_keys_in_use", keys_in_use),
    ("memory_of_another_errors", another_errors),
    ("memory_compared", compared),
    ("memory_advice_to_another", advice_to_another),
];

const NULL: usize = 0;
const PAGE: usize = 4096;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const ANON: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn mmap(t: &mut Transcript) -> Outcome {
    let null = sys!(SYS_open, c"/dev/null".as_ptr(), 0);
    let file = sys!(SYS_open, c"/etc/passwd".as_ptr(), 0);
    let folder = sys!(SYS_open, c"/tmp".as_ptr(), 0);
    let path = sys!(SYS_open, c"/etc/passwd".as_ptr(), libc::O_PATH);
    for (what, address, length, protection, flags, fd, offset) in [
        ("empty", 0usize, 0usize, RW, ANON, -1i64, 0i64),
        ("neither shared nor private", 0, PAGE, RW, libc::MAP_ANONYMOUS, -1, 0),
        ("shared and private is validate", 0, PAGE, RW, ANON | libc::MAP_SHARED, -1, 0),
        ("validate with unknown flag", 0, PAGE, RW, 3 | libc::MAP_ANONYMOUS | 1 << 26, -1, 0),
        ("odd offset", 0, PAGE, 1, libc::MAP_PRIVATE, file, 100),
        ("huge", 0, 1 << 48, RW, ANON, -1, 0),
        ("wraps", 0, usize::MAX - 5, RW, ANON, -1, 0),
        ("fixed at odd address", 0x1001, PAGE, RW, ANON | libc::MAP_FIXED, -1, 0),
        ("fixed in the kernel", 1 << 56, PAGE, RW, ANON | libc::MAP_FIXED, -1, 0),
        ("no descriptor", 0, PAGE, RW, libc::MAP_PRIVATE, -1, 0),
        ("shared write of a read-only file", 0, PAGE, RW, libc::MAP_SHARED, file, 0),
        ("private write of a read-only file", 0, PAGE, RW, libc::MAP_PRIVATE, file, 0),
        ("a directory", 0, PAGE, 1, libc::MAP_PRIVATE, folder, 0),
        ("a path", 0, PAGE, 1, libc::MAP_PRIVATE, path, 0),
        ("/dev/null", 0, PAGE, 1, libc::MAP_PRIVATE, null, 0),
        ("offset and length wrap", 0, PAGE * 2, 1, libc::MAP_PRIVATE, file, i64::MAX & !0xfff),
        ("grows down", 0, PAGE, RW, ANON | libc::MAP_GROWSDOWN, -1, 0),
        ("huge pages", 0, 1 << 21, RW, ANON | libc::MAP_HUGETLB, -1, 0),
        ("below 4 GiB", 0, PAGE, RW, ANON | libc::MAP_32BIT, -1, 0),
        ("populated", 0, PAGE * 4, RW, ANON | libc::MAP_POPULATE, -1, 0),
        ("unknown protection", 0, PAGE, 1 << 20, ANON, -1, 0),
    ] {
        t.works(
            what,
            if sys!(SYS_mmap, address, length, protection, flags, fd, offset) == -1 { -1 } else { 0 },
        );
    }
    t.call("munmap odd", sys!(SYS_munmap, 0x1001usize, PAGE));
    t.call("munmap empty", sys!(SYS_munmap, 0x1000usize, 0usize));
    t.call("munmap nothing there", sys!(SYS_munmap, 0x10000usize, PAGE));
    t.call("munmap in the kernel", sys!(SYS_munmap, 1usize << 56, PAGE));
    Ok(())
}

fn mprotect(t: &mut Transcript) -> Outcome {
    let at = map(PAGE * 4, RW)? as usize;
    sys!(SYS_munmap, at + PAGE * 2, PAGE);
    t.call("odd", sys!(SYS_mprotect, at + 1, PAGE, 1));
    t.call("empty", sys!(SYS_mprotect, at, 0usize, 1));
    t.call("over a hole", sys!(SYS_mprotect, at, PAGE * 4, 1));
    t.call("unknown bits", sys!(SYS_mprotect, at, PAGE, 1 << 20));
    t.call("grows down elsewhere", sys!(SYS_mprotect, at, PAGE, 1 | 0x0100_0000));
    t.call("both directions", sys!(SYS_mprotect, at, PAGE, 0x0300_0000));
    t.call("wraps", sys!(SYS_mprotect, at, usize::MAX - 0xfff, 1));
    let file = sys!(SYS_open, c"/etc/passwd".as_ptr(), 0);
    let shared = sys!(SYS_mmap, NULL, PAGE, 1, libc::MAP_SHARED, file, 0) as usize;
    t.call("writable, though the file is not", sys!(SYS_mprotect, shared, PAGE, RW));
    Ok(())
}

fn mremap(t: &mut Transcript) -> Outcome {
    // A hole behind it, so that nothing joins it there.
    let at = map(PAGE * 200, RW)? as usize;
    sys!(SYS_munmap, at + PAGE * 8, PAGE * 192);
    // SAFETY: inside the mapping.
    unsafe { *((at + PAGE * 3) as *mut u8) = 9 };
    let (may_move, fixed, keep) = (1, 2, 4);
    t.call("odd", sys!(SYS_mremap, at + 1, PAGE, PAGE, 0));
    t.call("to nothing", sys!(SYS_mremap, at, PAGE, 0usize, 0));
    t.call("unknown flag", sys!(SYS_mremap, at, PAGE, PAGE, 8));
    t.call("fixed without may-move", sys!(SYS_mremap, at, PAGE, PAGE, fixed, at + PAGE * 20));
    t.call("fixed over itself", sys!(SYS_mremap, at, PAGE * 2, PAGE * 2, may_move | fixed, at + PAGE));
    t.call("unmapped", sys!(SYS_mremap, 0x10000usize, PAGE, PAGE, may_move));
    t.call("past the end of the mapping", sys!(SYS_mremap, at, PAGE * 9, PAGE * 10, may_move));
    t.works("shrink", i64::from(sys!(SYS_mremap, at, PAGE * 8, PAGE * 6, 0) as usize == at));
    let moved = sys!(SYS_mremap, at, PAGE * 6, PAGE * 100, may_move) as usize;
    t.works("grow", if moved == usize::MAX { -1 } else { 0 });
    // SAFETY: inside the mapping, wherever it is.
    t.note("content moved", unsafe { *((moved + PAGE * 3) as *const u8) });
    t.call("private duplicate", sys!(SYS_mremap, moved, 0usize, PAGE, may_move));
    let kept = sys!(SYS_mremap, moved, PAGE * 100, PAGE * 100, may_move | keep, NULL);
    t.works("keep the old", if kept == -1 { -1 } else { 0 });
    // SAFETY: both mappings are there.
    t.note("old and new", unsafe {
        (*((moved + PAGE * 3) as *const u8), *((kept as usize + PAGE * 3) as *const u8))
    });
    Ok(())
}

fn madvise(t: &mut Transcript) -> Outcome {
    let at = map(PAGE * 4, RW)? as usize;
    for advice in
        [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 77, 100]
    {
        if advice == 12 || advice == 13 || advice == 100 {
            continue; // merging of equal pages and poisoning depend on how a kernel was built
        }
        t.call(&format!("advice {advice}"), sys!(SYS_madvise, at, PAGE, advice));
    }
    t.call("odd", sys!(SYS_madvise, at + 1, PAGE, 4));
    t.call("empty", sys!(SYS_madvise, at, 0usize, 4));
    sys!(SYS_munmap, at + PAGE, PAGE);
    t.call("with a hole", sys!(SYS_madvise, at, PAGE * 4, 4));
    t.call("wraps", sys!(SYS_madvise, at, usize::MAX - 10, 4));
    Ok(())
}

fn mincore(t: &mut Transcript) -> Outcome {
    let at = map(PAGE * 4, RW)? as usize;
    // SAFETY: inside the mapping.
    unsafe { *((at + PAGE) as *mut u8) = 1 };
    let mut pages = [0u8; 8];
    t.call("mincore", sys!(SYS_mincore, at, PAGE * 4, pages.as_mut_ptr()));
    t.note("pages", pages);
    t.call("odd", sys!(SYS_mincore, at + 1, PAGE, pages.as_mut_ptr()));
    t.call("null", sys!(SYS_mincore, at, PAGE, NULL));
    sys!(SYS_munmap, at + PAGE * 2, PAGE);
    t.call("with a hole", sys!(SYS_mincore, at, PAGE * 4, pages.as_mut_ptr()));
    t.call("msync with a hole", sys!(SYS_msync, at, PAGE * 4, 4));
    t.call("msync", sys!(SYS_msync, at, PAGE, 4));
    t.call("msync both kinds", sys!(SYS_msync, at, PAGE, 5));
    t.call("msync unknown", sys!(SYS_msync, at, PAGE, 64));
    t.call("msync odd", sys!(SYS_msync, at + 1, PAGE, 4));
    t.call("msync empty", sys!(SYS_msync, at, 0usize, 4));
    Ok(())
}

fn lock(t: &mut Transcript) -> Outcome {
    let at = map(PAGE * 8, RW)? as usize;
    t.call("mlock", sys!(SYS_mlock, at, PAGE * 2));
    t.call("mlock2 on fault", sys!(SYS_mlock2, at, PAGE * 2, 1));
    t.call("mlock2 unknown flag", sys!(SYS_mlock2, at, PAGE * 2, 2));
    t.call("munlock", sys!(SYS_munlock, at, PAGE));
    t.call("munlock nothing", sys!(SYS_munlock, 0x10000usize, PAGE));
    t.call("mlock nothing", sys!(SYS_mlock, 0x10000usize, PAGE));
    t.call("mlockall unknown", sys!(SYS_mlockall, 8));
    t.call("mlockall none", sys!(SYS_mlockall, 0));
    t.call("mlockall future", sys!(SYS_mlockall, 2));
    t.call("munlockall", sys!(SYS_munlockall));
    let limit = [PAGE as u64 * 4, PAGE as u64 * 4];
    sys!(SYS_prlimit64, 0, libc::RLIMIT_MEMLOCK, limit.as_ptr(), NULL);
    sys!(SYS_setresuid, 1000, 1000, 1000);
    t.call("user: 4 pages", sys!(SYS_mlock, at, PAGE * 4));
    t.call("user: a fifth", sys!(SYS_mlock, at + PAGE * 4, PAGE));
    t.call("user: the same again", sys!(SYS_mlock, at, PAGE * 4));
    t.call("user: mlockall", sys!(SYS_mlockall, 1));
    Ok(())
}

fn limits(t: &mut Transcript) -> Outcome {
    let set = |what: i32, soft: u64, hard: u64| sys!(SYS_prlimit64, 0, what, [soft, hard].as_ptr(), NULL);
    let mut now = [0u64; 2];
    for (name, number) in
        [("stack", 3), ("core", 4), ("nofile", 7), ("msgqueue", 12), ("nice", 13), ("rtprio", 14)]
    {
        sys!(SYS_prlimit64, 0, number, NULL, now.as_mut_ptr());
        t.note(name, now);
    }
    t.call("unknown", set(16, 1, 1));
    t.call("soft above hard", set(4, 5, 4));
    t.call("of nobody", sys!(SYS_prlimit64, 99_999_999, 4, NULL, now.as_mut_ptr()));
    t.call("nofile above the system's", set(7, 1 << 30, 1 << 30));
    t.call("address space 100 MiB", set(9, 100 << 20, u64::MAX));
    t.works(
        "map 90 MiB and more",
        if sys!(SYS_mmap, NULL, 200usize << 20, RW, ANON, -1, 0) == -1 { -1 } else { 0 },
    );
    t.call("unlimited", set(9, u64::MAX, u64::MAX));
    t.call("data 1 MiB", set(2, 1 << 20, u64::MAX));
    t.works("map 2 MiB", if sys!(SYS_mmap, NULL, 2usize << 20, RW, ANON, -1, 0) == -1 { -1 } else { 0 });
    t.works(
        "map 2 MiB shared",
        if sys!(SYS_mmap, NULL, 2usize << 20, RW, ANON ^ 3, -1, 0) == -1 { -1 } else { 0 },
    );
    t.call("file size 100", set(1, 100, u64::MAX));
    sys!(SYS_rt_sigaction, 25, [1usize, 0, 0, 0].as_ptr(), NULL, 8usize);
    let fd = sys!(SYS_memfd_create, c"m".as_ptr(), 0);
    let data = [0u8; 200];
    t.call("write 200", sys!(SYS_write, fd, data.as_ptr(), 200usize));
    t.call("write more", sys!(SYS_write, fd, data.as_ptr(), 200usize));
    t.call("truncate to 101", sys!(SYS_ftruncate, fd, 101));
    t.call("descriptors 5", set(7, 5, u64::from(u32::MAX)));
    t.call("descriptors 5 of 100", set(7, 5, 100));
    t.call("open at the limit", sys!(SYS_dup2, fd, 6));
    t.call("setresuid", sys!(SYS_setresuid, 1000, 1000, 1000));
    t.call("raise the hard limit", set(7, 5, 200));
    t.call("another's", sys!(SYS_prlimit64, 1, 4, NULL, now.as_mut_ptr()));
    Ok(())
}

fn another(t: &mut Transcript) -> Outcome {
    let at = map(PAGE * 2, RW)? as usize;
    // SAFETY: inside the mapping.
    unsafe { *(at as *mut [u8; 4]) = *b"mine" };
    let child = fork(|| {
        // SAFETY: inside the child's copy.
        unsafe { *(at as *mut [u8; 4]) = *b"hers" };
        sleep_ms(3000);
        // SAFETY: as above.
        i32::from(unsafe { *((at + 8) as *const u8) })
    })?;
    sleep_ms(200);
    let mut buffer = [0u8; 8];
    let local = [(buffer.as_mut_ptr() as usize, 4usize)];
    let remote = [(at, 4usize)];
    let read = |who: i32, into: &[(usize, usize)], from: &[(usize, usize)], flags: usize| {
        sys!(SYS_process_vm_readv, who, into.as_ptr(), into.len(), from.as_ptr(), from.len(), flags)
    };
    t.call("read", read(child, &local, &remote, 0));
    t.note("bytes", String::from_utf8_lossy(&buffer[..4]));
    t.call("flags", read(child, &local, &remote, 1));
    t.call("nobody", read(99_999_999, &local, &remote, 0));
    let bad = [(0x1000usize, 4usize)];
    t.call("bad remote", read(child, &local, &bad, 0));
    t.call("bad local", read(child, &bad, &remote, 0));
    buffer[0] = 5;
    let one = [(buffer.as_ptr() as usize, 1usize)];
    let there = [(at + 8, 1usize)];
    t.call("write", sys!(SYS_process_vm_writev, child, one.as_ptr(), 1usize, there.as_ptr(), 1usize, 0));
    let text = std::fs::read(format!("/proc/{child}/cmdline")).map(|bytes| !bytes.is_empty());
    t.note("cmdline readable", text.ok());
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open(format!("/proc/{child}/mem")).map_err(|e| e.to_string())?;
    let mut four = [0u8; 4];
    t.note("mem", memory.read_exact_at(&mut four, at as u64).map(|()| four).ok());
    t.note("mem at nothing", memory.read_exact_at(&mut four, 0x1000).map_err(|e| e.to_string()));
    t.call("the child's status", libc::WEXITSTATUS(wait(child)?));
    Ok(())
}

fn brk(t: &mut Transcript) -> Outcome {
    let end = sys!(SYS_brk, 0usize) as usize;
    t.call("below the start", i64::from(sys!(SYS_brk, 1usize) as usize == end));
    t.call("up", i64::from(sys!(SYS_brk, end + 100_000) as usize == end + 100_000));
    // SAFETY: in the new heap.
    t.note("zero", unsafe { *((end + 99_999) as *const u8) });
    t.call("far too much", i64::from(sys!(SYS_brk, end + (1 << 46)) as usize == end + 100_000));
    t.call("down", i64::from(sys!(SYS_brk, end) as usize == end));
    Ok(())
}

fn maps(t: &mut Transcript) -> Outcome {
    let at = map(PAGE * 6, RW)? as usize;
    sys!(SYS_mprotect, at + PAGE, PAGE, 1);
    sys!(SYS_mprotect, at + PAGE * 2, PAGE, 0);
    sys!(SYS_mprotect, at + PAGE * 3, PAGE, 5);
    sys!(SYS_munmap, at + PAGE * 4, PAGE);
    let text = std::fs::read_to_string("/proc/self/maps").map_err(|e| e.to_string())?;
    for line in text.lines() {
        let start = line.split('-').next().and_then(|hex| usize::from_str_radix(hex, 16).ok()).unwrap_or(0);
        if start > at && start < at + PAGE * 5 {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            words.remove(0);
            t.note("part", words);
        }
    }
    let ends: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
    for name in ["[heap]", "[stack]", "[vdso]", "[vvar]"] {
        t.note(name, ends.contains(&name));
    }
    Ok(())
}

fn membarrier(t: &mut Transcript) -> Outcome {
    t.call("unknown command", sys!(SYS_membarrier, 1 << 20, 0, 0));
    t.call("bad flags", sys!(SYS_membarrier, 1, 5, 0));
    t.call("global", sys!(SYS_membarrier, 1, 0, 0));
    t.call("private, not registered", sys!(SYS_membarrier, 8, 0, 0));
    t.call("register private", sys!(SYS_membarrier, 16, 0, 0));
    t.call("private", sys!(SYS_membarrier, 8, 0, 0));
    t.call("global expedited", sys!(SYS_membarrier, 2, 0, 0));
    t.call("register global expedited", sys!(SYS_membarrier, 4, 0, 0));
    t.call("core sync, not registered", sys!(SYS_membarrier, 32, 0, 0));
    t.call("register core sync", sys!(SYS_membarrier, 64, 0, 0));
    t.call("core sync", sys!(SYS_membarrier, 32, 0, 0));
    Ok(())
}

fn keys(t: &mut Transcript) -> Outcome {
    let at = map(PAGE, RW)? as usize;
    t.call("free one that is not there", sys!(SYS_pkey_free, 5));
    t.call("alloc, bad flags", sys!(SYS_pkey_alloc, 1, 0));
    t.call("protect without key", sys!(SYS_pkey_mprotect, at, PAGE, RW, -1));
    t.call("protect with a key that is not there", sys!(SYS_pkey_mprotect, at, PAGE, RW, 9));
    Ok(())
}

/// What the kernel tells a handler of SIGSEGV, in static cells because a handler has nothing else.
static FAULT: [std::sync::atomic::AtomicI64; 4] = [const { std::sync::atomic::AtomicI64::new(0) }; 4];
static RIGHTS_IN_HANDLER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

fn rights() -> u32 {
    let value: u32;
    // SAFETY: reads the register of the keys' rights; called only where pkey_alloc has given a key.
    unsafe { std::arch::asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _) };
    value
}

fn set_rights(value: u32) {
    // SAFETY: as above; concerns no page that this program's own data are on.
    unsafe { std::arch::asm!("wrpkru", in("ecx") 0, in("eax") value, in("edx") 0) };
}

/// Notes the cause and gives the interrupted program all rights, so that its access goes on.
extern "C" fn on_fault(_signal: i32, info: *const i32, context: *mut libc::c_void) {
    use std::sync::atomic::Ordering::Relaxed;
    RIGHTS_IN_HANDLER.store(rights(), Relaxed);
    // SAFETY: the kernel gives both; the layout is siginfo_t's, with the key 32 bytes in.
    unsafe {
        FAULT[0].fetch_add(1, Relaxed);
        FAULT[1].store(i64::from(*info.add(2)), Relaxed);
        FAULT[2].store(*info.add(4).cast::<i64>(), Relaxed);
        FAULT[3].store(i64::from(*info.add(8)), Relaxed);
        let context = &mut *context.cast::<libc::ucontext_t>();
        let state = context.uc_mcontext.fpregs.cast::<u8>();
        // The rights are component 9 of the XSAVE image; CPUID says where it lies.
        let place = std::arch::x86_64::__cpuid_count(13, 9).ebx as usize;
        *state.add(512).cast::<u64>() |= 1 << 9;
        *state.add(place).cast::<u32>() = 0;
    }
}

fn keys_in_use(t: &mut Transcript) -> Outcome {
    use std::sync::atomic::Ordering::Relaxed;
    let at = map(PAGE * 2, RW)? as usize;
    let (no_access, no_write) = (1, 2);
    let key = sys!(SYS_pkey_alloc, 0, no_write);
    if key == -1 {
        return Err(crate::case::Failure::Skip("the processor has no protection keys".into()));
    }
    t.call("key", key);
    t.note("rights of a new program with it", format!("{:08x}", rights()));
    t.call("another", sys!(SYS_pkey_alloc, 0, 0));
    t.note("rights", format!("{:08x}", rights()));
    let action = [on_fault as *const () as usize, 4 | 0x0400_0000, restorer as *const () as usize, 0];
    t.call("handler", sys!(SYS_rt_sigaction, libc::SIGSEGV, action.as_ptr(), NULL, 8usize));
    t.call("protect", sys!(SYS_pkey_mprotect, at, PAGE, RW, key));
    let tell = |t: &mut Transcript, what: &str| {
        let [count, code, address, fault_key] = [0, 1, 2, 3].map(|index| FAULT[index].swap(0, Relaxed));
        t.note(what, (count, code, address - if count > 0 { at as i64 } else { 0 }, fault_key));
        t.note("rights in the handler", format!("{:08x}", RIGHTS_IN_HANDLER.swap(0, Relaxed)));
    };
    // SAFETY: accesses to the mapping; those that fault are resumed by the handler.
    unsafe {
        t.note("read", std::ptr::read_volatile(at as *const u8));
        std::ptr::write_volatile((at + 8) as *mut u8, 7);
        tell(t, "after a write: faults, code, offset, key");
        set_rights(no_access << (2 * key as u32));
        t.note("read", std::ptr::read_volatile((at + 8) as *const u8));
        tell(t, "after a read: faults, code, offset, key");
    }
    set_rights(no_access << (2 * key as u32));
    let null = sys!(SYS_open, c"/dev/zero".as_ptr(), 0);
    t.call("the kernel's write", sys!(SYS_read, null, at, 8usize));
    t.call("the kernel's write beside it", sys!(SYS_read, null, at + PAGE, 8usize));
    t.note("a thread's rights are its maker's", std::thread::spawn(rights).join().ok() == Some(rights()));
    set_rights(0);
    t.call("mprotect keeps the key", sys!(SYS_mprotect, at, PAGE, libc::PROT_READ));
    t.call("and back", sys!(SYS_mprotect, at, PAGE, RW));
    set_rights(no_write << (2 * key as u32));
    // SAFETY: as above.
    unsafe { std::ptr::write_volatile((at + 16) as *mut u8, 7) };
    tell(t, "after a write: faults, code, offset, key");
    t.call("back to key 0", sys!(SYS_pkey_mprotect, at, PAGE, RW, 0));
    set_rights(no_access << (2 * key as u32));
    // SAFETY: as above.
    unsafe { std::ptr::write_volatile((at + 16) as *mut u8, 7) };
    tell(t, "after a write: faults, code, offset, key");
    t.call("free", sys!(SYS_pkey_free, key));
    t.call("free again", sys!(SYS_pkey_free, key));
    let more = (0..20).filter(|_| sys!(SYS_pkey_alloc, 0, 0) > 0).count();
    t.note("more keys", more);
    t.call("one too many", sys!(SYS_pkey_alloc, 0, 0));
    Ok(())
}

std::arch::global_asm!("restore_from_signal: mov eax, 15", "syscall");
unsafe extern "C" {
    #[link_name = "restore_from_signal"]
    safe fn restorer();
}

fn another_errors(t: &mut Transcript) -> Outcome {
    let mut buffer = [0u8; 64];
    let own = std::process::id();
    let at = map(PAGE * 3, RW)? as usize;
    sys!(SYS_munmap, at + PAGE, PAGE);
    let local = [(buffer.as_mut_ptr() as usize, 64usize)];
    let read = |remote: &[(usize, usize)], count: usize| {
        sys!(SYS_process_vm_readv, own, local.as_ptr(), 1usize, remote.as_ptr(), count, 0)
    };
    t.call("nothing", read(&[], 0));
    t.call("too many", read(&[], 1025));
    t.call("a negative length", read(&[(at, usize::MAX)], 1));
    t.call("more than there is room for", read(&[(at, PAGE)], 1));
    t.call("into a hole", read(&[(at + PAGE - 10, 30)], 1));
    t.call("over a hole", read(&[(at, 10), (at + PAGE, 10), (at + PAGE * 2, 10)], 3));
    t.call("pid 0", sys!(SYS_process_vm_readv, 0, local.as_ptr(), 1usize, local.as_ptr(), 1usize, 0));
    t.call("no room", sys!(SYS_process_vm_readv, 99_999_999, NULL, 0usize, local.as_ptr(), 1usize, 0));
    sys!(SYS_mprotect, at, PAGE, 1);
    t.call(
        "write what is read-only",
        sys!(SYS_process_vm_writev, own, local.as_ptr(), 1usize, [(at, 64usize)].as_ptr(), 1usize, 0),
    );
    sys!(SYS_mprotect, at, PAGE, 0);
    t.call("read what is not readable", read(&[(at, 64)], 1));
    sys!(SYS_setresuid, 1000, 1000, 1000);
    t.call("init's", sys!(SYS_process_vm_readv, 1, local.as_ptr(), 1usize, local.as_ptr(), 1usize, 0));
    Ok(())
}

fn compared(t: &mut Transcript) -> Outcome {
    let own = std::process::id();
    let child = fork(|| {
        sleep_ms(3000);
        0
    })?;
    let same = |kind: i32, other: i64, first: u64, second: u64| {
        let result = sys!(SYS_kcmp, own, other, kind, first, second);
        if result > 0 { 1 } else { result }
    };
    let file = sys!(SYS_open, c"/dev/null".as_ptr(), 0) as u64;
    let copy = sys!(SYS_dup, file) as u64;
    let other = sys!(SYS_open, c"/dev/null".as_ptr(), 0) as u64;
    t.call("a file and its copy", same(0, own.into(), file, copy));
    t.call("two files", same(0, own.into(), file, other));
    t.call("not open", same(0, own.into(), file, 99));
    t.call("standard input of a child", same(0, child.into(), 0, 0));
    for kind in 1..7 {
        t.call(&format!("kind {kind}, of itself"), same(kind, own.into(), 0, 0));
        t.call(&format!("kind {kind}, of a child"), same(kind, child.into(), 0, 0));
    }
    t.call("unknown kind", same(8, own.into(), 0, 0));
    t.call("nobody", same(1, 99_999_999, 0, 0));
    t.call("pid 0", same(1, 0, 0, 0));
    sys!(SYS_kill, child, 9);
    wait(child)?;
    sys!(SYS_setresuid, 1000, 1000, 1000);
    t.call("init's", same(1, 1, 0, 0));
    Ok(())
}

fn advice_to_another(t: &mut Transcript) -> Outcome {
    let at = map(PAGE * 4, RW)? as usize;
    let child = fork(|| {
        sleep_ms(5000);
        0
    })?;
    let fd = sys!(SYS_pidfd_open, child, 0);
    let ranges = [(at, PAGE), (at + PAGE * 2, PAGE)];
    let advise = |advice: i32, count: usize, flags: u32| {
        sys!(SYS_process_madvise, fd, ranges.as_ptr(), count, advice, flags)
    };
    t.call("cold", advise(20, 2, 0));
    t.call("page out", advise(21, 1, 0));
    t.call("will need", advise(3, 2, 0));
    t.call("dont need", advise(4, 2, 0));
    t.call("unknown", advise(77, 2, 0));
    t.call("flags", advise(20, 2, 1));
    t.call("none", advise(20, 0, 0));
    t.call("too many", advise(20, 1025, 0));
    t.call("not a pidfd", sys!(SYS_process_madvise, 0, ranges.as_ptr(), 1usize, 20, 0));
    let mrelease = 448;
    // SAFETY: numbers only.
    unsafe {
        t.call("release of one that lives", libc::syscall(mrelease, fd, 0));
        t.call("release, flags", libc::syscall(mrelease, fd, 1));
        t.call("release of no pidfd", libc::syscall(mrelease, 0, 0));
        libc::kill(child, libc::SIGKILL);
        wait(child)?;
        t.call("release of one that is gone", libc::syscall(mrelease, fd, 0));
    }
    t.call("advice to one that is gone", advise(20, 2, 0));
    Ok(())
}
