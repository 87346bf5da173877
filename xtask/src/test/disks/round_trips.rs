//! Trees that one kernel writes and the other reads: Linux makes one on each kind of file system, the tested kernel reads and alters it,
//! Linux reads it again. What is read must be what was written, in everything `disk_tree` of `tests/guest` tells.

use super::{Family, PROGRAM, Ran, fsck};
use crate::disk::Disk;
use crate::qemu::Vm;
use anyhow::Result;
use std::path::PathBuf;

/// Kinds of file systems, and mkfs.ext4's options: what Debian 12's and 13's mkfs turn on, ext2 and ext3, and what changes the format most.
const KINDS: [(&str, &[&str]); 9] = [
    ("debian12", &["-O", "^orphan_file,^metadata_csum_seed"]),
    ("debian13", &["-O", "orphan_file,metadata_csum_seed"]),
    ("ext3", &["-t", "ext3"]),
    ("ext2", &["-t", "ext2"]),
    ("blocks_1k", &["-b", "1024"]),
    ("blocks_4k", &["-b", "4096"]),
    ("inline_data", &["-O", "inline_data"]),
    ("no_journal", &["-O", "^has_journal"]),
    ("no_checksums", &["-O", "^metadata_csum,^64bit,^flex_bg"]),
];
const FILES: u64 = 150;
const FILES_LONG: u64 = 20_000;

/// Three boots for all kinds.
pub fn run(family: &mut Family) -> Result<()> {
    let kinds: Vec<_> = KINDS.iter().filter(|(name, _)| family.takes(&case(name))).collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let (files, mib) = if family.long { (FILES_LONG, 4096) } else { (FILES, 96) };
    let images = kinds.iter().map(|(name, options)| {
        // A journal's size follows the disk's; the smallest is enough for what is done here.
        family.image(&format!("round-{name}"), mib, options)
    });
    let images = images.collect::<Result<Vec<PathBuf>>>()?;
    let seed = family.seed;
    let linux = family.linux()?;
    let made = visit(
        family,
        &linux,
        &images,
        &format!(
            "mount -t ext4 -o noatime $d /mnt && {PROGRAM} --disk-tree make /mnt {seed} {files} && umount /mnt"
        ),
    )?;
    let checked = images.iter().map(|image| fsck(image)).collect::<Result<Vec<_>>>()?;
    let tested = family.vm.clone();
    let altered = visit(
        family,
        &tested,
        &images,
        &format!(
            "mount -t ext4 -o noatime $d /mnt && {PROGRAM} --disk-tree digest /mnt && echo @@altered && {PROGRAM} --disk-tree alter /mnt {seed} && umount /mnt"
        ),
    )?;
    let clean = images.iter().map(|image| fsck(image)).collect::<Result<Vec<_>>>()?;
    let read = visit(family, &linux, &images, ":")?;
    for (index, (name, _)) in kinds.iter().enumerate() {
        let first = made.part(index).and_then(|text| Some(text.split_once("@@digest")?.1));
        let second = altered.part(index).and_then(|text| text.split_once("@@altered"));
        let third = second.and_then(|(_, rest)| Some(rest.split_once("@@digest")?.1));
        let last = read.part(index).and_then(|text| Some(text.split_once("@@digest")?.1));
        let wrong = checked[index]
            .clone()
            .map(|why| format!("Linux wrote it: {why}"))
            .or_else(|| differences("Linux wrote", first, "read", second.map(|(text, _)| text)))
            .or_else(|| clean[index].clone())
            .or_else(|| differences("altered", third, "Linux read", last));
        let ends = || [&made, &altered, &read].into_iter().filter_map(|visited| visited.trouble(index));
        let wrong = wrong.map(|why| ends().fold(why, |all, end| format!("{all}\n    {end}")));
        family.judge(&case(name), wrong);
    }
    Ok(())
}

fn case(kind: &str) -> String {
    format!("disk_round_trip_{kind}")
}

/// A boot's output, in parts for each disk.
struct Visited {
    ran: Ran,
}

impl Visited {
    fn part(&self, index: usize) -> Option<&str> {
        let (_, rest) = self.ran.output.split_once(&format!("@@disk {index}@"))?;
        rest.split("@@disk ").next()
    }

    /// What went wrong with a boot, or with a disk in it.
    fn trouble(&self, index: usize) -> Option<String> {
        let told = self.part(index).is_some_and(|text| text.contains("@@digest"));
        let silent = || (!told).then(|| format!("it said:\n{}", super::last_lines(&self.ran.output, 8)));
        self.ran.wrong().or_else(silent)
    }
}

/// One boot with all disks: for each, `what` is done, and then its tree is mounted afresh and told.
fn visit(family: &Family, vm: &Vm, images: &[PathBuf], what: &str) -> Result<Visited> {
    let mut script = String::from("mkdir -p /mnt\n");
    for index in 0..images.len() {
        let letter = char::from(b'a' + index as u8);
        script += &format!(
            "d=/dev/vd{letter}; echo @@disk {index}@\n{what}\nmount -t ext4 -o ro,noatime $d /mnt && echo @@digest && {PROGRAM} --disk-tree digest /mnt\numount /mnt\n"
        );
    }
    script += "exit 0\n";
    let disks = images.iter().map(|image| Disk::writable(image)).collect();
    Ok(Visited { ran: family.boot(vm, disks, &[], &script, &mut |_| Ok(()))? })
}

/// What is different between two digests, if both are there and say something.
fn differences(one: &str, left: Option<&str>, other: &str, right: Option<&str>) -> Option<String> {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    let (Some(left), Some(right)) = (left.map(lines), right.map(lines)) else {
        return Some(format!(
            "nothing was said to compare ({one}: {}, {other}: {})",
            left.is_some(),
            right.is_some()
        ));
    };
    if left.len() < 20 {
        return Some(format!("{one} only {}:\n{}", left.len(), super::last_lines(&left.join("\n"), 5)));
    }
    let differing = (0..left.len().max(right.len())).filter(|index| left.get(*index) != right.get(*index));
    let mut text = String::new();
    for index in differing.take(4) {
        let line = |lines: &[String]| lines.get(index).cloned().unwrap_or_else(|| "(nothing)".to_owned());
        text += &format!("\n    {one}: {}\n    {other}: {}", line(&left), line(&right));
    }
    (!text.is_empty()).then_some(text)
}
