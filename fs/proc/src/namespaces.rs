//! Namespaces in `/proc/PID`: `ns/`, `uid_map`, `gid_map`, `projid_map`, `setgroups`, `timens_offsets`.
//!
//! Key types: [`NsDirectory`], and the files of the other names. What is written to a map is checked against who opened the
//! file, too, so those files have operations of their own. Locks: those of what is asked.

use crate::process::ProcessDirectory;
use abi::errno::{Errno, Result};
use abi::time::NSEC_PER_SEC;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use mm::io::{IoReader, IoWriter};
use security::{Capability, Credentials, UserNamespace};
use task::namespaces::id_maps::{self, MapKind};
use task::namespaces::{Namespace, NamespaceLink, OffsetClock, nsfs};
use vfs::pseudo::{Directory, Lister, Node};
use vfs::{File, FileKind, FileOperations};

/// `/proc/PID/ns`.
pub struct NsDirectory(pub ProcessDirectory);

impl Directory for NsDirectory {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        self.0.process()?;
        let found = NamespaceLink::ALL.iter().find(|(known, _)| known.as_bytes() == name);
        let (_, link) = *found.ok_or(Errno::ENOENT)?;
        let directory = self.0.clone();
        Ok(Node::magic_link(move || {
            directory.check_access()?;
            nsfs::place(&Namespace::of_task(&*directory.task()?, link)?)
        }))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        self.0.process()?;
        for (index, (name, _)) in NamespaceLink::ALL.iter().enumerate().skip(cursor as usize) {
            if !take(name.as_bytes(), FileKind::Symlink, index as u64 + 2, index as u64 + 1) {
                break;
            }
        }
        Ok(())
    }
}

/// All of a small write at the start of a file. `EINVAL`: elsewhere, or a page or more.
fn whole_input(from: &mut dyn IoReader, offset: u64) -> Result<Vec<u8>> {
    let count = from.remaining();
    if offset != 0 || count >= machine::PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    let mut input = Vec::new();
    input.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    input.resize(count, 0);
    from.read_exact(&mut input).map_err(|_| Errno::EFAULT)?;
    Ok(input)
}

fn show(text: &str, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = text.as_bytes().get(start..).unwrap_or_default();
    if rest.is_empty() { Ok(0) } else { to.write_bytes(rest) }
}

fn current_credentials() -> Result<Arc<Credentials>> {
    task::task::with_current(|task| task.credentials()).ok_or(Errno::EPERM)
}

/// One of the three maps.
struct MapFile {
    directory: ProcessDirectory,
    kind: MapKind,
}

/// The file of a map.
pub fn map_file(directory: &ProcessDirectory, kind: MapKind) -> Node {
    Node::file(0o644, Arc::new(MapFile { directory: directory.clone(), kind }))
}

impl MapFile {
    /// The lines, with the outside numbers as the file's opener sees them.
    fn text(&self, opener: &UserNamespace) -> Result<String> {
        let namespace = self.directory.user_namespace()?;
        let outside = match namespace.parent() {
            Some(parent) if core::ptr::eq(opener, &*namespace) => parent,
            _ => opener,
        };
        let mut out = String::new();
        for range in self.kind.of(&namespace).map_or(&[][..], |map| map.ranges()) {
            let lower = self.kind.of(outside).and_then(|map| map.from_kernel(range.outside));
            let lower = lower.unwrap_or(u32::MAX);
            writeln!(out, "{:>10} {lower:>10} {:>10}", range.inside, range.length)
                .map_err(|_| Errno::ENOMEM)?;
        }
        Ok(out)
    }
}

impl FileOperations for MapFile {
    fn read(&self, file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        show(&self.text(&file.credentials().user_namespace)?, to, offset)
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        let input = whole_input(from, offset)?;
        let namespace = self.directory.user_namespace()?;
        id_maps::write(self.kind, &namespace, &input, &*current_credentials()?, file.credentials())?;
        Ok(input.len())
    }
}

/// `setgroups`.
struct SetgroupsFile(ProcessDirectory);

/// The file that allows or denies setgroups(2).
pub fn setgroups_file(directory: &ProcessDirectory) -> Node {
    Node::file(0o644, Arc::new(SetgroupsFile(directory.clone())))
}

impl FileOperations for SetgroupsFile {
    fn read(&self, _file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        let allowed = self.0.user_namespace()?.setgroups_allowed();
        show(if allowed { "allow\n" } else { "deny\n" }, to, offset)
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        /// The longest word and some white space.
        const LONGEST: usize = 7;
        let namespace = self.0.user_namespace()?;
        if !file.credentials().capable(&namespace, Capability::SysAdmin) {
            return Err(Errno::EACCES);
        }
        let input = whole_input(from, offset)?;
        let allow = match input.trim_ascii_end() {
            _ if input.len() > LONGEST => return Err(Errno::EINVAL),
            b"allow" => true,
            b"deny" => false,
            _ => return Err(Errno::EINVAL),
        };
        namespace.set_setgroups(allow)?;
        Ok(input.len())
    }
}

/// `timens_offsets`.
struct OffsetsFile(ProcessDirectory);

/// The file with the clock offsets of a process's children.
pub fn timens_offsets_file(directory: &ProcessDirectory) -> Node {
    Node::file(0o644, Arc::new(OffsetsFile(directory.clone())))
}

/// A line of offsets: a clock, seconds, nanoseconds. `EINVAL`.
fn parse_offset(line: &str) -> Result<(OffsetClock, i64, u32)> {
    let mut words = line.split_ascii_whitespace();
    let clock = words.next().and_then(OffsetClock::named).ok_or(Errno::EINVAL)?;
    let seconds = words.next().and_then(|word| word.parse().ok()).ok_or(Errno::EINVAL)?;
    let nanoseconds: u32 = words.next().and_then(|word| word.parse().ok()).ok_or(Errno::EINVAL)?;
    if words.next().is_some() || u64::from(nanoseconds) >= NSEC_PER_SEC {
        return Err(Errno::EINVAL);
    }
    Ok((clock, seconds, nanoseconds))
}

impl FileOperations for OffsetsFile {
    fn read(&self, _file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        let clocks = self.0.task()?.live_namespaces()?.time_for_children.clone();
        let mut out = String::new();
        for (name, clock) in [("monotonic", OffsetClock::Monotonic), ("boottime", OffsetClock::Boottime)] {
            let ns = clocks.offset_ns(clock);
            let second = NSEC_PER_SEC as i64;
            writeln!(out, "{name:<10} {:>10} {:>9}", ns.div_euclid(second), ns.rem_euclid(second))
                .map_err(|_| Errno::ENOMEM)?;
        }
        show(&out, to, offset)
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, offset: u64) -> Result<usize> {
        let input = whole_input(from, offset)?;
        let text = core::str::from_utf8(&input).map_err(|_| Errno::EINVAL)?;
        let lines = text.lines().filter(|line| !line.is_empty());
        let offsets = lines.map(parse_offset).collect::<Result<Vec<_>>>()?;
        if offsets.is_empty() {
            return Err(Errno::EINVAL);
        }
        let clocks = self.0.task()?.live_namespaces()?.time_for_children.clone();
        if !file.credentials().capable(clocks.head().owner(), Capability::SysTime) {
            return Err(Errno::EPERM);
        }
        clocks.set_offsets(&offsets)?;
        Ok(input.len())
    }
}
