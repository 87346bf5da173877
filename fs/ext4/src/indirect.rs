//! The block maps of ext2 and ext3: twelve pointers, then one to a block of pointers, one to a block of those, and one more level.
//!
//! Key functions: [`find`], [`insert`], [`remove_last`]. Locks: the body's map, as in `extents`.

use crate::body::{Body, Map, Mapping, State};
use crate::buffer::Buffer;
use crate::format::{CORRUPTED, at, at_mut};
use crate::groups::Contents;
use crate::journal::Handle;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use zerocopy::little_endian::U32;

/// Pointers in the inode that lead to contents.
const DIRECT: u32 = 12;
/// Levels of blocks of pointers.
const LEVELS: usize = 3;
/// The most blocks that one [`insert`] changes: a node with bitmap and descriptor on each level, and the inode.
pub const INSERT_CREDITS: u32 = 3 * LEVELS as u32 + 3;

/// The way to a block: which pointer of the inode, then which of each block of pointers.
struct Way {
    root: usize,
    steps: [u32; LEVELS],
    levels: usize,
}

/// Pointers in a block.
fn per_block(body: &Body) -> u64 {
    u64::from(body.fs.geometry.block_size / 4)
}

/// Which block of pointers has that of `block`; `None`: the inode has it. It is the same for all blocks of one such.
pub fn node_of(body: &Body, block: u32) -> Option<u32> {
    let index = u64::from(block.checked_sub(DIRECT)?) / per_block(body);
    u32::try_from(index).ok()
}

/// The blocks of the file whose pointers the block of pointers `node` has.
pub fn blocks_of_node(body: &Body, node: u32) -> core::ops::Range<u64> {
    let start = u64::from(DIRECT) + u64::from(node) * per_block(body);
    start..start + per_block(body)
}

/// How many blocks of pointers would have to be made for `block`. Errors: `EUCLEAN`, `EIO`.
pub fn missing_nodes(body: &Body, map: &Map, block: u32) -> Result<u32> {
    let Ok(way) = way(body, block) else { return Ok(0) };
    let mut value = pointer(&map.root, way.root)?;
    for level in 0..way.levels {
        if value == 0 {
            return Ok((way.levels - level) as u32);
        }
        let index = way.steps.get(level).copied().unwrap_or(0) as usize;
        value = pointer(&body.fs.read_block(checked(body, value)?)?.read(), index)?;
    }
    Ok(0)
}

/// How many blocks a file can have.
pub fn max_blocks(block_size: u32) -> u64 {
    let per_block = u64::from(block_size / 4);
    (u64::from(DIRECT) + per_block + per_block.pow(2) + per_block.pow(3)).min(u64::from(u32::MAX))
}

/// Errors: `EFBIG`: no file reaches so far.
fn way(body: &Body, block: u32) -> Result<Way> {
    if block < DIRECT {
        return Ok(Way { root: block as usize, steps: [0; LEVELS], levels: 0 });
    }
    let per_block = per_block(body);
    let mut rest = u64::from(block - DIRECT);
    let mut span = per_block;
    for levels in 1..=LEVELS {
        if rest < span {
            let mut steps = [0; LEVELS];
            for step in steps.iter_mut().take(levels).rev() {
                *step = (rest % per_block) as u32;
                rest /= per_block;
            }
            return Ok(Way { root: DIRECT as usize + levels - 1, steps, levels });
        }
        rest -= span;
        span *= per_block;
    }
    Err(Errno::EFBIG)
}

fn pointer(bytes: &[u8], index: usize) -> Result<u32> {
    at::<U32>(bytes, index * 4).map(|value| value.get())
}

fn set_pointer(bytes: &mut [u8], index: usize, value: u32) -> Result<()> {
    *at_mut(bytes, index * 4)? = U32::new(value);
    Ok(())
}

/// The block that a pointer leads to, checked. Errors: `EUCLEAN`.
fn checked(body: &Body, pointer: u32) -> Result<u64> {
    let block = u64::from(pointer);
    if body.fs.geometry.contains(block, 1) {
        return Ok(block);
    }
    Err(body.fs.complain(CORRUPTED, format_args!("inode {}: a pointer leads to block {block}", body.number)))
}

/// Where `block` is, and how far that goes on within one block of pointers.
pub fn find(body: &Body, map: &Map, block: u32, max: u32) -> Result<Mapping> {
    let Ok(way) = way(body, block) else { return Ok(Mapping { block, length: max, state: State::Hole }) };
    let mut value = pointer(&map.root, way.root)?;
    if way.levels == 0 {
        let end = (DIRECT as usize).min(way.root.saturating_add(max as usize));
        return run(body, block, value, (way.root + 1..end).map(|index| pointer(&map.root, index)));
    }
    for level in 0..way.levels {
        if value == 0 {
            // Nothing below this pointer: the hole reaches to the end of what the missing block would cover, as far as is sure.
            let left = per_block(body) - u64::from(way.steps.get(way.levels - 1).copied().unwrap_or(0));
            return Ok(Mapping { block, length: (left as u32).min(max), state: State::Hole });
        }
        let buffer = body.fs.read_block(checked(body, value)?)?;
        let bytes = buffer.read();
        let index = way.steps.get(level).copied().unwrap_or(0) as usize;
        value = pointer(&bytes, index)?;
        if level + 1 == way.levels {
            let end = (per_block(body) as usize).min(index.saturating_add(max as usize));
            return run(body, block, value, (index + 1..end).map(|index| pointer(&bytes, index)));
        }
    }
    Err(CORRUPTED)
}

/// How long a run is that begins with `first`: pointers that count up, or zeros.
fn run(body: &Body, block: u32, first: u32, rest: impl Iterator<Item = Result<u32>>) -> Result<Mapping> {
    let mut length = 1;
    for next in rest {
        let expected = if first == 0 { 0 } else { first.wrapping_add(length) };
        if next? != expected {
            break;
        }
        length += 1;
    }
    if first == 0 {
        return Ok(Mapping { block, length, state: State::Hole });
    }
    checked(body, first)?;
    checked(body, first.saturating_add(length - 1))?;
    Ok(Mapping { block, length, state: State::Written(u64::from(first)) })
}

/// A new block of pointers, all of them 0.
fn new_node(body: &Body, map: &mut Map, handle: &mut Handle) -> Result<(u32, Arc<Buffer>)> {
    let goal = body.goal_for(map, 0);
    let block = body.fs.allot_block(handle, goal)?;
    let buffer = handle.create(block)?;
    map.sectors += body.sectors_of(1);
    Ok((u32::try_from(block).map_err(|_| Errno::EFBIG)?, buffer))
}

/// Lets `block` of the file be `place` of the device. The caller writes the map afterwards. Changes at most [`INSERT_CREDITS`] blocks.
///
/// Errors: `EFBIG`, `ENOSPC`, `EUCLEAN`, `EIO`.
pub fn insert(body: &Body, map: &mut Map, handle: &mut Handle, block: u32, place: u64) -> Result<()> {
    let place = u32::try_from(place).map_err(|_| Errno::EFBIG)?;
    let way = way(body, block)?;
    if way.levels == 0 {
        return set_pointer(&mut map.root, way.root, place);
    }
    let mut value = pointer(&map.root, way.root)?;
    let mut buffer = if value == 0 {
        let (block, buffer) = new_node(body, map, handle)?;
        set_pointer(&mut map.root, way.root, block)?;
        buffer
    } else {
        body.fs.read_block(checked(body, value)?)?
    };
    for level in 0..way.levels {
        let index = way.steps.get(level).copied().unwrap_or(0) as usize;
        if level + 1 == way.levels {
            return handle.modify(&buffer, |bytes| set_pointer(bytes, index, place))?;
        }
        value = pointer(&buffer.read(), index)?;
        buffer = if value == 0 {
            let (block, child) = new_node(body, map, handle)?;
            handle.modify(&buffer, |bytes| set_pointer(bytes, index, block))??;
            child
        } else {
            body.fs.read_block(checked(body, value)?)?
        };
    }
    Err(CORRUPTED)
}

/// What is left of a subtree.
enum Left {
    Something,
    Nothing,
}

/// Removes up to `limit` blocks of `range`, which held `kind`, from the last on; gives how many. Zero: none is left. The caller writes the
/// map afterwards. Changes at most `3 * limit` blocks and the nodes on the way.
///
/// Errors: `EUCLEAN`, `EIO`.
pub fn remove_last(
    body: &Body,
    map: &mut Map,
    handle: &mut Handle,
    range: core::ops::Range<u64>,
    kind: Contents,
    limit: usize,
) -> Result<usize> {
    let mut removal = Removal { body, handle, range, kind, left: limit, sectors: 0 };
    let per_block = per_block(body);
    for root in (0..DIRECT as usize + LEVELS).rev() {
        let value = pointer(&map.root, root)?;
        if value == 0 || removal.left == 0 {
            continue;
        }
        let level = (root + 1).saturating_sub(DIRECT as usize);
        let first = match level {
            0 => root as u64,
            1 => u64::from(DIRECT),
            2 => u64::from(DIRECT) + per_block,
            _ => u64::from(DIRECT) + per_block + per_block * per_block,
        };
        if let Left::Nothing = removal.below(value, level, first)? {
            set_pointer(&mut map.root, root, 0)?;
        }
    }
    map.sectors = map.sectors.saturating_sub(body.sectors_of(removal.sectors));
    Ok(limit - removal.left)
}

struct Removal<'a> {
    body: &'a Body,
    handle: &'a mut Handle,
    range: core::ops::Range<u64>,
    kind: Contents,
    left: usize,
    sectors: u64,
}

impl Removal<'_> {
    /// Removes below a pointer that stands for the blocks from `first` on. `level` is 0 where it leads to contents.
    fn below(&mut self, value: u32, level: usize, first: u64) -> Result<Left> {
        let per_block = per_block(self.body);
        let span = per_block.pow(level as u32);
        if first >= self.range.end || first + span <= self.range.start || self.left == 0 {
            return Ok(Left::Something);
        }
        let place = checked(self.body, value)?;
        if level == 0 {
            self.free(place, self.kind)?;
            self.left -= 1;
            return Ok(Left::Nothing);
        }
        let buffer = self.body.fs.read_block(place)?;
        let mut empty = true;
        for index in (0..per_block).rev() {
            let value = pointer(&buffer.read(), index as usize)?;
            if value == 0 {
                continue;
            }
            match self.below(value, level - 1, first + index * (span / per_block))? {
                Left::Nothing => {
                    self.handle.modify(&buffer, |bytes| set_pointer(bytes, index as usize, 0))??
                }
                Left::Something => empty = false,
            }
        }
        if !empty {
            return Ok(Left::Something);
        }
        self.free(place, Contents::Metadata)?;
        Ok(Left::Nothing)
    }

    fn free(&mut self, place: u64, kind: Contents) -> Result<()> {
        let fs = self.body.fs.clone();
        fs.free_run(self.handle, place, 1, kind)?;
        self.sectors += 1;
        Ok(())
    }
}
