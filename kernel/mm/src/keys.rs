//! Protection keys (pkeys(7)): which of the sixteen a program has.
//!
//! A page's key is part of its mapping's [`crate::Protection`]; what a thread may do with pages of a key is in a register of
//! the processor that programs write themselves, kept with the thread's vector state. Here is only the set of allocated
//! keys. Locks: the address space's.

use crate::space::AddressSpace;
use abi::errno::{Errno, Result};

/// How many keys the processor has.
const COUNT: u8 = 16;

/// A set of keys, one bit each.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Keys(u16);

impl Default for Keys {
    /// Key 0 is everybody's: pages have it that were given none.
    fn default() -> Keys {
        Keys(1)
    }
}

impl Keys {
    pub fn is_allocated(self, key: u8) -> bool {
        key < COUNT && self.0 >> key & 1 != 0
    }

    /// The lowest free key, which is then taken.
    fn allocate(&mut self) -> Option<u8> {
        let key = self.0.trailing_ones() as u8;
        if key >= COUNT {
            return None;
        }
        self.0 |= 1 << key;
        Some(key)
    }
}

impl AddressSpace {
    /// Allocates a protection key. Errors: `ENOSPC` if none is free or the processor has none.
    pub fn allocate_key(&self) -> Result<u8> {
        if !machine::thread::has_protection_keys() {
            return Err(Errno::ENOSPC);
        }
        self.edit().state.keys.allocate().ok_or(Errno::ENOSPC)
    }

    /// Gives a protection key back. Errors: `EINVAL` if it is not allocated.
    pub fn free_key(&self, key: u8) -> Result<()> {
        let mut edit = self.edit();
        if !edit.state.keys.is_allocated(key) {
            return Err(Errno::EINVAL);
        }
        edit.state.keys.0 &= !(1 << key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_given_lowest_first_until_there_are_none() {
        let mut keys = Keys::default();
        assert!(keys.is_allocated(0) && !keys.is_allocated(1) && !keys.is_allocated(16));
        assert_eq!(
            (1..16).map(|_| keys.allocate().unwrap()).collect::<std::vec::Vec<_>>(),
            (1..16).collect::<std::vec::Vec<_>>()
        );
        assert_eq!(keys.allocate(), None);
        keys.0 &= !(1 << 7);
        assert_eq!(keys.allocate(), Some(7));
    }
}
