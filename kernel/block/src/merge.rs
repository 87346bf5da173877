//! Making one request of neighbours, and several of what a device cannot take at once.
//!
//! Key items: [`merge`], [`split`]. Locks: what the pieces of one transfer have in common, a leaf.

use crate::SECTOR_SIZE;
use crate::bio::{Bio, BioFlags, Operation, Segment};
use crate::driver::{Limits, Request};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use machine::sync::IrqSpinLock;

/// Whether a request may become part of another at all.
pub(crate) fn is_mergeable(operation: Operation, flags: BioFlags) -> bool {
    matches!(operation, Operation::Read | Operation::Write)
        && !flags.intersects(BioFlags::PREFLUSH | BioFlags::FUA)
}

/// Whether `next` can follow `first` in one request.
fn fit(first: &Request, next: &Request) -> bool {
    let (Some(one), Some(other)) = (&first.owner, &next.owner) else { return false };
    let limits = one.device.disk().limits();
    first.operation == next.operation
        && first.end() == next.sector
        && Arc::ptr_eq(&one.device, &other.device)
        && is_mergeable(first.operation, first.flags)
        && is_mergeable(next.operation, next.flags)
        && first.sectors + next.sectors <= u64::from(limits.max_sectors)
        && first.segments + next.segments <= usize::from(limits.max_segments)
}

/// Whether two requests can become one.
pub(crate) fn are_neighbours(one: &Request, other: &Request) -> bool {
    fit(one, other) || fit(other, one)
}

/// Makes `request` part of `known`, whose [neighbour](are_neighbours) it is. Gives it back if there is no memory for that.
pub(crate) fn merge(known: &mut Request, mut request: Request) -> core::result::Result<(), Request> {
    if known.bios.try_reserve(request.bios.len()).is_err() {
        return Err(request);
    }
    let (count, in_front) = (request.bios.len(), request.end() == known.sector);
    known.bios.append(&mut request.bios);
    if in_front {
        known.bios.rotate_right(count);
        known.sector = request.sector;
    }
    known.sectors += request.sectors;
    known.segments += request.segments;
    // Somebody waits if anybody does; it may fail only if all may.
    let both = known.flags & request.flags;
    known.flags = ((known.flags | request.flags) - BioFlags::READ_AHEAD) | (both & BioFlags::READ_AHEAD);
    if let Some(owner) = request.owner.take() {
        owner.device.note_merged(request.operation);
    }
    Ok(())
}

/// What pieces of one transfer have in common.
struct Pieces {
    state: IrqSpinLock<PiecesState>,
}

struct PiecesState {
    left: usize,
    result: Result<()>,
    whole: Option<Bio>,
}

impl Pieces {
    fn note_done(&self, result: Result<()>) {
        let finished = {
            let mut state = self.state.lock();
            state.left -= 1;
            if state.result.is_ok() {
                state.result = result;
            }
            if state.left > 0 {
                return;
            }
            state.whole.take().map(|whole| (whole, state.result))
        };
        if let Some((whole, result)) = finished {
            whole.complete(result);
        }
    }
}

/// The most sectors of one request of this kind; at least one block.
fn most_sectors(operation: Operation, limits: &Limits) -> u64 {
    let block = u64::from(limits.logical_block_size) / SECTOR_SIZE as u64;
    let most = match operation {
        Operation::Discard => limits.max_discard_sectors,
        Operation::WriteZeroes => limits.max_write_zeroes_sectors,
        _ => limits.max_sectors,
    };
    let most = u64::from(most);
    (most - most % block.max(1)).max(block)
}

/// Whether a device can take a transfer as it is.
fn fits(bio: &Bio, limits: &Limits) -> bool {
    bio.sectors <= most_sectors(bio.operation, limits)
        && bio.segments.len() <= usize::from(limits.max_segments).max(1)
        && bio.segments.iter().all(|segment| segment.length <= limits.max_segment_size)
}

/// Hands `each` the transfer, in pieces that the device can take one by one. It completes when the last piece does.
pub(crate) fn split(bio: Bio, limits: &Limits, each: &mut dyn FnMut(Bio)) {
    if fits(&bio, limits) {
        return each(bio);
    }
    let (operation, flags, flush_after) = (bio.operation, bio.flags, bio.flush_after);
    let (first, end) = (bio.sector, bio.sector + bio.sectors);
    let mut bio = bio;
    let segments = core::mem::take(&mut bio.segments);
    // One more than there are pieces, until all have been handed over.
    let state = PiecesState { left: 1, result: Ok(()), whole: Some(bio) };
    let pieces = Arc::new(Pieces { state: IrqSpinLock::new(state) });
    let mut cutter = Cutter { segments: &segments, index: 0, used: 0, limits };
    let mut sector = first;
    while sector < end {
        pieces.state.lock().left += 1;
        let told = pieces.clone();
        let mut piece = Bio::new(operation, sector, Box::new(move |result| told.note_done(result)));
        (piece.flags, piece.flush_after) = (flags, flush_after);
        let most = (end - sector).min(most_sectors(operation, limits));
        if segments.is_empty() {
            piece.sectors = most;
        } else if let Err(error) = cutter.fill(&mut piece, most) {
            piece.complete(Err(error));
            break;
        }
        if piece.sectors == 0 {
            piece.complete(Err(Errno::EIO));
            break;
        }
        sector += piece.sectors;
        each(piece);
    }
    pieces.note_done(Ok(()));
}

/// A place in a list of segments.
struct Cutter<'a> {
    segments: &'a [Segment],
    index: usize,
    used: u32,
    limits: &'a Limits,
}

impl Cutter<'_> {
    /// Moves memory of up to `most` sectors to a piece. Errors: `ENOMEM`.
    fn fill(&mut self, piece: &mut Bio, most: u64) -> Result<()> {
        let block = self.limits.logical_block_size.max(SECTOR_SIZE as u32);
        let largest = (self.limits.max_segment_size - self.limits.max_segment_size % block).max(block);
        while piece.sectors < most && piece.segments.len() < usize::from(self.limits.max_segments).max(1) {
            let Some(segment) = self.segments.get(self.index) else { break };
            let room = u32::try_from((most - piece.sectors) * SECTOR_SIZE as u64).unwrap_or(u32::MAX);
            let length = (segment.length - self.used).min(largest).min(room);
            if length == 0 {
                break;
            }
            let offset = segment.offset + self.used;
            piece.push(Segment { frame: segment.frame.clone(), offset, length })?;
            self.used += length;
            if self.used == segment.length {
                (self.index, self.used) = (self.index + 1, 0);
            }
        }
        Ok(())
    }
}
