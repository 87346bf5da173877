//! `cargo xtask bench --disks`: an ext4 file system on a virtual disk under both kernels (the rows are in `bench/src/disks.rs`); with
//! `--programs` what Debian's own programs take there (`bench/programs.sh`), with `--plots` how costs grow (`bench/src/disk_growth.rs`).
//!
//! Each boot has an image of its own, made with the defaults of Debian 13, on virtio-blk. For programs the root is a Debian on another disk,
//! and a third has a tar archive of a tree that is as large as a kernel's sources.

use super::growth::{self, Growth, MICROSECONDS, Target};
use super::{BenchArguments, PROGRAM, Pair, RATIO_TARGET, Results, verdict};
use crate::apt::Apt;
use crate::deps;
use crate::disk::Disk;
use crate::qemu::{End, Input, Vm};
use crate::root::Root;
use crate::root::debian::Debian;
use crate::util::{run_quiet, say, target_sub, workspace};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The image's size: it is sparse.
const IMAGE_BYTES: u64 = 2 << 30;
/// Of one boot.
const LIMIT: Duration = Duration::from_secs(1800);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Transfers, files and trees, by our own program.
    Rows,
    /// Debian's programs.
    Programs,
    /// How costs grow.
    Growth,
}

const GROWTHS: &[Growth] = &[
    growth_of(
        "create a file in a folder of N files",
        "disk-create.svg",
        "One file more in a folder",
        "files in the folder",
        Target::Part(1.0),
    ),
    growth_of(
        "remove a file from a folder of N files",
        "disk-remove.svg",
        "One file less in a folder",
        "files in the folder",
        Target::Part(1.0),
    ),
    growth_of(
        "stat a file in a folder of N files, cold",
        "disk-stat.svg",
        "stat(2) of one of a folder's files, nothing in memory",
        "files in the folder",
        Target::Part(1.0),
    ),
    growth_of(
        "read 4 KiB of a file of N MiB, direct",
        "disk-size.svg",
        "4 KiB read from a random place of a file, O_DIRECT",
        "size of the file, MiB",
        Target::Part(1.0),
    ),
    growth_of(
        "read 4 KiB of a file of N extents, direct",
        "disk-extents-read.svg",
        "4 KiB read from a random place of a file with holes, O_DIRECT",
        "extents of the file",
        Target::Part(1.0),
    ),
    growth_of(
        "write and punch 4 KiB of a file of N extents",
        "disk-extents-change.svg",
        "4 KiB written into a hole and punched out again",
        "extents of the file",
        Target::Part(1.0),
    ),
    growth_of(
        "write 4 KiB and fdatasync, N pages in the page cache",
        "disk-cached-sync.svg",
        "4 KiB written over and synced",
        "pages of the file in the page cache",
        Target::Part(1.0),
    ),
    growth_of(
        "read 4 KiB, N pages in the page cache",
        "disk-cached-read.svg",
        "4 KiB read from the page cache",
        "pages of the file in the page cache",
        Target::Part(1.0),
    ),
];

const fn growth_of(
    name: &'static str,
    file: &'static str,
    title: &'static str,
    across: &'static str,
    target: Target,
) -> Growth {
    Growth { name, file, title, across, unit: MICROSECONDS, target }
}

/// What every boot of a measurement needs.
struct Bench<'a> {
    what: What,
    filter: &'a [String],
    files: Vec<(String, u32, Vec<u8>)>,
    /// Disks before and after the one that is measured.
    root: Option<Disk>,
    tree: Option<Disk>,
}

/// Boots both kernels in turn.
pub fn measure(
    linnet: &Vm,
    linux: &Vm,
    program: &[u8],
    what: What,
    arguments: &BenchArguments,
) -> Result<Pair> {
    deps::need(&deps::MKFS_EXT4)?;
    let mut bench = Bench {
        what,
        filter: &arguments.filter,
        files: vec![(PROGRAM.to_owned(), 0o755, program.to_vec())],
        root: None,
        tree: None,
    };
    if what == What::Programs {
        bench.root = Root::DebianDisk(Debian::listed("tests/disks/packages")?).disk()?;
        bench.tree = Some(Disk::copy_on_write(&source_tree()?)?);
        let script =
            std::fs::read(workspace().join("bench/programs.sh")).context("reading bench/programs.sh")?;
        bench.files = vec![
            ("/root/programs.sh".to_owned(), 0o644, script),
            ("/usr/bin/pg_test_fsync".to_owned(), 0o755, pg_test_fsync()?),
        ];
    }
    let mut pair = Pair { linnet: Results::default(), linux: Results::default() };
    for round in 1..=arguments.rounds {
        say(format_args!("disks: round {round} of {}", arguments.rounds));
        for (vm, results) in [(linnet, &mut pair.linnet), (linux, &mut pair.linux)] {
            bench.one(vm, results)?;
        }
    }
    Ok(pair)
}

impl Bench<'_> {
    /// One boot.
    fn one(&self, vm: &Vm, results: &mut Results) -> Result<()> {
        let image = target_sub("disks")?.join(format!("bench-{}.img", std::process::id()));
        std::fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
        let mkfs = ["-q", "-F", "-N", "200000", "-O", "orphan_file,metadata_csum_seed"];
        run_quiet(Command::new(deps::MKFS_EXT4.program).args(mkfs).arg(&image))?;
        let disks = [self.root.clone(), Some(Disk::writable(&image)), self.tree.clone()];
        let vm = Vm {
            disks: disks.into_iter().flatten().collect(),
            root_on_disk: self.root.is_some(),
            timeout: Some(LIMIT),
            ..vm.clone()
        };
        let quoted: String = self.filter.iter().fold(String::new(), |all, part| all + " '" + part + "'");
        let (device, command) = match self.what {
            What::Rows => ("/dev/vda", format!("{PROGRAM} disks /mnt{quoted}")),
            What::Growth => ("/dev/vda", format!("{PROGRAM} disk-growth /mnt{quoted}")),
            What::Programs => ("/dev/vdb", format!("sh /root/programs.sh /mnt /dev/vdc{quoted}")),
        };
        let script = format!("mount -t ext4 {device} /mnt && {command} && cd / && umount /mnt");
        let mut output = Vec::new();
        let words = ["sh", "-c", &script].map(str::to_owned);
        let outcome = vm.run_command(&words, &self.files, Input::Null, &mut |bytes| {
            output.extend_from_slice(bytes);
            Ok(())
        });
        let fsck = run_quiet(Command::new("fsck.ext4").arg("-fn").arg(&image));
        std::fs::remove_file(&image)?;
        let output = String::from_utf8_lossy(&output);
        let end = outcome?.end;
        if end != End::Exited(0) {
            bail!("the machine ended with {end:?}; it said:\n{output}");
        }
        // What is fast and wrong is not measured.
        fsck.context("after the measurement")?;
        for (name, value) in output.lines().filter_map(|line| line.split_once('\t')) {
            results.add(name, value.trim().parse().with_context(|| format!("reading {name}"))?);
        }
        Ok(())
    }
}

/// PostgreSQL's test of ways to make a write safe, alone from its package.
fn pg_test_fsync() -> Result<Vec<u8>> {
    let folder = target_sub("disks")?.join("postgresql");
    let program = folder.join("usr/lib/postgresql/15/bin/pg_test_fsync");
    if !program.is_file() {
        let apt = Apt::open("bookworm")?;
        let version = apt.version("postgresql-15", |_| true)?;
        apt.unpack("postgresql-15", &version, &folder)?;
    }
    std::fs::read(&program).with_context(|| format!("reading {}", program.display()))
}

/// Files in the tree: as many as Linux's sources have.
const TREE_FILES: u64 = 70_000;
const TREE_FOLDERS: u64 = 4_700;

/// A tar archive of a tree like a kernel's sources, but smaller files: the same whenever it is made.
fn source_tree() -> Result<PathBuf> {
    let path = target_sub("disks")?.join(format!("tree-{TREE_FILES}-{TREE_FOLDERS}.tar"));
    if !path.is_file() {
        say("making a source tree");
        let unfinished = path.with_extension(format!("new{}", std::process::id()));
        write_tree(&unfinished).context("making the tree")?;
        std::fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

fn write_tree(path: &Path) -> Result<()> {
    let mut archive = tar::Builder::new(BufWriter::new(std::fs::File::create(path)?));
    let mut add = |name: &str, kind: tar::EntryType, bytes: &[u8]| -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_size(bytes.len() as u64);
        header.set_mtime(1_700_000_000);
        Ok(archive.append_data(&mut header, name, bytes)?)
    };
    add("tree/", tar::EntryType::Directory, &[])?;
    let line = b"static int of_a_line(struct of_text *that, int is_like_source);\n";
    let text = line.repeat(1024);
    for number in 0..TREE_FILES {
        let (folder, first) = (number * TREE_FOLDERS / TREE_FILES, number == 0 || folder_before(number));
        // As sources have them: folders in folders, a handful to each.
        let name = format!("tree/{}/{}/{folder}/", folder % 23, folder / 23 % 16);
        if first {
            for end in name.match_indices('/').map(|(at, _)| at + 1).skip(1) {
                // tar takes a folder again that is there.
                add(&name[..end], tar::EntryType::Directory, &[])?;
            }
        }
        // Most are small, and one in a hundred is long; 3 KiB on average.
        let length = if number % 100 == 0 { 60_000 } else { 200 + number * 7919 % 4800 };
        add(&format!("{name}{number}.c"), tar::EntryType::Regular, &text[..length as usize])?;
    }
    archive.finish()?;
    Ok(())
}

/// Whether the file before this one is in another folder.
fn folder_before(number: u64) -> bool {
    (number - 1) * TREE_FOLDERS / TREE_FILES != number * TREE_FOLDERS / TREE_FILES
}

/// What was measured, as Markdown.
pub fn table(what: What, pair: &Pair) -> String {
    if what == What::Growth {
        let mut text = String::new();
        GROWTHS.iter().for_each(|growth| growth.write_table(pair, &mut text));
        return text;
    }
    let mut text = String::from(
        "| ext4 on virtio-blk, 1 CPU | Linnet, µs | ± | Linux, µs | ± | ratio | no slower |\n|---|--:|--:|--:|--:|--:|---|\n",
    );
    for name in &pair.linux.order {
        let (Some(here), Some(there)) = (pair.linnet.median(name), pair.linux.median(name)) else { continue };
        let spread = |results: &Results| results.spread(name).unwrap_or(0.0) * 100.0;
        let (a, b) = (spread(&pair.linnet), spread(&pair.linux));
        let (ratio, holds) = (here / there, verdict(here <= there * RATIO_TARGET));
        let _ = writeln!(
            text,
            "| {name} | {:.1} | {a:.0} % | {:.1} | {b:.0} % | {ratio:.2} | {holds} |",
            here / 1e3,
            there / 1e3
        );
    }
    text
}

/// Draws what grows.
pub fn write_plots(pair: &Pair) -> Result<()> {
    growth::write_plots(GROWTHS, pair)
}
