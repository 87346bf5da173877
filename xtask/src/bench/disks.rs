//! `cargo xtask bench --disks`: an ext4 file system on a virtual disk under both kernels (the rows are in `bench/src/disks.rs`).
//!
//! Each boot has an image of its own, made with the defaults of Debian 13, on virtio-blk.

use super::{BenchArguments, LIMIT, PROGRAM, Pair, RATIO_TARGET, Results, verdict};
use crate::deps;
use crate::disk::Disk;
use crate::qemu::{End, Input, Vm};
use crate::util::{run_quiet, say, target_sub};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::process::Command;

/// The image's size: it is sparse.
const IMAGE_BYTES: u64 = 2 << 30;

/// Boots both kernels in turn.
pub fn measure(linnet: &Vm, linux: &Vm, program: &[u8], arguments: &BenchArguments) -> Result<Pair> {
    deps::need(&deps::MKFS_EXT4)?;
    let mut pair = Pair { linnet: Results::default(), linux: Results::default() };
    for round in 1..=arguments.rounds {
        say(format_args!("disks: round {round} of {}", arguments.rounds));
        for (vm, results) in [(linnet, &mut pair.linnet), (linux, &mut pair.linux)] {
            one(vm, program, &arguments.filter, results)?;
        }
    }
    Ok(pair)
}

fn one(vm: &Vm, program: &[u8], filter: &[String], results: &mut Results) -> Result<()> {
    let image = target_sub("disks")?.join(format!("bench-{}.img", std::process::id()));
    std::fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
    let mkfs = ["-q", "-F", "-N", "200000", "-O", "orphan_file,metadata_csum_seed"];
    run_quiet(Command::new(deps::MKFS_EXT4.program).args(mkfs).arg(&image))?;
    let vm = Vm { disks: vec![Disk::writable(&image)], timeout: Some(LIMIT), ..vm.clone() };
    let quoted: String = filter.iter().fold(String::new(), |all, part| all + " '" + part + "'");
    let script = format!("mount -t ext4 /dev/vda /mnt && {PROGRAM} disks /mnt{quoted} && umount /mnt");
    let files = [(PROGRAM.to_owned(), 0o755, program.to_vec())];
    let mut output = Vec::new();
    let outcome =
        vm.run_command(&["sh", "-c", &script].map(str::to_owned), &files, Input::Null, &mut |bytes| {
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

/// The rows, as Markdown.
pub fn table(pair: &Pair) -> String {
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
