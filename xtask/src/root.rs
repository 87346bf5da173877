//! The root image: Debian's BusyBox, a whole Debian, or a folder or an archive of the user's.
//!
//! All are initramfs archives. `init` (in `xtask/root/`) is the first program for both kernels; what it shall
//! do comes in a second archive that `run` appends. `cargo xtask root debian` makes a Debian beforehand.

pub mod busybox;
pub mod debian;

use crate::cpio::{Archive, pad};
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
    /// A Debian with these packages; prints the path of the archive, which `run --root` takes.
    Debian(Debian),
}

/// `cargo xtask root`.
pub fn command(arguments: &RootArguments) -> Result<u8> {
    let What::Debian(debian) = &arguments.what;
    println!("{}", debian.make()?.display());
    Ok(0)
}

/// What the guest's root is made of.
#[derive(Clone)]
pub enum Root {
    /// Debian's `busybox-static`.
    Busybox,
    /// Debian, made by `cargo xtask root debian`.
    Debian(Debian),
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
        if !known {
            bail!(
                "--root {text}: not a cpio archive (plain, gzip or zstd); disk images are not supported yet"
            );
        }
        Ok(Root::Archive(path))
    }
}

impl Root {
    /// The archive's bytes, padded so that another archive may follow.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = match self {
            Root::Busybox => busybox::archive()?,
            Root::Debian(debian) => debian.archive()?,
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
