//! Structures that grow: arguments that carry their own size, as clone3(2), openat2(2) and sched_setattr(2) take them.
//!
//! A program built for an older kernel passes a shorter structure (the rest is zero); one built for a newer kernel passes
//! a longer one, which is accepted only if what this kernel does not know is zero.

use abi::errno::{Errno, Result};
use machine::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Reads a `T` of `size` bytes as the program knows it.
///
/// Errors: `EINVAL` if shorter than `least`, `E2BIG` if longer than a page or with something unknown in it, `EFAULT`.
pub fn read_sized<T: FromBytes + IntoBytes + Immutable>(
    address: usize,
    size: usize,
    least: usize,
) -> Result<T> {
    if size < least {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut value = T::new_zeroed();
    let known = size.min(size_of::<T>());
    machine::user::read_bytes(address, value.as_mut_bytes().get_mut(..known).unwrap_or_default())?;
    let mut place = known;
    while place < size {
        let mut tail = [0_u8; 64];
        let part = (size - place).min(tail.len());
        let tail = tail.get_mut(..part).unwrap_or_default();
        machine::user::read_bytes(address.wrapping_add(place), tail)?;
        if tail.iter().any(|byte| *byte != 0) {
            return Err(Errno::E2BIG);
        }
        place += part;
    }
    Ok(value)
}

/// Reads a `T` whose first field is its size as a `u32` (0 means `least`). `too_big` is called with the size this kernel
/// knows when the program's is out of range or unknown, and makes the error.
///
/// Errors: what `too_big` gives, `EFAULT`.
pub fn read<T: FromBytes + IntoBytes + Immutable>(
    address: usize,
    least: u32,
    too_big: impl Fn(u32) -> Errno,
) -> Result<T> {
    let size: u32 = machine::user::read_value(address)?;
    let size = if size == 0 { least } else { size };
    match read_sized(address, size as usize, least as usize) {
        Err(Errno::EINVAL | Errno::E2BIG) => Err(too_big(size_of::<T>() as u32)),
        other => other,
    }
}
