//! How much stack the kernel's functions take: a kernel stack is 16 KiB, and nothing else says that a large value was put on it.
//!
//! A function makes room with `sub rsp, N`, in its first instructions; one that takes a page or more does it page by page, touching each, so that
//! `sub rsp, 4096` is what a frame too large looks like, whatever it adds up to.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// A frame of this many bytes is too large: a quarter of a stack.
const LIMIT_BYTES: u32 = 4096;
/// How far into a function to look.
const PROLOGUE_BYTES: usize = 128;
/// `sub rsp, imm32`.
const SUBTRACT: [u8; 3] = [0x48, 0x81, 0xec];
/// Functions that run once, on a stack of the boot's own.
const ALLOWED: [&str; 1] = ["boot_main"];

/// Refuses a kernel with a function whose frame is too large.
pub fn check(kernel: &[u8]) -> Result<()> {
    let mut large = frames(kernel)?;
    large.retain(|(name, bytes)| *bytes >= LIMIT_BYTES && !ALLOWED.contains(&name.as_str()));
    large.sort();
    large.dedup();
    if large.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = large.into_iter().map(|(name, _)| format!("  {name}")).collect();
    bail!(
        "too much on the stack (frames of {LIMIT_BYTES} bytes or more; a stack has 16 KiB):\n{}",
        names.join("\n")
    )
}

/// The functions that make room in one step, and the bytes of the largest such step.
fn frames(kernel: &[u8]) -> Result<Vec<(String, u32)>> {
    let file = object::File::parse(kernel).context("the kernel's ELF file")?;
    let mut frames = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let Some(section) = symbol.section_index().and_then(|index| file.section_by_index(index).ok()) else {
            continue;
        };
        let Ok(Some(code)) = section.data_range(symbol.address(), symbol.size()) else { continue };
        if let Some(bytes) = largest_step(&code[..code.len().min(PROLOGUE_BYTES)]) {
            frames.push((format!("{:#}", rustc_demangle::demangle(symbol.name()?)), bytes));
        }
    }
    Ok(frames)
}

fn largest_step(code: &[u8]) -> Option<u32> {
    let step = |window: &[u8]| {
        let bytes = window.strip_prefix(&SUBTRACT)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    code.windows(7).filter_map(step).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_found_behind_the_pushes() {
        // push rbp; push rbx; sub rsp, 0x1000; mov qword ptr [rsp], 0; sub rsp, 0x348
        let code = b"\x55\x53\x48\x81\xec\x00\x10\x00\x00\x48\xc7\x04\x24\x00\x00\x00\x00\x48\x81\xec\x48\x03\x00\x00";
        assert_eq!(largest_step(code), Some(0x1000));
        // sub rsp, 0x28 is a shorter instruction.
        assert_eq!(largest_step(b"\x48\x83\xec\x28\xc3\x90\x90\x90"), None);
    }
}
