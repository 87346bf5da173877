//! Debian's Linux kernel for `--kernel linux`: the oracle that every guest test must first pass on.
//!
//! The newest cloud kernel of trixie-backports is fetched as a package, checked by APT against Debian's
//! signatures, and kept below `target/linux/` by version. Where it has no driver for a device ([`Flavour`]), Debian's ordinary kernel is.

mod modules;

use crate::apt::Apt;
use crate::util::{target_sub, write_atomically};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

const SUITE: &str = "trixie-backports";

/// Which of Debian's kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    /// The one for virtual machines, with few drivers and quick to boot.
    Cloud,
    /// The one for everything: it has virtio-9p and virtio-console.
    Generic,
}

impl Flavour {
    /// The package that depends on the newest one.
    fn package(self) -> &'static str {
        match self {
            Flavour::Cloud => "linux-image-cloud-amd64",
            Flavour::Generic => "linux-image-amd64",
        }
    }

    /// The file that says which one is in use.
    fn record(self) -> &'static str {
        match self {
            Flavour::Cloud => "current",
            Flavour::Generic => "current-generic",
        }
    }
}

/// A Linux kernel ready to boot.
pub struct Linux {
    /// The bzImage.
    pub image: PathBuf,
    release: String,
    flavour: Flavour,
}

impl Linux {
    /// An archive with the modules that guests may ask for.
    pub fn modules(&self) -> Result<Vec<u8>> {
        modules::archive(SUITE, &self.release, self.flavour)
    }
}

/// Finds or fetches the newest kernel of a flavour. A kernel once fetched stays in use until
/// `target/linux/current` is removed, so that runs can be compared.
pub fn find(flavour: Flavour) -> Result<Linux> {
    let dir = target_sub("linux")?;
    let current = dir.join(flavour.record());
    if let Ok(release) = std::fs::read_to_string(&current) {
        let release = release.trim().to_owned();
        if let Some(image) = image_in(&dir.join(&release), &release) {
            return Ok(Linux { image, release, flavour });
        }
    }
    let apt = Apt::open(SUITE)?;
    let depends = apt.depends(flavour.package())?;
    let (package, version) = depends
        .split(", ")
        .filter_map(|one| one.split_once(" (= "))
        .find(|(name, _)| name.starts_with("linux-image-"))
        .with_context(|| format!("{} depends on no image: {depends}", flavour.package()))?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    // Since 6.19 the image itself is in linux-binary-*, before that in linux-image-*.
    let binary = format!("linux-binary-{release}");
    let name = if apt.version(&binary, |_| true).is_ok() { &binary } else { package };
    apt.unpack(name, version.trim_end_matches(')'), &dir.join(&release))?;
    let image =
        image_in(&dir.join(&release), &release).with_context(|| format!("{name} holds no vmlinuz"))?;
    write_atomically(&current, release.as_bytes())?;
    Ok(Linux { image, release, flavour })
}

/// Where a package puts its image: since 7.3 beside the modules, before that in `/boot`.
fn image_in(dir: &Path, release: &str) -> Option<PathBuf> {
    [format!("usr/lib/modules/{release}/vmlinuz"), format!("boot/vmlinuz-{release}")]
        .into_iter()
        .map(|name| dir.join(name))
        .find(|path| path.is_file())
}
