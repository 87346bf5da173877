//! Files as swap space: swapon(2) takes where their blocks are, and they stay there until swapoff(2).
//!
//! While that lasts nobody writes the file or gives it another size or other blocks (`ETXTBSY`, checked here under the inode's lock), and its names stay (the VFS).
//! Blocks that hold nothing yet do too: what they hold is swap space's affair.
//!
//! Key functions: [`store`], [`check`]. Neighbours: `regular`, which asks; `block::swap`. Locks: the inode's, while the file begins to be swap space.

use crate::body::Body;
use crate::regular::parts;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::{Extent, SwapBlocks};
use machine::PAGE_SIZE;
use mm::swap::SwapStore;
use vfs::inode::state;
use vfs::{Inode, Path, SyncKind};

/// Ends with the swap space; its mount stays until then.
struct Held {
    inode: Arc<Inode>,
    _place: Option<Path>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inode.clear_state(state::SWAP_FILE);
    }
}

/// Errors: `ETXTBSY`: it is swap space. With the inode's lock.
pub fn check(inode: &Inode) -> Result<()> {
    if inode.has_state(state::SWAP_FILE) { Err(Errno::ETXTBSY) } else { Ok(()) }
}

/// Makes swap space of a file; `place` is where it was opened.
///
/// Errors: `EINVAL`: there are holes, or it is in the inode itself, or (with blocks smaller than pages) some page is not in one piece; `EBUSY`: it is
/// swap space; `EIO`, `ENOMEM`.
pub fn store(inode: &Arc<Inode>, place: Option<Path>) -> Result<Arc<dyn SwapStore>> {
    let (node, cache) = parts(inode)?;
    let body = node.body();
    let held = {
        let _change = inode.lock.write();
        if inode.has_state(state::SWAP_FILE) {
            return Err(Errno::EBUSY);
        }
        inode.set_state(state::SWAP_FILE);
        Box::new(Held { inode: inode.clone(), _place: place })
    };
    cache.sync(0..u64::MAX)?;
    body.commit(SyncKind::All)?;
    // What is read of it later is what is there then.
    cache.invalidate(0..u64::MAX);
    let extents = extents_of(body, cache.size() / PAGE_SIZE as u64)?;
    Ok(machine::memory::try_arc(SwapBlocks::of_file(&body.fs.device, extents, held)?)?)
}

/// Where the first `pages` pages are. Errors: `EINVAL`: see [`store`]; `EIO`, `EUCLEAN`, `ENOMEM`.
pub fn extents_of(body: &Body, pages: u64) -> Result<Vec<Extent>> {
    if body.is_inline() {
        return Err(Errno::EINVAL);
    }
    let bits = body.fs.geometry.block_bits;
    let per_page = PAGE_SIZE as u64 >> bits;
    let end = pages.checked_mul(per_page).and_then(|end| u32::try_from(end).ok()).ok_or(Errno::EINVAL)?;
    let mut extents: Vec<Extent> = Vec::new();
    let mut block = 0;
    while block < end {
        // As many blocks as follow each other on the device, whatever the map makes of them.
        let (first, mut next) = (block, None);
        while block < end {
            let mapping = body.find(block, end - block)?;
            let place = mapping.state.place().ok_or(Errno::EINVAL)?;
            if next.is_some_and(|(_, next)| next != place) {
                break;
            }
            let start = next.map_or(place, |(start, _)| start);
            next = Some((start, place + u64::from(mapping.length)));
            block += mapping.length.max(1);
        }
        let Some((start, _)) = next else { return Err(Errno::EINVAL) };
        let (from, to) = (u64::from(first), u64::from(block));
        if !from.is_multiple_of(per_page) || !to.is_multiple_of(per_page) {
            return Err(Errno::EINVAL);
        }
        extents.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let sector = start << (bits - 9);
        extents.push(Extent { first: from / per_page, pages: (to - from) / per_page, sector });
    }
    Ok(extents)
}
