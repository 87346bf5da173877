//! Adds the table of function names that the kernel's backtraces use.
//!
//! The link script leaves a load segment at `__symbols_start`; its contents, described in
//! `machine/src/arch/x86_64/symbols.rs`, are put at the end of the file and the segment's header is pointed there.

use anyhow::{Context, Result};

const MAGIC: &[u8; 8] = b"LNSYM001";
const SECTION_SYMBOLS: u32 = 2;
const SEGMENT_LOAD: u32 = 1;
const KIND_FUNCTION: u8 = 2;
const PAGE: usize = 4096;

/// One symbol of the linked kernel.
struct Symbol {
    name: String,
    address: u64,
    is_function: bool,
}

/// Puts the names found in `full` into `stripped`; leaves it alone if the link script has no room for them.
pub fn add(full: &[u8], stripped: &mut Vec<u8>) -> Result<()> {
    let symbols = read_symbols(full).context("the kernel's symbol table is damaged")?;
    let find = |name: &str| symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address);
    let (Some(start), Some(image)) = (find("__symbols_start"), find("__image_start")) else { return Ok(()) };
    let Some(header) = segment_at(stripped, start) else { return Ok(()) };
    let table = table(&symbols, image);
    stripped.resize(stripped.len().next_multiple_of(PAGE), 0);
    let offset = stripped.len() as u64;
    let bytes = table.len().next_multiple_of(PAGE) as u64;
    stripped.extend(table);
    stripped.resize(stripped.len().next_multiple_of(PAGE), 0);
    for (at, value) in [(8, offset), (32, bytes), (40, bytes)] {
        stripped[header + at..header + at + 8].copy_from_slice(&value.to_le_bytes());
    }
    Ok(())
}

/// The table: header, (offset, name) pairs in order, names.
fn table(symbols: &[Symbol], image: u64) -> Vec<u8> {
    let mut functions: Vec<(u32, String)> = symbols
        .iter()
        .filter(|symbol| symbol.is_function)
        .filter_map(|symbol| {
            let offset = u32::try_from(symbol.address.checked_sub(image)?).ok()?;
            Some((offset, format!("{:#}", rustc_demangle::demangle(&symbol.name))))
        })
        .collect();
    functions.sort();
    functions.dedup_by_key(|(offset, _)| *offset);
    let mut pairs = Vec::new();
    let mut names = Vec::new();
    for (offset, name) in &functions {
        let name_at = 16 + functions.len() * 8 + names.len();
        pairs.extend(offset.to_le_bytes());
        pairs.extend((name_at as u32).to_le_bytes());
        names.extend(name.as_bytes());
        names.push(0);
    }
    let bytes = (16 + pairs.len() + names.len()) as u32;
    [&MAGIC[..], &bytes.to_le_bytes(), &(functions.len() as u32).to_le_bytes(), &pairs, &names].concat()
}

/// Where in the file the program header of the load segment at `address` is.
fn segment_at(file: &[u8], address: u64) -> Option<usize> {
    let (table, size, count) = (word(file, 32)? as usize, half(file, 54)?, half(file, 56)?);
    (0..usize::from(count))
        .map(|index| table + index * usize::from(size))
        .find(|header| int(file, *header) == Some(SEGMENT_LOAD) && word(file, header + 16) == Some(address))
}

fn read_symbols(file: &[u8]) -> Option<Vec<Symbol>> {
    let (table, size, count) = (word(file, 40)? as usize, usize::from(half(file, 58)?), half(file, 60)?);
    let section = |index: usize| table + index * size;
    let Some(symtab) =
        (0..usize::from(count)).map(section).find(|at| int(file, at + 4) == Some(SECTION_SYMBOLS))
    else {
        return Some(Vec::new());
    };
    let strtab = section(int(file, symtab + 40)? as usize);
    let (from, bytes) = (word(file, symtab + 24)? as usize, word(file, symtab + 32)? as usize);
    let names = file.get(word(file, strtab + 24)? as usize..)?;
    (from..from + bytes)
        .step_by(24)
        .map(|at| {
            let name = names.get(int(file, at)? as usize..)?;
            let end = name.iter().position(|byte| *byte == 0)?;
            Some(Symbol {
                name: String::from_utf8_lossy(&name[..end]).into_owned(),
                address: word(file, at + 8)?,
                is_function: file.get(at + 4)? & 15 == KIND_FUNCTION,
            })
        })
        .collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_offsets_are_right() {
        let symbol = |name: &str, address| Symbol { name: name.to_owned(), address, is_function: true };
        let bytes = table(&[symbol("later", 0x30), symbol("first", 0x20)], 0x10);
        assert_eq!(&bytes[..8], MAGIC);
        assert_eq!(int(&bytes, 8), Some(bytes.len() as u32));
        assert_eq!((int(&bytes, 12), int(&bytes, 16), int(&bytes, 24)), (Some(2), Some(0x10), Some(0x20)));
        assert!(bytes[int(&bytes, 20).unwrap_or(0) as usize..].starts_with(b"first\0"));
    }
}
