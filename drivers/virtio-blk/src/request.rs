//! A request as the device gets it: header, data, outcome (Virtual I/O Device 1.2, 5.2.6).
//!
//! Key types: [`Pending`] (a request that the device has), [`Outcomes`] (the headers and outcomes of a queue's requests). No locks: the
//! queue's is held.

use abi::errno::{Errno, Result};
use arrayvec::ArrayVec;
use block::{Operation, Request};
use device::virtio::{Direction, MAX_PARTS, Part};
use machine::dma::{self, DmaAddress, DmaRegion};

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
/// The zeros may be made by giving the space back.
const UNMAP: u32 = 1;

const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;
/// What the device will have replaced.
const STATUS_NONE: u8 = 0xff;

/// Where the parts of one request's own memory are.
const HEADER: usize = 0;
const RANGE: usize = 16;
const STATUS: usize = 32;
const STRIDE: usize = 64;
const HEADER_BYTES: u32 = 16;
const RANGE_BYTES: u32 = 16;

/// The parts of a buffer.
pub type Parts = ArrayVec<Part, MAX_PARTS>;

/// A request that the device has.
pub struct Pending {
    pub id: u16,
    pub request: Request,
    /// What the device said of it, once it is done; `EIO` before.
    pub result: Result<()>,
}

/// Memory for the headers and outcomes of a queue's requests.
pub struct Outcomes {
    memory: DmaRegion,
}

fn part(address: DmaAddress, length: u32, direction: Direction) -> Part {
    Part { address, length, direction }
}

/// Fills `parts` with those of a request: its data in the middle, and at both ends places for its own memory. They are not handed
/// from function to function: a copy is half a page of stack.
///
/// Errors: `EIO`: more pieces than were allowed.
pub fn list(request: &Request, parts: &mut Parts) -> Result<()> {
    let nowhere = DmaAddress(0);
    parts.push(part(nowhere, HEADER_BYTES, Direction::ToDevice));
    let direction = match request.operation {
        Operation::Read => Direction::FromDevice,
        _ => Direction::ToDevice,
    };
    match request.operation {
        Operation::Read | Operation::Write => {
            for segment in request.segments() {
                let start = DmaAddress(dma::address_of(&segment.frame).0 + u64::from(segment.offset));
                add_data(parts, part(start, segment.length, direction))?;
            }
        }
        Operation::Discard | Operation::WriteZeroes => {
            parts.push(part(nowhere, RANGE_BYTES, Direction::ToDevice));
        }
        Operation::Flush => {}
    }
    parts.try_push(part(nowhere, 1, Direction::FromDevice)).map_err(|_| Errno::EIO)
}

/// Adds a piece of data, to the one before if it continues it.
fn add_data(parts: &mut Parts, piece: Part) -> Result<()> {
    let is_data = parts.len() > 1;
    if let Some(last) = parts.last_mut().filter(|_| is_data)
        && last.address.0 + u64::from(last.length) == piece.address.0
        && let Some(length) = last.length.checked_add(piece.length)
    {
        last.length = length;
        return Ok(());
    }
    parts.try_push(piece).map_err(|_| Errno::EIO)
}

impl Outcomes {
    /// Memory for so many requests. Errors: `ENOMEM`.
    pub fn new(requests: u16) -> Result<Outcomes> {
        Ok(Outcomes { memory: DmaRegion::alloc(usize::from(requests) * STRIDE)? })
    }

    /// Writes the header of a request, and puts the places into its parts.
    pub fn fill(&self, id: u16, request: &Request, parts: &mut Parts) {
        let at = usize::from(id) * STRIDE;
        let kind = match request.operation {
            Operation::Read => READ,
            Operation::Write => WRITE,
            Operation::Flush => FLUSH,
            Operation::Discard => DISCARD,
            Operation::WriteZeroes => WRITE_ZEROES,
        };
        let has_range = matches!(request.operation, Operation::Discard | Operation::WriteZeroes);
        let sector =
            if matches!(request.operation, Operation::Read | Operation::Write) { request.sector } else { 0 };
        self.memory.write(at + HEADER, kind);
        self.memory.write(at + HEADER + 4, 0u32);
        self.memory.write(at + HEADER + 8, sector);
        self.memory.write(at + STATUS, STATUS_NONE);
        if has_range {
            let flags = if request.operation == Operation::WriteZeroes { UNMAP } else { 0 };
            self.memory.write(at + RANGE, request.sector);
            self.memory.write(at + RANGE + 8, request.sectors as u32);
            self.memory.write(at + RANGE + 12, flags);
            if let Some(part) = parts.get_mut(1) {
                part.address = self.memory.address_at(at + RANGE);
            }
        }
        if let Some(first) = parts.first_mut() {
            first.address = self.memory.address_at(at + HEADER);
        }
        if let Some(last) = parts.last_mut() {
            last.address = self.memory.address_at(at + STATUS);
        }
    }

    /// What the device says of a request that is done, while the id is still its own.
    pub fn result(&self, id: u16) -> Result<()> {
        match self.memory.read::<u8>(usize::from(id) * STRIDE + STATUS) {
            STATUS_OK => Ok(()),
            STATUS_UNSUPPORTED => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EIO),
        }
    }
}
