//! The reverse map: which parts of which address spaces map a file, to unmap or write-protect its pages everywhere.
//!
//! Each mapping of the file has a record here from before it can fault until after its pages are gone from the page
//! table. Records are ordered by first page, so a walk stops early.
//!
//! Address spaces are upgraded from weak references under the `mappings` mutex, but dropped only after it: the last
//! reference to one takes this same mutex to remove its records.

use super::PageCache;
use crate::reclaim::generations::{self, BLOCK_PAGES};
use crate::space::AddressSpace;
use crate::stats;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::ops::{Range, RangeInclusive};
use core::sync::atomic::Ordering;
use linnet_lib::radix_tree::{Mark, RadixTree};
use machine::PAGE_SIZE;
use machine::memory::{EntryAction, EntryRef, Frame, FrameFlags, Perms, TlbBatch};

/// Which entries of page tables an unmapping takes away.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ZapScope {
    /// Everything, private copies too: the file does not reach so far any more.
    WithPrivateCopies,
    /// Only pages of the file; private copies stay.
    FilePagesOnly,
}

/// The identity of one mapping of a file: first page, address space, first address.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct MappingKey {
    /// The page of the file at its start.
    pub first_page: u64,
    /// [`AddressSpace::id`].
    pub space: u64,
    /// Its first address.
    pub start: usize,
}

struct Record {
    pages: u64,
    writable: bool,
    space: Weak<AddressSpace>,
}

/// All mappings of one file.
pub(super) struct Mappings {
    records: BTreeMap<MappingKey, Record>,
}

impl Mappings {
    pub(super) fn new() -> Self {
        Mappings { records: BTreeMap::new() }
    }

    /// The live mappings that meet `range` of page numbers, with the addresses of the common part.
    fn meeting(&self, range: &RangeInclusive<u64>) -> Vec<(Arc<AddressSpace>, Range<usize>)> {
        let end = MappingKey { first_page: *range.end(), space: u64::MAX, start: usize::MAX };
        let mut found = Vec::new();
        for (key, record) in self.records.range(..=end) {
            let past_end = key.first_page.saturating_add(record.pages);
            if past_end <= *range.start() {
                continue;
            }
            let Some(space) = record.space.upgrade() else { continue };
            let first = key.first_page.max(*range.start());
            let past_last = past_end.min(range.end().saturating_add(1));
            let address = |page: u64| key.start + (page - key.first_page) as usize * PAGE_SIZE;
            found.push((space, address(first)..address(past_last)));
        }
        found
    }
}

impl PageCache {
    /// Records a mapping, or gives an existing record of the same key a new length.
    pub(crate) fn add_mapping(
        &self,
        key: MappingKey,
        pages: usize,
        shared_writable: bool,
        space: &Weak<AddressSpace>,
    ) {
        let record = Record { pages: pages as u64, writable: shared_writable, space: space.clone() };
        self.mappings.lock().records.insert(key, record);
    }

    /// Forgets a mapping.
    pub(crate) fn remove_mapping(&self, key: &MappingKey) {
        self.mappings.lock().records.remove(key);
    }

    /// Stops unmapping on behalf of the file while page-table entries are on their way from one place to another.
    pub(crate) fn freeze_mappings(&self) -> impl Sized + '_ {
        self.mappings.lock()
    }

    /// Whether some shared mapping may write (a memfd that is to be sealed against writes asks).
    pub fn is_mapped_writable(&self) -> bool {
        self.mappings.lock().records.values().any(|record| record.writable)
    }

    /// Whether the file is mapped at all.
    pub fn is_mapped(&self) -> bool {
        !self.mappings.lock().records.is_empty()
    }

    /// How often it is mapped, each part of a mapping that was cut for itself.
    pub fn mappings(&self) -> usize {
        self.mappings.lock().records.len()
    }

    /// Takes the pages with these numbers out of all page tables.
    pub fn unmap_pages(&self, range: RangeInclusive<u64>, scope: ZapScope) {
        let spaces = {
            let mappings = self.mappings.lock();
            let found = mappings.meeting(&range);
            for (space, addresses) in &found {
                zap(space, addresses.clone(), scope);
            }
            found
        };
        drop(spaces);
    }

    /// Makes pages that follow one another read-only everywhere, before they are written back, so that the next store is noticed again.
    pub(super) fn write_protect_pages(&self, first: u64, frames: &[Frame]) {
        let Some(more) = frames.len().checked_sub(1) else { return };
        let mappings = self.mappings.lock();
        let spaces = mappings.meeting(&(first..=first + more as u64));
        for (space, addresses) in &spaces {
            let mut batch = TlbBatch::new(space.page_table());
            space.page_table().update_range(addresses.clone(), &mut batch, |_, mapping| {
                let index = mapping.frame.state().index.load(Ordering::Relaxed);
                let place = index.checked_sub(first).and_then(|place| frames.get(place as usize));
                let ours = place.is_some_and(|frame| frame.is_same(mapping.frame));
                if !ours || !mapping.perms.contains(Perms::WRITE) {
                    return EntryAction::Keep;
                }
                EntryAction::Protect(mapping.perms - Perms::WRITE)
            });
        }
        drop(mappings);
    }

    /// For reclaim: unmaps a page unless somebody used it lately, or locked it into memory. Does not wait for locks.
    /// Returns whether it is out of all page tables.
    pub(crate) fn try_unmap_page(&self, index: u64, frame: &Frame) -> bool {
        let Some(mappings) = self.mappings.try_lock() else { return false };
        let spaces = mappings.meeting(&(index..=index));
        drop(mappings);
        let mut free = true;
        for (space, addresses) in &spaces {
            if space.is_locked_at(addresses.start) {
                return false;
            }
            let mut batch = TlbBatch::new(space.page_table());
            space.page_table().update_range(addresses.clone(), &mut batch, |_, mapping| {
                if !mapping.frame.is_same(frame) {
                    return EntryAction::Keep;
                }
                if mapping.accessed {
                    free = false;
                    return EntryAction::Age;
                }
                space.count_unmapped(mapping.frame);
                EntryAction::Unmap
            });
        }
        // Dirty by a store through a mapping: its write fault marked it in the index.
        free
    }

    /// Drops page `index` from the index if it is `frame`, clean, complete, and used by nobody but the cache (and the
    /// caller's own handle, which this takes).
    pub(crate) fn drop_if_unused(&self, index: u64, frame: Frame) -> bool {
        let mut pages = self.pages.write();
        let unused = pages.get(index).is_some_and(|there| there.is_same(&frame))
            && frame.ref_count() == 2
            && !pages.has_mark(index, Mark::Dirty)
            && !self.is_being_written(&mut pages, index, &frame)
            && !frame.state().flags().intersects(FrameFlags::LOCKED);
        if !unused {
            return false;
        }
        let removed = pages.remove(index);
        drop(pages);
        self.disown(removed.as_slice());
        true
    }

    /// Whether a page must stay because it is being written, or is to be written again. A mark that has outlived the write goes.
    fn is_being_written(&self, pages: &mut RadixTree<Frame>, index: u64, frame: &Frame) -> bool {
        if !pages.has_mark(index, Mark::Writeback) {
            return false;
        }
        if frame.state().flags().intersects(FrameFlags::WRITEBACK | super::FRAME_POSTPONED) {
            return true;
        }
        pages.clear_mark(index, Mark::Writeback);
        false
    }

    /// The next page at or after `from`.
    pub(super) fn next_page(&self, from: u64) -> Option<(u64, Frame)> {
        self.pages.read().next(from, None).map(|(index, frame)| (index, frame.clone()))
    }

    /// Has reclaim list the blocks of pages that were just put in.
    pub(super) fn list_blocks(&self, first: u64, count: usize) {
        let last = first + (count as u64).saturating_sub(1);
        for number in first / BLOCK_PAGES..=last / BLOCK_PAGES {
            let mut listed = self.listed_blocks.lock();
            if listed.get(number).is_some() {
                continue;
            }
            listed.insert(number, ());
            drop(listed);
            if !generations::add(&self.me, number, self.retention) {
                self.forget_block(number);
            }
        }
    }

    /// The pages of a block.
    pub(crate) fn pages_of_block(
        &self,
        number: u64,
        into: &mut ArrayVec<(u64, Frame), { BLOCK_PAGES as usize }>,
    ) {
        let first = number * BLOCK_PAGES;
        let pages = self.pages.read();
        into.extend(pages.gang(first..=first + (BLOCK_PAGES - 1), None, BLOCK_PAGES as usize));
    }

    /// A block is in no queue any more if it has no pages; returns whether that is so. (A page that comes in meanwhile finds it listed or lists it: both
    /// happen under the lock of the list.)
    pub(crate) fn forget_empty_block(&self, number: u64) -> bool {
        let mut listed = self.listed_blocks.lock();
        let first = number * BLOCK_PAGES;
        let next = self.pages.read().next(first, None).map(|(index, _)| index);
        let empty = next.is_none_or(|index| index > first + (BLOCK_PAGES - 1));
        if empty {
            listed.remove(number);
        }
        empty
    }

    /// A block is in no queue any more.
    pub(crate) fn forget_block(&self, number: u64) {
        self.listed_blocks.lock().remove(number);
    }
}

/// Unmaps part of one address space on behalf of the file.
fn zap(space: &AddressSpace, addresses: Range<usize>, scope: ZapScope) {
    let mut batch = TlbBatch::new(space.page_table());
    space.page_table().update_entries(addresses, &mut batch, |_, entry| {
        let mapping = match entry {
            EntryRef::Page(mapping) => mapping,
            // A private copy, in swap space.
            EntryRef::Swapped(_) if scope == ZapScope::WithPrivateCopies => return EntryAction::Unmap,
            EntryRef::Swapped(_) => return EntryAction::Keep,
        };
        let keep = scope == ZapScope::FilePagesOnly
            && stats::FrameKind::of(mapping.frame) == stats::FrameKind::Anonymous;
        if keep {
            return EntryAction::Keep;
        }
        space.count_unmapped(mapping.frame);
        EntryAction::Unmap
    });
}
