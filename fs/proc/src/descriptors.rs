//! `/proc/PID/fd` and `/proc/PID/fdinfo`: the open descriptors of a process.
//!
//! Key type: [`FdDirectory`]. A link in `fd` leads straight to the open file's place, whatever its text says. Locks: none.

use crate::process::ProcessDirectory;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::fmt::Write;
use vfs::descriptor::{CloseOnExec, DescriptorTable};
use vfs::pseudo::{Directory, Lister, Node, Text};
use vfs::{File, FileKind, NameCaching};

/// Which of the two directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdKind {
    /// `fd`: links.
    Links,
    /// `fdinfo`: text.
    Info,
}

/// One of the two directories.
pub struct FdDirectory {
    process: ProcessDirectory,
    kind: FdKind,
}

impl FdDirectory {
    /// The directory of this process.
    pub fn new(process: ProcessDirectory, kind: FdKind) -> FdDirectory {
        FdDirectory { process, kind }
    }

    /// The table. Errors: `EACCES`, `ESRCH`; `ENOENT` once it has been given up.
    fn table(&self) -> Result<Arc<DescriptorTable>> {
        self.process.check_access()?;
        self.process.task()?.files().ok_or(Errno::ENOENT)
    }
}

/// The permission bits of a link show how the file is open.
fn link_mode(file: &File) -> u32 {
    let flags = file.flags();
    let (read, write) =
        (if flags.reads() { 0o500 } else { 0o100 }, if flags.writes() { 0o300 } else { 0o100 });
    read | write
}

fn info(table: &DescriptorTable, number: i32, file: &File, out: &mut Text) -> Result<()> {
    let mut flags = file.flags().bits();
    if table.close_on_exec(number)? == CloseOnExec::Yes {
        flags |= abi::fcntl::O_CLOEXEC;
    }
    let (mount, inode) = (file.path().mount.id(), file.inode()?.number());
    write!(out, "pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{inode}\n", file.position())
        .and_then(|()| file.operations().show_fdinfo(file, out))
        .map_err(|_| Errno::ENOMEM)
}

impl Directory for FdDirectory {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let number: i32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if alloc::format!("{number}").as_bytes() != name {
            return Err(Errno::ENOENT);
        }
        let table = self.table()?;
        let file = table.get(number).map_err(|_| Errno::ENOENT)?;
        let still = Arc::downgrade(&table);
        let weak = Arc::downgrade(&file);
        let same = move || match (still.upgrade(), weak.upgrade()) {
            (Some(table), Some(file)) => table.get(number).is_ok_and(|now| Arc::ptr_eq(&now, &file)),
            _ => false,
        };
        let node = match self.kind {
            FdKind::Links => {
                let (table, mode) = (Arc::downgrade(&table), link_mode(&file));
                let place = move || {
                    let table = table.upgrade().ok_or(Errno::ENOENT)?;
                    Ok(table.get(number).map_err(|_| Errno::ENOENT)?.path().clone())
                };
                Node::magic_link(place).mode(mode)
            }
            FdKind::Info => {
                let table = Arc::downgrade(&table);
                Node::text_with(0o400, move |out| {
                    let table = table.upgrade().ok_or(Errno::ENOENT)?;
                    let file = table.get(number).map_err(|_| Errno::ENOENT)?;
                    info(&table, number, &file, out)
                })
            }
        };
        Ok(node.valid_while(same))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let table = self.table()?;
        let mut from = i32::try_from(cursor).unwrap_or(i32::MAX);
        let kind = if self.kind == FdKind::Links { FileKind::Symlink } else { FileKind::Regular };
        while let Some((number, _)) = table.next_open(from) {
            let name = alloc::format!("{number}");
            from = number + 1;
            if !take(name.as_bytes(), kind, number as u64 + 2, from as u64) {
                break;
            }
        }
        Ok(())
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}
