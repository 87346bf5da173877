//! System V shared memory.

use super::{Section, Transcript};
use crate::case::Outcome;
use crate::sys::in_child;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("shm_get", get),
    ("shm_attach", attach),
    ("shm_wrong_arguments", wrong),
    ("shm_removed_while_attached", removed),
    ("shm_forked", forked),
];

const CREATE: i32 = libc::IPC_CREAT | 0o600;
const PAGE: usize = 4096;

fn shmget(key: i32, size: usize, flags: i32) -> i32 {
    // SAFETY: numbers only.
    unsafe { libc::shmget(key, size, flags) }
}

fn shmat(segment: i32, address: usize, flags: i32) -> i64 {
    // SAFETY: where nothing is, or where `SHM_REMAP` replaces what a section has made.
    unsafe { libc::shmat(segment, address as *const libc::c_void, flags) as i64 }
}

fn shmdt(address: usize) -> i32 {
    // SAFETY: nothing of Rust's lies there.
    unsafe { libc::shmdt(address as *const libc::c_void) }
}

fn remove(segment: i32) -> i32 {
    // SAFETY: no pointer is followed.
    unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) }
}

fn stat(segment: i32) -> (i32, libc::shmid_ds) {
    // SAFETY: one structure of that kind.
    unsafe {
        let mut state: libc::shmid_ds = std::mem::zeroed();
        let result = libc::shmctl(segment, libc::IPC_STAT, &raw mut state);
        (result, state)
    }
}

fn tell(t: &mut Transcript, what: &str, segment: i32) {
    let (result, state) = stat(segment);
    t.call(what, result);
    if result == 0 {
        let flags = state.shm_perm.mode;
        t.note("  size, attached, mode", (state.shm_segsz, state.shm_nattch, format!("{flags:o}")));
        t.note("  made here", state.shm_cpid == std::process::id() as i32);
        t.note("  times", [state.shm_atime, state.shm_ctime].map(|time| time != 0));
    }
}

fn store(address: i64, offset: usize, value: u8) {
    // SAFETY: a byte of a segment that is attached there for writing.
    unsafe { (address as *mut u8).add(offset).write_volatile(value) };
}

fn load(address: i64, offset: usize) -> u8 {
    // SAFETY: a byte of a segment that is attached there.
    unsafe { (address as *const u8).add(offset).read_volatile() }
}

fn get(t: &mut Transcript) -> Outcome {
    let key = 0x1234_5001;
    t.call("none", shmget(key, PAGE, 0));
    let first = t.works("create", shmget(key, PAGE + 1, CREATE)) as i32;
    t.note("again is the same", shmget(key, PAGE, CREATE) == first);
    t.note("with size 0 too", shmget(key, 0, 0) == first);
    t.call("too large for it", shmget(key, PAGE * 3, 0));
    t.call("exclusively", shmget(key, PAGE, CREATE | libc::IPC_EXCL));
    tell(t, "state", first);
    t.call("remove", remove(first));
    t.call("remove again", remove(first));
    t.call("none again", shmget(key, PAGE, 0));
    t.call("of size 0", shmget(libc::IPC_PRIVATE, 0, CREATE));
    Ok(())
}

fn attach(t: &mut Transcript) -> Outcome {
    let segment = t.works("create", shmget(libc::IPC_PRIVATE, 3 * PAGE, CREATE)) as i32;
    let one = shmat(segment, 0, 0);
    let two = shmat(segment, 0, libc::SHM_RDONLY);
    t.note("attached", one > 0 && two > 0 && one != two);
    store(one, 5000, 7);
    t.note("seen", (load(two, 5000), load(two, 0)));
    tell(t, "state", segment);
    // SAFETY: the read-only attachment, of which nobody has a reference.
    t.call("it cannot be made writable", unsafe { libc::mprotect(two as *mut _, PAGE, 3) });
    t.call("there is something", shmat(segment, one as usize, 0));
    t.note("over it", shmat(segment, two as usize, libc::SHM_REMAP) == two);
    store(two, 1, 9);
    t.note("seen", load(one, 1));
    // SAFETY: the middle page of an attachment of this section.
    t.call("a hole", unsafe { libc::munmap((two as usize + PAGE) as *mut _, PAGE) });
    tell(t, "two pieces and one", segment);
    t.call("detach both", shmdt(two as usize));
    tell(t, "state", segment);
    t.call("detach again", shmdt(two as usize));
    t.call("detach in the middle", shmdt(one as usize + PAGE));
    t.call("detach", shmdt(one as usize));
    let third = shmat(segment, 0, 0);
    t.note("what was stored", load(third, 5000));
    t.call("detach", shmdt(third as usize));
    t.call("remove", remove(segment));
    Ok(())
}

fn wrong(t: &mut Transcript) -> Outcome {
    let segment = t.works("create", shmget(libc::IPC_PRIVATE, PAGE, CREATE)) as i32;
    t.call("no such id", shmat(segment + 1, 0, 0));
    t.call("negative id", shmat(-1, 0, 0));
    t.call("unaligned", shmat(segment, 0x1000_0001, 0));
    let rounded = shmat(segment, 0x1000_0001, libc::SHM_RND);
    t.note("rounded", rounded == 0x1000_0000);
    t.call("detach", shmdt(rounded as usize));
    t.call("over nothing", shmat(segment, 0, libc::SHM_REMAP));
    t.call("detach unaligned", shmdt(1));
    t.call("detach nothing", shmdt(0x1000_0000));
    // SAFETY: an unknown command looks at nothing.
    t.call("unknown command", unsafe { libc::shmctl(segment, 99, std::ptr::null_mut()) });
    // SAFETY: as above, a pointer to nothing.
    t.call("state to nowhere", unsafe {
        libc::shmctl(segment, libc::IPC_STAT, std::ptr::without_provenance_mut(8))
    });
    t.call("remove", remove(segment));
    t.call("state", stat(segment).0);
    Ok(())
}

fn removed(t: &mut Transcript) -> Outcome {
    let key = 0x1234_5002;
    let segment = t.works("create", shmget(key, PAGE, CREATE)) as i32;
    let one = shmat(segment, 0, 0);
    store(one, 0, 3);
    t.call("remove", remove(segment));
    tell(t, "state", segment);
    t.call("by its key", shmget(key, PAGE, 0));
    let two = shmat(segment, 0, 0);
    t.note("by its id", two > 0 && load(two, 0) == 3);
    t.call("remove again", remove(segment));
    t.call("detach", shmdt(one as usize));
    t.call("detach", shmdt(two as usize));
    t.call("state", stat(segment).0);
    t.call("attach", shmat(segment, 0, 0));
    Ok(())
}

fn forked(t: &mut Transcript) -> Outcome {
    let segment = t.works("create", shmget(libc::IPC_PRIVATE, PAGE, CREATE)) as i32;
    let memory = shmat(segment, 0, 0);
    in_child(|| {
        store(memory, 10, u8::try_from(stat(segment).1.shm_nattch).unwrap_or(99));
        0
    })?;
    t.note("attached, as the child saw it", load(memory, 10));
    tell(t, "state", segment);
    t.call("remove", remove(segment));
    t.call("detach", shmdt(memory as usize));
    t.call("state", stat(segment).0);
    Ok(())
}
