//! The machine is killed at a random moment under somebody who writes and tells over the serial line what has been promised. The next machine finds
//! the disk so, recovers it, must see everything that was promised, and writes on until it is killed itself.
//!
//! The writers are scripts, `tests/disks/cuts/NAME check|write FOLDER SEED LAST`. `write` goes on after step LAST and says `kept N` when step N
//! is safe; `check` fails if a step up to LAST is not as it was promised, and repairs what a program is expected to repair. One is
//! `disk_writer` of `tests/guest`, on a disk of its own; the others are Debian's sqlite3, fio and dpkg, on a root on disk.
//!
//! QEMU has handed every write that it has taken to the host before it tells the guest, so what is lost is what the kernel had not sent or not
//! heard of; writes that a real disk's cache would lose are the matter of the host's tests of the journal (`fs/ext4`).

use super::{Family, debian, fsck};
use crate::disk::Disk;
use crate::qemu::Vm;
use crate::util::workspace;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Somebody who writes.
struct Writer {
    /// The script.
    name: &'static str,
    case: &'static str,
    /// It needs Debian's programs, so it writes to the root.
    on_root: bool,
    kills: u64,
    kills_long: u64,
    /// The machine is killed at the latest so long after the life's first promise.
    latest: Duration,
}

/// A hundred kills of Debian's programs with `--long`, and a hundred of our own writer.
const WRITERS: [Writer; 4] = [
    Writer {
        name: "writer",
        case: "disk_power_cuts",
        on_root: false,
        kills: 3,
        kills_long: 100,
        latest: Duration::from_secs(2),
    },
    Writer {
        name: "sqlite",
        case: "disk_cuts_sqlite",
        on_root: true,
        kills: 2,
        kills_long: 40,
        latest: Duration::from_secs(3),
    },
    Writer {
        name: "fio",
        case: "disk_cuts_fio",
        on_root: true,
        kills: 2,
        kills_long: 30,
        latest: Duration::from_secs(3),
    },
    Writer {
        name: "dpkg",
        case: "disk_cuts_dpkg",
        on_root: true,
        kills: 1,
        kills_long: 30,
        latest: Duration::from_secs(12),
    },
];

/// Where a writer on the root writes.
const FOLDER: &str = "/var/lib/cut";

/// Each writer is killed again and again on one image.
pub fn run(family: &mut Family) -> Result<()> {
    for writer in &WRITERS {
        if family.takes(writer.case) {
            let wrong = kill_all(family, writer)?;
            family.judge(writer.case, wrong);
        }
    }
    Ok(())
}

/// A writer, its disk, and how far it has been heard to be.
struct Victim<'a> {
    writer: &'a Writer,
    script: Vec<u8>,
    image: PathBuf,
    vm: Vm,
    kept: u64,
}

fn kill_all(family: &Family, writer: &Writer) -> Result<Option<String>> {
    let path = workspace().join("tests/disks/cuts").join(writer.name);
    let (image, vm) = if writer.on_root {
        (debian::copy(family, writer.name)?, Vm { root_on_disk: true, ..family.vm.clone() })
    } else {
        (family.image("power", 64, &["-O", "orphan_file,metadata_csum_seed"])?, family.vm.clone())
    };
    let script = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut victim = Victim { writer, script, image, vm, kept: 0 };
    let kills = if family.long { writer.kills_long } else { writer.kills };
    for kill in 0..=kills {
        // From a fifth of a second on: an empty journal, a full one, one that has wrapped.
        let range = u64::try_from(writer.latest.as_millis())?.saturating_sub(200).max(1);
        let moment = Duration::from_millis(200 + hashed(family.seed, kill) % range);
        let life = if kill < kills { Some(moment) } else { None };
        let before = victim.kept;
        let wrong = match victim.live(family, life)? {
            None if life.is_some() => recovered(family, &victim.image)?,
            other => other,
        };
        if let Some(wrong) = wrong {
            return Ok(Some(format!("after {kill} kills (seed {}): {wrong}", family.seed)));
        }
        if life.is_some() && victim.kept == before {
            return Ok(Some(format!("nothing was written before kill {kill}")));
        }
    }
    debian::unclean(&victim.image)
}

/// What `fsck.ext4` finds in a copy of what a kill has left when it has replayed the journal, as the next mount will.
fn recovered(family: &Family, image: &Path) -> Result<Option<String>> {
    let copy = family.folder.join("recovered.img");
    debian::sparse_copy(image, &copy)?;
    let mut command = Command::new("fsck.ext4");
    let output = command.arg("-fp").arg(&copy).output().context("starting fsck.ext4")?;
    // 1 is what it says of a journal that it has replayed and of unlinked files that it has put away.
    if !matches!(output.status.code(), Some(0 | 1)) {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return Ok(Some(format!("fsck -p of {}:\n{}", copy.display(), super::last_lines(&text, 25))));
    }
    fsck(&copy)
}

impl Victim<'_> {
    /// What a machine does: it checks what was kept, and, if it is to be killed, writes.
    fn commands(&self, family: &Family, is_killed: bool) -> String {
        let (folder, mount) = if self.writer.on_root {
            (FOLDER, "mkdir -p /var/lib/cut")
        } else {
            ("/mnt", "mkdir -p /mnt; mount -t ext4 /dev/vda /mnt || exit 3")
        };
        let mut script = format!("{mount}\n");
        let arguments = format!("{folder} {} {}", family.seed, self.kept);
        if self.kept > 0 {
            script += &format!("sh -eu /disk-test/writer check {arguments} || exit 4\n");
        }
        if is_killed {
            script += &format!("sh -eu /disk-test/writer write {arguments}\n");
        }
        script
    }

    /// One machine's life, until `life` is over after the first promise; without, it only checks.
    fn live(&mut self, family: &Family, life: Option<Duration>) -> Result<Option<String>> {
        let script = self.commands(family, life.is_some());
        let files = [("/disk-test/writer".to_owned(), 0o644, self.script.clone())];
        let (mut end, mut cut, mut kept) = (None, false, self.kept);
        let ran = family.boot(&self.vm, vec![Disk::writable(&self.image)], &files, &script, &mut |line| {
            if let Some(number) = line.strip_prefix("kept ").and_then(|number| number.parse().ok()) {
                kept = kept.max(number);
                let until = *end.get_or_insert_with(|| Instant::now() + life.unwrap_or_default());
                if Instant::now() >= until {
                    cut = true;
                    bail!("cut");
                }
            }
            Ok(())
        });
        self.kept = kept;
        match (ran, life) {
            (Err(_), Some(_)) if cut => Ok(None),
            (Err(error), _) => Err(error),
            (Ok(ran), None) => Ok(ran.wrong()),
            (Ok(ran), Some(_)) => {
                Ok(Some(ran.wrong().unwrap_or_else(|| "the writer ended of itself".to_owned())))
            }
        }
    }
}

/// A number that follows from the seed.
fn hashed(seed: u64, number: u64) -> u64 {
    let mut value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^= value >> 31;
    value.wrapping_mul(0x94d0_49bb_1331_11eb) >> 20
}
