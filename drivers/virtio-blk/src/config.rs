//! What a disk says of itself (Virtual I/O Device 1.2, 5.2.4).
//!
//! Key type: [`Config`]. Every number is the device's, and cut to what makes sense. No locks.

use block::Limits;
use device::virtio::{Features, MAX_PARTS, Virtio};

/// Bits of the features.
mod feature {
    pub const SIZE_MAX: u32 = 1;
    pub const SEG_MAX: u32 = 2;
    pub const READ_ONLY: u32 = 5;
    pub const BLOCK_SIZE: u32 = 6;
    pub const FLUSH: u32 = 9;
    pub const TOPOLOGY: u32 = 10;
    pub const CONFIG_WCE: u32 = 11;
    pub const QUEUES: u32 = 12;
    pub const DISCARD: u32 = 13;
    pub const WRITE_ZEROES: u32 = 14;
}

/// What the driver knows.
pub const FEATURES: u64 = 1 << feature::SIZE_MAX
    | 1 << feature::SEG_MAX
    | 1 << feature::READ_ONLY
    | 1 << feature::BLOCK_SIZE
    | 1 << feature::FLUSH
    | 1 << feature::TOPOLOGY
    | 1 << feature::CONFIG_WCE
    | 1 << feature::QUEUES
    | 1 << feature::DISCARD
    | 1 << feature::WRITE_ZEROES;

/// Places of the configuration.
mod place {
    pub const CAPACITY: usize = 0;
    pub const SIZE_MAX: usize = 8;
    pub const SEG_MAX: usize = 12;
    pub const BLOCK_SIZE: usize = 20;
    pub const PHYSICAL_EXPONENT: usize = 24;
    pub const WRITE_BACK: usize = 32;
    pub const QUEUES: usize = 34;
    pub const MAX_DISCARD: usize = 36;
    pub const MAX_WRITE_ZEROES: usize = 48;
}

/// A page.
const PAGE: u32 = machine::PAGE_SIZE as u32;
/// The parts of a buffer that are not data: header and outcome.
const OWN_PARTS: usize = 2;

/// What a disk is like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub capacity: u64,
    pub read_only: bool,
    pub queues: u16,
    segments: u32,
    segment_size: u32,
    block_size: u32,
    physical_block_size: u32,
    write_cache: bool,
    max_discard: u32,
    max_write_zeroes: u32,
}

/// How many sectors the disk has now.
pub fn capacity(device: &Virtio) -> u64 {
    device.config_u64(place::CAPACITY)
}

impl Config {
    /// Reads it; features have been negotiated.
    pub fn read(device: &Virtio) -> Config {
        let number = |bit: u32, place: usize, otherwise: u32| {
            if device.has_feature(bit) { device.config_u32(place) } else { otherwise }
        };
        let block_size = number(feature::BLOCK_SIZE, place::BLOCK_SIZE, 512);
        let block_size = if block_size.is_power_of_two() { block_size.clamp(512, PAGE) } else { 512 };
        let byte = |bit: u32, place: usize, otherwise: u8| {
            if device.has_feature(bit) { device.config_u8(place) } else { otherwise }
        };
        let queues = device.has_feature(feature::QUEUES).then(|| device.config_u16(place::QUEUES));
        Config {
            capacity: capacity(device),
            read_only: device.has_feature(feature::READ_ONLY),
            queues: queues.unwrap_or(1).max(1),
            segments: number(feature::SEG_MAX, place::SEG_MAX, 1).max(1),
            segment_size: number(feature::SIZE_MAX, place::SIZE_MAX, u32::MAX).max(PAGE) & !511,
            block_size,
            physical_block_size: block_size << byte(feature::TOPOLOGY, place::PHYSICAL_EXPONENT, 0).min(7),
            // Old devices have a cache exactly if they can flush it (5.2.6.2).
            write_cache: device.has_feature(feature::FLUSH)
                && byte(feature::CONFIG_WCE, place::WRITE_BACK, 1) != 0,
            max_discard: number(feature::DISCARD, place::MAX_DISCARD, 0),
            max_write_zeroes: number(feature::WRITE_ZEROES, place::MAX_WRITE_ZEROES, 0),
        }
    }

    /// How many parts a buffer needs at most.
    pub fn max_parts(&self) -> usize {
        (self.segments as usize).saturating_add(OWN_PARTS).min(MAX_PARTS)
    }

    /// What the block layer needs to know, for buffers of so many parts.
    pub fn limits(&self, parts: usize) -> Limits {
        let segments = parts.saturating_sub(OWN_PARTS).clamp(1, usize::from(u16::MAX));
        Limits {
            logical_block_size: self.block_size,
            physical_block_size: self.physical_block_size,
            max_sectors: 2560,
            max_segments: segments as u16,
            max_segment_size: self.segment_size,
            max_discard_sectors: self.max_discard,
            discard_granularity: 0,
            max_write_zeroes_sectors: self.max_write_zeroes,
            write_cache: self.write_cache,
            fua: false,
            rotational: false,
        }
    }
}

/// That the kind's features are below those of all kinds.
const _: () = assert!(FEATURES & Features::INDIRECT_DESCRIPTORS.bits() == 0);
