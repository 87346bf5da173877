//! After a cut: what the log has is brought to where it belongs.
//!
//! Three passes over the log, as the format demands: how far it goes (a transaction counts when its commit block is there and its
//! checksums are right), which blocks were revoked by which transaction, and the writing. The first block that is not as it should be ends the
//! log; a transaction that is committed and yet has a block with a wrong checksum is damage that no cut explains, and nothing is changed then. Each
//! pass reads each block of the log once at most: bounded, whatever the log says.
//!
//! Neighbours: `format`, `log`. No locks of its own.

use super::batch::Batch;
use super::format::{self, Features, Layout, MAGIC, Tag};
use super::log::{Log, Reader};
use super::{Tid, is_newer};
use crate::buffer::Buffers;
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use machine::memory::Frame;

/// How many blocks are gathered, and put in order, before they are written.
const GATHERED: usize = 512;
/// The tag that a fast-commit area begins with.
const FAST_COMMIT_HEAD: [u8; 2] = [9, 0];

/// One walk through the log.
struct Walk<'a> {
    buffers: &'a Buffers,
    reader: Reader<'a>,
    layout: Layout,
    first: u32,
    end: u32,
    at: u32,
    /// Blocks not read yet in this pass.
    left: u32,
    sequence: Tid,
}

/// What a pass does with what it meets.
enum Pass<'p> {
    /// Checks.
    Scan,
    /// Remembers revoked blocks with the newest transaction that revoked them.
    Revoke(&'p mut BTreeMap<u64, Tid>),
    /// Writes.
    Replay(&'p BTreeMap<u64, Tid>),
}

/// Recovers if need be and marks the log empty. Whether anything was to be done.
///
/// Errors: `EROFS`: there was, and nothing may be written; `EBADMSG`, `EUCLEAN`: the log is damaged; `EOPNOTSUPP`: there are fast commits.
pub fn recover(buffers: &Buffers, log: &Log) -> Result<bool> {
    let superblock = log.superblock.lock().parsed.clone();
    if superblock.start == 0 {
        return Ok(false);
    }
    if buffers.device().is_read_only() {
        return Err(Errno::EROFS);
    }
    let walk = || Walk {
        buffers,
        reader: Reader::new(buffers, log),
        layout: superblock.layout(buffers.block_size()),
        first: superblock.first,
        end: superblock.end,
        at: superblock.start,
        left: superblock.end - superblock.first,
        sequence: superblock.sequence,
    };
    let end = walk().run(Pass::Scan, None)?;
    refuse_fast_commits(buffers, log, end)?;
    let mut revoked = BTreeMap::new();
    walk().run(Pass::Revoke(&mut revoked), Some(end))?;
    walk().run(Pass::Replay(&revoked), Some(end))?;
    ::log::info!("ext4: recovered transactions {} to {end} (exclusive) of the journal", superblock.sequence);
    // The number of the transaction that was cut off is not used again: its blocks are still in the log.
    log.update(buffers, |parsed| (parsed.start, parsed.sequence) = (0, end.wrapping_add(1)))?;
    Ok(true)
}

/// Errors: `EOPNOTSUPP`: fast commits follow the last transaction.
fn refuse_fast_commits(buffers: &Buffers, log: &Log, end: Tid) -> Result<()> {
    let superblock = log.superblock.lock().parsed.clone();
    if !superblock.features.contains(Features::FAST_COMMIT) {
        return Ok(());
    }
    let mut bytes = vec![0; buffers.block_size() as usize];
    Reader::new(buffers, log).read(superblock.end, &mut bytes)?;
    // Tag, length, features, transaction; little-endian.
    let pending = bytes.starts_with(&FAST_COMMIT_HEAD) && bytes.get(8..12) == Some(&end.to_le_bytes());
    if pending { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}

impl Walk<'_> {
    /// Goes from transaction to transaction, up to `end` if that is known. The number of the first that is not complete.
    fn run(mut self, mut pass: Pass<'_>, end: Option<Tid>) -> Result<Tid> {
        let mut bytes = vec![0; self.layout.block_size];
        let mut gathered = Gathered::default();
        // The first block with a wrong checksum of the transaction that is being scanned.
        let mut damaged = false;
        while end.is_none_or(|end| is_newer(end, self.sequence)) && self.next(&mut bytes)? {
            let Some((kind, sequence)) = Layout::header(&bytes) else { break };
            if sequence != self.sequence {
                break;
            }
            match kind {
                format::DESCRIPTOR if self.layout.tail_is_right(&bytes) => {
                    if !self.blocks(&bytes, &mut pass, &mut gathered, &mut damaged)? {
                        break;
                    }
                }
                format::REVOKE if self.layout.tail_is_right(&bytes) => {
                    if let Pass::Revoke(revoked) = &mut pass {
                        self.layout.read_revoked(&bytes, |block| {
                            revoked.insert(block, sequence); // ascending: the newest stays
                        })?;
                    }
                }
                format::COMMIT if self.layout.commit_is_right(&bytes) => {
                    if damaged && self.layout.features.contains(Features::ASYNC_COMMIT) {
                        break;
                    }
                    if damaged {
                        return Err(Errno::EBADMSG);
                    }
                    self.sequence = self.sequence.wrapping_add(1);
                }
                _ => break,
            }
        }
        gathered.write(self.buffers)?;
        Ok(self.sequence)
    }

    /// Reads the next block of the log; false: that was all of it.
    fn next(&mut self, into: &mut [u8]) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.reader.read(self.at, into)?;
        self.left -= 1;
        self.at = if self.at + 1 >= self.end { self.first } else { self.at + 1 };
        Ok(true)
    }

    /// Goes through the blocks that follow a descriptor; false: the log ends among them.
    fn blocks(
        &mut self,
        descriptor: &[u8],
        pass: &mut Pass<'_>,
        gathered: &mut Gathered,
        damaged: &mut bool,
    ) -> Result<bool> {
        let mut tags: Vec<Tag> = Vec::new();
        self.layout.read_tags(descriptor, |tag| {
            tags.push(tag);
            Ok(())
        })?;
        let mut bytes = vec![0; self.layout.block_size];
        for tag in tags {
            if !self.next(&mut bytes)? {
                return Ok(false);
            }
            match pass {
                Pass::Scan => {
                    *damaged |=
                        self.layout.data_checksum(self.sequence, &[&bytes, &[]]) != self.expected(&tag)
                }
                Pass::Revoke(_) => {}
                Pass::Replay(revoked) => {
                    let is_revoked = revoked.get(&tag.block).is_some_and(|by| !is_newer(self.sequence, *by));
                    if !is_revoked {
                        if tag.escaped {
                            format::put(&mut bytes, 0, &MAGIC.to_be_bytes());
                        }
                        gathered.add(self.buffers, tag.block, &bytes)?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// The checksum that a block should have, as far as the journal keeps checksums.
    fn expected(&self, tag: &Tag) -> u32 {
        let kept = self.layout.features.intersects(Features::CHECKSUM_2 | Features::CHECKSUM_3);
        if kept { tag.checksum } else { 0 }
    }
}

/// Blocks to be written where they belong, the newest of each.
#[derive(Default)]
struct Gathered {
    blocks: BTreeMap<u64, Frame>,
}

impl Gathered {
    fn add(&mut self, buffers: &Buffers, block: u64, bytes: &[u8]) -> Result<()> {
        let mut batch = Batch::new(buffers);
        let frame = batch.frame()?;
        frame.write(0, bytes);
        buffers.replace(block, bytes);
        self.blocks.insert(block, frame);
        if self.blocks.len() >= GATHERED { self.write(buffers) } else { Ok(()) }
    }

    fn write(&mut self, buffers: &Buffers) -> Result<()> {
        let mut batch = Batch::new(buffers);
        for (block, frame) in core::mem::take(&mut self.blocks) {
            batch.write(block, frame)?;
        }
        batch.finish()
    }
}
