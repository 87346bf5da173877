//! Memory as a device in software sees it: tests' fake devices read and write through here.
//!
//! Only what is meant for devices can be reached: regions of [`crate::dma::DmaRegion`], and pages that a test exposes. A wrong
//! address is a fault, as an IOMMU would make of it.
//!
//! Locks: one around the list of what is exposed.

use crate::PAGE_SIZE;
use crate::dma::DmaAddress;
use crate::memory::{Frame, buddy, copy};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// An access to memory that is not meant for devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaFault;

struct Exposed {
    length: usize,
    /// Keeps a page that a test exposed.
    _frame: Option<Frame>,
}

static EXPOSED: Mutex<BTreeMap<u64, Exposed>> = Mutex::new(BTreeMap::new());

fn with_exposed<R>(f: impl FnOnce(&mut BTreeMap<u64, Exposed>) -> R) -> R {
    f(&mut EXPOSED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

pub(crate) fn expose_region(address: DmaAddress, length: usize) {
    with_exposed(|all| all.insert(address.0, Exposed { length, _frame: None }));
}

pub(crate) fn hide_region(address: DmaAddress) {
    with_exposed(|all| all.remove(&address.0));
}

/// Lets devices reach a page, for the rest of the process.
pub fn expose(frame: &Frame) {
    let exposed = Exposed { length: PAGE_SIZE, _frame: Some(frame.clone()) };
    with_exposed(|all| all.insert(frame.phys().0, exposed));
}

/// Calls `f` with where the kernel sees a range, which stays exposed meanwhile.
fn with_place<R>(address: u64, length: usize, f: impl FnOnce(*mut u8) -> R) -> Result<R, DmaFault> {
    with_exposed(|all| {
        let (&start, exposed) = all.range(..=address).next_back().ok_or(DmaFault)?;
        let offset = (address - start) as usize;
        if offset > exposed.length || length > exposed.length - offset {
            return Err(DmaFault);
        }
        let place = buddy::page_address((start / PAGE_SIZE as u64) as u32);
        Ok(f(place.wrapping_add(offset)))
    })
}

/// A device reads.
pub fn read(address: u64, into: &mut [u8]) -> Result<(), DmaFault> {
    with_place(address, into.len(), |place| {
        // SAFETY: the range is in an exposed region or page, which lives while the list is locked and is written opaquely.
        unsafe { copy::copy(into.as_mut_ptr(), place, into.len()) }
    })
}

/// A device writes.
pub fn write(address: u64, from: &[u8]) -> Result<(), DmaFault> {
    with_place(address, from.len(), |place| {
        // SAFETY: as in `read`; regions and pages have no references into them.
        unsafe { copy::copy(place, from.as_ptr(), from.len()) }
    })
}
