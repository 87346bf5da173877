//! Memory: mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), brk(2), mlock(2), msync(2), mincore(2), membarrier(2),
//! protection keys (pkeys(7)).
//!
//! Only decoding: the work and its locks are in `mm::AddressSpace`.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::mman::{MAP_ANONYMOUS, MAP_HUGETLB, MAP_SHARED_VALIDATE, MAP_TYPE, PKEY_ACCESS_MASK};
use machine::PAGE_SIZE;
use mm::user::UserPtr;
use mm::{MmapBacking, MmapRequest, Protection};

/// mmap(2). Errors: `EBADF`, `EINVAL`, `EACCES`, `ENOMEM`, `ENODEV`, `EEXIST`, `EPERM`, `EOVERFLOW`, `EOPNOTSUPP`.
pub fn mmap(
    context: &mut Context<'_>,
    address: usize,
    length: usize,
    protection: u32,
    flags: u32,
    fd: Fd,
    offset: u64,
) -> Result<usize> {
    if !offset.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EINVAL);
    }
    let backing = if flags & MAP_ANONYMOUS != 0 {
        MmapBacking::Anonymous
    } else {
        let file = context.file(fd)?;
        if file.is_place() {
            return Err(Errno::EBADF);
        }
        if flags & MAP_HUGETLB != 0 {
            return Err(Errno::EINVAL);
        }
        MmapBacking::File { file: file.operations().map(&file)?, offset }
    };
    if flags & MAP_TYPE == MAP_SHARED_VALIDATE && matches!(backing, MmapBacking::Anonymous) {
        return Err(Errno::EINVAL);
    }
    let protection = Protection::from_bits_truncate(protection) & Protection::ALL;
    let request = MmapRequest { address, length, protection, flags, backing };
    context.address_space()?.mmap(&request, &context.memory_limits())
}

/// munmap(2). Errors: `EINVAL`, `ENOMEM`.
pub fn munmap(context: &mut Context<'_>, address: usize, length: usize) -> Result<usize> {
    context.address_space()?.munmap(address, length).map(|()| 0)
}

/// mprotect(2). Errors: `EINVAL`, `EACCES`, `ENOMEM`.
pub fn mprotect(context: &mut Context<'_>, address: usize, length: usize, protection: u32) -> Result<usize> {
    context.address_space()?.mprotect(address, length, protection, &context.memory_limits()).map(|()| 0)
}

/// pkey_mprotect(2): key -1 is mprotect(2). Errors: as [`mprotect`], `EINVAL` for a key that is not allocated.
pub fn pkey_mprotect(
    context: &mut Context<'_>,
    address: usize,
    length: usize,
    protection: u32,
    key: i32,
) -> Result<usize> {
    const NO_KEY: i32 = -1;
    let limits = context.memory_limits();
    // A number that no key can have is one that is not allocated.
    let key = (key != NO_KEY).then(|| u8::try_from(key).unwrap_or(u8::MAX));
    context.address_space()?.mprotect_with_key(address, length, protection, key, &limits).map(|()| 0)
}

/// pkey_alloc(2): the key; the calling thread has the rights with it that it asked for. Errors: `EINVAL`, `ENOSPC`, also on
/// a processor without keys.
pub fn pkey_alloc(context: &mut Context<'_>, flags: u32, rights: u64) -> Result<usize> {
    if flags != 0 || rights & !u64::from(PKEY_ACCESS_MASK) != 0 {
        return Err(Errno::EINVAL);
    }
    let key = context.address_space()?.allocate_key()?;
    // Only this thread uses the register, whatever runs meanwhile.
    let shift = 2 * u32::from(key);
    let old = machine::thread::exchange_key_rights(machine::thread::DEFAULT_KEY_RIGHTS);
    machine::thread::exchange_key_rights(old & !(3 << shift) | (rights as u32) << shift);
    Ok(usize::from(key))
}

/// pkey_free(2): pages that have the key keep it. Errors: `EINVAL` if it is not allocated.
pub fn pkey_free(context: &mut Context<'_>, key: i32) -> Result<usize> {
    let key = u8::try_from(key).map_err(|_| Errno::EINVAL)?;
    context.address_space()?.free_key(key).map(|()| 0)
}

/// mremap(2). Errors: `EINVAL`, `EFAULT`, `ENOMEM`, `EAGAIN`.
pub fn mremap(
    context: &mut Context<'_>,
    address: usize,
    old_length: usize,
    new_length: usize,
    flags: u32,
    new_address: usize,
) -> Result<usize> {
    context.address_space()?.mremap(
        address,
        old_length,
        new_length,
        flags,
        new_address,
        &context.memory_limits(),
    )
}

/// madvise(2). Errors: `EINVAL`, `ENOMEM`, `EAGAIN`, `EBADF`.
pub fn madvise(context: &mut Context<'_>, address: usize, length: usize, advice: i32) -> Result<usize> {
    context.address_space()?.madvise(address, length, advice as u32).map(|()| 0)
}

/// brk(2): the new break, or the old one if it could not be moved.
pub fn brk(context: &mut Context<'_>, address: usize) -> Result<usize> {
    Ok(context.address_space()?.brk(address, &context.memory_limits()))
}

/// mlock(2). Errors: `EINVAL`, `EPERM`, `ENOMEM`, `EAGAIN`.
pub fn mlock(context: &mut Context<'_>, address: usize, length: usize) -> Result<usize> {
    context.address_space()?.mlock(address, length, 0, &context.memory_limits()).map(|()| 0)
}

/// mlock2(2). Errors: as [`mlock`], `EINVAL` for an unknown flag.
pub fn mlock2(context: &mut Context<'_>, address: usize, length: usize, flags: u32) -> Result<usize> {
    context.address_space()?.mlock(address, length, flags, &context.memory_limits()).map(|()| 0)
}

/// munlock(2). Errors: `EINVAL`, `ENOMEM`.
pub fn munlock(context: &mut Context<'_>, address: usize, length: usize) -> Result<usize> {
    context.address_space()?.munlock(address, length).map(|()| 0)
}

/// mlockall(2). Errors: `EINVAL`, `EPERM`, `ENOMEM`.
pub fn mlockall(context: &mut Context<'_>, flags: u32) -> Result<usize> {
    context.address_space()?.mlockall(flags, &context.memory_limits()).map(|()| 0)
}

/// munlockall(2).
pub fn munlockall(context: &mut Context<'_>) -> Result<usize> {
    context.address_space()?.munlockall().map(|()| 0)
}

/// msync(2). Errors: `EINVAL`, `ENOMEM`, `EBUSY`, `EIO`.
pub fn msync(context: &mut Context<'_>, address: usize, length: usize, flags: u32) -> Result<usize> {
    context.address_space()?.msync(address, length, flags).map(|()| 0)
}

/// mincore(2). Errors: `EINVAL`, `ENOMEM`, `EFAULT`.
pub fn mincore(
    context: &mut Context<'_>,
    address: usize,
    length: usize,
    vector: UserPtr<u8>,
) -> Result<usize> {
    let mut place = vector.address();
    context
        .address_space()?
        .mincore(address, length, &mut |states: &[u8]| {
            machine::user::write_bytes(place, states)?;
            place += states.len();
            Ok(())
        })
        .map(|()| 0)
}

/// membarrier(2). Errors: `EINVAL`, `EPERM`.
pub fn membarrier(context: &mut Context<'_>, command: i32, flags: u32, _cpu: i32) -> Result<usize> {
    task::membarrier::membarrier(context.task, command, flags).map(|result| result as usize)
}
