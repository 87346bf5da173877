//! The modules that Linux needs for what Linnet has built in: network devices, diagnostics of sockets, disks and their file systems.
//!
//! Debian's kernel loads them by itself through `/sbin/modprobe`, by name or by alias, so the archive holds the modules,
//! unpacked, with what they depend on, and depmod's tables. It is appended to the root of `--kernel linux`.

use super::Flavour;
use crate::apt::Apt;
use crate::cpio::Archive;
use crate::deps;
use crate::util::{files_below, run_quiet, target_sub, write_atomically};
use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What guest tests and Debian's programs ask Linux for. A module that a kernel has built in is not missed.
const WANTED: [&str; 28] = [
    "8021q",
    "af_packet_diag",
    "bridge",
    "dummy",
    "ext4",
    "ifb",
    "inet_diag",
    "ip_tables",
    "ipvlan",
    "loop",
    "macvlan",
    "macvtap",
    "netlink_diag",
    "nf_tables",
    "nvme",
    "raw_diag",
    "sit",
    "tap",
    "tcp_diag",
    "tun",
    "udp_diag",
    "unix_diag",
    "veth",
    "virtio_blk",
    "virtio_mmio",
    "virtio_pci",
    "vrf",
    "vxlan",
];

/// What they ask Debian's ordinary kernel for besides.
const WANTED_OF_GENERIC: [&str; 3] = ["9p", "9pnet_virtio", "virtio_console"];

/// The modules that are wanted of a flavour.
fn wanted(flavour: Flavour) -> Vec<&'static str> {
    match flavour {
        Flavour::Cloud => WANTED.to_vec(),
        Flavour::Generic => WANTED.iter().chain(&WANTED_OF_GENERIC).copied().collect(),
    }
}

/// A module and what it says it needs.
struct Module {
    bytes: Vec<u8>,
    depends: Vec<String>,
}

/// An uncompressed cpio archive of the modules of `release`, made once for each list of wanted ones.
pub fn archive(apt_suite: &'static str, release: &str, flavour: Flavour) -> Result<Vec<u8>> {
    let wanted = wanted(flavour);
    let mut hasher = DefaultHasher::new();
    wanted.hash(&mut hasher);
    let cached = target_sub("linux")?.join(format!("{release}-modules-{:016x}.cpio", hasher.finish()));
    if let Ok(bytes) = std::fs::read(&cached) {
        return Ok(bytes);
    }
    let apt = Apt::open(apt_suite)?;
    let package = format!("linux-modules-{release}");
    let version = apt.version(&package, |_| true)?;
    let unpacked = target_sub("linux")?.join(format!("{release}-modules"));
    apt.unpack(&package, &version, &unpacked)?;
    let bytes = pack(&unpacked, release, &wanted)?;
    write_atomically(&cached, &bytes)?;
    std::fs::remove_dir_all(&unpacked)?;
    Ok(bytes)
}

fn pack(unpacked: &Path, release: &str, wanted: &[&str]) -> Result<Vec<u8>> {
    let files: BTreeMap<String, PathBuf> = ["xz", "ko"]
        .iter()
        .flat_map(|extension| files_below(unpacked, extension))
        .filter_map(|path| Some((module_name(&path)?, path)))
        .collect();
    let mut modules = BTreeMap::new();
    let mut missing: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = missing.pop() {
        if modules.contains_key(&name) {
            continue;
        }
        let Some(path) = files.get(&name) else { continue };
        let module = read(path)?;
        missing.extend(module.depends.iter().cloned());
        modules.insert(name, module);
    }
    let root = target_sub("linux")?.join(format!("{release}-packed"));
    let _ = std::fs::remove_dir_all(&root);
    let folder = root.join("lib/modules").join(release);
    std::fs::create_dir_all(&folder)?;
    for (name, module) in &modules {
        std::fs::write(folder.join(format!("{name}.ko")), &module.bytes)?;
    }
    deps::need(&deps::DEPMOD)?;
    run_quiet(Command::new(deps::DEPMOD.program).arg("-b").arg(&root).arg(release))?;
    let mut archive = Archive::new();
    for part in ["usr/lib/modules", &format!("usr/lib/modules/{release}")] {
        archive.directory(part, 0o755);
    }
    archive.tree(&folder, &format!("usr/lib/modules/{release}/"))?;
    // No device shall be there that nobody asked for.
    archive.directory("etc/modprobe.d", 0o755);
    archive.file("etc/modprobe.d/linnet.conf", 0o644, b"options dummy numdummies=0\n");
    std::fs::remove_dir_all(&root)?;
    Ok(archive.finish())
}

/// `veth` of `…/veth.ko.xz`; the kernel writes `_` where a file's name has `-`.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".ko.xz").or_else(|| name.strip_suffix(".ko"))?;
    Some(name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Module> {
    let bytes = if path.extension().is_some_and(|extension| extension == "xz") {
        deps::need(&deps::XZ)?;
        let output = Command::new(deps::XZ.program).arg("-dc").arg(path).output().context("starting xz")?;
        if !output.status.success() {
            bail!("{} could not be decompressed", path.display());
        }
        output.stdout
    } else {
        std::fs::read(path)?
    };
    let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", path.display()))?;
    let section =
        file.section_by_name(".modinfo").with_context(|| format!("{}: no .modinfo", path.display()))?;
    let text = String::from_utf8_lossy(section.data()?).into_owned();
    let lists = text.split('\0').filter_map(|entry| entry.strip_prefix("depends="));
    let names = lists.flat_map(|list| list.split(',')).filter(|one| !one.is_empty());
    let depends = names.map(|one| one.replace('-', "_")).collect();
    Ok(Module { bytes, depends })
}
