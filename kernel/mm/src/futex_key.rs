//! What identifies a futex: the address in this address space, or the place in the shared object behind it.
//!
//! Key type: [`FutexKey`]. Neighbours: `ipc::futex`. Locks: none (an RCU look-up).

use crate::space::AddressSpace;
use crate::vma::Protection;
use abi::errno::{Errno, Result};
use machine::{PAGE_SIZE, USER_END};

/// Two futex words are the same exactly if their keys are equal.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum FutexKey {
    /// Private memory: the address space and the address.
    Private {
        /// [`AddressSpace::id`].
        space: u64,
        /// The word's address.
        address: usize,
    },
    /// Shared memory: the same word in whatever address space.
    Shared {
        /// [`crate::page_cache::PageCache::id`].
        object: u64,
        /// The page in it.
        index: u64,
        /// The byte in that page.
        offset: u16,
    },
}

impl AddressSpace {
    /// The key of the word at `address`, without `FUTEX_PRIVATE_FLAG`. (With it, the key is [`FutexKey::Private`] without
    /// a look at the mapping: [`AddressSpace::private_futex_key`].)
    ///
    /// Errors: `EFAULT` if nothing readable is mapped there.
    pub fn futex_key(&self, address: usize) -> Result<FutexKey> {
        let key = self.with_vma(address, |vma| {
            if !vma.protection().contains(Protection::READ) {
                return None;
            }
            let page = address & !(PAGE_SIZE - 1);
            Some(match vma.page_of(page).filter(|_| vma.is_shared()) {
                Some((cache, index)) => {
                    FutexKey::Shared { object: cache.id(), index, offset: (address - page) as u16 }
                }
                None => FutexKey::Private { space: self.id(), address },
            })
        });
        key.flatten().ok_or(Errno::EFAULT)
    }

    /// The key of the word at `address` with `FUTEX_PRIVATE_FLAG`. Errors: `EFAULT` outside the user half.
    pub fn private_futex_key(&self, address: usize) -> Result<FutexKey> {
        if address >= USER_END {
            return Err(Errno::EFAULT);
        }
        Ok(FutexKey::Private { space: self.id(), address })
    }
}
