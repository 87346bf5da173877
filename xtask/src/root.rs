//! The root image: Debian's BusyBox, a whole Debian, or a folder or an archive of the user's.
//!
//! They are initramfs archives or disks with ext4. `init` (in `xtask/root/`) is the first program for both kernels; what it shall
//! do comes in a second archive that `run` appends. A root on disk is mounted by the `init` of the BusyBox root, which then runs the disk's.
//! `cargo xtask root debian` makes a Debian beforehand.

pub mod busybox;
pub mod debian;
mod image;

use crate::cpio::{Archive, pad};
use crate::disk::Disk;
use crate::util::workspace;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use debian::Debian;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What `cargo xtask root` takes.
#[derive(Args)]
pub struct RootArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A Debian with these packages on an ext4 disk; prints the path of the image, which `run --root` takes.
    Debian(DebianArguments),
}

/// What `cargo xtask root debian` takes.
#[derive(Args)]
struct DebianArguments {
    #[command(flatten)]
    debian: Debian,
    /// Make a cpio archive, for a root in memory.
    #[arg(long)]
    archive: bool,
}

/// `cargo xtask root`.
pub fn command(arguments: &RootArguments) -> Result<u8> {
    let What::Debian(DebianArguments { debian, archive }) = &arguments.what;
    let made = if *archive { debian.make()? } else { image::make(debian)? };
    println!("{}", made.display());
    Ok(0)
}

/// What the guest's root is made of.
#[derive(Clone)]
pub enum Root {
    /// Debian's `busybox-static`.
    Busybox,
    /// Debian, made by `cargo xtask root debian`.
    Debian(Debian),
    /// The same on an ext4 disk.
    DebianDisk(Debian),
    /// A disk image of the user's with a file system that has an `/init` or an `/sbin/init`.
    Image(PathBuf),
    /// A host folder, packed as it is (owned by root).
    Folder(PathBuf),
    /// An initramfs in any compression the kernel knows.
    Archive(PathBuf),
}

impl std::str::FromStr for Root {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Root> {
        if text == "busybox" {
            return Ok(Root::Busybox);
        }
        if let Some(debian) = Debian::from_root(text)? {
            return Ok(Root::Debian(debian));
        }
        if let Some(rest) = text.strip_prefix("debian-disk")
            && let Some(debian) = Debian::from_root(&format!("debian{rest}"))?
        {
            return Ok(Root::DebianDisk(debian));
        }
        let path = PathBuf::from(text);
        if path.is_dir() {
            return Ok(Root::Folder(path));
        }
        let mut start = [0; 6];
        let mut file = std::fs::File::open(&path).with_context(|| format!("--root {text}"))?;
        let known = std::io::Read::read_exact(&mut file, &mut start).is_ok()
            && (start.starts_with(b"070701")
                || start.starts_with(&[0x1f, 0x8b])
                || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
        match (known, image::is_one(&mut file)?) {
            (true, _) => Ok(Root::Archive(path)),
            (false, true) => Ok(Root::Image(path)),
            (false, false) => bail!(
                "--root {text}: neither a cpio archive (plain, gzip or zstd) nor a disk image (ext4 or qcow2)"
            ),
        }
    }
}

impl Root {
    /// The archive's bytes, padded so that another archive may follow.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = match self {
            // On a disk, it only mounts what is the root then.
            Root::Busybox | Root::DebianDisk(_) | Root::Image(_) => busybox::archive()?,
            Root::Debian(debian) => {
                let mut bytes = debian.archive()?;
                pad(&mut bytes, 4);
                let mut first = Archive::new();
                first.file("init", 0o755, &init()?);
                bytes.extend(first.finish());
                bytes
            }
            Root::Folder(dir) => {
                let mut archive = Archive::new();
                archive.tree(dir, "")?;
                if !dir.join("init").exists() {
                    archive.file("init", 0o755, &init()?);
                }
                gzip(&archive.finish())?
            }
            Root::Archive(path) => std::fs::read(path)?,
        };
        pad(&mut bytes, 4);
        Ok(bytes)
    }
}

impl Root {
    /// Whether it is a disk, which must be the machine's first.
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Root::DebianDisk(_) | Root::Image(_))
    }

    /// The disk, copied on write.
    pub fn disk(&self) -> Result<Option<Disk>> {
        let file = match self {
            Root::DebianDisk(debian) => image::make(debian)?,
            Root::Image(path) => path.clone(),
            _ => return Ok(None),
        };
        Ok(Some(Disk::copy_on_write(&file)?))
    }
}

fn init() -> Result<Vec<u8>> {
    let path = workspace().join("xtask/root/init");
    std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Whether `file` exists and is newer than all of `ingredients`.
fn is_newer(file: &Path, ingredients: &[PathBuf]) -> bool {
    let time = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    let Some(made) = time(file) else { return false };
    ingredients.iter().all(|path| time(path).is_some_and(|changed| changed < made))
}
