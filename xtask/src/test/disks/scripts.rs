//! The scripts of `tests/disks`: all that want the same machine run in one boot, each with disks of its own.
//!
//! A script passes if it ends with status 0 (it is run by `sh -eux`; `fails COMMAND` wants a command to fail), and if `fsck.ext4` finds nothing afterwards. Its first lines say what it
//! needs; the names of its disks are its arguments:
//!
//! - `# disk MIB ext4 OPTION…` a file system made with these options of mkfs.ext4; `# disk MIB raw`; `# disk MIB sfdisk LINE;LINE…`;
//! - after a disk: `# read-only`, `# nvme`, `# device OPTIONS` (of QEMU's device), `# debugfs COMMAND` (done before), `# not-checked` (no
//!   fsck), `# at-most MIB` (what the image takes on the host afterwards);
//! - `# microvm`, `# microvm-no-acpi`, `# memory MIB`: another machine than q35 with 512 MiB. On Linux it is q35 all the
//!   same: under emulation Debian's finds no clock on the first and no disks on the second.

use super::{Family, fsck};
use crate::deps;
use crate::disk::{Access, Disk, Interface};
use crate::qemu::{Machine, Vm};
use crate::util::{files_below, workspace};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// `fails COMMAND`: the script ends unless the command fails (the shell's own `!` is not enough for that).
const FAILS: &str = "fails() { if \"$@\"; then echo \"$* has not failed\"; exit 1; fi; }\n";

/// A disk of a script.
struct Part {
    disk: Disk,
    checked: bool,
    at_most_mib: Option<u64>,
}

struct Script {
    name: String,
    text: String,
    parts: Vec<Part>,
    machine: Machine,
    memory_mib: u32,
}

/// The most disks in one machine: each has a port of its own on the first bus of PCI.
const MOST_DISKS: usize = 20;

/// Runs all that are wanted.
pub fn run(family: &mut Family) -> Result<()> {
    let mut groups: BTreeMap<(Machine, u32), Vec<Script>> = BTreeMap::new();
    for path in files_below(&workspace().join("tests/disks"), "sh") {
        let name = format!("disk_{}", path.file_stem().unwrap_or_default().to_string_lossy());
        if family.takes(&name) {
            let script = read(family, name, &path)?;
            groups.entry((script.machine, script.memory_mib)).or_default().push(script);
        }
    }
    for ((machine, memory_mib), mut scripts) in groups {
        while !scripts.is_empty() {
            let mut disks = 0;
            let fit = scripts.iter().take_while(|script| {
                disks += script.parts.len();
                disks <= MOST_DISKS
            });
            let rest = scripts.split_off(fit.count().max(1));
            boot(family, machine, memory_mib, &scripts)?;
            scripts = rest;
        }
    }
    Ok(())
}

fn read(family: &Family, name: String, path: &PathBuf) -> Result<Script> {
    let text = std::fs::read_to_string(path)?;
    let mut script = Script { name, text, parts: Vec::new(), machine: Machine::Q35, memory_mib: 512 };
    let head: Vec<String> =
        script.text.lines().map_while(|line| line.strip_prefix("# ")).map(str::to_owned).collect();
    for line in &head {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, script.parts.last_mut()) {
            ("disk", _) => {
                let image = format!("{}{}", script.name, script.parts.len());
                script
                    .parts
                    .push(disk(family, &image, rest).with_context(|| format!("{}: {line}", script.name))?);
            }
            ("microvm", _) if !family.tests_linux => script.machine = Machine::Microvm,
            ("microvm-no-acpi", _) if !family.tests_linux => script.machine = Machine::MicrovmNoAcpi,
            ("memory", _) => script.memory_mib = rest.parse().context("# memory MIB")?,
            ("read-only", Some(part)) => part.disk.access = Access::ReadOnly,
            ("nvme", Some(part)) => part.disk.interface = Interface::Nvme,
            ("device", Some(part)) => part.disk.options = format!(",{rest}"),
            ("not-checked", Some(part)) => part.checked = false,
            ("at-most", Some(part)) => part.at_most_mib = Some(rest.parse().context("# at-most MIB")?),
            ("debugfs", Some(part)) => {
                crate::util::run_quiet(
                    Command::new("debugfs").args(["-w", "-R", rest]).arg(&part.disk.file),
                )?;
            }
            // A line of prose.
            _ => {}
        }
    }
    Ok(script)
}

/// Makes what `# disk` asks for.
fn disk(family: &Family, name: &str, what: &str) -> Result<Part> {
    let mut words = what.split(' ');
    let mib = words.next().unwrap_or_default().parse().context("its size in MiB")?;
    let kind = words.next();
    let rest: Vec<&str> = words.collect();
    let image = match kind {
        Some("ext4") => family.image(name, mib, &rest)?,
        Some("raw") => family.empty_image(name, mib)?,
        Some("sfdisk") => {
            let image = family.empty_image(name, mib)?;
            deps::need(&deps::SFDISK)?;
            let mut sfdisk = Command::new("sfdisk")
                .arg("-q")
                .arg(&image)
                .stdin(Stdio::piped())
                .spawn()
                .context("sfdisk")?;
            let lines = rest.join(" ").replace(';', "\n") + "\n";
            sfdisk.stdin.take().context("sfdisk's input")?.write_all(lines.as_bytes())?;
            if !sfdisk.wait()?.success() {
                bail!("sfdisk failed");
            }
            image
        }
        _ => bail!("none of ext4, raw, sfdisk"),
    };
    Ok(Part { disk: Disk::writable(&image), checked: kind == Some("ext4"), at_most_mib: None })
}

/// Runs the scripts in one machine. Each has the names of its disks, in the order of their kind: the guest numbers them as they are found.
fn boot(family: &mut Family, machine: Machine, memory_mib: u32, scripts: &[Script]) -> Result<()> {
    let mut files = Vec::new();
    let mut disks: Vec<Disk> = Vec::new();
    let mut driver = String::from("mkdir -p /mnt /mnt2; cd /\n");
    let (mut virtio, mut nvme) = (0u8, 0);
    for script in scripts {
        files.push((
            format!("/disk-test/{}", script.name),
            0o644,
            format!("{FAILS}{}", script.text).into_bytes(),
        ));
        driver +=
            &format!("echo '@@begin {}'\ntimeout -k 5 100 sh -eux /disk-test/{}", script.name, script.name);
        for part in &script.parts {
            if part.disk.interface == Interface::Nvme {
                driver += &format!(" /dev/nvme{nvme}n1");
                nvme += 1;
            } else {
                driver += &format!(" /dev/vd{}", char::from(b'a' + virtio));
                virtio += 1;
            }
            disks.push(part.disk.clone());
        }
        driver += "\nstatus=$?; [ $status = 0 ] || dmesg | tail -n 4; cd /; \
            umount /mnt2 2>/dev/null; umount /mnt 2>/dev/null; echo \"@@end $status\"\n";
    }
    driver += "exit 0\n";
    // On microvm the guest may find the last disk first; a script for it has one.
    let mut vm = Vm { machine, memory_mib, ..family.vm.clone() };
    if disks.is_empty() {
        // Linux has loop devices only once it is told that there are disks.
        vm.command_line.push_str(" DISKS=1");
    }
    let ran = family.boot(&vm, disks, &files, &driver, &mut |_| Ok(()))?;
    for script in scripts {
        let said = ran.output.split("@@begin ").find_map(|piece| {
            piece
                .strip_prefix(&script.name)?
                .strip_prefix('\n')
                .or_else(|| piece.strip_prefix(&script.name)?.strip_prefix("\r\n"))
        });
        let wrong = match said.and_then(|text| text.split_once("@@end ")) {
            Some((_, status)) if status.trim_start().starts_with("0") => after(script)?,
            Some((text, _)) => Some(format!("it said:\n{}", super::last_lines(text, 12))),
            None => Some(ran.wrong().unwrap_or_else(|| "not reached".to_owned())),
        };
        family.judge(&script.name, wrong);
    }
    Ok(())
}

/// What the disks of a script that has passed are like.
fn after(script: &Script) -> Result<Option<String>> {
    for part in &script.parts {
        if part.checked
            && let Some(wrong) = fsck(&part.disk.file)?
        {
            return Ok(Some(wrong));
        }
        let used = std::fs::metadata(&part.disk.file)?.blocks() >> 11;
        if let Some(most) = part.at_most_mib.filter(|most| used > *most) {
            return Ok(Some(format!("the image takes {used} MiB on the host, not at most {most}")));
        }
    }
    Ok(None)
}
