//! The machine is killed at a random moment under a writer (`disk_writer` of `tests/guest`) that tells over the serial line what `fsync` has
//! promised. The next machine finds the disk so, recovers it, must see everything that was promised, and writes on until it is killed itself.
//!
//! QEMU has handed every write that it has taken to the host before it tells the guest, so what is lost is what the kernel had not sent or not
//! heard of; writes that a real disk's cache would lose are the matter of the host's tests of the journal (`fs/ext4`).

use super::{Family, PROGRAM, fsck};
use crate::disk::Disk;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

const KILLS: u64 = 3;
const KILLS_LONG: u64 = 100;
const CASE: &str = "disk_power_cuts";

/// Runs the kills one after the other on one image.
pub fn run(family: &mut Family) -> Result<()> {
    if !family.takes(CASE) {
        return Ok(());
    }
    let kills = if family.long { KILLS_LONG } else { KILLS };
    let wrong = kill_all(family, kills)?;
    family.judge(CASE, wrong);
    Ok(())
}

fn kill_all(family: &Family, kills: u64) -> Result<Option<String>> {
    let image = family.image("power", 64, &["-O", "orphan_file,metadata_csum_seed"])?;
    let mut kept = 0;
    for kill in 0..=kills {
        // From a fifth of a second to two after the first promise: an empty journal, a full one, one that has wrapped.
        let moment = Duration::from_millis(200 + hashed(family.seed, kill) % 1800);
        let life = if kill < kills { Some(moment) } else { None };
        let before = kept;
        if let Some(wrong) = live(family, &image, &mut kept, life)? {
            return Ok(Some(format!("after {kill} kills (seed {}): {wrong}", family.seed)));
        }
        if life.is_some() && kept == before {
            return Ok(Some(format!("nothing was written before kill {kill}")));
        }
    }
    fsck(&image)
}

/// One machine's life: it checks what was kept, and writes, until `life` is over after the first promise; without, it only checks.
fn live(
    family: &Family,
    image: &std::path::Path,
    kept: &mut u64,
    life: Option<Duration>,
) -> Result<Option<String>> {
    let (seed, last) = (family.seed, *kept);
    let mut script = String::from("mkdir -p /mnt; mount -t ext4 /dev/vda /mnt || exit 3\n");
    if last > 0 {
        script += &format!("{PROGRAM} --disk-writer check /mnt {seed} {last} || exit 4\n");
    }
    if life.is_some() {
        script += &format!("{PROGRAM} --disk-writer write /mnt {seed} {}\n", last + 1);
    }
    script += "umount /mnt\n";
    let mut end = None;
    let mut cut = false;
    let ran = family.boot(&family.vm, vec![Disk::writable(image)], &[], &script, &mut |line| {
        if let Some(number) = line.strip_prefix("kept ").and_then(|number| number.parse().ok()) {
            *kept = (*kept).max(number);
            let until = *end.get_or_insert_with(|| Instant::now() + life.unwrap_or_default());
            if Instant::now() >= until {
                cut = true;
                bail!("cut");
            }
        }
        Ok(())
    });
    match (ran, life) {
        (Err(_), Some(_)) if cut => Ok(None),
        (Err(error), _) => Err(error),
        (Ok(ran), None) => Ok(ran.wrong()),
        (Ok(ran), Some(_)) => {
            Ok(Some(ran.wrong().unwrap_or_else(|| "the writer ended of itself".to_owned())))
        }
    }
}

/// A number that follows from the seed.
fn hashed(seed: u64, number: u64) -> u64 {
    let mut value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^= value >> 31;
    value.wrapping_mul(0x94d0_49bb_1331_11eb) >> 20
}
