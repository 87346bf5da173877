//! Pages of regular files from and to the device.
//!
//! Key type: [`FilePager`]. A run of pages that lies in one piece goes to the device as one transfer; a page in pieces (blocks smaller than
//! pages) goes piece by piece. What has no place yet gets one when it is written, as many blocks at once as there are dirty pages: until then room
//! for it is only counted ([`Body::reserved`]). `flight` says what happens when a write has ended.
//!
//! Locks: the body's map, to read, not held during a transfer. [`Body::reserved`] and [`Body::in_flight`] are leaves.

use crate::body::{Body, Mapping, State};
use crate::flight::{Flight, Target};
use crate::groups::Claim;
use crate::journaled;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::{Bio, BioFlags, Operation, Segment};
use core::ops::Range;
use machine::PAGE_SIZE;
use machine::memory::Frame;
use machine::sync::atomic::Ordering;
use mm::page_cache::ErrorSequence;
use mm::{BackingDevice, Fill, Pager, Retention, WriteBack, WriteBackMode};

/// The pager of a regular file.
pub struct FilePager {
    body: Arc<Body>,
    errors: Arc<ErrorSequence>,
}

/// Bytes of a file in blocks and pages.
#[derive(Clone, Copy)]
struct Units {
    /// log2 of the bytes of a block.
    bits: u32,
    /// Blocks of a page.
    per_page: u32,
}

impl Units {
    fn of(body: &Body) -> Units {
        let bits = body.fs.geometry.block_bits;
        Units { bits, per_page: (PAGE_SIZE >> bits) as u32 }
    }

    /// The first block of a page. Errors: `EFBIG`: a file has no such.
    fn first_block(self, page: u64) -> Result<u32> {
        u32::try_from(page.saturating_mul(u64::from(self.per_page))).map_err(|_| Errno::EFBIG)
    }

    fn bytes(self, blocks: u32) -> usize {
        (blocks as usize) << self.bits
    }

    fn sector(self, place: u64) -> u64 {
        place << (self.bits - 9)
    }
}

impl FilePager {
    /// That of a body; `errors` are those of the file system as a whole.
    pub fn new(body: Arc<Body>, errors: Arc<ErrorSequence>) -> FilePager {
        FilePager { body, errors }
    }

    /// Whole pages that `mapping` has, if it begins where a page does.
    fn pages_in(units: Units, mapping: &Mapping, most: usize) -> usize {
        most.min((mapping.length / units.per_page) as usize)
    }

    /// Fills the first pages of a run, those that lie together; gives the others.
    fn fill_some(&self, mut fill: Fill) -> Option<Fill> {
        let units = Units::of(&self.body);
        let _layout = self.body.layout.read();
        let count = fill.frames().len();
        let found = units.first_block(fill.first()).and_then(|first| {
            self.body.find(first, (count as u32).saturating_mul(units.per_page).min(u32::MAX - first))
        });
        let mapping = match found {
            Ok(mapping) if !self.body.is_inline() => mapping,
            Ok(mapping) => Mapping { length: 0, ..mapping },
            Err(error) => {
                fill.complete(Err(error));
                return None;
            }
        };
        let mut pages = Self::pages_in(units, &mapping, count);
        if let State::Written(place) = mapping.state
            && self.body.journals_data()
        {
            pages = journaled::leading_uncached(&self.body, place, pages);
        }
        let rest = fill.split_off(pages.max(1));
        match mapping.state {
            _ if pages == 0 => {
                let result =
                    fill.frames().first().map_or(Ok(()), |frame| self.fill_in_pieces(fill.first(), frame));
                fill.complete(result);
            }
            State::Hole | State::Unwritten(_) => {
                fill.frames().iter().for_each(Frame::zero);
                fill.complete(Ok(()));
            }
            State::Written(place) => self.read_run(fill, units.sector(place)),
        }
        Some(rest).filter(|rest| !rest.frames().is_empty())
    }

    /// Reads pages that follow each other on the device.
    fn read_run(&self, fill: Fill, sector: u64) {
        let segments = whole_pages(fill.frames());
        let size = self.body.disk_size.load(Ordering::Acquire);
        let reading = self.body.reads.begin();
        let completion = Box::new(move |result: Result<()>| {
            let tail = size.checked_sub(fill.first() * PAGE_SIZE as u64);
            let place = tail.map_or(0, |tail| (tail / PAGE_SIZE as u64) as usize);
            let offset = tail.map_or(0, |tail| (tail % PAGE_SIZE as u64) as usize);
            for (index, frame) in fill.frames().iter().enumerate().skip(place) {
                let from = if index == place { offset } else { 0 };
                frame.zero_range(from, PAGE_SIZE - from);
            }
            fill.complete(result);
            drop(reading);
        });
        let mut bio = Bio::new(Operation::Read, sector, completion);
        bio.flags = BioFlags::SYNC;
        match segments {
            Ok(segments) => {
                bio.set_segments(segments);
                self.body.fs.device.submit(bio);
            }
            Err(error) => bio.complete(Err(error)),
        }
    }

    /// Fills one page, piece by piece, and waits.
    fn fill_in_pieces(&self, index: u64, frame: &Frame) -> Result<()> {
        let body = &self.body;
        let units = Units::of(body);
        let size = body.disk_size.load(Ordering::Acquire);
        if body.is_inline() {
            frame.zero();
            if index == 0 {
                let length = size.min(PAGE_SIZE as u64).min(u64::from(body.fs.geometry.block_size));
                frame.write(0, &crate::inline::read(body, length as usize)?);
            }
            return Ok(());
        }
        let first = units.first_block(index)?;
        let mut at = 0;
        while at < units.per_page {
            let mapping = body.find(first + at, units.per_page - at)?;
            let length = mapping.length.max(1);
            let (offset, bytes) = (units.bytes(at), units.bytes(length));
            match mapping.state {
                State::Written(place) if body.journals_data() => {
                    journaled::read(body, frame, offset, place, length)?;
                }
                State::Written(place) => self.move_piece(Operation::Read, frame, offset, bytes, place)?,
                State::Hole | State::Unwritten(_) => frame.zero_range(offset, bytes),
            }
            at += length;
        }
        let end = size.saturating_sub(index * PAGE_SIZE as u64);
        if end < PAGE_SIZE as u64 {
            frame.zero_range(end as usize, PAGE_SIZE - end as usize);
        }
        Ok(())
    }

    /// Transfers a part of a page, and waits.
    fn move_piece(
        &self,
        operation: Operation,
        frame: &Frame,
        offset: usize,
        bytes: usize,
        place: u64,
    ) -> Result<()> {
        let segment = Segment { frame: frame.clone(), offset: offset as u32, length: bytes as u32 };
        let sector = Units::of(&self.body).sector(place);
        self.body.fs.device.transfer(operation, BioFlags::SYNC, sector, &[segment])
    }

    /// Writes the first pages of a run, those that lie, or can be put, together; gives the others.
    fn write_some(&self, mut batch: WriteBack) -> Option<WriteBack> {
        let units = Units::of(&self.body);
        // A commit must not wait for who may be waiting for it.
        let layout = if batch.mode() == WriteBackMode::Allotted {
            self.body.layout.try_read()
        } else {
            Some(self.body.layout.read())
        };
        if layout.is_none() {
            batch.postpone();
            return None;
        }
        let step = self.next_step(units, &batch);
        let pages = step.as_ref().map_or(batch.frames().len(), |step| step.pages);
        let rest = batch.split_off(pages.max(1));
        match step {
            Err(error) => batch.complete(Err(error)),
            // Truncation has come first, and waits for these pages.
            Ok(Step { to: To::Nowhere, .. }) => batch.complete(Ok(())),
            Ok(Step { to: To::Later, .. }) => batch.postpone(),
            Ok(Step { to: To::Pieces, .. }) => self.write_in_pieces(units, batch),
            Ok(Step { to: To::Run(place, target), block, length, .. }) => {
                self.send(units, batch, (block, length), place, target);
            }
        }
        Some(rest).filter(|rest| !rest.frames().is_empty())
    }

    /// What is to be done with the first pages of a run.
    fn next_step(&self, units: Units, batch: &WriteBack) -> Result<Step> {
        let body = &self.body;
        let block = units.first_block(batch.first())?;
        let end = body.blocks_of(batch.file_size());
        let inside = end.saturating_sub(u64::from(block));
        let wanted = inside.min(batch.frames().len() as u64 * u64::from(units.per_page)) as u32;
        if wanted == 0 {
            return Ok(Step { pages: batch.frames().len(), block, length: 0, to: To::Nowhere });
        }
        let mapping = body.find(block, wanted)?;
        let later = batch.mode() == WriteBackMode::Allotted;
        let (length, to) = match mapping.state {
            State::Written(place) => (mapping.length, To::Run(place, Target::InPlace)),
            _ if later => (mapping.length.max(units.per_page), To::Later),
            State::Unwritten(place) => (mapping.length, To::Run(place, Target::Unwritten)),
            State::Hole => {
                let claim = self.claim(block, mapping.length)?;
                (claim.length(), To::Run(claim.start(), Target::Claimed(claim)))
            }
        };
        // The last page of a file may have fewer blocks.
        let to_end = u64::from(block) + u64::from(length) == end;
        let pages = if to_end { length.div_ceil(units.per_page) } else { length / units.per_page };
        match to {
            To::Run(..) if pages == 0 => Ok(Step { pages: 1, block, length: 0, to: To::Pieces }),
            To::Run(place, Target::Claimed(mut claim)) => {
                let length = length.min(pages * units.per_page);
                drop(claim.split_off(length));
                Ok(Step { pages: pages as usize, block, length, to: To::Run(place, Target::Claimed(claim)) })
            }
            to => Ok(Step { pages: pages as usize, block, length: length.min(pages * units.per_page), to }),
        }
    }

    /// Room for blocks of the file, near what is before them. Errors: `ENOSPC`.
    fn claim(&self, block: u32, length: u32) -> Result<Claim> {
        let body = &self.body;
        let goal = {
            let map = body.map.read();
            body.goal_for(&map, block)
        };
        body.fs.claim(goal, length)
    }

    /// Sends pages that have a place in one piece.
    fn send(&self, units: Units, batch: WriteBack, run: (u32, u32), place: u64, target: Target) {
        let body = &self.body;
        let (block, length) = run;
        let end = batch.file_size().min((u64::from(block) + u64::from(length)) << units.bits);
        let waited_for = batch.mode() != WriteBackMode::Background;
        let lands = !matches!(target, Target::InPlace) || end > body.disk_size.load(Ordering::Acquire);
        let segments = whole_pages(batch.frames()).map(|mut segments| {
            let bytes = units.bytes(length) as u64;
            if let Some(last) = segments.last_mut() {
                last.length = (bytes - (batch.frames().len() as u64 - 1) * PAGE_SIZE as u64) as u32;
            }
            segments
        });
        body.unreserve_blocks(block, length.max(batch.frames().len() as u32 * units.per_page));
        let completion: block::Completion = if lands {
            body.begin_flight(block, length);
            let shared = body.fs.worker.shared().clone();
            let (body, batch, result, next) = (body.clone(), Some(batch), Ok(()), None);
            let mut flight = Box::new(Flight { body, batch, block, length, target, end, result, next });
            Box::new(move |result| {
                flight.result = result;
                shared.push(flight);
            })
        } else {
            Box::new(move |result| batch.complete(result))
        };
        let mut bio = Bio::new(Operation::Write, units.sector(place), completion);
        bio.flags.set(BioFlags::SYNC, waited_for);
        match segments {
            Ok(segments) => {
                bio.set_segments(segments);
                body.fs.device.submit(bio);
            }
            Err(error) => bio.complete(Err(error)),
        }
    }

    /// Writes one page whose blocks lie apart, and waits.
    fn write_in_pieces(&self, units: Units, batch: WriteBack) {
        let result = match batch.frames().first() {
            Some(frame) => self.write_pieces(units, &batch, frame),
            None => Ok(true),
        };
        match result {
            Ok(false) => batch.postpone(),
            Ok(true) => batch.complete(Ok(())),
            Err(error) => batch.complete(Err(error)),
        }
    }

    /// The pieces; false: some cannot be written now.
    fn write_pieces(&self, units: Units, batch: &WriteBack, frame: &Frame) -> Result<bool> {
        let body = &self.body;
        let first = units.first_block(batch.first())?;
        let end = body.blocks_of(batch.file_size()).min(u64::from(first + units.per_page)) as u32;
        let mut at = first;
        while at < end {
            let mapping = body.find(at, end - at)?;
            let (place, length, target) = match mapping.state {
                State::Written(place) => (place, mapping.length, Target::InPlace),
                _ if batch.mode() == WriteBackMode::Allotted => return Ok(false),
                State::Unwritten(place) => (place, mapping.length, Target::Unwritten),
                State::Hole => {
                    let claim = self.claim(at, mapping.length)?;
                    (claim.start(), claim.length(), Target::Claimed(claim))
                }
            };
            body.unreserve_blocks(at, length);
            body.begin_flight(at, length);
            let result =
                self.move_piece(Operation::Write, frame, units.bytes(at - first), units.bytes(length), place);
            let size = batch.file_size().min(u64::from(at + length) << units.bits);
            let (body, block) = (body.clone(), at);
            Flight { body, batch: None, block, length, target, end: size, result, next: None }.land()?;
            at += length;
        }
        body.unreserve_blocks(first, units.per_page);
        Ok(true)
    }

    /// Reserves room for what a page has no place for. Errors: `ENOSPC`, `EFBIG`, `EUCLEAN`, `EIO`.
    fn find_room(&self, index: u64) -> Result<()> {
        let body = &self.body;
        if body.is_inline() {
            crate::regular::move_out(body)?;
        }
        let units = Units::of(body);
        let missing = self.missing(units.first_block(index)?, units.per_page)?;
        let mut added = Vec::new();
        for block in missing.into_iter().flatten() {
            match body.reserve_block(block) {
                Ok(true) => added.push(block),
                Ok(false) => {}
                Err(error) => {
                    // The page does not become dirty: nobody would give back what some of its blocks have.
                    added.into_iter().for_each(|block| body.unreserve_blocks(block, 1));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The blocks of a page that have no place and are not about to get one. Errors: `EUCLEAN`, `EIO`.
    fn missing(&self, first: u32, count: u32) -> Result<Vec<Range<u32>>> {
        let mut missing = Vec::new();
        let mut at = first;
        while at < first + count {
            let mapping = self.body.find(at, first + count - at)?;
            let length = mapping.length.max(1);
            if mapping.state == State::Hole && !self.body.is_in_flight(at) {
                missing.push(at..at + length);
            }
            at += length;
        }
        Ok(missing)
    }
}

/// What is to be done with the first pages of a run.
struct Step {
    pages: usize,
    block: u32,
    length: u32,
    to: To,
}

enum To {
    /// They are behind the end.
    Nowhere,
    /// They have no place, and must not get one now.
    Later,
    /// The first page lies in pieces.
    Pieces,
    /// They go to this block of the device and those behind it.
    Run(u64, Target),
}

/// The memory of whole pages. Errors: `ENOMEM`.
fn whole_pages(frames: &[Frame]) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    segments.try_reserve_exact(frames.len()).map_err(|_| Errno::ENOMEM)?;
    let whole = |frame: &Frame| Segment { frame: frame.clone(), offset: 0, length: PAGE_SIZE as u32 };
    segments.extend(frames.iter().map(whole));
    Ok(segments)
}

impl Pager for FilePager {
    fn retention(&self) -> Retention {
        Retention::Reloadable
    }

    fn device(&self) -> Option<Arc<BackingDevice>> {
        Some(self.body.fs.device.backing().clone())
    }

    fn file_system_errors(&self) -> Option<Arc<ErrorSequence>> {
        Some(self.errors.clone())
    }

    fn read_pages(&self, fill: Fill) {
        let _plug = block::Plug::new();
        let mut left = Some(fill);
        while let Some(fill) = left {
            left = self.fill_some(fill);
        }
    }

    fn write_pages(&self, batch: WriteBack) {
        if self.body.fs.is_read_only() {
            return batch.complete(Err(Errno::EROFS));
        }
        if self.body.journals_data() {
            return journaled::write(&self.body, batch);
        }
        let _plug = block::Plug::new();
        let mut left = Some(batch);
        while let Some(batch) = left {
            left = self.write_some(batch);
        }
    }

    /// Errors: `ENOSPC`, `EROFS`, `EFBIG`, `EUCLEAN`, `EIO`.
    fn reserve(&self, index: u64) -> Result<()> {
        let body = &self.body;
        if body.fs.is_read_only() {
            return Err(Errno::EROFS);
        }
        match self.find_room(index) {
            // What was freed comes back when the transaction commits that freed it.
            Err(Errno::ENOSPC) => {
                body.fs.journal()?.force_commit()?;
                self.find_room(index)
            }
            result => result,
        }
    }

    fn unreserve(&self, index: u64) {
        let units = Units::of(&self.body);
        if let Ok(first) = units.first_block(index) {
            self.body.unreserve_blocks(first, units.per_page);
        }
    }
}
