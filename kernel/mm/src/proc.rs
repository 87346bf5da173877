//! What `/proc/PID/maps` and `smaps` show of an address space.
//!
//! Readers work on a snapshot ([`AddressSpace::snapshot`]): nothing is held while they format. Formats as `proc(5)` and
//! as Linux prints them, byte for byte. Locks: none, except leaf locks while counting pages for `smaps`.

use crate::space::AddressSpace;
use crate::stats::FrameKind;
use crate::vma::{Backing, Protection, Vma, VmaFlags};
use core::fmt::{self, Write};
use machine::PAGE_SIZE;
use machine::memory::{EntryAction, EntryRef, FrameFlags, TlbBatch};

/// The column where names begin.
const NAME_COLUMN: usize = 73;

/// The page counts of one mapping, in KiB (proportional ones in bytes), named as the lines of `smaps`.
#[derive(Copy, Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Smaps {
    pub size: u64,
    pub rss: u64,
    /// In bytes.
    pub pss: u64,
    /// In bytes.
    pub pss_dirty: u64,
    pub shared_clean: u64,
    pub shared_dirty: u64,
    pub private_clean: u64,
    pub private_dirty: u64,
    pub referenced: u64,
    pub anonymous: u64,
    pub swap: u64,
    /// In bytes.
    pub swap_pss: u64,
    pub locked: u64,
}

/// Counts what is written through it and passes it on.
struct Counting<'a> {
    out: &'a mut dyn Write,
    written: usize,
}

impl Write for Counting<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.written += text.len();
        self.out.write_str(text)
    }
}

/// Passes a path on with newlines written as `\012`.
struct Escaping<'a>(&'a mut dyn Write);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (number, part) in text.split('\n').enumerate() {
            if number > 0 {
                self.0.write_str("\\012")?;
            }
            self.0.write_str(part)?;
        }
        Ok(())
    }
}

impl AddressSpace {
    /// Writes the line of `vma` in `/proc/PID/maps`.
    pub fn write_maps_line(&self, vma: &Vma, out: &mut dyn Write) -> fmt::Result {
        let mut line = Counting { out, written: 0 };
        let (protection, range) = (vma.protection(), vma.range());
        let letter = |right, letter| if protection.contains(right) { letter } else { '-' };
        let (major, minor) = vma.file().map_or((0, 0), |file| file.device());
        write!(
            line,
            "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
            range.start,
            range.end,
            letter(Protection::READ, 'r'),
            letter(Protection::WRITE, 'w'),
            letter(Protection::EXEC, 'x'),
            if vma.is_shared() { 's' } else { 'p' },
            if matches!(vma.backing(), Backing::Special { .. }) { 0 } else { vma.file_offset() },
            major,
            minor,
            vma.file().map_or(0, |file| file.inode_number()),
        )?;
        let padding = NAME_COLUMN.saturating_sub(line.written);
        if let Some(file) = vma.file() {
            write!(line, "{:padding$}", "")?;
            file.write_path(&mut Escaping(&mut line))?;
        } else if let Some(name) = self.special_name(vma) {
            write!(line, "{:padding$}{name}", "")?;
        }
        line.write_char('\n')
    }

    /// The bracketed name of a mapping without a file.
    /// Where kernel pages of this name are mapped (`[vvar]`).
    pub fn special_address(&self, name: &str) -> Option<usize> {
        let mappings = self.snapshot();
        mappings.iter().find(|(_, vma)| self.special_name(vma) == Some(name)).map(|(_, vma)| vma.start())
    }

    fn special_name(&self, vma: &Vma) -> Option<&'static str> {
        if let Backing::Special { pages, .. } = vma.backing() {
            return Some(pages.name);
        }
        let heap = self.heap();
        if vma.start() < heap.end && vma.end() > heap.start && !heap.is_empty() {
            return Some("[heap]");
        }
        let stack = self.program_info().start_stack;
        vma.range().contains(&stack).then_some("[stack]")
    }

    /// Counts the pages of `vma` for `smaps`.
    pub fn smaps(&self, vma: &Vma) -> Smaps {
        const KIB: u64 = PAGE_SIZE as u64 / 1024;
        let mut smaps = Smaps { size: vma.pages() as u64 * KIB, ..Smaps::default() };
        let mut batch = TlbBatch::new(self.page_table());
        self.page_table().update_entries(vma.range(), &mut batch, |_, entry| {
            let mapping = match entry {
                EntryRef::Page(mapping) => mapping,
                EntryRef::Swapped(slot) => {
                    smaps.swap += KIB;
                    smaps.swap_pss += PAGE_SIZE as u64 / u64::from(crate::swap::count_of(slot).max(1));
                    return EntryAction::Keep;
                }
            };
            let kind = FrameKind::of(mapping.frame);
            if kind == FrameKind::Uncounted {
                return EntryAction::Keep;
            }
            // The page cache, or a slot of swap space, holds one reference itself.
            let cached = u32::from(if kind == FrameKind::Anonymous {
                mapping.frame.state().flags().contains(FrameFlags::SWAP_CACHED)
            } else {
                mapping.frame.state().mapping.load(core::sync::atomic::Ordering::Relaxed) != 0
            });
            let users = u64::from(mapping.frame.ref_count().saturating_sub(cached).max(1));
            let dirty = mapping.dirty || kind == FrameKind::Anonymous;
            smaps.rss += KIB;
            smaps.pss += PAGE_SIZE as u64 / users;
            match (users > 1, dirty) {
                (true, true) => smaps.shared_dirty += KIB,
                (true, false) => smaps.shared_clean += KIB,
                (false, true) => smaps.private_dirty += KIB,
                (false, false) => smaps.private_clean += KIB,
            }
            smaps.pss_dirty += if dirty { PAGE_SIZE as u64 / users } else { 0 };
            smaps.referenced += if mapping.accessed { KIB } else { 0 };
            smaps.anonymous += if kind == FrameKind::Anonymous { KIB } else { 0 };
            EntryAction::Keep
        });
        if vma.flags().intersects(VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT) {
            smaps.locked = smaps.pss / 1024;
        }
        smaps
    }

    /// Writes the lines of `vma` in `/proc/PID/smaps`, the `maps` line first.
    pub fn write_smaps(&self, vma: &Vma, out: &mut dyn Write) -> fmt::Result {
        self.write_maps_line(vma, out)?;
        let smaps = self.smaps(vma);
        let page_kib = PAGE_SIZE as u64 / 1024;
        let lines = [
            ("Size:", smaps.size),
            ("KernelPageSize:", page_kib),
            ("MMUPageSize:", page_kib),
            ("Rss:", smaps.rss),
            ("Pss:", smaps.pss / 1024),
            ("Pss_Dirty:", smaps.pss_dirty / 1024),
            ("Shared_Clean:", smaps.shared_clean),
            ("Shared_Dirty:", smaps.shared_dirty),
            ("Private_Clean:", smaps.private_clean),
            ("Private_Dirty:", smaps.private_dirty),
            ("Referenced:", smaps.referenced),
            ("Anonymous:", smaps.anonymous),
            ("LazyFree:", 0),
            ("AnonHugePages:", 0),
            ("ShmemPmdMapped:", 0),
            ("FilePmdMapped:", 0),
            ("Shared_Hugetlb:", 0),
            ("Private_Hugetlb:", 0),
            ("Swap:", smaps.swap),
            ("SwapPss:", smaps.swap_pss / 1024),
            ("Locked:", smaps.locked),
        ];
        for (name, kib) in lines {
            writeln!(out, "{name:<16}{kib:>8} kB")?;
        }
        writeln!(out, "THPeligible:           0")?;
        if machine::thread::has_protection_keys() {
            writeln!(out, "ProtectionKey:  {:>8}", vma.protection().key())?;
        }
        out.write_str("VmFlags: ")?;
        for code in flag_codes(vma) {
            write!(out, "{code} ")?;
        }
        out.write_char('\n')
    }
}

/// The two-letter codes of the `VmFlags` line.
fn flag_codes(vma: &Vma) -> impl Iterator<Item = &'static str> {
    let (protection, flags) = (vma.protection(), vma.flags());
    let codes = [
        (protection.contains(Protection::READ), "rd"),
        (protection.contains(Protection::WRITE), "wr"),
        (protection.contains(Protection::EXEC), "ex"),
        (flags.contains(VmaFlags::SHARED), "sh"),
        (flags.contains(VmaFlags::MAY_READ), "mr"),
        (flags.contains(VmaFlags::MAY_WRITE), "mw"),
        (flags.contains(VmaFlags::MAY_EXEC), "me"),
        (flags.contains(VmaFlags::SHARED), "ms"),
        (flags.contains(VmaFlags::GROWS_DOWN), "gd"),
        (flags.contains(VmaFlags::LOCKED), "lo"),
        (flags.contains(VmaFlags::SEQUENTIAL_READ), "sr"),
        (flags.contains(VmaFlags::RANDOM_READ), "rr"),
        (flags.contains(VmaFlags::DONT_FORK), "dc"),
        (flags.contains(VmaFlags::SPECIAL), "de"),
        (flags.contains(VmaFlags::ACCOUNTED), "ac"),
        (flags.contains(VmaFlags::NO_RESERVE), "nr"),
        (flags.contains(VmaFlags::WIPE_ON_FORK), "wf"),
        (flags.contains(VmaFlags::DONT_DUMP), "dd"),
        (flags.contains(VmaFlags::HUGE_PAGES), "hg"),
        (flags.contains(VmaFlags::NO_HUGE_PAGES), "nh"),
    ];
    codes.into_iter().filter(|(set, _)| *set).map(|(_, code)| code)
}
