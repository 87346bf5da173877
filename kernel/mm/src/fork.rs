//! `fork(2)`: a copy-on-write copy of an address space.
//!
//! The map is copied in one pass, the page table only where it holds something that cannot be had again: shared and
//! clean private pages of files are left out, the child faults them in from the page cache (up to 16 at a time). Both
//! sides lose write permission on private pages; one TLB shootdown at the end tells the parent's other CPUs.
//!
//! The parent's other threads may fault meanwhile: the map is locked for readers only, and each entry is copied under
//! its leaf lock.

use crate::commit;
use crate::space::{AddressSpace, Count, Mappings, State};
use crate::stats::Tally;
use crate::vma::{Backing, Vma, VmaFlags};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use machine::memory::{CopyMode, TlbBatch};

impl AddressSpace {
    /// A copy for a child process. Locked mappings are not locked in it; `MADV_DONTFORK` and `MADV_WIPEONFORK` are obeyed.
    ///
    /// Errors: `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<AddressSpace>> {
        let state = self.state.read();
        let mut charged = 0;
        let copies = copy_map(&state.map, &mut charged).inspect_err(|_| commit::uncharge(charged))?;
        let map = Mappings::from_sorted(copies.iter().map(|vma| (vma.range(), vma.clone())));
        let map = map.map_err(|_| Errno::EINVAL)?;
        let child = Self::with_state(State {
            map,
            layout: state.layout,
            heap: state.heap,
            default_flags: VmaFlags::empty(),
            keys: state.keys,
        })
        .inspect_err(|_| commit::uncharge(charged))?;
        // From here on dropping the child gives everything back.
        for vma in &copies {
            child.total_up(vma, Count::In);
            child.register(vma);
        }
        child.share_program_info(self.program_info());
        self.copy_pages(&child, &copies)?;
        Ok(child)
    }

    /// Copies the page-table entries that the child needs.
    fn copy_pages(&self, child: &AddressSpace, copies: &[Arc<Vma>]) -> Result<()> {
        let mut batch = TlbBatch::new(self.page_table());
        let mut copied = Tally::default();
        let mut result = Ok(());
        for run in runs_to_copy(copies) {
            result = self.page_table().copy_range_cow(
                child.page_table(),
                run,
                CopyMode::CopyOnWrite,
                &mut batch,
                |_, frame| copied.add(frame),
            );
            if result.is_err() {
                break;
            }
        }
        for (kind, pages) in copied.counts() {
            child.count_mapped(kind, pages);
        }
        Ok(result?)
    }
}

/// The child's mappings; `charged` is what has been promised for them, also on failure.
fn copy_map(map: &Mappings, charged: &mut usize) -> Result<Vec<Arc<Vma>>> {
    let mut copies = Vec::new();
    copies.try_reserve_exact(map.len()).map_err(|_| Errno::ENOMEM)?;
    for (_, vma) in map.iter() {
        if vma.flags().contains(VmaFlags::DONT_FORK) {
            continue;
        }
        if vma.flags().contains(VmaFlags::ACCOUNTED) {
            commit::charge(vma.pages())?;
            *charged += vma.pages();
        }
        copies.push(Arc::new(vma.for_child()));
    }
    Ok(copies)
}

/// Whether the child needs the page-table entries of `vma`.
fn must_copy(vma: &Vma) -> bool {
    let refaultable =
        vma.is_shared() || !vma.may_hold_anonymous() || matches!(vma.backing(), Backing::Special { .. });
    !refaultable && !vma.flags().contains(VmaFlags::WIPE_ON_FORK)
}

/// The ranges to copy, neighbours joined (one walk instead of many).
fn runs_to_copy(copies: &[Arc<Vma>]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut rest = copies.iter().filter(|vma| must_copy(vma)).peekable();
    core::iter::from_fn(move || {
        let mut run = rest.next()?.range();
        while let Some(next) = rest.next_if(|vma| vma.start() == run.end) {
            run.end = next.end();
        }
        Some(run)
    })
}
