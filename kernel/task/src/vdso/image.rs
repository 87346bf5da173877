//! The vDSO as an ELF shared object: headers, symbols with versions, hash table, code, all in one page.
//!
//! The dynamic loader and C libraries look up `__vdso_clock_gettime` and friends, version `LINUX_2.6`, through the program headers,
//! `DT_HASH`, `DT_SYMTAB`, `DT_VERSYM` and `DT_VERDEF` (vdso(7), gABI chapter 5). [`build`] makes the bytes; pure.

use super::code::{DATA_DISTANCES_AT, FUNCTIONS, TEXT};
use alloc::string::String;
use alloc::vec::Vec;

const PAGE: usize = machine::PAGE_SIZE;
const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
const SYMBOL_SIZE: usize = 24;
/// PT_LOAD, PT_DYNAMIC.
const PROGRAM_HEADERS: usize = 2;
const SONAME: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";
/// Version indices: 0 local, 1 the object itself, 2 ours.
const VERSION_INDEX: u16 = 2;

/// An offset in the image of each part.
struct Parts {
    hash: usize,
    symbols: usize,
    strings: usize,
    versions: usize,
    definitions: usize,
    dynamic: usize,
    text: usize,
    end: usize,
}

/// The symbol names: each function twice, with and without the prefix.
fn names() -> Vec<(String, usize, usize)> {
    let mut names = Vec::new();
    for (name, start, size) in FUNCTIONS {
        let mut prefixed = String::from("__vdso_");
        prefixed.push_str(name);
        names.push((prefixed, start, size));
        names.push((String::from(name), start, size));
    }
    names
}

/// The hash function of the System V ABI (gABI, figure 5-13).
pub fn elf_hash(name: &[u8]) -> u32 {
    let mut hash: u32 = 0;
    for &byte in name {
        hash = (hash << 4).wrapping_add(u32::from(byte));
        let high = hash & 0xf000_0000;
        hash = (hash ^ (high >> 24)) & !high;
    }
    hash
}

/// A string table that is filled while the others are made.
struct StringTable(Vec<u8>);

impl StringTable {
    fn add(&mut self, name: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        at
    }
}

fn push_all(bytes: &mut Vec<u8>, words: &[&[u8]]) {
    for word in words {
        bytes.extend_from_slice(word);
    }
}

/// Builds the image; `None` if it does not fit its page (it does: a test says so).
pub fn build() -> Option<Vec<u8>> {
    let names = names();
    let mut strings = StringTable(alloc::vec![0]);
    let name_at: Vec<u32> = names.iter().map(|(name, ..)| strings.add(name)).collect();
    let soname = strings.add(SONAME);
    let version = strings.add(VERSION);
    let parts = lay_out(names.len(), strings.0.len());
    if parts.end > PAGE {
        return None;
    }
    let mut image = Vec::new();
    header(&mut image);
    program_headers(&mut image, &parts);
    pad_to(&mut image, parts.hash);
    hash_table(&mut image, &names);
    pad_to(&mut image, parts.symbols);
    symbol_table(&mut image, &names, &name_at, parts.text);
    image.extend_from_slice(&strings.0);
    pad_to(&mut image, parts.versions);
    image.extend_from_slice(&0u16.to_le_bytes());
    for _ in &names {
        image.extend_from_slice(&VERSION_INDEX.to_le_bytes());
    }
    pad_to(&mut image, parts.definitions);
    version_definitions(&mut image, soname, version);
    pad_to(&mut image, parts.dynamic);
    dynamic_section(&mut image, &parts, soname, strings.0.len());
    pad_to(&mut image, parts.text);
    text(&mut image, parts.text);
    pad_to(&mut image, PAGE);
    Some(image)
}

fn pad_to(image: &mut Vec<u8>, offset: usize) {
    image.resize(offset, 0);
}

fn lay_out(symbols: usize, strings: usize) -> Parts {
    let hash = HEADER_SIZE + PROGRAM_HEADERS * PROGRAM_HEADER_SIZE;
    let symbol_count = symbols + 1;
    let symbol_at = (hash + 4 * (2 + 1 + symbol_count)).next_multiple_of(8);
    let string_at = symbol_at + symbol_count * SYMBOL_SIZE;
    let version_at = (string_at + strings).next_multiple_of(8);
    let definitions = (version_at + 2 * symbol_count).next_multiple_of(8);
    let dynamic = (definitions + 2 * (20 + 8)).next_multiple_of(8);
    let text = (dynamic + 10 * 16).next_multiple_of(64);
    Parts {
        hash,
        symbols: symbol_at,
        strings: string_at,
        versions: version_at,
        definitions,
        dynamic,
        text,
        end: text + TEXT.len(),
    }
}

fn header(image: &mut Vec<u8>) {
    let half = |value: u16| value.to_le_bytes();
    let long = |value: u64| value.to_le_bytes();
    push_all(
        image,
        &[
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
            &half(3),
            &half(62),
            &1u32.to_le_bytes(),
            &long(0),
            &long(HEADER_SIZE as u64),
            &long(0),
            &0u32.to_le_bytes(),
            &half(HEADER_SIZE as u16),
            &half(PROGRAM_HEADER_SIZE as u16),
            &half(PROGRAM_HEADERS as u16),
            &half(64),
            &half(0),
            &half(0),
        ],
    );
}

fn program_headers(image: &mut Vec<u8>, parts: &Parts) {
    let mut add = |kind: u32, flags: u32, offset: usize, size: usize, align: u64| {
        let long = |value: usize| (value as u64).to_le_bytes();
        push_all(
            image,
            &[
                &kind.to_le_bytes(),
                &flags.to_le_bytes(),
                &long(offset),
                &long(offset),
                &long(offset),
                &long(size),
                &long(size),
                &align.to_le_bytes(),
            ],
        );
    };
    add(1, 5, 0, parts.end, PAGE as u64);
    add(2, 4, parts.dynamic, 10 * 16, 8);
}

/// One bucket with all symbols in its chain: there are ten.
fn hash_table(image: &mut Vec<u8>, names: &[(String, usize, usize)]) {
    let count = names.len() as u32 + 1;
    let mut words = alloc::vec![1, count, 1, 0];
    words.extend((1..count).map(|symbol| if symbol + 1 < count { symbol + 1 } else { 0 }));
    for word in words {
        image.extend_from_slice(&u32::to_le_bytes(word));
    }
}

fn symbol_table(image: &mut Vec<u8>, names: &[(String, usize, usize)], name_at: &[u32], text: usize) {
    image.extend_from_slice(&[0; SYMBOL_SIZE]);
    for ((name, start, size), at) in names.iter().zip(name_at) {
        // Global or weak function, default visibility, in "a section" that is not the undefined one.
        let info: u8 = if name.starts_with("__vdso_") { 0x12 } else { 0x22 };
        let (value, size) = ((text + start) as u64, *size as u64);
        push_all(
            image,
            &[&at.to_le_bytes(), &[info, 0], &1u16.to_le_bytes(), &value.to_le_bytes(), &size.to_le_bytes()],
        );
    }
}

/// `Elf64_Verdef` of the object itself and of the version, each with one name.
fn version_definitions(image: &mut Vec<u8>, soname: u32, version: u32) {
    let mut add = |flags: u16, index: u16, name: &str, at: u32, next: u32| {
        let half = |value: u16| value.to_le_bytes();
        let word = |value: u32| value.to_le_bytes();
        let hash = elf_hash(name.as_bytes());
        push_all(
            image,
            &[&half(1), &half(flags), &half(index), &half(1), &word(hash), &word(20), &word(next)],
        );
        push_all(image, &[&word(at), &word(0)]);
    };
    add(1, 1, SONAME, soname, 28);
    add(0, VERSION_INDEX, VERSION, version, 0);
}

fn dynamic_section(image: &mut Vec<u8>, parts: &Parts, soname: u32, strings: usize) {
    const DT_VERSYM: u64 = 0x6fff_fff0;
    const DT_VERDEF: u64 = 0x6fff_fffc;
    const DT_VERDEFNUM: u64 = 0x6fff_fffd;
    let entries: [(u64, u64); 10] = [
        (14, u64::from(soname)),
        (4, parts.hash as u64),
        (5, parts.strings as u64),
        (6, parts.symbols as u64),
        (10, strings as u64),
        (11, SYMBOL_SIZE as u64),
        (DT_VERSYM, parts.versions as u64),
        (DT_VERDEF, parts.definitions as u64),
        (DT_VERDEFNUM, 2),
        (0, 0),
    ];
    for (tag, value) in entries {
        image.extend_from_slice(&tag.to_le_bytes());
        image.extend_from_slice(&value.to_le_bytes());
    }
}

/// The code, with the distance from its one data access to the page before the image.
fn text(image: &mut Vec<u8>, at: usize) {
    let start = image.len();
    image.extend_from_slice(&TEXT);
    for place in DATA_DISTANCES_AT {
        let distance = -((at + place + 4 + PAGE) as i32);
        if let Some(slot) = image.get_mut(start + place..start + place + 4) {
            slot.copy_from_slice(&distance.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(image: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
    }

    fn half_word(image: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
    }

    /// Looks a symbol up as a C library does.
    fn find(image: &[u8], wanted: &str) -> Option<u64> {
        let dynamic = word(image, HEADER_SIZE + PROGRAM_HEADER_SIZE + 8) as usize;
        let entry = |tag: u64| {
            (0..10)
                .map(|i| dynamic + 16 * i)
                .find(|at| word(image, *at) == tag)
                .map(|at| word(image, at + 8) as usize)
        };
        let (hash, strings, symbols) = (entry(4)?, entry(5)?, entry(6)?);
        assert_eq!(half_word(image, hash), 1);
        let mut symbol = half_word(image, hash + 8) as usize;
        while symbol != 0 {
            let at = symbols + symbol * SYMBOL_SIZE;
            let name = &image[strings + half_word(image, at) as usize..];
            if name.split(|b| *b == 0).next()? == wanted.as_bytes() {
                return Some(word(image, at + 8));
            }
            symbol = half_word(image, hash + 12 + 4 * symbol) as usize;
        }
        None
    }

    #[test]
    fn every_function_is_found_where_its_code_is() {
        let image = build().expect("fits a page");
        assert_eq!(image.len(), PAGE);
        for (name, start, size) in FUNCTIONS {
            let at = find(&image, &std::format!("__vdso_{name}")).unwrap() as usize;
            assert_eq!(find(&image, name), Some(at as u64));
            let code = &image[at..at + size];
            // With a return, or a jump back to try once more.
            assert!(code.ends_with(&[0xc3]) || code[size - 5] == 0xe9, "{name} ends in {code:x?}");
            assert_eq!(image[at], TEXT[start]);
        }
        assert_eq!(find(&image, "nothing"), None);
    }

    #[test]
    fn the_hash_is_that_of_the_abi() {
        assert_eq!(elf_hash(b"LINUX_2.6"), 0x03ae_75f6);
        assert_eq!(elf_hash(b""), 0);
    }

    #[test]
    fn a_second_is_found_without_division() {
        // What `split` in the code does, with its constants.
        let seconds = |ns: u64| ((u128::from(ns >> 9) * 0x0044_b82f_a09b_5a53) >> 64) as u64 >> 11;
        let microseconds = |ns: u64| (ns * 0x1062_4dd3) >> 38;
        assert!(TEXT.windows(8).any(|bytes| bytes == 0x0044_b82f_a09b_5a53_u64.to_le_bytes()));
        let edges = [1, 2, 3, 1_700_000_000, u64::MAX / 1_000_000_000];
        for ns in
            edges.into_iter().flat_map(|s| [s * 1_000_000_000 - 1, s * 1_000_000_000, s * 1_000_000_000 + 1])
        {
            assert_eq!(seconds(ns), ns / 1_000_000_000);
        }
        let mut ns = 0_u64;
        for _ in 0..1_000_000 {
            ns = ns.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            assert_eq!(seconds(ns), ns / 1_000_000_000);
            assert_eq!(microseconds(ns % 1_000_000_000), ns % 1_000_000_000 / 1000);
        }
        assert_eq!(seconds(u64::MAX), u64::MAX / 1_000_000_000);
    }

    #[test]
    fn the_data_page_is_before_the_image() {
        let image = build().unwrap();
        let text = find(&image, FUNCTIONS[0].0).unwrap() as usize - FUNCTIONS[0].1;
        for place in DATA_DISTANCES_AT {
            let distance = half_word(&image, text + place) as i32;
            assert_eq!((text + place + 4) as i32 + distance, -(PAGE as i32));
        }
    }
}
