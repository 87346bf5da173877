//! Small safe covers over system calls that several groups of cases use.

use crate::case::Failure;
use std::ffi::CString;

/// The error of the last call, as a number.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Turns -1 into a failure that names the call.
pub fn ok(what: &str, value: impl Into<i64>) -> Result<i64, Failure> {
    let value = value.into();
    if value == -1 {
        Err(Failure::Wrong(format!("{what}: {}", std::io::Error::last_os_error())))
    } else {
        Ok(value)
    }
}

/// Forks; the child runs `body` and exits with what it returns.
pub fn fork(body: impl FnOnce() -> i32) -> Result<i32, Failure> {
    // SAFETY: the callers have one thread, or call nothing but async-signal-safe functions in `body`.
    let child = ok("fork", unsafe { libc::fork() })? as i32;
    if child == 0 {
        let code = body();
        // SAFETY: ends this process.
        unsafe { libc::_exit(code) };
    }
    Ok(child)
}

/// Waits for a child; returns its wait status.
pub fn wait(child: i32) -> Result<i32, Failure> {
    let mut status = 0;
    // SAFETY: waitpid writes one int.
    ok("waitpid", unsafe { libc::waitpid(child, &raw mut status, 0) })?;
    Ok(status)
}

/// Forks, waits, and returns the exit status; a signal is a failure.
pub fn in_child(body: impl FnOnce() -> i32) -> Result<i32, Failure> {
    let status = wait(fork(body)?)?;
    if libc::WIFEXITED(status) {
        return Ok(libc::WEXITSTATUS(status));
    }
    Err(Failure::Wrong(format!("the child was killed by signal {}", libc::WTERMSIG(status))))
}

/// A pipe as (reading end, writing end).
pub fn pipe(flags: i32) -> Result<(i32, i32), Failure> {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two descriptors.
    ok("pipe2", unsafe { libc::pipe2(ends.as_mut_ptr(), flags) })?;
    Ok((ends[0], ends[1]))
}

/// Writes all of a small buffer.
pub fn write(fd: i32, bytes: &[u8]) -> Result<(), Failure> {
    // SAFETY: the pointer and length are of one slice.
    let count = ok("write", unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } as i64)?;
    if count as usize == bytes.len() {
        Ok(())
    } else {
        Err(Failure::Wrong(format!("wrote only {count} bytes")))
    }
}

/// One read of at most `limit` bytes.
pub fn read(fd: i32, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; limit];
    // SAFETY: the pointer and length are of one vector.
    let count = ok("read", unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), limit) } as i64)?;
    bytes.truncate(count as usize);
    Ok(bytes)
}

/// Closes a descriptor.
pub fn close(fd: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::close(fd) };
}

/// A fresh empty folder below /tmp.
pub fn folder(name: &str) -> Result<String, Failure> {
    let path = format!("/tmp/guest-{name}-{}", std::process::id());
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).map_err(|error| Failure::Wrong(format!("mkdir {path}: {error}")))?;
    Ok(path)
}

/// A string for a system call.
pub fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// A raw system call, with libc's convention for errors.
pub fn call(number: i64, arguments: [usize; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: callers pass numbers, or pointers that are valid or meant to be refused by the kernel.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// Sleeps.
pub fn sleep_ms(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

/// Anonymous private memory.
pub fn map(bytes: usize, protection: i32) -> Result<*mut u8, Failure> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(Failure::Wrong(format!("mmap: {}", std::io::Error::last_os_error())));
    }
    Ok(address.cast())
}

/// A counter that children share.
pub fn map_shared_counter() -> Result<&'static std::sync::atomic::AtomicUsize, Failure> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, zeroed, never unmapped, so it is a valid counter for ever.
    unsafe {
        let address =
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if address == libc::MAP_FAILED {
            return Err(Failure::Wrong("mmap".to_owned()));
        }
        Ok(&*address.cast())
    }
}
