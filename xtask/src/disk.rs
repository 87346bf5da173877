//! Disks of a virtual machine: `--disk FILE[,if=virtio|nvme|mmio][,ro][,write][,format=raw|qcow2]`, as QEMU's arguments.
//!
//! A run leaves the file as it was unless `write` is asked for: QEMU keeps what the guest writes in an overlay that is gone with
//! the run. A comma in a file's name is written twice, as QEMU has it. Errors of the file reach the guest as errors of the disk;
//! the machine is never stopped for them.

use crate::qemu::Machine;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a disk is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interface {
    /// virtio-blk, on whatever bus the machine has for it.
    Virtio,
    /// NVMe, on PCI.
    Nvme,
    /// virtio-blk on virtio-mmio: only microvm has that bus.
    Mmio,
}

/// What becomes of what the guest writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It is there until the machine ends.
    CopyOnWrite,
    /// It is written to the file.
    Write,
    /// The disk says that it cannot be written.
    ReadOnly,
}

/// A disk image and how the guest sees it. `disk0` is the identifier of the first one's device in QEMU, `drive0` of what is behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// The image.
    pub file: PathBuf,
    /// How it is attached.
    pub interface: Interface,
    /// What may be done to it.
    pub access: Access,
    /// `raw` or `qcow2`.
    pub format: &'static str,
    /// A file of rules for QEMU's `blkdebug`: which transfers fail.
    pub faults: Option<PathBuf>,
    /// More options of QEMU's device, each with a comma in front.
    pub options: String,
}

impl Disk {
    /// A raw image behind virtio-blk that the guest writes.
    pub fn writable(file: &Path) -> Disk {
        Disk {
            file: file.to_path_buf(),
            interface: Interface::Virtio,
            access: Access::Write,
            format: "raw",
            faults: None,
            options: String::new(),
        }
    }

    /// An image behind virtio-blk that stays as it is.
    pub fn copy_on_write(file: &Path) -> Result<Disk> {
        Ok(Disk { access: Access::CopyOnWrite, format: format_of(file)?, ..Disk::writable(file) })
    }

    /// Gives a machine its disks.
    pub fn attach(disks: &[Disk], machine: Machine, qemu: &mut Command) -> Result<()> {
        for (index, disk) in disks.iter().enumerate() {
            let device = disk.device(machine, index)?;
            qemu.arg("-drive").arg(disk.drive(index)).arg("-device").arg(device);
        }
        Ok(())
    }

    fn drive(&self, index: usize) -> String {
        let name = |path: &Path| path.display().to_string().replace(',', ",,");
        let file = match &self.faults {
            Some(rules) => format!("blkdebug:{}:{}", name(rules), name(&self.file)),
            None => name(&self.file),
        };
        let access = match self.access {
            Access::CopyOnWrite => ",snapshot=on",
            Access::Write => "",
            Access::ReadOnly => ",read-only=on",
        };
        // What QEMU has written outlives QEMU, which is all that a run may end of; the host's own flushes cost much and prove nothing.
        format!(
            "file={file},format={},if=none,id=drive{index},cache=unsafe,discard=unmap,detect-zeroes=off,werror=report,rerror=report{access}",
            self.format
        )
    }

    fn device(&self, machine: Machine, index: usize) -> Result<String> {
        let parameters = format!("drive=drive{index},id=disk{index}{}", self.options);
        Ok(match (self.interface, machine) {
            (Interface::Virtio, Machine::Q35) => {
                // A port of its own each, so that one can be pulled out.
                format!("virtio-blk-pci,{parameters},bus=port{index}")
            }
            (Interface::Virtio | Interface::Mmio, Machine::Microvm | Machine::MicrovmNoAcpi) => {
                format!("virtio-blk-device,{parameters}")
            }
            (Interface::Nvme, Machine::Q35) => {
                format!("nvme,{parameters},serial=linnet{index},bus=port{index}")
            }
            (Interface::Nvme, _) => bail!("microvm has no PCI, so no NVMe"),
            (Interface::Mmio, Machine::Q35) => bail!("q35 has no virtio-mmio; use --machine microvm"),
        })
    }
}

impl std::str::FromStr for Disk {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Disk> {
        // Two commas are one of the file's name.
        let hidden = text.replace(",,", "\0");
        let mut parts = hidden.split(',');
        let file = PathBuf::from(parts.next().unwrap_or_default().replace('\0', ","));
        let mut disk = Disk::copy_on_write(&file)?;
        for part in parts {
            match part.split_once('=').unwrap_or((part, "")) {
                ("if", "virtio") => disk.interface = Interface::Virtio,
                ("if", "nvme") => disk.interface = Interface::Nvme,
                ("if", "mmio") => disk.interface = Interface::Mmio,
                ("ro", "") => disk.access = Access::ReadOnly,
                ("write", "") => disk.access = Access::Write,
                ("format", "raw") => disk.format = "raw",
                ("format", "qcow2") => disk.format = "qcow2",
                _ => bail!("--disk: {part:?} is none of if=virtio|nvme|mmio, ro, write, format=raw|qcow2"),
            }
        }
        Ok(disk)
    }
}

/// The format of an image by its first bytes.
fn format_of(file: &Path) -> Result<&'static str> {
    let mut start = [0; 4];
    let mut image =
        std::fs::File::open(file).with_context(|| format!("opening the disk {}", file.display()))?;
    let read = std::io::Read::read(&mut image, &mut start)?;
    Ok(if start[..read] == *b"QFI\xfb" { "qcow2" } else { "raw" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> Result<Disk> {
        format!("/dev/null{options}").parse()
    }

    #[test]
    fn a_disk_is_copied_on_write_unless_told_otherwise() {
        assert_eq!(parse("").unwrap().access, Access::CopyOnWrite);
        assert_eq!(parse(",write").unwrap().access, Access::Write);
        let disk = parse(",if=nvme,ro,format=qcow2").unwrap();
        assert_eq!((disk.interface, disk.access, disk.format), (Interface::Nvme, Access::ReadOnly, "qcow2"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(parse(",if=floppy").is_err());
        assert!(parse(",write=1").is_err());
        assert!("/nonexistent/image".parse::<Disk>().is_err());
    }

    #[test]
    fn a_comma_in_a_name_is_doubled_again() {
        let mut disk = parse("").unwrap();
        disk.file = "/a,b".into();
        assert!(disk.drive(0).starts_with("file=/a,,b,format=raw"));
        assert!(parse("").unwrap().device(Machine::Q35, 3).unwrap().contains("id=disk3,bus=port3"));
    }
}
