//! A Debian on a disk: the archive that `debian` makes, unpacked into an ext4 image by Debian's `mkfs.ext4 -d`.
//!
//! The image has no partitions. It is sparse, has room for as much again and half a GiB more, and is kept beside the archive it is made of.

use super::debian::Debian;
use crate::deps;
use crate::util::{run, run_quiet, say};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What Debian's `mke2fs.conf` turns on since Debian 13; Debian 12's `mkfs.ext4` knows all of it.
const FEATURES: &str = "metadata_csum_seed,orphan_file";

/// Makes the image unless it is there.
pub fn make(debian: &Debian) -> Result<PathBuf> {
    let archive = debian.make()?;
    let image = archive.with_extension("ext4");
    if image.is_file() {
        return Ok(image);
    }
    deps::need(&deps::MKFS_EXT4)?;
    deps::need(&deps::CPIO)?;
    let is_root = crate::util::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root {
        deps::need(&deps::FAKEROOT)?;
    }
    say("making a disk of it");
    let folder = archive.with_extension(format!("tree{}", std::process::id()));
    let unfinished = archive.with_extension(format!("new{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let made = fill(&archive, &folder, &unfinished, is_root);
    std::fs::remove_dir_all(&folder)?;
    if let Err(error) = made {
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    std::fs::rename(&unfinished, &image).with_context(|| format!("renaming to {}", image.display()))?;
    Ok(image)
}

/// Unpacks the archive and makes the file system, in one process of fakeroot's if need be, which knows the owners only so long.
fn fill(archive: &Path, folder: &Path, image: &Path, is_root: bool) -> Result<()> {
    let size = std::fs::metadata(archive)?.len() * 2 + (512 << 20);
    File::create(image)?.set_len(size)?;
    let script = format!(
        "cd \"$1\" && cpio --quiet -idm --no-absolute-filenames <\"$2\" && mkfs.ext4 -q -F -O {FEATURES} -L debian -d . \"$3\""
    );
    let mut command = if is_root { Command::new("sh") } else { Command::new(deps::FAKEROOT.program) };
    if !is_root {
        command.args(["--", "sh"]);
    }
    command.args(["-c", &script, "sh"]).args([folder, archive, image]);
    run(&mut command)?;
    run_quiet(Command::new("fsck.ext4").arg("-fn").arg(image)).context("the new image is not in order")
}

/// Whether a file is a disk with something on it that a kernel may mount: ext2 to ext4 on the whole of it, or QEMU's format.
pub fn is_one(file: &mut File) -> Result<bool> {
    let mut start = [0; 4];
    let mut magic = [0; 2];
    file.seek(SeekFrom::Start(0))?;
    if file.read_exact(&mut start).is_err() {
        bail!("it is empty");
    }
    file.seek(SeekFrom::Start(1024 + 56))?;
    Ok(start == *b"QFI\xfb" || file.read_exact(&mut magic).is_ok() && magic == [0x53, 0xef])
}
