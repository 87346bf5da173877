//! Partition tables: GPT (UEFI specification, chapter 5) and MBR with extended partitions, read from anything that gives blocks.
//!
//! Key items: [`read`], [`Entry`]. Whatever is on the disk, reading ends: chains and tables are bounded, and places are only believed if
//! they are on the disk. As in Linux a GPT needs its protective MBR; if the first header is damaged the second is taken.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

/// Units of places and lengths here, bytes.
const SECTOR_SIZE: u32 = 512;
/// The most partitions that are read.
pub const MAX_ENTRIES: usize = 256;
/// The most bytes of GPT entries that are read.
const MAX_GPT_BYTES: usize = 1 << 20;
/// A longer chain of extended partitions without one in it is none.
const MAX_EMPTY_LINKS: u32 = 100;

const MBR_ENTRIES: usize = 0x1be;
const MBR_ENTRY_SIZE: usize = 16;
const MBR_SIGNATURE: usize = 440;
const TYPE_PROTECTIVE: u8 = 0xee;
const GPT_HEADER_SIZE: usize = 92;
const GPT_ENTRY_SIZE: u32 = 128;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u32,
    /// The first sector of 512 bytes.
    pub first_sector: u64,
    /// How many of them; at least 1.
    pub sectors: u64,
    /// What `PARTUUID=` means, in lower case.
    pub uuid: String,
    /// What `PARTLABEL=` means; empty if it has none.
    pub label: String,
}

/// Reads the block of that number into a buffer of its size.
pub type ReadBlock<'a, E> = &'a mut dyn FnMut(u64, &mut [u8]) -> Result<(), E>;

/// A disk as its table is read.
pub struct Source<'a, E> {
    /// Bytes of a block: a power of two from 512 on.
    pub block_size: u32,
    /// How many blocks there are.
    pub blocks: u64,
    /// How to read one of them.
    pub read: ReadBlock<'a, E>,
}

impl<E> Source<'_, E> {
    /// A block; `None` if it is not on the disk.
    fn block(&mut self, number: u64) -> Result<Option<Vec<u8>>, E> {
        if number >= self.blocks {
            return Ok(None);
        }
        let mut bytes = vec![0; self.block_size as usize];
        (self.read)(number, &mut bytes)?;
        Ok(Some(bytes))
    }

    fn sectors(&self, blocks: u64) -> u64 {
        blocks.saturating_mul(u64::from(self.block_size / SECTOR_SIZE))
    }
}

/// The partitions of a disk, by number; none if there is no table. Errors: what reading gives.
pub fn read<E>(source: &mut Source<'_, E>) -> Result<Vec<Entry>, E> {
    if source.block_size < SECTOR_SIZE || !source.block_size.is_power_of_two() {
        return Ok(Vec::new());
    }
    let Some(first) = source.block(0)? else { return Ok(Vec::new()) };
    if !has_signature(&first) {
        return Ok(Vec::new());
    }
    if mbr_entries(&first).any(|entry| entry.kind == TYPE_PROTECTIVE) {
        return read_gpt(source);
    }
    read_mbr(source, &first)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u64::from_le_bytes(*field))
}

/// The CRC-32 of Ethernet, which GPT uses.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// What a GPT header says.
struct Gpt {
    backup: u64,
    entries_at: u64,
    count: u32,
    entries_crc: u32,
}

/// The header in a block, if it is one and undamaged.
fn gpt_header<E>(source: &mut Source<'_, E>, at: u64) -> Result<Option<Gpt>, E> {
    let Some(mut block) = source.block(at)? else { return Ok(None) };
    let size = u32_at(&block, 12) as usize;
    let signed = block.starts_with(b"EFI PART") && (GPT_HEADER_SIZE..=block.len()).contains(&size);
    let stored = u32_at(&block, 16);
    if let Some(field) = block.get_mut(16..20) {
        field.fill(0);
    }
    let intact = signed && crc32(block.get(..size).unwrap_or_default()) == stored;
    let (first, last) = (u64_at(&block, 40), u64_at(&block, 48));
    let sound = u64_at(&block, 24) == at
        && first < source.blocks
        && last < source.blocks
        && first <= last
        && u32_at(&block, 84) == GPT_ENTRY_SIZE;
    Ok((intact && sound).then(|| Gpt {
        backup: u64_at(&block, 32),
        entries_at: u64_at(&block, 72),
        count: u32_at(&block, 80),
        entries_crc: u32_at(&block, 88),
    }))
}

/// The bytes of a header's entries, if they are undamaged.
fn gpt_entries<E>(source: &mut Source<'_, E>, header: &Gpt) -> Result<Option<Vec<u8>>, E> {
    let bytes = (header.count as usize).saturating_mul(GPT_ENTRY_SIZE as usize);
    if bytes == 0 || bytes > MAX_GPT_BYTES {
        return Ok(None);
    }
    let mut entries = Vec::new();
    let mut at = header.entries_at;
    while entries.len() < bytes {
        let Some(block) = source.block(at)? else { return Ok(None) };
        entries.extend_from_slice(&block);
        at = at.saturating_add(1);
    }
    entries.truncate(bytes);
    Ok((crc32(&entries) == header.entries_crc).then_some(entries))
}

fn read_gpt<E>(source: &mut Source<'_, E>) -> Result<Vec<Entry>, E> {
    let primary = gpt_header(source, 1)?;
    let backup_at = primary.as_ref().map_or(source.blocks.saturating_sub(1), |header| header.backup);
    if let Some(header) = &primary
        && let Some(entries) = gpt_entries(source, header)?
    {
        return Ok(list_gpt(source, &entries));
    }
    if let Some(header) = gpt_header(source, backup_at)?
        && let Some(entries) = gpt_entries(source, &header)?
    {
        return Ok(list_gpt(source, &entries));
    }
    Ok(Vec::new())
}

fn list_gpt<E>(source: &Source<'_, E>, bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (number, entry) in (1..).zip(bytes.chunks_exact(GPT_ENTRY_SIZE as usize)).take(MAX_ENTRIES) {
        let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
        let used = entry.iter().take(16).any(|byte| *byte != 0);
        if !used || first > last || last >= source.blocks {
            continue;
        }
        entries.push(Entry {
            number,
            first_sector: source.sectors(first),
            sectors: source.sectors(last - first + 1),
            uuid: uuid_text(entry.get(16..32).unwrap_or_default()),
            label: label_text(entry.get(56..128).unwrap_or_default()),
        });
    }
    entries
}

/// A GUID as text: its first three fields are little-endian.
fn uuid_text(bytes: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (place, from) in ORDER.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{:02x}", bytes.get(from).copied().unwrap_or(0));
    }
    text
}

/// A name in UTF-16 as Linux tells it: one byte for each unit, what cannot be printed as `!`.
fn label_text(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| pair.first().copied().unwrap_or(0));
    let units = units.take_while(|byte| *byte != 0);
    units.map(|byte| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '!' }).collect()
}

/// An entry of an MBR, its numbers in blocks.
#[derive(Clone, Copy)]
struct MbrEntry {
    boot: u8,
    kind: u8,
    first: u64,
    blocks: u64,
}

impl MbrEntry {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

fn has_signature(block: &[u8]) -> bool {
    block.get(510..512) == Some(&[0x55, 0xaa])
}

fn mbr_entries(block: &[u8]) -> impl Iterator<Item = MbrEntry> {
    let entries = block.get(MBR_ENTRIES..MBR_ENTRIES + 4 * MBR_ENTRY_SIZE).unwrap_or_default();
    entries.chunks_exact(MBR_ENTRY_SIZE).map(|entry| MbrEntry {
        boot: entry.first().copied().unwrap_or(0),
        kind: entry.get(4).copied().unwrap_or(0),
        first: u64::from(u32_at(entry, 8)),
        blocks: u64::from(u32_at(entry, 12)),
    })
}

fn read_mbr<E>(source: &mut Source<'_, E>, first: &[u8]) -> Result<Vec<Entry>, E> {
    // The boot sector of a file system has the same signature, but other bytes here.
    if mbr_entries(first).any(|entry| entry.boot & 0x7f != 0) {
        return Ok(Vec::new());
    }
    let signature = u32_at(first, MBR_SIGNATURE);
    let mut list = MbrList { signature, next: 5, entries: Vec::new() };
    for (number, entry) in (1..).zip(mbr_entries(first)).filter(|(_, entry)| entry.blocks > 0) {
        if !entry.is_extended() {
            list.push(source, number, entry.first, entry.blocks);
            continue;
        }
        // Room for a boot loader, no more, so that nobody takes it for a file system's place.
        let shown = u64::from(source.block_size.max(1024) / source.block_size);
        list.push(source, number, entry.first, entry.blocks.min(shown));
        read_extended(source, entry, &mut list)?;
    }
    list.entries.sort_unstable_by_key(|entry| entry.number);
    Ok(list.entries)
}

struct MbrList {
    signature: u32,
    /// The number of the next logical partition.
    next: u32,
    entries: Vec<Entry>,
}

impl MbrList {
    fn push<E>(&mut self, source: &Source<'_, E>, number: u32, first: u64, blocks: u64) {
        let mut uuid = String::new();
        let _ = write!(uuid, "{:08x}-{number:02x}", self.signature);
        let (first_sector, sectors) = (source.sectors(first), source.sectors(blocks));
        self.entries.push(Entry { number, first_sector, sectors, uuid, label: String::new() });
    }

    fn is_full(&self) -> bool {
        self.next as usize > MAX_ENTRIES
    }
}

/// Follows the chain of tables in an extended partition: each has a partition, placed from the table on, and a link, placed from the
/// extended partition on.
fn read_extended<E>(source: &mut Source<'_, E>, whole: MbrEntry, list: &mut MbrList) -> Result<(), E> {
    let (mut at, mut length) = (whole.first, whole.blocks);
    let mut empty_links = 0;
    while empty_links < MAX_EMPTY_LINKS && !list.is_full() {
        empty_links += 1;
        let Some(block) = source.block(at)?.filter(|block| has_signature(block)) else { break };
        for (place, entry) in mbr_entries(&block).enumerate() {
            if entry.blocks == 0 || entry.is_extended() || list.is_full() {
                continue;
            }
            let first = at + entry.first;
            // The last two entries are often garbage.
            let inside = entry.first + entry.blocks <= length
                && first >= whole.first
                && first + entry.blocks <= whole.first + whole.blocks;
            if place < 2 || inside {
                list.push(source, list.next, first, entry.blocks);
                list.next += 1;
                empty_links = 0;
            }
        }
        let Some(link) = mbr_entries(&block).find(|entry| entry.blocks > 0 && entry.is_extended()) else {
            break;
        };
        (at, length) = (whole.first + link.first, link.blocks);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of a disk of these bytes, and how many blocks were read.
    fn table(bytes: &[u8], block_size: u32) -> (Vec<Entry>, usize) {
        let mut reads = 0;
        let mut read = |number: u64, into: &mut [u8]| {
            reads += 1;
            let at = number as usize * block_size as usize;
            into.copy_from_slice(&bytes[at..at + block_size as usize]);
            Ok::<(), ()>(())
        };
        let blocks = bytes.len() as u64 / u64::from(block_size);
        let entries = super::read(&mut Source { block_size, blocks, read: &mut read }).unwrap();
        (entries, reads)
    }

    fn put_mbr(disk: &mut [u8], block: usize, entries: &[(u8, u32, u32)]) {
        let sector = &mut disk[block * 512..(block + 1) * 512];
        for (place, (kind, first, count)) in entries.iter().enumerate() {
            let entry = &mut sector[MBR_ENTRIES + place * 16..][..16];
            entry[4] = *kind;
            entry[8..12].copy_from_slice(&first.to_le_bytes());
            entry[12..16].copy_from_slice(&count.to_le_bytes());
        }
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    }

    fn places(entries: &[Entry]) -> Vec<(u32, u64, u64)> {
        entries.iter().map(|entry| (entry.number, entry.first_sector, entry.sectors)).collect()
    }

    #[test]
    fn an_mbr_with_logical_partitions() {
        let mut disk = vec![0; 512 * 4096];
        put_mbr(&mut disk, 0, &[(0x83, 8, 92), (0x05, 100, 1000), (0, 0, 0), (0x82, 2000, 100)]);
        disk[440..444].copy_from_slice(&0x1234_abcdu32.to_le_bytes());
        put_mbr(&mut disk, 100, &[(0x83, 8, 50), (0x05, 200, 300)]);
        put_mbr(&mut disk, 300, &[(0x83, 8, 60)]);
        let (entries, _) = table(&disk, 512);
        let expected = [(1, 8, 92), (2, 100, 2), (4, 2000, 100), (5, 108, 50), (6, 308, 60)];
        assert_eq!(places(&entries), expected);
        assert_eq!(entries[3].uuid, "1234abcd-05");
    }

    #[test]
    fn a_chain_in_a_ring_ends() {
        let mut disk = vec![0; 512 * 1024];
        put_mbr(&mut disk, 0, &[(0x05, 100, 900)]);
        put_mbr(&mut disk, 100, &[(0, 0, 0), (0x05, 0, 900)]);
        let (entries, reads) = table(&disk, 512);
        assert_eq!((places(&entries).len(), reads), (1, 101));
        put_mbr(&mut disk, 100, &[(0x83, 1, 5), (0x05, 0, 900)]);
        assert!(table(&disk, 512).0.len() <= MAX_ENTRIES);
    }

    /// A disk with a GPT of two partitions.
    fn gpt_disk() -> Vec<u8> {
        let blocks = 2048u64;
        let mut disk = vec![0; 512 * blocks as usize];
        put_mbr(&mut disk, 0, &[(TYPE_PROTECTIVE, 1, u32::MAX)]);
        let mut entries = vec![0; 128 * 128];
        for (place, (first, last)) in [(40u64, 99u64), (100, 1999)].into_iter().enumerate() {
            let entry = &mut entries[place * 128..][..128];
            entry[..16].fill(7);
            for (at, byte) in entry[16..32].iter_mut().enumerate() {
                *byte = at as u8 + place as u8 * 16;
            }
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            entry[56] = b'a' + place as u8;
            entry[58] = 7;
        }
        for (own, other, at) in [(1, blocks - 1, 2), (blocks - 1, 1, blocks - 33)] {
            let mut header = vec![0; 512];
            header[..8].copy_from_slice(b"EFI PART");
            header[12..16].copy_from_slice(&92u32.to_le_bytes());
            header[24..32].copy_from_slice(&own.to_le_bytes());
            header[32..40].copy_from_slice(&other.to_le_bytes());
            header[40..48].copy_from_slice(&34u64.to_le_bytes());
            header[48..56].copy_from_slice(&(blocks - 34).to_le_bytes());
            header[72..80].copy_from_slice(&at.to_le_bytes());
            header[80..84].copy_from_slice(&128u32.to_le_bytes());
            header[84..88].copy_from_slice(&128u32.to_le_bytes());
            header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
            let crc = crc32(&header[..92]);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            disk[own as usize * 512..][..512].copy_from_slice(&header);
            disk[at as usize * 512..][..entries.len()].copy_from_slice(&entries);
        }
        disk
    }

    #[test]
    fn a_gpt_and_its_second_copy() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let disk = gpt_disk();
        let (entries, _) = table(&disk, 512);
        assert_eq!(places(&entries), [(1, 40, 60), (2, 100, 1900)]);
        assert_eq!(entries[0].uuid, "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(entries[1].label, "b!");
        // Damage to the first header, or to the first entries: the second copy has the same.
        for place in [512 + 45, 1024 + 3] {
            let mut damaged = disk.clone();
            damaged[place] ^= 1;
            assert_eq!(table(&damaged, 512).0, entries);
            damaged[512 * 2047 + 20] ^= 1;
            assert!(table(&damaged, 512).0.is_empty(), "{place}");
        }
        // Without its protective MBR it is none.
        let mut unprotected = disk.clone();
        unprotected[MBR_ENTRIES..][..16].fill(0);
        assert!(table(&unprotected, 512).0.is_empty());
    }

    proptest! {
        /// Garbage, and damaged tables, end without a panic, and within bounds.
        #[test]
        fn garbage_is_harmless(
            noise in proptest::collection::vec(any::<u8>(), 8 * 512),
            changes in proptest::collection::vec((0usize..1 << 20, any::<u8>()), 0..40),
            kinds in proptest::collection::vec(prop_oneof![Just(0x05u8), Just(0x0f), Just(0xee), Just(0x83)], 4),
            from_gpt in any::<bool>(),
        ) {
            let mut disk = if from_gpt { gpt_disk() } else { noise.repeat(16) };
            for (place, byte) in changes {
                let place = place % disk.len();
                disk[place] = byte;
            }
            if !from_gpt {
                for block in 0..disk.len() / 512 {
                    for (place, kind) in kinds.iter().enumerate() {
                        disk[block * 512 + MBR_ENTRIES + place * 16] = 0;
                        disk[block * 512 + MBR_ENTRIES + place * 16 + 4] = *kind;
                        // Near, so that chains go on.
                        disk[block * 512 + MBR_ENTRIES + place * 16 + 9..][..3].fill(0);
                        disk[block * 512 + MBR_ENTRIES + place * 16 + 14..][..2].fill(0);
                    }
                    disk[block * 512 + 510..][..2].copy_from_slice(&[0x55, 0xaa]);
                }
            }
            for block_size in [512, 1024, 4096] {
                let (entries, reads) = table(&disk, block_size);
                prop_assert!(entries.len() <= MAX_ENTRIES + 4);
                prop_assert!(reads <= 4 * 101 * MAX_ENTRIES + 5000);
            }
        }
    }
}
