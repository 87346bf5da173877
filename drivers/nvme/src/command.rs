//! Commands as controllers read them, completions as they write them (NVMe Base 1.4, 4.2 and 4.6).
//!
//! Key types: [`Command`], [`Completed`]. No locks.

use abi::errno::{Errno, Result};
use machine::dma::{DmaAddress, DmaRegion};

/// Bytes of an entry of a submission queue, and of a completion queue.
pub const COMMAND_BYTES: usize = 64;
pub const COMPLETION_BYTES: usize = 16;

/// Admin commands.
pub mod admin {
    pub const CREATE_SUBMISSION: u8 = 0x01;
    pub const CREATE_COMPLETION: u8 = 0x05;
    pub const IDENTIFY: u8 = 0x06;
    pub const ABORT: u8 = 0x08;
    pub const SET_FEATURES: u8 = 0x09;
}

/// Commands to a namespace.
pub mod io {
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    /// In dword 12: on stable storage when it completes.
    pub const FUA: u32 = 1 << 30;
    /// In dword 12 of a write of zeros: the space may be given back.
    pub const DEALLOCATE: u32 = 1 << 25;
    /// In dword 11 of a command about ranges: what is in them is not needed any more.
    pub const DISCARD: u32 = 1 << 2;
}

/// One command.
#[derive(Clone, Copy, Default)]
pub struct Command {
    pub opcode: u8,
    pub namespace: u32,
    /// The first page, and the second or a list of all others.
    pub pages: [u64; 2],
    /// Dwords 10 to 15.
    pub rest: [u32; 6],
    /// Instead of pages: the first block and the count of those that it is about.
    pub range: Option<(u64, u32)>,
}

impl Command {
    /// Writes it at `offset` of a queue, named `id`.
    pub fn write(&self, queue: &DmaRegion, offset: usize, id: u16) {
        queue.write(offset, u32::from(self.opcode) | u32::from(id) << 16);
        queue.write(offset + 4, self.namespace);
        queue.write(offset + 8, 0u64);
        queue.write(offset + 16, 0u64);
        queue.write(offset + 24, self.pages[0]);
        queue.write(offset + 32, self.pages[1]);
        for (number, dword) in self.rest.iter().enumerate() {
            queue.write(offset + 40 + 4 * number, *dword);
        }
    }

    /// Points it at one page.
    pub fn at(mut self, page: DmaAddress) -> Command {
        self.pages[0] = page.0;
        self
    }
}

/// What a controller says of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completed {
    pub id: u16,
    pub result: u32,
    /// Status code and its type; 0: it went well.
    pub status: u16,
}

impl Completed {
    /// How the command ended. Errors: `EAGAIN`: it was aborted, and may be tried again; `ENODATA`: the medium fails there, as
    /// Linux tells it (NVMe Base 1.4, 4.6.1.2.3); `EIO`.
    pub fn outcome(&self) -> Result<()> {
        const ABORTED: u16 = 0x07;
        const WRITE_FAULT: u16 = 0x280;
        const UNRECOVERED_READ: u16 = 0x281;
        match self.status {
            0 => Ok(()),
            ABORTED => Err(Errno::EAGAIN),
            WRITE_FAULT | UNRECOVERED_READ => Err(Errno::ENODATA),
            _ => Err(Errno::EIO),
        }
    }

    /// The entry at `offset` of a queue, if it is of this lap.
    pub fn read(queue: &DmaRegion, offset: usize, lap: bool) -> Option<Completed> {
        let last = queue.read::<u32>(offset + 12);
        if (last >> 16 & 1 != 0) != lap {
            return None;
        }
        machine::dma::acquire();
        let status = (last >> 17) as u16 & 0x7ff;
        Some(Completed { id: last as u16, result: queue.read(offset), status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_the_specification_says() {
        let queue = DmaRegion::alloc(4096).unwrap();
        let rest = [10, 11, 12, 13, 14, 15];
        Command { opcode: 2, namespace: 7, pages: [0x1000, 0x2000], rest, range: None }
            .write(&queue, 64, 0x1234);
        assert_eq!(queue.read::<u32>(64), 0x1234_0002);
        assert_eq!(queue.read::<u32>(68), 7);
        assert_eq!((queue.read::<u64>(88), queue.read::<u64>(96)), (0x1000, 0x2000));
        assert_eq!((queue.read::<u32>(104), queue.read::<u32>(124)), (10, 15));
        queue.write(0, 99u32);
        queue.write(12, 0x0003_1234u32);
        assert_eq!(Completed::read(&queue, 0, false), None);
        assert_eq!(Completed::read(&queue, 0, true), Some(Completed { id: 0x1234, result: 99, status: 1 }));
    }
}
