//! Moving data between two open files: sendfile(2), splice(2), copy_file_range(2).
//!
//! Data goes through one kernel buffer; from the page cache of the source it is copied once into it. Locks: those of
//! the two files, one after the other, never both.

use crate::file::File;
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use mm::io::{SliceReader, SliceWriter};

/// The buffer's size, and so how much moves at a time, if there is so much memory in one piece.
const PIECE: usize = 64 * 1024;

/// Zeros for up to `count` bytes: memory full of cached files has long lost its larger pieces, but always has a page. Errors: `ENOMEM`.
fn buffer_for(count: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    let mut size = PIECE.min(count);
    while buffer.try_reserve_exact(size).is_err() {
        if size <= machine::PAGE_SIZE {
            return Err(Errno::ENOMEM);
        }
        size = (size / 2).max(machine::PAGE_SIZE);
    }
    buffer.resize(size, 0);
    Ok(buffer)
}

/// Copies up to `count` bytes. A given offset is used and advanced in place of the file's own. Gives how many were moved: fewer
/// at the end of the source, or when something failed after a part.
///
/// Errors: those of reading and writing if nothing was moved.
pub fn copy(
    source: &File,
    mut from: Option<&mut u64>,
    target: &File,
    mut to: Option<&mut u64>,
    count: usize,
) -> Result<usize> {
    source.check_readable()?;
    target.check_writable()?;
    let mut buffer = buffer_for(count)?;
    let mut done = 0;
    // From one device without end to another, only a signal ends it early.
    while done < count && (done == 0 || !sched::signal_pending()) {
        let wanted = buffer.len().min(count - done);
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        let result = move_piece(source, from.as_deref_mut(), target, to.as_deref_mut(), piece);
        match result {
            Ok(0) => break,
            Ok(moved) => {
                done += moved;
                // A pipe or socket may have no more just now; what was moved is not kept waiting for it.
                if !source.is_seekable() {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// One piece. What was read but could not be written is read again later, if the source has an offset.
fn move_piece(
    source: &File,
    from: Option<&mut u64>,
    target: &File,
    to: Option<&mut u64>,
    piece: &mut [u8],
) -> Result<usize> {
    let start = source.position();
    let mut writer = SliceWriter::new(piece);
    let read = match &from {
        Some(offset) => source.read_at(&mut writer, **offset)?,
        None => source.read(&mut writer)?,
    };
    let mut written = 0;
    while written < read {
        // Made anew: some devices swallow without reading.
        let mut reader = SliceReader::new(piece.get(written..read).unwrap_or_default());
        let part = match &to {
            Some(offset) => target.write_at(&mut reader, **offset + written as u64),
            None => target.write(&mut reader),
        };
        match part {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(_) if written > 0 => break,
            Err(error) => {
                give_back(source, &from, start);
                return Err(error);
            }
        }
    }
    match from {
        Some(offset) => *offset += written as u64,
        None if written < read => give_back(source, &None, start + written as u64),
        None => {}
    }
    if let Some(offset) = to {
        *offset += written as u64;
    }
    Ok(written)
}

/// Sets the source's own offset back, where it has one.
fn give_back(source: &File, from: &Option<&mut u64>, position: u64) {
    if from.is_none() && source.is_seekable() {
        let _ = source.seek(crate::file::SeekFrom::Start(position as i64));
    }
}
