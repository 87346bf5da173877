//! A namespace: one disk of a controller (NVMe Base 1.4, 5.15 and 6).
//!
//! Key types: [`Namespace`] (the block layer's driver), [`Shown`] (a disk that is known). Locks: none of its own.

use crate::command::{Command, io};
use crate::controller::Controller;
use crate::pair::{MAX_PAGES, Pair};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{BioFlags, Disk, Driver, Limits, Operation, Request, SECTOR_SIZE, Segment};
use machine::PAGE_SIZE;
use machine::dma;

/// Disks of a controller that are looked at.
const MAX_NAMESPACES: usize = 64;
/// What to ask a controller for.
const OF_NAMESPACE: u32 = 0;
const OF_CONTROLLER: u32 = 1;
const ACTIVE_LIST: u32 = 2;
/// The most blocks of one command.
const MAX_BLOCKS: u64 = 1 << 16;

/// What a controller is like, as far as its disks are concerned.
#[derive(Clone, Copy)]
struct Abilities {
    max_sectors: u32,
    discard: bool,
    write_zeroes: bool,
    write_cache: bool,
}

/// One disk.
pub struct Namespace {
    controller: Arc<Controller>,
    number: u32,
    /// log2 of the bytes of a block.
    block_shift: u32,
    /// Bytes.
    discard_granularity: u32,
    abilities: Abilities,
}

/// A disk that is known.
pub struct Shown(Arc<Disk>);

impl Shown {
    /// Takes it away.
    pub fn unregister(&self) {
        self.0.unregister();
    }
}

impl Abilities {
    fn read(controller: &Controller) -> Result<Abilities> {
        const MAX_TRANSFER: usize = 77;
        const COMMANDS: usize = 520;
        const CACHE: usize = 525;
        let page = controller.identify(OF_CONTROLLER, 0)?;
        let exponent = page.read::<u8>(MAX_TRANSFER);
        let commands = page.read::<u16>(COMMANDS);
        let pages = if exponent == 0 || exponent > 6 { MAX_PAGES } else { 1 << exponent };
        Ok(Abilities {
            max_sectors: (pages.min(MAX_PAGES) * PAGE_SIZE / SECTOR_SIZE) as u32,
            discard: commands & 4 != 0,
            write_zeroes: commands & 8 != 0,
            write_cache: page.read::<u8>(CACHE) & 1 != 0,
        })
    }
}

impl Namespace {
    /// Makes all disks of a controller known, as `nvmeNnM` on the device at `place`. What cannot be used is told in the log.
    pub fn publish_all(controller: &Arc<Controller>, controller_number: u32, place: &str) -> Vec<Shown> {
        let Ok(disks) = Namespace::make_all(controller, controller_number) else {
            log::warn!("nvme nvme{controller_number}: does not say what disks it has");
            return Vec::new();
        };
        let publish = |disk: Arc<Disk>| match disk.publish(place) {
            Ok(()) => Some(Shown(disk)),
            Err(error) => {
                log::warn!("{}: {error:?}", disk.name());
                None
            }
        };
        disks.into_iter().filter_map(publish).collect()
    }

    /// Makes all disks of a controller, which nobody knows yet. Errors: `EIO`: it does not tell of them; `ENOMEM`.
    pub fn make_all(controller: &Arc<Controller>, controller_number: u32) -> Result<Vec<Arc<Disk>>> {
        let abilities = Abilities::read(controller)?;
        let list = controller.identify(ACTIVE_LIST, 0)?;
        let mut disks = Vec::new();
        let numbers = (0..MAX_NAMESPACES).map(|index| list.read::<u32>(4 * index));
        for number in numbers.take_while(|number| *number != 0) {
            let name = format!("nvme{controller_number}n{number}");
            match Namespace::make(controller, number, abilities) {
                Ok((namespace, sectors)) => disks.push(Disk::new(name, Arc::new(namespace), sectors, false)),
                Err(error) => log::warn!("{name}: {error:?}"),
            }
        }
        let listeners: Vec<Weak<Disk>> = disks.iter().map(Arc::downgrade).collect();
        controller.set_listener(Box::new(move |queue| {
            listeners.iter().filter_map(Weak::upgrade).for_each(|disk| disk.run_queue(queue));
        }));
        Ok(disks)
    }

    /// Finds out about a disk; gives it and its sectors. Errors: `EOPNOTSUPP`: its blocks are not ours to use; `EIO`, `ENOMEM`.
    fn make(controller: &Arc<Controller>, number: u32, abilities: Abilities) -> Result<(Namespace, u64)> {
        const FEATURES: usize = 24;
        const FORMAT: usize = 26;
        const DISCARD_BLOCKS: usize = 68;
        const FORMATS: usize = 128;
        let page = controller.identify(OF_NAMESPACE, number)?;
        let blocks = page.read::<u64>(0);
        let format = page.read::<u32>(FORMATS + 4 * usize::from(page.read::<u8>(FORMAT) & 0xf));
        let (metadata, block_shift) = (format as u16, format >> 16 & 0xff);
        if metadata != 0 || !(9..=12).contains(&block_shift) {
            return Err(Errno::EOPNOTSUPP);
        }
        let sectors = blocks.checked_mul(1 << (block_shift - 9)).ok_or(Errno::EOPNOTSUPP)?;
        // One less than the blocks is told, if anything is.
        let tells = page.read::<u8>(FEATURES) & 1 << 4 != 0;
        let blocks = if tells { u32::from(page.read::<u16>(DISCARD_BLOCKS)) + 1 } else { 1 };
        let (controller, discard_granularity) = (controller.clone(), blocks << block_shift);
        Ok((Namespace { controller, number, block_shift, discard_granularity, abilities }, sectors))
    }

    /// Blocks of so many sectors.
    fn blocks(&self, sectors: u64) -> u64 {
        sectors >> (self.block_shift - 9)
    }

    /// A command that moves or clears blocks.
    fn transfer(&self, opcode: u8, sector: u64, sectors: u64, flags: u32) -> Command {
        let (start, count) = (self.blocks(sector), self.blocks(sectors));
        let last = count.saturating_sub(1).min(MAX_BLOCKS - 1) as u32;
        let rest = [start as u32, (start >> 32) as u32, last | flags, 0, 0, 0];
        Command { opcode, namespace: self.number, rest, ..Default::default() }
    }

    /// The command of the run `number` of a request, and its pages.
    fn command(&self, request: &Request, number: usize, page: &mut dyn FnMut(u64)) -> Command {
        match request.operation {
            Operation::Flush => Command { opcode: io::FLUSH, namespace: self.number, ..Default::default() },
            Operation::WriteZeroes => {
                self.transfer(io::WRITE_ZEROES, request.sector, request.sectors, io::DEALLOCATE)
            }
            Operation::Discard => {
                let range = Some((self.blocks(request.sector), self.blocks(request.sectors) as u32));
                let rest = [0, io::DISCARD, 0, 0, 0, 0];
                let (opcode, namespace) = (io::DATASET_MANAGEMENT, self.number);
                Command { opcode, namespace, rest, range, ..Default::default() }
            }
            Operation::Read | Operation::Write => {
                let mut before = 0;
                let mut bytes = 0;
                for (run, segment) in runs(request) {
                    if run < number {
                        before += u64::from(segment.length);
                    } else if run == number {
                        page(dma::address_of(&segment.frame).0 + u64::from(segment.offset));
                        bytes += u64::from(segment.length);
                    }
                }
                let (opcode, fua) = match request.operation {
                    Operation::Read => (io::READ, 0),
                    _ if request.flags.contains(BioFlags::FUA) => (io::WRITE, io::FUA),
                    _ => (io::WRITE, 0),
                };
                let sector = request.sector + before / SECTOR_SIZE as u64;
                self.transfer(opcode, sector, bytes / SECTOR_SIZE as u64, fua)
            }
        }
    }
}

/// The segments of a request, each with the number of the command that moves it: a new one begins wherever the memory does not go on at
/// the border of a page.
fn runs(request: &Request) -> impl Iterator<Item = (usize, &Segment)> {
    let mut run = 0;
    let mut ends_at_border = true;
    request.segments().enumerate().map(move |(index, segment)| {
        if index > 0 && !(ends_at_border && segment.offset == 0) {
            run += 1;
        }
        ends_at_border = (segment.offset + segment.length) as usize == PAGE_SIZE;
        (run, segment)
    })
}

impl Driver for Namespace {
    fn limits(&self) -> Limits {
        let block = 1 << self.block_shift;
        Limits {
            logical_block_size: block,
            physical_block_size: block,
            max_sectors: self.abilities.max_sectors,
            max_segments: MAX_PAGES as u16,
            max_segment_size: PAGE_SIZE as u32,
            max_discard_sectors: if self.abilities.discard { u32::MAX } else { 0 },
            discard_granularity: self.discard_granularity,
            max_write_zeroes_sectors: match self.abilities.write_zeroes {
                true => (MAX_BLOCKS << (self.block_shift - 9)) as u32,
                false => 0,
            },
            write_cache: self.abilities.write_cache,
            fua: self.abilities.write_cache,
            rotational: false,
        }
    }

    fn queues(&self) -> usize {
        self.controller.pairs().len()
    }

    fn queue(&self, index: usize, request: Request) -> core::result::Result<(), Request> {
        self.controller.watch();
        let pair = self.controller.pairs().get(index).filter(|_| !self.controller.is_stopped());
        let Some(pair) = pair else {
            request.complete(Err(Errno::EIO));
            return Ok(());
        };
        let count = match request.operation {
            Operation::Read | Operation::Write => runs(&request).last().map_or(0, |(run, _)| run + 1),
            Operation::Flush | Operation::WriteZeroes | Operation::Discard => 1,
        };
        pair.add(request, count, |request, number, page| self.command(request, number, page))
    }

    fn kick(&self, index: usize) {
        if let Some(tail) = self.controller.pairs().get(index).and_then(Pair::tail) {
            self.controller.ring(index, tail);
        }
    }

    fn is_present(&self) -> bool {
        self.controller.is_present()
    }
}
