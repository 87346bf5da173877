//! Memory: mappings, protection, copy on write, growth of the stack, accounting.

use crate::case::{Case, Failure, Outcome, case};
use crate::sys::{self, c, errno, map, ok};
use crate::{ensure, ensure_eq};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("memory_anonymous_is_zero", zero),
    case("memory_protect_faults", protect),
    case("memory_unmap_splits", unmap),
    case("memory_fixed_replaces", fixed),
    case("memory_fixed_noreplace", noreplace),
    case("memory_remap_moves", remap),
    case("memory_shared_between_processes", shared),
    case("memory_file_mapping_sees_writes", file_mapping),
    case("memory_private_file_is_copied", private_file),
    case("memory_sigbus_past_end", sigbus),
    case("memory_dontneed_zeroes", dontneed),
    case("memory_brk", brk),
    case("memory_stack_grows", stack),
    case("memory_mincore", mincore),
    case("memory_mlock_limit", mlock),
    case("memory_argument_errors", errors),
    case("memory_layout_is_random", random),
    case("memory_faults_in_parallel", parallel),
    case("memory_oom_scores", oom_scores),
    case("memory_overcommit_modes", overcommit),
];

const PAGE: usize = 4096;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn mmap(address: usize, bytes: usize, protection: i32, flags: i32, fd: i32) -> usize {
    // SAFETY: callers map at addresses of the kernel's choice or over their own mappings.
    unsafe { libc::mmap(address as *mut _, bytes, protection, flags, fd, 0) as usize }
}

/// Whether reading a byte there kills a child, and with what.
fn probe(address: usize, write: bool) -> Result<i32, Failure> {
    let status = sys::wait(sys::fork(|| {
        // SAFETY: in a child, which may die of it.
        unsafe {
            let byte = std::ptr::read_volatile(address as *const u8);
            if write {
                std::ptr::write_volatile(address as *mut u8, byte);
            }
        }
        0
    })?)?;
    Ok(if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 })
}

fn zero() -> Outcome {
    let memory = map(64 << 20, READ_WRITE)?;
    for at in (0..64 << 20).step_by(1 << 20) {
        // SAFETY: within the mapping.
        unsafe {
            ensure_eq!(memory.add(at).read(), 0);
            memory.add(at + 5).write(1);
        }
    }
    Ok(())
}

fn protect() -> Outcome {
    let memory = map(3 * PAGE, READ_WRITE)? as usize;
    // SAFETY: our own mapping.
    unsafe {
        (memory as *mut u8).write_bytes(1, 3 * PAGE);
        ok("mprotect", libc::mprotect((memory + PAGE) as *mut _, PAGE, libc::PROT_READ))?;
        ensure_eq!(probe(memory + PAGE, false)?, 0);
        ensure_eq!(probe(memory + PAGE, true)?, libc::SIGSEGV);
        ensure_eq!(probe(memory + 2 * PAGE, true)?, 0);
        ok("mprotect", libc::mprotect((memory + PAGE) as *mut _, PAGE, libc::PROT_NONE))?;
        ensure_eq!(probe(memory + PAGE, false)?, libc::SIGSEGV);
        ok("mprotect", libc::mprotect(memory as *mut _, 3 * PAGE, READ_WRITE))?;
        ensure_eq!(((memory + PAGE) as *const u8).read(), 1);
    }
    Ok(())
}

fn unmap() -> Outcome {
    let memory = map(3 * PAGE, READ_WRITE)? as usize;
    // SAFETY: our own mapping.
    ok("munmap", unsafe { libc::munmap((memory + PAGE) as *mut _, PAGE) })?;
    ensure_eq!(probe(memory, true)?, 0);
    ensure_eq!(probe(memory + PAGE, false)?, libc::SIGSEGV);
    ensure_eq!(probe(memory + 2 * PAGE, true)?, 0);
    Ok(())
}

fn fixed() -> Outcome {
    let memory = map(3 * PAGE, READ_WRITE)? as usize;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: our own mapping.
    unsafe {
        (memory as *mut u8).write_bytes(7, 3 * PAGE);
        ensure_eq!(mmap(memory + PAGE, PAGE, READ_WRITE, flags, -1), memory + PAGE);
        ensure_eq!(((memory + PAGE) as *const u8).read(), 0);
        ensure_eq!(((memory + 2 * PAGE) as *const u8).read(), 7);
    }
    Ok(())
}

fn noreplace() -> Outcome {
    let memory = map(PAGE, READ_WRITE)? as usize;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    ensure_eq!(mmap(memory, PAGE, READ_WRITE, flags, -1), usize::MAX);
    ensure_eq!(errno(), libc::EEXIST);
    Ok(())
}

fn remap() -> Outcome {
    let memory = map(2 * PAGE, READ_WRITE)?;
    // SAFETY: our own mapping; the old address is not used after the move.
    unsafe {
        memory.write_bytes(9, 2 * PAGE);
        let moved = libc::mremap(memory.cast(), 2 * PAGE, 1000 * PAGE, libc::MREMAP_MAYMOVE);
        ensure!(moved != libc::MAP_FAILED);
        let moved = moved.cast::<u8>();
        ensure_eq!((moved.add(PAGE).read(), moved.add(2 * PAGE).read()), (9, 0));
        let shrunk = libc::mremap(moved.cast(), 1000 * PAGE, PAGE, 0);
        ensure_eq!(shrunk as usize, moved as usize);
        ensure_eq!(probe(moved as usize + PAGE, false)?, libc::SIGSEGV);
    }
    Ok(())
}

fn shared() -> Outcome {
    let memory = mmap(0, PAGE, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
    ensure!(memory != usize::MAX);
    let word = std::ptr::with_exposed_provenance_mut::<u32>(memory);
    // SAFETY: our own mapping.
    let code = sys::in_child(|| unsafe {
        word.write_volatile(77);
        0
    })?;
    ensure_eq!(code, 0);
    // SAFETY: our own mapping.
    ensure_eq!(unsafe { word.read_volatile() }, 77);
    Ok(())
}

fn file_mapping() -> Outcome {
    let path = format!("{}/file", sys::folder("fm")?);
    std::fs::write(&path, [1; 2 * PAGE]).map_err(|e| e.to_string())?;
    let name = c(&path);
    // SAFETY: a C string; our own mapping.
    unsafe {
        let fd = ok("open", libc::open(name.as_ptr(), libc::O_RDWR))? as i32;
        let memory = mmap(0, 2 * PAGE, READ_WRITE, libc::MAP_SHARED, fd) as *mut u8;
        ensure!(memory as usize != usize::MAX);
        memory.add(PAGE).write_volatile(5);
        ok("msync", libc::msync(memory.cast(), 2 * PAGE, libc::MS_SYNC))?;
        ensure_eq!(std::fs::read(&path).map_err(|e| e.to_string())?[PAGE], 5);
        ensure_eq!(libc::pwrite(fd, [8u8].as_ptr().cast(), 1, 10), 1);
        ensure_eq!(memory.add(10).read_volatile(), 8);
    }
    Ok(())
}

fn private_file() -> Outcome {
    let path = format!("{}/file", sys::folder("pf")?);
    std::fs::write(&path, [1; PAGE]).map_err(|e| e.to_string())?;
    let name = c(&path);
    // SAFETY: a C string; our own mapping.
    unsafe {
        let fd = ok("open", libc::open(name.as_ptr(), libc::O_RDONLY))? as i32;
        let memory = mmap(0, PAGE, READ_WRITE, libc::MAP_PRIVATE, fd) as *mut u8;
        memory.write_volatile(2);
        ensure_eq!(std::fs::read(&path).map_err(|e| e.to_string())?[0], 1);
        ensure_eq!(mmap(0, PAGE, READ_WRITE, libc::MAP_SHARED, fd), usize::MAX);
        ensure_eq!(errno(), libc::EACCES);
    }
    Ok(())
}

fn sigbus() -> Outcome {
    let path = format!("{}/file", sys::folder("sb")?);
    std::fs::write(&path, [1; 100]).map_err(|e| e.to_string())?;
    let name = c(&path);
    // SAFETY: a C string; our own mapping.
    unsafe {
        let fd = ok("open", libc::open(name.as_ptr(), libc::O_RDWR))? as i32;
        let memory = mmap(0, 2 * PAGE, READ_WRITE, libc::MAP_SHARED, fd);
        ensure_eq!(probe(memory + 200, true)?, 0);
        ensure_eq!(probe(memory + PAGE, false)?, libc::SIGBUS);
        ok("ftruncate", libc::ftruncate(fd, 0))?;
        ensure_eq!(probe(memory, false)?, libc::SIGBUS);
    }
    Ok(())
}

fn dontneed() -> Outcome {
    let memory = map(4 * PAGE, READ_WRITE)?;
    // SAFETY: our own mapping.
    unsafe {
        memory.write_bytes(3, 4 * PAGE);
        ok("madvise", libc::madvise(memory.add(PAGE).cast(), PAGE, libc::MADV_DONTNEED))?;
        ensure_eq!((memory.read(), memory.add(PAGE).read(), memory.add(2 * PAGE).read()), (3, 0, 3));
        ensure_eq!(libc::madvise(memory.add(1).cast(), PAGE, libc::MADV_DONTNEED), -1);
        ensure_eq!(errno(), libc::EINVAL);
    }
    Ok(())
}

fn brk() -> Outcome {
    let now = sys::call(libc::SYS_brk, [0; 6]) as usize;
    let grown = sys::call(libc::SYS_brk, [now + 10 * PAGE, 0, 0, 0, 0, 0]) as usize;
    ensure_eq!(grown, now + 10 * PAGE);
    // SAFETY: the heap's end was just moved there; nothing else allocates meanwhile.
    unsafe { (now as *mut u8).add(9 * PAGE).write(1) };
    ensure_eq!(sys::call(libc::SYS_brk, [now, 0, 0, 0, 0, 0]) as usize, now);
    ensure_eq!(sys::call(libc::SYS_brk, [4096, 0, 0, 0, 0, 0]) as usize, now);
    Ok(())
}

fn stack() -> Outcome {
    #[inline(never)]
    fn deep(levels: usize) -> usize {
        let block = std::hint::black_box([levels as u8; 1000]);
        if levels == 0 { 0 } else { deep(levels - 1) + usize::from(block[500] == levels as u8) }
    }
    ensure_eq!(sys::in_child(|| i32::from(deep(4000) != 4000))?, 0);
    let status = sys::wait(sys::fork(|| i32::from(deep(1_000_000) == 0))?)?;
    ensure!(libc::WIFSIGNALED(status), "endless recursion ended with {status:#x}");
    Ok(())
}

fn mincore() -> Outcome {
    let memory = map(4 * PAGE, READ_WRITE)?;
    let mut resident = [9u8; 4];
    // SAFETY: our own mapping; one byte for each page.
    unsafe {
        memory.add(PAGE).write(1);
        ok("mincore", libc::mincore(memory.cast(), 4 * PAGE, resident.as_mut_ptr()))?;
        ensure_eq!(resident[1] & 1, 1);
        ensure_eq!(resident[3] & 1, 0);
        libc::munmap(memory.cast(), PAGE);
        ensure_eq!(libc::mincore(memory.cast(), PAGE, resident.as_mut_ptr()), -1);
        ensure_eq!(errno(), libc::ENOMEM);
    }
    Ok(())
}

fn mlock() -> Outcome {
    let memory = map(64 * PAGE, READ_WRITE)?;
    let limit = libc::rlimit { rlim_cur: 16 * PAGE as u64, rlim_max: 16 * PAGE as u64 };
    // SAFETY: our own mapping; numbers.
    let code = sys::in_child(|| unsafe {
        let bad = |holds: bool, bit: i32| if holds { 0 } else { 1 << bit };
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit);
        libc::setresuid(1000, 1000, 1000);
        bad(libc::mlock(memory.cast(), 8 * PAGE) == 0, 0)
            | bad(libc::mlock(memory.cast(), 32 * PAGE) == -1 && errno() == libc::ENOMEM, 1)
            | bad(libc::munlock(memory.cast(), 8 * PAGE) == 0, 2)
    })?;
    ensure_eq!(code, 0);
    Ok(())
}

fn errors() -> Outcome {
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let wrong = |address, bytes, flags, fd| {
        let result = mmap(address, bytes, READ_WRITE, flags, fd);
        if result == usize::MAX { errno() } else { 0 }
    };
    ensure_eq!(wrong(0, 0, anonymous, -1), libc::EINVAL);
    ensure_eq!(wrong(0, PAGE, libc::MAP_ANONYMOUS, -1), libc::EINVAL);
    ensure_eq!(wrong(0, PAGE, libc::MAP_PRIVATE, 999), libc::EBADF);
    ensure_eq!(wrong(0, usize::MAX / 2, anonymous, -1), libc::ENOMEM);
    ensure_eq!(wrong(123, PAGE, anonymous | libc::MAP_FIXED, -1), libc::EINVAL);
    // Above the user half with four and with five levels of page tables.
    let high = 1 << 56;
    ensure_eq!(wrong(high, PAGE, anonymous | libc::MAP_FIXED, -1), libc::ENOMEM);
    Ok(())
}

fn random() -> Outcome {
    let stack = || {
        let output = std::process::Command::new("/bin/grep").args(["stack", "/proc/self/maps"]).output();
        output.map(|output| output.stdout).map_err(|e| Failure::Wrong(e.to_string()))
    };
    let (one, two) = (stack()?, stack()?);
    ensure!(!one.is_empty() && one != two);
    Ok(())
}

fn parallel() -> Outcome {
    let bytes = 16 << 20;
    let memory = map(bytes, READ_WRITE)? as usize;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for at in (thread * PAGE..bytes).step_by(4 * PAGE) {
                    // SAFETY: within the mapping, each page by one thread.
                    unsafe { ((memory + at) as *mut usize).write_volatile(at) };
                }
            });
        }
    });
    for at in (0..bytes).step_by(PAGE) {
        // SAFETY: within the mapping.
        ensure_eq!(unsafe { ((memory + at) as *const usize).read_volatile() }, at);
    }
    Ok(())
}

fn read_number(path: &str) -> Result<i64, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim().parse().map_err(|_| format!("{path} says {text:?}").into())
}

fn write_text(path: &str, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|error| format!("{path}: {error}").into())
}

/// Two thirds of 1000, and of what is taken or asked for in thousandths of all memory. A thousandth is reckoned in whole pages, so that
/// 1000 of them are up to 999 pages less than all: some 8 thousandths of the machine that tests have.
fn oom_scores() -> Outcome {
    for (adjustment, low, high) in
        [("0", 666, 700), ("1000", 1326, 1366), ("500", 996, 1033), ("-500", 333, 370), ("-1000", 0, 0)]
    {
        write_text("/proc/self/oom_score_adj", adjustment)?;
        let score = read_number("/proc/self/oom_score")?;
        ensure!((low..=high).contains(&score), "oom_score is {score} at {adjustment}");
    }
    write_text("/proc/self/oom_score_adj", "0")
}

/// A line of /proc/meminfo, in KiB.
fn meminfo(name: &str) -> Result<usize, Failure> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("no {name} in /proc/meminfo").into())
}

fn overcommit() -> Outcome {
    const MODE: &str = "/proc/sys/vm/overcommit_memory";
    let result = overcommit_inner(MODE);
    write_text(MODE, "0")?;
    write_text("/proc/sys/vm/overcommit_ratio", "50")?;
    result
}

fn overcommit_inner(mode: &str) -> Outcome {
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let failed = usize::MAX;
    let attempt = |kib: usize, flags: i32| {
        let at = mmap(0, kib << 10, READ_WRITE, private | flags, -1);
        let works = at != failed;
        if works {
            // SAFETY: just mapped, and nobody else's.
            unsafe { libc::munmap(at as *mut _, kib << 10) };
        }
        works
    };
    let total = meminfo("MemTotal")?;
    ensure_eq!(read_number(mode)?, 0);
    ensure!(!attempt(total * 4, 0), "mode 0 promised four times all memory");
    ensure!(attempt(total * 4, libc::MAP_NORESERVE), "mode 0 refused memory without a promise");
    ensure!(attempt(total / 2, 0));
    write_text(mode, "1")?;
    ensure!(attempt(total * 4, 0), "mode 1 refused");
    write_text(mode, "2")?;
    let (limit, promised) = (meminfo("CommitLimit")?, meminfo("Committed_AS")?);
    ensure!((total * 45 / 100..=total * 50 / 100).contains(&limit), "CommitLimit {limit} of {total}");
    ensure!(!attempt(limit, 0), "mode 2 promised more than the limit");
    ensure!(!attempt(limit, libc::MAP_NORESERVE), "mode 2 let somebody off");
    let quarter = limit.saturating_sub(promised) / 4;
    ensure!(attempt(quarter, 0), "mode 2 refused {quarter} KiB of {limit}, {promised} promised");
    let before = meminfo("Committed_AS")?;
    let at = mmap(0, quarter << 10, READ_WRITE, private, -1);
    ensure!(at != failed && meminfo("Committed_AS")? >= before + quarter * 9 / 10);
    write_text("/proc/sys/vm/overcommit_ratio", "20")?;
    let smaller = meminfo("CommitLimit")?;
    ensure!(smaller < limit / 2, "the limit is {smaller} at 20 %");
    Ok(())
}
