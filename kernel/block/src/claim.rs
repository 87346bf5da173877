//! Who has a disk or a partition for himself: a mounted file system, swap, `O_EXCL`.
//!
//! A partition cannot be claimed while its whole disk is, nor the other way round. Key types: [`Claim`], [`Claims`]. Locks: a disk's table, a leaf.

use crate::contents::User;
use crate::device::BlockDevice;
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use machine::sync::SpinLock;

/// The claims on a disk: partition numbers (0 is the whole disk) with who has them.
pub(crate) struct Claims(SpinLock<BTreeMap<u32, &'static str>>);

impl Claims {
    pub(crate) fn new() -> Claims {
        Claims(SpinLock::new(BTreeMap::new()))
    }
}

/// A device that is its holder's alone until this is dropped.
pub struct Claim {
    device: Arc<BlockDevice>,
    _user: User,
}

impl Claim {
    /// What was claimed.
    pub fn device(&self) -> &Arc<BlockDevice> {
        &self.device
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.device.disk().claims.0.lock().remove(&self.device.partition_number());
    }
}

impl BlockDevice {
    /// Takes it for one file system alone. Thread context. Errors: `EBUSY`: it, the disk it is on, or a partition of it is somebody's;
    /// `ENXIO`: it has gone.
    pub fn claim(self: &Arc<Self>, holder: &'static str) -> Result<Claim> {
        let user = User::new(self)?;
        let number = self.partition_number();
        let mut claims = self.disk().claims.0.lock();
        let taken = if number == 0 { !claims.is_empty() } else { claims.contains_key(&0) };
        if taken || claims.contains_key(&number) {
            return Err(Errno::EBUSY);
        }
        claims.insert(number, holder);
        drop(claims);
        Ok(Claim { device: self.clone(), _user: user })
    }

    /// Who has claimed it, if anybody has.
    pub fn holder(&self) -> Option<&'static str> {
        self.disk().claims.0.lock().get(&self.partition_number()).copied()
    }
}
