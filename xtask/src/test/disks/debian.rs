//! The Debian on a disk that tests run in (`tests/disks/packages` says what is installed), packages that it installs itself, and what the end
//! of a machine leaves of its disks.
//!
//! A test gets a raw copy of the image: QEMU's own formats keep some of what they know in QEMU, which a killed machine would lose.

use super::{Family, fsck};
use crate::apt::Apt;
use crate::disk::Disk;
use crate::root::Root;
use crate::root::debian::Debian;
use crate::util::{output, run_quiet};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the guest finds packages.
const REPOSITORY: &str = "/packages";

/// A machine is told to power off with a file system still mounted, on which somebody still writes: it is in order all the same.
pub(super) fn run(family: &mut Family) -> Result<()> {
    const CASE: &str = "disk_power_off";
    if family.takes(CASE) {
        let image = family.image("power-off", 64, &[])?;
        let script = "mkdir -p /mnt; mount -t ext4 /dev/vda /mnt || exit 3
cp -r /bin /mnt/
while :; do echo more; done >/mnt/open &
sleep 1";
        let ran = family.boot(&family.vm, vec![Disk::writable(&image)], &[], script, &mut |_| Ok(()))?;
        let wrong = match ran.wrong() {
            None => unclean(&image)?,
            wrong => wrong,
        };
        family.judge(CASE, wrong);
    }
    Ok(())
}

/// A copy of the root for one test.
pub(super) fn copy(family: &Family, name: &str) -> Result<PathBuf> {
    let root = Root::DebianDisk(Debian::listed("tests/disks/packages")?);
    let original = root.disk()?.context("the root is no disk")?;
    let path = family.folder.join(format!("{name}.img"));
    sparse_copy(&original.file, &path)?;
    Ok(path)
}

/// Copies an image with its holes.
pub fn sparse_copy(from: &Path, to: &Path) -> Result<()> {
    run_quiet(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to))
}

/// Packages of Debian's, and what `apt-get` asks a repository for, as files of the guest.
pub fn repository<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<(String, u32, Vec<u8>)>> {
    let apt = Apt::open("bookworm")?;
    let mut index = String::new();
    let mut files = Vec::new();
    for name in names {
        let package = apt.download(name)?;
        index += &stanza(&package)?;
        files.push((guest_path(&package), 0o644, std::fs::read(&package)?));
    }
    files.push((format!("{REPOSITORY}/Packages"), 0o644, index.into_bytes()));
    Ok(files)
}

fn guest_path(package: &Path) -> String {
    format!("{REPOSITORY}/{}", package.file_name().unwrap_or_default().to_string_lossy())
}

/// What a repository says of a package.
fn stanza(package: &Path) -> Result<String> {
    let control = output(Command::new("dpkg-deb").arg("-f").arg(package))?;
    let sum = output(Command::new("sha256sum").arg(package))?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    let size = std::fs::metadata(package)?.len();
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n\n", control.trim_end()))
}

/// What is wrong with a file system that was unmounted, or mounted read-only, before the machine ended.
pub fn unclean(image: &Path) -> Result<Option<String>> {
    if let Some(wrong) = fsck(image)? {
        return Ok(Some(wrong));
    }
    let head = output(Command::new("dumpe2fs").arg("-h").arg(image))?;
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
    let (features, state) = (value("Filesystem features:"), value("Filesystem state:"));
    let clean = state == "clean" && !features.split(' ').any(|name| name == "needs_recovery");
    Ok((!clean).then(|| format!("{}: left {state}, with {features}", image.display())))
}
