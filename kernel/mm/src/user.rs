//! Typed pointers into user memory, and cursors over user buffers and iovecs.
//!
//! A system call's pointer arguments become a [`UserPtr`], [`UserSlice`] or [`UserString`] before anything looks at
//! them: plain addresses with a type, checked when they are used. What `readv(2)` and its like take becomes a
//! [`UserBuffer`], which has Linux's limits built in and serves as the one source ([`UserReader`]) or destination
//! ([`UserWriter`]) of a transfer.
//!
//! All accesses go to the address space active on this CPU; they may fault and sleep. Key types as named above.
//! Neighbours: `machine::user` (the copies themselves), `crate::io` (the traits). Locks: none may be held.

use crate::io::{IoReader, IoWriter};
use crate::lend::{Lending, Lent, lend};
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::fmt;
use core::marker::PhantomData;
use machine::memory::Frame;
use machine::user as copy;
use machine::{PAGE_SIZE, USER_END};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The most bytes one `read` or `write` moves (Linux's `MAX_RW_COUNT`: `INT_MAX` rounded down to a page).
pub const MAX_RW_COUNT: usize = i32::MAX as usize & !(PAGE_SIZE - 1);
/// The most elements of an iovec array (`UIO_MAXIOV`, `IOV_MAX`).
pub const IOV_MAX: usize = 1024;
/// Iovec arrays up to this length need no heap memory.
const IOV_FAST: usize = 8;

/// Whether `len` bytes at `address` lie in the half of the address space that programs use.
pub fn is_user_range(address: usize, len: usize) -> bool {
    address.checked_add(len).is_some_and(|end| end <= USER_END)
}

/// A pointer to a `T` in user memory.
pub struct UserPtr<T> {
    address: usize,
    target: PhantomData<fn() -> T>,
}

impl<T> Copy for UserPtr<T> {}
impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> fmt::Debug for UserPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserPtr({:#x})", self.address)
    }
}
impl<T> From<usize> for UserPtr<T> {
    fn from(address: usize) -> Self {
        UserPtr::new(address)
    }
}

impl<T> UserPtr<T> {
    /// The pointer that an argument register holds.
    pub const fn new(address: usize) -> Self {
        UserPtr { address, target: PhantomData }
    }

    /// The null pointer.
    pub const NULL: Self = Self::new(0);

    /// The address.
    pub const fn address(self) -> usize {
        self.address
    }

    /// Whether it is null.
    pub const fn is_null(self) -> bool {
        self.address == 0
    }

    /// The same pointer, or `None` for null: for arguments that may be left out.
    pub fn optional(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }

    /// The `index`-th element of an array that starts here (wrapping; the access is what checks).
    pub fn element(self, index: usize) -> Self {
        Self::new(self.address.wrapping_add(index.wrapping_mul(size_of::<T>())))
    }

    /// A pointer to something else, `bytes` further on (a field).
    pub fn offset_bytes<U>(self, bytes: usize) -> UserPtr<U> {
        UserPtr::new(self.address.wrapping_add(bytes))
    }
}

impl<T: FromBytes + IntoBytes> UserPtr<T> {
    /// Reads the value. Errors: `EFAULT`.
    pub fn read(self) -> Result<T> {
        Ok(copy::read_value(self.address)?)
    }
}

impl<T: IntoBytes + Immutable> UserPtr<T> {
    /// Writes the value. Errors: `EFAULT`.
    pub fn write(self, value: &T) -> Result<()> {
        Ok(copy::write_value(self.address, value)?)
    }

    /// Writes the value unless the pointer is null. Errors: `EFAULT`.
    pub fn write_optional(self, value: &T) -> Result<()> {
        if self.is_null() { Ok(()) } else { self.write(value) }
    }
}

/// `len` elements of `T` in user memory.
pub struct UserSlice<T> {
    start: UserPtr<T>,
    len: usize,
}

impl<T> Copy for UserSlice<T> {}
impl<T> Clone for UserSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> fmt::Debug for UserSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserSlice({:#x}, {})", self.start.address, self.len)
    }
}

impl<T> UserSlice<T> {
    /// `len` elements from `start` on.
    pub const fn new(start: UserPtr<T>, len: usize) -> Self {
        UserSlice { start, len }
    }

    /// How many elements.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its first address.
    pub const fn address(&self) -> usize {
        self.start.address
    }

    /// The element at `index`; `None` past the end.
    pub fn get(&self, index: usize) -> Option<UserPtr<T>> {
        (index < self.len).then(|| self.start.element(index))
    }
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> UserSlice<T> {
    /// Reads all elements.
    ///
    /// Errors: `EFAULT`; `ENOMEM` if the kernel cannot hold that many (callers with a smaller limit check it first).
    pub fn read_to_vec(&self) -> Result<Vec<T>> {
        let bytes = self.len.checked_mul(size_of::<T>()).ok_or(Errno::ENOMEM)?;
        if !is_user_range(self.start.address, bytes) {
            return Err(Errno::EFAULT);
        }
        let mut values = Vec::new();
        values.try_reserve_exact(self.len).map_err(|_| Errno::ENOMEM)?;
        values.resize(self.len, T::new_zeroed());
        copy::read_bytes(self.start.address, values.as_mut_slice().as_mut_bytes())?;
        Ok(values)
    }

    /// Fills `into`, which must have the slice's length or less, from the first elements. Errors: `EFAULT`.
    pub fn read_into(&self, into: &mut [T]) -> Result<()> {
        let count = into.len().min(self.len);
        let part = into.get_mut(..count).unwrap_or_default();
        Ok(copy::read_bytes(self.start.address, part.as_mut_bytes())?)
    }

    /// Writes as many of `values` as fit; returns how many. Errors: `EFAULT`.
    pub fn write_from(&self, values: &[T]) -> Result<usize> {
        let part = values.get(..values.len().min(self.len)).unwrap_or_default();
        copy::write_bytes(self.start.address, part.as_bytes())?;
        Ok(part.len())
    }
}

/// A NUL-terminated string in user memory.
#[derive(Copy, Clone, Debug)]
pub struct UserString(usize);

impl UserString {
    /// The string at `address`.
    pub const fn new(address: usize) -> Self {
        UserString(address)
    }

    /// Its address.
    pub const fn address(self) -> usize {
        self.0
    }

    /// Whether the pointer is null.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Reads the string, without its NUL, which must come within `limit` bytes (NUL included).
    ///
    /// Errors: `EFAULT`; `ENAMETOOLONG` if there is no NUL in time; `ENOMEM`.
    pub fn read(self, limit: usize) -> Result<Vec<u8>> {
        /// Most paths are shorter, and so much is had from the heap's smallest objects.
        const AT_ONCE: usize = 128;
        let mut bytes = Vec::new();
        while bytes.len() < limit {
            let start = bytes.len();
            // Never beyond the page: the string may end just before something unmapped.
            let at = self.0.checked_add(start).ok_or(Errno::EFAULT)?;
            let part = (PAGE_SIZE - at % PAGE_SIZE).min(limit - start).min(AT_ONCE.max(start));
            bytes.try_reserve(part).map_err(|_| Errno::ENOMEM)?;
            bytes.resize(start + part, 0);
            copy::read_bytes(at, bytes.get_mut(start..).unwrap_or_default())?;
            if let Some(length) = find_nul(bytes.get(start..).unwrap_or_default()) {
                bytes.truncate(start + length);
                return Ok(bytes);
            }
        }
        Err(Errno::ENAMETOOLONG)
    }
}

/// Where the first NUL is. Goes in words as long as there is none: a byte of a word is zero if subtracting one borrows there.
fn find_nul(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (mut rest, mut before) = (bytes, 0);
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_ne_bytes(*chunk);
        if word.wrapping_sub(LOW) & !word & HIGH != 0 {
            break;
        }
        (rest, before) = (after, before + chunk.len());
    }
    rest.iter().position(|byte| *byte == 0).map(|place| before + place)
}

/// One piece of user memory, in the layout of `struct iovec`.
#[repr(C)]
#[derive(Copy, Clone, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct IoVec {
    /// First address.
    pub address: usize,
    /// Bytes.
    pub len: usize,
}

enum Pieces {
    Few(ArrayVec<IoVec, IOV_FAST>),
    Many(Vec<IoVec>),
}

/// A cursor over pieces of user memory: the buffer of one `read`, `write`, `readv` or `writev`.
pub struct UserBuffer {
    pieces: Pieces,
    /// The piece that comes next, and how much of it is used up.
    index: usize,
    used: usize,
    remaining: usize,
}

impl UserBuffer {
    /// One piece, cut to [`MAX_RW_COUNT`].
    ///
    /// Errors: `EINVAL` if `len` is negative as `ssize_t` (Linux's rule for a count); `EFAULT` if it reaches out of the
    /// user half.
    pub fn new(address: usize, len: usize) -> Result<Self> {
        if len > isize::MAX as usize {
            return Err(Errno::EINVAL);
        }
        if !is_user_range(address, len) {
            return Err(Errno::EFAULT);
        }
        let len = len.min(MAX_RW_COUNT);
        let mut pieces = ArrayVec::new();
        pieces.push(IoVec { address, len });
        Ok(UserBuffer { pieces: Pieces::Few(pieces), index: 0, used: 0, remaining: len })
    }

    /// The pieces that an iovec array of `count` elements at `array` lists. The total is cut to [`MAX_RW_COUNT`].
    ///
    /// Errors: `EINVAL` for more than [`IOV_MAX`] elements or a length that is negative as `ssize_t`; `EFAULT` if the
    /// array or a piece is not in user memory; `ENOMEM`.
    pub fn from_iovec(array: UserPtr<IoVec>, count: usize) -> Result<Self> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let array = UserSlice::new(array, count);
        let mut pieces = if count <= IOV_FAST {
            let mut few = [IoVec::default(); IOV_FAST];
            array.read_into(few.get_mut(..count).unwrap_or_default())?;
            Pieces::Few(few.into_iter().take(count).collect())
        } else {
            Pieces::Many(array.read_to_vec()?)
        };
        let remaining = check_pieces(pieces.as_mut_slice())?;
        Ok(UserBuffer { pieces, index: 0, used: 0, remaining })
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Leaves out `count` bytes.
    pub fn advance(&mut self, count: usize) {
        let mut left = count.min(self.remaining);
        self.remaining -= left;
        while left > 0 {
            let Some(piece) = self.pieces.as_slice().get(self.index) else { return };
            let rest = piece.len - self.used;
            if left < rest {
                self.used += left;
                return;
            }
            left -= rest;
            self.index += 1;
            self.used = 0;
        }
    }

    /// Forgets all but the next `limit` bytes.
    pub fn truncate(&mut self, limit: usize) {
        self.remaining = self.remaining.min(limit);
    }

    /// The unbroken piece of user memory that comes next; `None` at the end.
    pub fn piece(&self) -> Option<IoVec> {
        let mut used = self.used;
        for piece in self.pieces.as_slice().iter().skip(self.index) {
            if piece.len > used && self.remaining > 0 {
                let len = (piece.len - used).min(self.remaining);
                return Some(IoVec { address: piece.address + used, len });
            }
            used = 0;
        }
        None
    }

    /// The pages of the next `bytes` bytes, if they lie together and can be lent.
    fn lend(&self, bytes: usize, lending: Lending) -> Option<Lent> {
        let piece = self.piece().filter(|piece| piece.len >= bytes)?;
        lend(piece.address, bytes, lending)
    }

    /// Moves up to `len` bytes piece by piece: `copy_part(done, address, count)` copies and says how far it came.
    fn transfer(
        &mut self,
        len: usize,
        mut copy_part: impl FnMut(usize, usize, usize) -> usize,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let Some(piece) = self.piece() else { break };
            let wanted = piece.len.min(len - done);
            let count = copy_part(done, piece.address, wanted);
            self.advance(count);
            done += count;
            if count < wanted {
                return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
            }
        }
        Ok(done)
    }
}

impl Pieces {
    fn as_slice(&self) -> &[IoVec] {
        match self {
            Pieces::Few(pieces) => pieces,
            Pieces::Many(pieces) => pieces,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [IoVec] {
        match self {
            Pieces::Few(pieces) => pieces,
            Pieces::Many(pieces) => pieces,
        }
    }
}

/// Checks every piece and cuts the total to [`MAX_RW_COUNT`]; returns the total.
fn check_pieces(pieces: &mut [IoVec]) -> Result<usize> {
    let mut total = 0;
    for piece in pieces {
        if piece.len > isize::MAX as usize {
            return Err(Errno::EINVAL);
        }
        if !is_user_range(piece.address, piece.len) {
            return Err(Errno::EFAULT);
        }
        piece.len = piece.len.min(MAX_RW_COUNT - total);
        total += piece.len;
    }
    Ok(total)
}

/// Writes into user memory: the destination of `read(2)`.
pub struct UserWriter(pub UserBuffer);

impl IoWriter for UserWriter {
    fn remaining(&self) -> usize {
        self.0.remaining
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.transfer(bytes.len(), |done, address, count| {
            copy::write_bytes_partial(address, bytes.get(done..done + count).unwrap_or_default())
        })
    }

    fn write_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        self.0.transfer(len, |done, address, count| frame.read_to_user(offset + done, address, count))
    }

    fn write_zeros(&mut self, len: usize) -> Result<usize> {
        self.0.transfer(len, |_, address, count| copy::zero_partial(address, count))
    }

    fn lend(&mut self, bytes: usize) -> Option<Lent> {
        self.0.lend(bytes, Lending::ToWrite)
    }

    fn skip(&mut self, bytes: usize) {
        self.0.advance(bytes);
    }
}

/// Reads from user memory: the source of `write(2)`.
pub struct UserReader(pub UserBuffer);

impl IoReader for UserReader {
    fn remaining(&self) -> usize {
        self.0.remaining
    }

    fn read_bytes(&mut self, into: &mut [u8]) -> Result<usize> {
        self.0.transfer(into.len(), |done, address, count| {
            copy::read_bytes_partial(address, into.get_mut(done..done + count).unwrap_or_default())
        })
    }

    fn read_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        self.0.transfer(len, |done, address, count| frame.write_from_user(offset + done, address, count))
    }

    fn lend(&mut self, bytes: usize) -> Option<Lent> {
        self.0.lend(bytes, Lending::ToRead)
    }

    fn skip(&mut self, bytes: usize) {
        self.0.advance(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::find_nul;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_nul_is_found(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0x80), any::<u8>(), 1..=255u8], 0..40)) {
            prop_assert_eq!(find_nul(&bytes), bytes.iter().position(|byte| *byte == 0));
        }
    }
}
