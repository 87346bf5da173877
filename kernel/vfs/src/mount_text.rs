//! The text of `/proc/PID/mounts` and `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
//!
//! Locks: none; mounts are listed one by one, each as it is at that moment.

use crate::dentry::{Dentry, flag};
use crate::mount::{Mount, MountNamespace};
use crate::path::Path;
use abi::mount::MountFlags;
use alloc::sync::Arc;
use core::fmt::{self, Write};

/// Writes a name with what would confuse readers as octal escapes.
fn write_escaped(text: &[u8], out: &mut dyn Write) -> fmt::Result {
    for piece in text.utf8_chunks() {
        for character in piece.valid().chars() {
            match character {
                ' ' | '\t' | '\n' | '\\' | '#' => write!(out, "\\{:03o}", character as u32)?,
                other => out.write_char(other)?,
            }
        }
        piece.invalid().iter().try_for_each(|byte| write!(out, "\\{byte:03o}"))?;
    }
    Ok(())
}

fn write_flags(flags: MountFlags, out: &mut dyn Write) -> fmt::Result {
    let names = [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
        (MountFlags::NOSYMFOLLOW, ",nosymfollow"),
    ];
    names.iter().filter(|(flag, _)| flags.contains(*flag)).try_for_each(|(_, name)| out.write_str(name))
}

fn access(read_only: bool) -> &'static str {
    if read_only { "ro" } else { "rw" }
}

/// The place of a mount as seen from `root`; `None` if it cannot be seen from there.
fn place(mount: &Arc<Mount>, root: &Path) -> Option<alloc::vec::Vec<u8>> {
    let path = Path { mount: mount.clone(), dentry: mount.root().clone() };
    let text = path.text(root).ok()?;
    text.reachable.then_some(text.bytes)
}

/// The path of a dentry within its file system.
fn path_within(dentry: &Arc<Dentry>) -> alloc::vec::Vec<u8> {
    if dentry.flags() & flag::ANONYMOUS != 0 {
        return dentry.place_arc().map(|place| place.name().to_vec()).unwrap_or_default();
    }
    let mut names = alloc::vec::Vec::new();
    let mut at = Some(dentry.clone());
    while let Some(dentry) = at {
        if let Some(place) = dentry.place_arc().filter(|place| place.parent().is_some()) {
            names.push(place.name().to_vec());
        }
        at = dentry.parent().filter(|parent| !Arc::ptr_eq(parent, &dentry));
    }
    if names.is_empty() {
        return b"/".to_vec();
    }
    names.iter().rev().flat_map(|name| core::iter::once(b'/').chain(name.iter().copied())).collect()
}

impl MountNamespace {
    /// Writes `/proc/PID/mounts` for a process whose root is `root`.
    pub fn write_mounts(&self, root: &Path, out: &mut dyn Write) -> fmt::Result {
        for mount in self.mounts() {
            let Some(place) = place(&mount, root) else { continue };
            write_escaped(mount.source(), out)?;
            out.write_char(' ')?;
            write_escaped(&place, out)?;
            let superblock = mount.superblock();
            write!(out, " {} {}", superblock.type_name(), access(mount.is_read_only()))?;
            write_flags(mount.flags(), out)?;
            superblock.operations().show_options(superblock, out)?;
            out.write_str(" 0 0\n")?;
        }
        Ok(())
    }

    /// Writes `/proc/PID/mountinfo` for a process whose root is `root`.
    pub fn write_mountinfo(&self, root: &Path, out: &mut dyn Write) -> fmt::Result {
        for mount in self.mounts() {
            let Some(place) = place(&mount, root) else { continue };
            let superblock = mount.superblock();
            let parent = mount.attachment_path().map_or(mount.id(), |path| path.mount.id());
            let device = superblock.device();
            write!(out, "{} {parent} {}:{} ", mount.id(), device.major, device.minor)?;
            write_escaped(&path_within(mount.root()), out)?;
            out.write_char(' ')?;
            write_escaped(&place, out)?;
            write!(out, " {}", access(mount.is_read_only()))?;
            write_flags(mount.flags(), out)?;
            let propagation = mount.propagation();
            if propagation.peer_group != 0 {
                write!(out, " shared:{}", propagation.peer_group)?;
            }
            if propagation.master_group != 0 {
                write!(out, " master:{}", propagation.master_group)?;
            }
            if propagation.unbindable {
                out.write_str(" unbindable")?;
            }
            write!(out, " - {} ", superblock.type_name())?;
            write_escaped(mount.source(), out)?;
            write!(out, " {}", access(superblock.is_read_only()))?;
            superblock.operations().show_options(superblock, out)?;
            out.write_char('\n')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn names_are_escaped() {
        let mut out = String::new();
        write_escaped(b"a b\\c\nd\xff", &mut out).unwrap();
        assert_eq!(out, "a\\040b\\134c\\012d\\377");
    }
}
