//! User memory of the host backend: every access walks the active page table and calls the page-fault hook where it finds
//! nothing, as the processor and the trap handler would.

use super::memory::{PTE_USER, PTE_WRITE, translate};
use crate::PAGE_SIZE;
use crate::hooks::PageFaultInfo;
use crate::user::{Fault, FaultAccess, UserExit, UserRegisters};
use core::sync::atomic::{AtomicU32, Ordering};

/// No program runs here: an exit that says so.
pub(crate) fn enter_user(_registers: &mut UserRegisters) -> UserExit {
    UserExit::Exception { vector: 6, error_code: 0, address: 0 }
}

/// Calls `touch` with the place of each piece of a user range that lies in one page; gives how many bytes are left over.
fn for_each_piece(
    address: usize,
    length: usize,
    access: FaultAccess,
    mut touch: impl FnMut(*mut u8, usize, usize),
) -> usize {
    let needed = PTE_USER | if access.contains(FaultAccess::WRITE) { PTE_WRITE } else { 0 };
    let mut done = 0;
    while done < length {
        let at = address + done;
        let piece = (PAGE_SIZE - at % PAGE_SIZE).min(length - done);
        let found = {
            let _guard = crate::preempt::disable();
            let place = translate(at, needed);
            if let Some(place) = place {
                touch(place, done, piece);
            }
            place.is_some()
        };
        if found {
            done += piece;
            continue;
        }
        let present = translate(at, 0).is_some();
        let info = PageFaultInfo { address: at, access, present };
        if crate::arch::preempt_count() != 0 || crate::hooks::page_fault(&info).is_err() {
            break;
        }
    }
    length - done
}

/// # Safety
/// `destination` can be written for `length` bytes.
pub(crate) unsafe fn copy_from_user(destination: *mut u8, source: usize, length: usize) -> usize {
    for_each_piece(source, length, FaultAccess::READ, |place, done, piece| {
        // SAFETY: `place` is in the simulated RAM within one page; the caller vouches for the destination.
        unsafe { core::ptr::copy(place, destination.add(done), piece) };
    })
}

/// # Safety
/// `source` can be read for `length` bytes.
pub(crate) unsafe fn copy_to_user(destination: usize, source: *const u8, length: usize) -> usize {
    for_each_piece(destination, length, FaultAccess::WRITE, |place, done, piece| {
        // SAFETY: as in `copy_from_user`, the other way.
        unsafe { core::ptr::copy(source.add(done), place, piece) };
    })
}

/// # Safety
/// None is needed here.
pub(crate) unsafe fn zero_user(destination: usize, length: usize) -> usize {
    for_each_piece(destination, length, FaultAccess::WRITE, |place, _, piece| {
        // SAFETY: `place` is in the simulated RAM within one page.
        unsafe { core::ptr::write_bytes(place, 0, piece) };
    })
}

/// # Safety
/// `destination` can be written for `most` bytes.
pub(crate) unsafe fn user_strncpy(destination: *mut u8, source: usize, most: usize) -> Result<usize, Fault> {
    for index in 0..most {
        // SAFETY: the caller vouches for the destination.
        let left = unsafe { copy_from_user(destination.add(index), source + index, 1) };
        if left != 0 {
            return Err(Fault);
        }
        // SAFETY: just written.
        if unsafe { destination.add(index).read() } == 0 {
            return Ok(index);
        }
    }
    Ok(most)
}

fn word(address: usize, access: FaultAccess, act: impl Fn(&AtomicU32) -> u32) -> Result<u32, Fault> {
    let mut result = 0;
    let left = for_each_piece(address, 4, access, |place, _, _| {
        // SAFETY: callers have checked alignment, so the word is within the page; user memory is only changed atomically or as
        // bytes here.
        result = act(unsafe { &*place.cast::<AtomicU32>() });
    });
    if left == 0 { Ok(result) } else { Err(Fault) }
}

/// # Safety
/// `address` is aligned.
pub(crate) unsafe fn user_load_u32(address: usize) -> Result<u32, Fault> {
    word(address, FaultAccess::READ, |word| word.load(Ordering::SeqCst))
}

/// # Safety
/// `address` is aligned.
pub(crate) unsafe fn user_cmpxchg_u32(address: usize, old: u32, new: u32) -> Result<u32, Fault> {
    word(address, FaultAccess::WRITE, |word| {
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|seen| seen)
    })
}
