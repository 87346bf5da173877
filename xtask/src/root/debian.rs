//! A whole Debian as a root: made by mmdebstrap from the machine's own mirror, kept below `target/roots/` by its inputs.
//!
//! mmdebstrap writes a tar archive, which keeps owners, times, devices and links without being root on this machine; it is
//! turned into an initramfs archive. Manuals, translations and documents are left out: the root lives in memory. Debian has no
//! program that powers off without systemd, so a static BusyBox lies in `/usr/lib/linnet` for `/init` alone.

use super::busybox;
use crate::apt;
use crate::cpio::{Archive, Entry, Kind};
use crate::deps;
use crate::util::{run, say, target_sub, workspace};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Raised when what is made of the same inputs changes.
const FORMAT: u32 = 2;

/// Debian's releases that are tested.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, ValueEnum)]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }
}

/// Which Debian.
#[derive(Clone, Args, Hash, Debug)]
pub struct Debian {
    /// The release.
    #[arg(long, value_enum, default_value = "bookworm")]
    pub suite: Suite,
    /// Packages beyond the essential ones, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "A,B,…")]
    pub packages: Vec<String>,
}

/// What is not unpacked.
const LEFT_OUT: [&str; 4] =
    ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"];

impl Debian {
    /// The root that `--root debian[:SUITE][:PACKAGE,…]` names, if it does.
    pub fn from_root(text: &str) -> Result<Option<Debian>> {
        let mut parts = text.split(':');
        if parts.next() != Some("debian") {
            return Ok(None);
        }
        let mut debian = Debian { suite: Suite::Bookworm, packages: Vec::new() };
        for part in parts {
            match Suite::from_str(part, false) {
                Ok(suite) => debian.suite = suite,
                Err(_) => debian.packages.extend(part.split(',').map(str::to_owned)),
            }
        }
        Ok(Some(debian))
    }

    /// Debian 12 with the packages that a file of the source tree lists, one a line.
    pub fn listed(file: &str) -> Result<Debian> {
        let text =
            std::fs::read_to_string(workspace().join(file)).with_context(|| format!("reading {file}"))?;
        let names = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Debian { suite: Suite::Bookworm, packages: names.map(str::to_owned).collect() })
    }

    /// The archive's bytes.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let path = self.make()?;
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// Makes the archive unless it is there.
    pub fn make(&self) -> Result<PathBuf> {
        let mut packages: Vec<&str> = self.packages.iter().map(String::as_str).collect();
        packages.sort_unstable();
        packages.dedup();
        let wrong =
            |name: &&&str| !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if let Some(name) = packages.iter().find(wrong) {
            bail!("{name:?} is not the name of a Debian package");
        }
        let mut hasher = DefaultHasher::new();
        (FORMAT, self.suite, &packages, LEFT_OUT).hash(&mut hasher);
        let path = target_sub("roots")?.join(format!("{}-{:016x}.cpio", self.suite.name(), hasher.finish()));
        if path.is_file() {
            return Ok(path);
        }
        let tar = path.with_extension(format!("tar{}", std::process::id()));
        let made = self.debootstrap(&packages, &tar).and_then(|()| convert(&tar));
        let _ = std::fs::remove_file(&tar);
        crate::util::write_atomically(&path, &made?)?;
        Ok(path)
    }

    fn debootstrap(&self, packages: &[&str], tar: &Path) -> Result<()> {
        deps::need(&deps::MMDEBSTRAP)?;
        let suite = self.suite.name();
        say(format_args!(
            "making a Debian {suite} with {} (some minutes)",
            match packages {
                [] => "the essential packages".to_owned(),
                some => some.join(", "),
            }
        ));
        let mut command = Command::new(deps::MMDEBSTRAP.program);
        command.args(["--variant=minbase", "--format=tar", "--architectures=amd64", "--skip=check/qemu"]);
        if !packages.is_empty() {
            command.arg(format!("--include={}", packages.join(",")));
        }
        command.args(LEFT_OUT.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
        command.args(["--aptopt=Acquire::Languages \"none\"", suite]).arg(tar).arg(apt::source_line(suite)?);
        run(&mut command)
    }
}

/// Turns the tar archive into one for the kernel, with what `/init` needs; that itself is appended when it is used.
fn convert(tar: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    let mut contents: HashMap<PathBuf, (Entry, Vec<u8>)> = HashMap::new();
    let mut reader = tar::Archive::new(BufReader::new(File::open(tar)?));
    let mut links = Vec::new();
    for entry in reader.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = match path.strip_prefix(".") {
            // The root itself: its mode and owner are those of `/`, which an initramfs's file system gives 1777.
            Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from("."),
            Ok(rest) => rest.to_path_buf(),
            Err(_) => path,
        };
        let header = entry.header();
        let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let kind = match (header.entry_type(), &target) {
            (tar::EntryType::Directory, _) => Kind::Directory,
            (tar::EntryType::Regular, _) => Kind::Regular,
            (tar::EntryType::Symlink, Some(_)) => Kind::Symlink,
            (tar::EntryType::Char, _) => Kind::CharacterDevice(
                header.device_major()?.unwrap_or(0),
                header.device_minor()?.unwrap_or(0),
            ),
            (tar::EntryType::Link, Some(target)) => {
                links.push((name, target.strip_prefix(".").unwrap_or(target).to_path_buf()));
                continue;
            }
            (other, _) => bail!("{}: cannot be put into an initramfs ({other:?})", name.display()),
        };
        let meta = Entry {
            kind,
            permissions: header.mode()? & 0o7777,
            user: header.uid()? as u32,
            group: header.gid()? as u32,
            modified: header.mtime()? as u32,
        };
        let mut bytes = Vec::new();
        match target.filter(|_| kind == Kind::Symlink) {
            Some(target) => bytes.extend(target.to_string_lossy().bytes()),
            None => _ = entry.read_to_end(&mut bytes)?,
        }
        archive.add(&name.to_string_lossy(), meta, &bytes);
        if kind == Kind::Regular {
            contents.insert(name, (meta, bytes));
        }
    }
    // A second name of a file becomes a file of its own: few have one, and nothing in Debian relies on it.
    for (name, target) in links {
        let (meta, bytes) =
            contents.get(&target).with_context(|| format!("{}: links to nothing", name.display()))?;
        archive.add(&name.to_string_lossy(), *meta, bytes);
    }
    archive.directory("usr/lib/linnet", 0o755);
    archive.file("usr/lib/linnet/busybox", 0o755, &std::fs::read(busybox::program()?)?);
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_names_suite_and_packages() {
        let debian = Debian::from_root("debian:trixie:iproute2,socat").unwrap().unwrap();
        assert_eq!(debian.suite, Suite::Trixie);
        assert_eq!(debian.packages, ["iproute2", "socat"]);
        assert!(Debian::from_root("debian").unwrap().is_some());
        assert!(Debian::from_root("debianish").unwrap().is_none());
    }
}
