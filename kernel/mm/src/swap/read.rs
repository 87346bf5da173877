//! Pages come back from swap, with those beside them.
//!
//! Pages that left memory together lie together, and are wanted together as a rule: who reads one reads its neighbours within an aligned window of
//! 2^[`page_cluster`](super::page_cluster) slots, as far as memory is free. They stay frames of their slots until somebody wants them
//! or memory is short.
//!
//! Locks: none over a wait; see [`super`].

use super::area::Area;
use super::{Direction, TRANSFER_PAGES, Transfer, area_of};
use crate::page_cache::{FRAME_FAILED, waiting_for};
use abi::errno::{Errno, Result};
use arrayvec::ArrayVec;
use machine::memory::{AllocFlags, Frame, FrameFlags, SwapSlot};
use machine::sync::WaitKind;

/// The frame of a slot, complete; reads it if it is not in memory. `None`: nobody wants the slot any more. Before it is mapped, the caller asks
/// [`super::is_of`] under the leaf lock.
///
/// Errors: `EIO` if it cannot be read; `ENOMEM`; `EINTR` if a fatal signal came.
pub(crate) fn read_in(slot: SwapSlot) -> Result<Option<Frame>> {
    let mut reach = Reach::Neighbours;
    let mut tried_alone = false;
    loop {
        let Some((area, page)) = area_of(slot) else { return Ok(None) };
        let frame = match area.look(page) {
            (Some(frame), _) => frame,
            (None, false) => return Ok(None),
            (None, true) => {
                tried_alone |= read(&area, page, reach)? && reach == Reach::Alone;
                continue;
            }
        };
        wait_until_read(&frame)?;
        let flags = frame.state().flags();
        if flags.contains(FrameFlags::UPTODATE) {
            crate::page_cache::note_used(&frame);
            return Ok(Some(frame));
        }
        if flags.contains(FRAME_FAILED) {
            area.drop_failed(page, &frame);
            if tried_alone {
                return Err(Errno::EIO);
            }
            // It may have been a neighbour that cannot be read.
            reach = Reach::Alone;
        }
    }
}

/// Starts reading the page of a slot and its neighbours, if it is not in memory; does not wait.
pub(crate) fn read_ahead(slot: SwapSlot) {
    if let Some((area, page)) = area_of(slot)
        && matches!(area.look(page), (None, true))
    {
        // Who wants it tries again, and is told of errors.
        let _ = read(&area, page, Reach::Neighbours);
    }
}

fn wait_until_read(frame: &Frame) -> Result<()> {
    let done = || (!frame.state().flags().contains(FrameFlags::LOCKED)).then_some(());
    if done().is_some() {
        return Ok(());
    }
    // It should not have left.
    let _stall = sched::pressure::memory_stall();
    let _io = sched::thread::try_current().map(|_| sched::sleep::io_wait());
    waiting_for(frame).wait_until(WaitKind::Killable, None, done).map_err(|_| Errno::EINTR)
}

/// What is read with a page.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Reach {
    Neighbours,
    Alone,
}

/// Starts reading a page and its neighbours. Returns whether it did: another one may have been faster.
fn read(area: &Area, page: u32, reach: Reach) -> Result<bool> {
    let own = Frame::alloc(AllocFlags::empty())?;
    if !area.put_frame(page, &own, FrameFlags::LOCKED) {
        return Ok(false);
    }
    let cluster = if reach == Reach::Alone { 0 } else { super::page_cluster() };
    let window = (1u32 << cluster).min(TRANSFER_PAGES as u32);
    let start = page - page % window;
    let mut frames = ArrayVec::<Frame, TRANSFER_PAGES>::new();
    let mut first = page;
    while first > start
        && let Some(frame) = neighbour(area, first - 1)
    {
        frames.push(frame);
        first -= 1;
    }
    frames.reverse();
    frames.push(own);
    let mut next = page + 1;
    while next < start + window
        && let Some(frame) = neighbour(area, next)
    {
        frames.push(frame);
        next += 1;
    }
    area.store().start(Transfer::new(Direction::In, u64::from(first), frames));
    Ok(true)
}

/// A frame for a slot that may be wanted soon, if there is one and memory is free.
fn neighbour(area: &Area, page: u32) -> Option<Frame> {
    if !matches!(area.look(page), (None, true)) {
        return None;
    }
    let frame = Frame::alloc(AllocFlags::NO_RECLAIM).ok()?;
    area.put_frame(page, &frame, FrameFlags::LOCKED).then_some(frame)
}
