//! The scripts of `tests/disks`: all that want the same machine run in one boot, each with disks of its own.
//!
//! A script passes if it ends with status 0 (it is run by `sh -eux`; `fails COMMAND` wants a command to fail), and if `fsck.ext4` finds nothing afterwards. Its first lines say what it
//! needs; the names of its disks are its arguments:
//!
//! - `# disk MIB ext4 OPTION…` a file system made with these options of mkfs.ext4; `# disk MIB raw`; `# disk MIB sfdisk LINE;LINE…`;
//! - after a disk: `# read-only`, `# nvme`, `# device OPTIONS` (of QEMU's device), `# debugfs COMMAND` (done before), `# not-checked` (no
//!   fsck), `# at-most MIB` (what the image takes on the host afterwards);
//! - `# root debian`: Debian's own programs, from a disk that comes before the script's (see `debian`); `# packages NAME…`: of Debian's, in
//!   `/packages`, which is a repository; `# limit SECONDS`, if not 100;
//! - `# share`: a folder of the host, the script's own, is in the guest below what is mounted by the tag `share`; its name is in `$FOLDER`. Then
//!   `# before COMMAND` and `# after COMMAND` are run by the host's shell in that folder; the second must succeed;
//! - `# microvm`, `# microvm-no-acpi`, `# memory MIB`: another machine than q35 with 512 MiB. On Linux it is q35 all the
//!   same: under emulation Debian's finds no clock on the first and no disks on the second.

use super::{Family, LIMIT, debian, fsck};
use crate::deps;
use crate::disk::{Access, Disk, Interface};
use crate::linux::Flavour;
use crate::qemu::{Machine, Vm};
use crate::root::Root;
use crate::run::{Kernel, machine_with};
use crate::util::{files_below, workspace};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

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
    /// What it needs besides the machine.
    around: Around,
    /// Debian's, for the repository of its boot.
    packages: Vec<String>,
    seconds: u64,
    share: Option<Share>,
}

/// The host's side of a script with a shared folder.
struct Share {
    folder: PathBuf,
    /// What must succeed there afterwards.
    after: Vec<String>,
}

/// What is around a script.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Around {
    Busybox,
    /// A Debian on a disk.
    Debian,
    /// BusyBox and a folder of the host.
    Share,
}

/// What scripts that share a boot have in common.
type Group = (Machine, u32, Around);

/// The most disks in one machine: each has a port of its own on the first bus of PCI.
const MOST_DISKS: usize = 20;

/// Runs all that are wanted.
pub fn run(family: &mut Family) -> Result<()> {
    let mut groups: BTreeMap<Group, Vec<Script>> = BTreeMap::new();
    for path in files_below(&workspace().join("tests/disks"), "sh") {
        let name = format!("disk_{}", path.file_stem().unwrap_or_default().to_string_lossy());
        if family.takes(&name) {
            let script = read(family, name, &path)?;
            let group = (script.machine, script.memory_mib, script.around);
            groups.entry(group).or_default().push(script);
        }
    }
    for (group, mut scripts) in groups {
        while !scripts.is_empty() {
            let mut disks = 0;
            let fit = scripts.iter().take_while(|script| {
                disks += script.parts.len();
                disks <= MOST_DISKS
            });
            let rest = scripts.split_off(fit.count().max(1));
            boot(family, group, &scripts)?;
            scripts = rest;
        }
    }
    Ok(())
}

fn read(family: &Family, name: String, path: &PathBuf) -> Result<Script> {
    let text = std::fs::read_to_string(path)?;
    let mut script = Script {
        name,
        text,
        parts: Vec::new(),
        machine: Machine::Q35,
        memory_mib: 512,
        around: Around::Busybox,
        packages: Vec::new(),
        seconds: 100,
        share: None,
    };
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
            ("share", _) => {
                let folder = shared(family).join(&script.name);
                std::fs::create_dir_all(&folder)?;
                script.share = Some(Share { folder, after: Vec::new() });
                script.around = Around::Share;
            }
            ("before" | "after", _) => {
                let share = script.share.as_mut().with_context(|| format!("{line}: no # share"))?;
                if word == "after" {
                    share.after.push(rest.to_owned());
                } else {
                    crate::util::run_quiet(
                        Command::new("sh").args(["-euc", rest]).current_dir(&share.folder),
                    )?;
                }
            }
            ("memory", _) => script.memory_mib = rest.parse().context("# memory MIB")?,
            ("root", _) if rest == "debian" => script.around = Around::Debian,
            ("packages", _) => script.packages.extend(rest.split(' ').map(str::to_owned)),
            ("limit", _) => script.seconds = rest.parse().context("# limit SECONDS")?,
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

/// The folder that is shared: each script has one in it.
fn shared(family: &Family) -> PathBuf {
    family.folder.join("share")
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

/// The scripts of one machine, one after the other, and what they need.
struct Driver {
    text: String,
    files: Vec<(String, u32, Vec<u8>)>,
    disks: Vec<Disk>,
}

/// Each script has the names of its disks, in the order of their kind: the guest numbers them as they are found.
fn driver(scripts: &[Script], root: Option<Disk>) -> Driver {
    let (mut virtio, mut nvme) = (u8::from(root.is_some()), 0);
    let mut driver = Driver {
        text: String::from("mkdir -p /mnt /mnt2; cd /\n"),
        files: Vec::new(),
        disks: root.into_iter().collect(),
    };
    for script in scripts {
        let path = format!("/disk-test/{}", script.name);
        driver.files.push((path.clone(), 0o644, format!("{FAILS}{}", script.text).into_bytes()));
        driver.text += &format!(
            "echo '@@begin {0}'\nFOLDER={0} timeout -k 5 {1} sh -eux {path}",
            script.name, script.seconds
        );
        for part in &script.parts {
            if part.disk.interface == Interface::Nvme {
                driver.text += &format!(" /dev/nvme{nvme}n1");
                nvme += 1;
            } else {
                driver.text += &format!(" /dev/vd{}", char::from(b'a' + virtio));
                virtio += 1;
            }
            driver.disks.push(part.disk.clone());
        }
        driver.text += "\nstatus=$?; [ $status = 0 ] || dmesg | tail -n 4; cd /; \
            umount /mnt2 2>/dev/null; umount /mnt 2>/dev/null; echo \"@@end $status\"\n";
    }
    driver.text += "exit 0\n";
    driver
}

/// Runs the scripts in one machine.
fn boot(family: &mut Family, (machine, memory_mib, around): Group, scripts: &[Script]) -> Result<()> {
    let root = match around {
        Around::Debian => Some(debian::copy(family, &format!("{}-root", scripts[0].name))?),
        _ => None,
    };
    // On microvm the guest may find the last disk first; a script for it has one.
    let limits: u64 = scripts.iter().map(|script| script.seconds).sum();
    let timeout = Some(LIMIT.max(Duration::from_secs(limits + 60)));
    let mut vm =
        Vm { machine, memory_mib, root_on_disk: around == Around::Debian, timeout, ..family.vm.clone() };
    let mut driver = driver(scripts, root.as_deref().map(Disk::writable));
    let packages: BTreeSet<&str> =
        scripts.iter().flat_map(|script| &script.packages).map(String::as_str).collect();
    if !packages.is_empty() {
        driver.files.extend(debian::repository(packages)?);
    }
    if driver.disks.is_empty() {
        // Linux has loop devices only once it is told that there are disks.
        vm.command_line.push_str(" DISKS=1");
    }
    if around == Around::Share {
        if family.tests_linux {
            let linux = machine_with(&Kernel::Linux, family.profile, &Root::Busybox, Flavour::Generic)?;
            (vm.kernel, vm.initrd) = (linux.kernel, linux.initrd);
        }
        // The scripts mount it themselves.
        driver.text = format!("umount /mnt/share\n{}", driver.text);
        vm.share = Some(shared(family));
    }
    let ran = family.boot(&vm, driver.disks, &driver.files, &driver.text, &mut |_| Ok(()))?;
    let root_is = match &root {
        Some(image) => debian::unclean(image)?,
        None => None,
    };
    for script in scripts {
        let said = ran.output.split("@@begin ").find_map(|piece| {
            piece
                .strip_prefix(&script.name)?
                .strip_prefix('\n')
                .or_else(|| piece.strip_prefix(&script.name)?.strip_prefix("\r\n"))
        });
        let wrong = match said.and_then(|text| text.split_once("@@end ")) {
            Some((_, status)) if status.trim_start().starts_with("0") => after(script)?.or(root_is.clone()),
            Some((text, _)) => Some(format!("it said:\n{}", super::last_lines(text, 12))),
            None => Some(ran.wrong().unwrap_or_else(|| "not reached".to_owned())),
        };
        family.judge(&script.name, wrong);
    }
    Ok(())
}

/// What the disks and the folder of a script that has passed are like.
fn after(script: &Script) -> Result<Option<String>> {
    for command in script.share.iter().flat_map(|share| &share.after) {
        let folder = &script.share.as_ref().context("no folder")?.folder;
        let output = Command::new("sh").args(["-euc", command]).current_dir(folder).output()?;
        if !output.status.success() {
            return Ok(Some(format!(
                "on the host `{command}` fails: {}",
                String::from_utf8_lossy(&output.stderr)
            )));
        }
    }
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
