//! Disks that change under the guest: sectors that fail (QEMU's blkdebug), a disk that grows, some that are pulled out and plugged in.

use super::{Family, PROGRAM, Ran, fsck};
use crate::disk::{Disk, Interface};
use crate::qemu::Vm;
use crate::util::output;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs all.
pub fn run(family: &mut Family) -> Result<()> {
    for (name, test) in [
        ("disk_device_errors", device_errors as fn(&Family) -> Result<Option<String>>),
        ("disk_device_errors_nvme", device_errors_nvme),
        ("disk_device_grows", device_grows),
        ("disk_device_plugged_in", device_plugged_in),
        ("disk_device_pulled_out", device_pulled_out),
        ("disk_read_error", read_error),
        ("disk_write_error", write_error),
        ("disk_error_remounts_read_only", metadata_error),
        ("disk_grows", grows),
        ("disk_pulled_out", pulled_out),
    ] {
        if family.takes(name) {
            let wrong = test(family)?;
            family.judge(name, wrong);
        }
    }
    Ok(())
}

/// A disk of which transfers of these kinds that touch these sectors fail.
fn failing(family: &Family, image: &Path, events: &[&str], sectors: &[u64]) -> Result<Disk> {
    let rules = image.with_extension("faults");
    let mut text = String::new();
    for (event, sector) in events.iter().flat_map(|event| sectors.iter().map(move |sector| (event, sector))) {
        text += &format!("[inject-error]\nevent = \"{event}\"\nerrno = \"5\"\nsector = \"{sector}\"\n\n");
    }
    std::fs::write(&rules, text)?;
    // blkdebug's name of a file ends at a colon.
    if family.folder.to_string_lossy().contains(':') {
        bail!("{}: a colon in its name", family.folder.display());
    }
    Ok(Disk { faults: Some(rules), ..Disk::writable(image) })
}

/// An image with one file `/file` of 256 KiB, and the first block (in sectors) of each 4 KiB of it.
fn image_with_file(family: &Family, name: &str) -> Result<(std::path::PathBuf, Vec<u64>)> {
    let tree = family.folder.join(format!("{name}-tree"));
    std::fs::create_dir_all(&tree)?;
    std::fs::write(tree.join("file"), vec![b'f'; 256 << 10])?;
    let tree = tree.to_string_lossy().into_owned();
    let image = family.image(name, 64, &["-b", "4096", "-d", &tree])?;
    let blocks = output(Command::new("debugfs").args(["-R", "blocks /file"]).arg(&image))?;
    let sectors =
        blocks.split_whitespace().filter_map(|block| block.parse::<u64>().ok()).map(|block| block * 8);
    let sectors: Vec<u64> = sectors.collect();
    if sectors.len() != 64 {
        bail!("debugfs tells {} blocks of the file", sectors.len());
    }
    Ok((image, sectors))
}

fn boot(family: &Family, disk: Disk, script: &str) -> Result<Ran> {
    family.boot(&family.vm, vec![disk], &[], &format!("mkdir -p /mnt\nset -eux\n{script}"), &mut |_| Ok(()))
}

/// Without a file system: whoever reads or writes a bad sector is told, and nobody else.
fn device_errors(family: &Family) -> Result<Option<String>> {
    errors_of(family, Interface::Virtio, "/dev/vda 5")
}

fn device_errors_nvme(family: &Family) -> Result<Option<String>> {
    // A medium that fails has an error of its own: ENODATA.
    errors_of(family, Interface::Nvme, "/dev/nvme0n1 61")
}

fn errors_of(family: &Family, interface: Interface, device: &str) -> Result<Option<String>> {
    let image = family.empty_image(&format!("errors-{interface:?}"), 16)?;
    // One alone, neighbours within a page and over its end, and one in each of the pages after.
    let sectors = [17, 25, 26, 39, 40, 64, 74, 85, 95, 96, 109, 127];
    let disk = Disk { interface, ..failing(family, &image, &["read_aio", "write_aio"], &sectors)? };
    let list: String = sectors.iter().map(|sector| format!(" {sector}")).collect();
    Ok(boot(family, disk, &format!("{PROGRAM} --disk-device failing {device}{list}"))?.wrong())
}

/// A disk grows that somebody has open, and then another one reads what is new.
fn device_grows(family: &Family) -> Result<Option<String>> {
    let image = family.empty_image("device-grows", 32)?;
    let script = "exec 3<>/dev/vda
[ $(cat /sys/block/vda/size) = 65536 ]
if dd if=/dev/zero of=/dev/vda bs=1M seek=40 count=1 2>/dev/null; then exit 1; fi
echo @@host
tries=0
while [ $(cat /sys/block/vda/size) != 98304 ]; do sleep 0.1; tries=$((tries + 1)); [ $tries -lt 150 ]; done
[ $(blockdev --getsize64 /dev/vda) = 50331648 ]
grep -q ' 49152 vda$' /proc/partitions
dd if=/dev/urandom of=/tmp/new bs=1M count=1
dd if=/tmp/new of=/dev/vda bs=1M seek=40 count=1 conv=fsync
dd if=/dev/vda bs=1M skip=40 count=1 | cmp - /tmp/new
dd if=/dev/vda bs=1M skip=47 of=/tmp/last
[ $(stat -c %s /tmp/last) = 1048576 ]";
    let command = "\"block_resize\", \"arguments\": {\"device\": \"drive0\", \"size\": 50331648}";
    Ok(with_control(family, &image, script, command)?.wrong())
}

/// Waits in the guest until a condition of the shell holds, 30 s at most.
const WAIT: &str = "wait_until() {
    tries=0
    while ! eval \"$1\"; do sleep 0.1; tries=$((tries + 1)); [ $tries -lt 300 ]; done
}
";

/// A disk goes away on which four threads read and write: each gets an error, and nothing is left of the disk.
fn device_pulled_out(family: &Family) -> Result<Option<String>> {
    let image = family.empty_image("device-pulled", 32)?;
    let script = format!(
        "{WAIT}{PROGRAM} --disk-device busy /dev/vda
wait_until '[ ! -e /dev/vda ]'
[ ! -e /sys/block/vda ]
if grep vda /proc/partitions; then exit 1; fi
if dd if=/dev/vda of=/dev/null count=1; then exit 1; fi"
    );
    Ok(with_control(family, &image, &script, PULL_OUT)?.wrong())
}

/// Takes the first disk away, as pushing its slot's button does.
const PULL_OUT: &str = "\"device_del\", \"arguments\": {\"id\": \"disk0\"}";

/// A disk is plugged into an empty port, used, pulled out, and plugged in again: it has its place in `/dev` and in `/sys` each time, programs hear of
/// it, and what was written is on it.
fn device_plugged_in(family: &Family) -> Result<Option<String>> {
    let (first, second) = (family.empty_image("first", 1)?, family.image("plugged-in", 32, &[])?);
    let script = format!(
        "{WAIT}[ ! -e /dev/vdb ]
{PROGRAM} --disk-device hear /tmp/heard & listener=$!
echo @@host
wait_until '[ -b /dev/vdb ]'
[ $(cat /sys/block/vdb/size) = 65536 ]
mount -t ext4 /dev/vdb /mnt
dd if=/dev/urandom of=/tmp/data bs=64k count=40
cp /tmp/data /mnt/data
umount /mnt
echo @@host
wait_until '[ ! -e /dev/vdb ]'
[ ! -e /sys/block/vdb ]
[ -b /dev/vda ]
dd if=/dev/vda of=/dev/null bs=1M
echo @@host
wait_until '[ -b /dev/vdb ]'
mount -t ext4 /dev/vdb /mnt
cmp /mnt/data /tmp/data
umount /mnt
sleep 0.5
kill $listener
grep @ /tmp/heard
[ $(grep -c '^add@/devices/pci0000:00/.*/block/vdb$' /tmp/heard) = 2 ]
[ $(grep -c '^remove@/devices/pci0000:00/.*/block/vdb$' /tmp/heard) = 1 ]
[ $(grep -c '^remove@/devices/pci0000:00/[^/]*/[^/]*/virtio[0-9]*$' /tmp/heard) = 1 ]
grep -q '^DEVNAME=vdb$' /tmp/heard"
    );
    let file = second.display();
    let drive = format!(
        "\"blockdev-add\", \"arguments\": {{\"driver\": \"raw\", \"node-name\": \"late\", \"file\": {{\"driver\": \"file\", \"filename\": \"{file}\"}}}}"
    );
    let plug = "\"device_add\", \"arguments\": {\"driver\": \"virtio-blk-pci\", \"id\": \"late0\", \"drive\": \"late\", \"bus\": \"port1\"}";
    let pull = "\"device_del\", \"arguments\": {\"id\": \"late0\"}";
    let ran = with_commands(family, Disk::writable(&first), &script, &[&[&drive, plug], &[pull], &[plug]])?;
    Ok(ran.wrong().or(fsck(&second)?))
}

/// The reader of the bad sector gets EIO, however often, and who reads far from it does not: Linux fails the whole folio.
fn read_error(family: &Family) -> Result<Option<String>> {
    let (image, sectors) = image_with_file(family, "read-error")?;
    let disk = failing(family, &image, &["read_aio"], &[sectors[40]])?;
    let script = "mount -t ext4 /dev/vda /mnt
dd if=/mnt/file bs=4k count=16 of=/dev/null
if cat /mnt/file >/dev/null 2>/tmp/why; then exit 1; fi
grep -i 'input/output error' /tmp/why
if dd if=/mnt/file bs=4k skip=40 count=1 of=/dev/null 2>/tmp/why; then exit 1; fi
grep -i 'input/output error' /tmp/why
echo 1 >/proc/sys/vm/drop_caches
dd if=/mnt/file bs=4k skip=56 count=8 of=/dev/null
dd if=/mnt/file bs=4k count=8 of=/dev/null
echo more >/mnt/other
umount /mnt";
    let ran = boot(family, disk, script)?;
    Ok(ran.wrong().or(fsck(&image)?))
}

/// A write that failed is told by `fsync`, once to each descriptor.
fn write_error(family: &Family) -> Result<Option<String>> {
    let (image, sectors) = image_with_file(family, "write-error")?;
    let disk = failing(family, &image, &["write_aio"], &[sectors[8]])?;
    let script =
        format!("mount -t ext4 /dev/vda /mnt\n{PROGRAM} --disk-writer failing /mnt/file 32768\numount /mnt");
    let ran = boot(family, disk, &script)?;
    Ok(ran.wrong().or(fsck(&image)?))
}

/// `errors=remount-ro`: an error in the file system's own blocks makes it read-only; what can be read still is.
fn metadata_error(family: &Family) -> Result<Option<String>> {
    let (image, _) = image_with_file(family, "metadata-error")?;
    // A directory in a block of its own, which fails.
    crate::util::run_quiet(Command::new("debugfs").args(["-w", "-R", "mkdir /sub"]).arg(&image))?;
    let block = output(Command::new("debugfs").args(["-R", "blocks /sub"]).arg(&image))?;
    let block: u64 =
        block.split_whitespace().next().and_then(|word| word.parse().ok()).context("no block of /sub")?;
    let disk = failing(family, &image, &["read_aio"], &[block * 8])?;
    let script = "mount -t ext4 -o errors=remount-ro /dev/vda /mnt
echo before >/mnt/before
sync
if ls /mnt/sub/x 2>/tmp/why; then exit 1; fi
cat /tmp/why
if echo after >/mnt/sub/y; then exit 1; fi
cat /mnt/file >/dev/null
cat /mnt/before
umount /mnt";
    Ok(boot(family, disk, script)?.wrong())
}

/// The guest sees a new size while it uses the disk.
fn grows(family: &Family) -> Result<Option<String>> {
    let image = family.image("grows", 32, &[])?;
    let script = "mount -t ext4 /dev/vda /mnt
[ $(cat /sys/block/vda/size) = 65536 ]
echo @@host
tries=0
while [ $(cat /sys/block/vda/size) != 98304 ]; do sleep 0.1; tries=$((tries + 1)); [ $tries -lt 150 ]; done
[ $(blockdev --getsize64 /dev/vda) = 50331648 ]
echo more >/mnt/x
umount /mnt
dd if=/dev/zero of=/dev/vda bs=1M seek=40 count=1";
    let ran = with_control(
        family,
        &image,
        script,
        "\"block_resize\", \"arguments\": {\"device\": \"drive0\", \"size\": 50331648}",
    )?;
    Ok(ran.wrong().or(fsck(&image)?))
}

/// The disk goes away under a mounted file system: errors, no hang, and the machine goes on.
fn pulled_out(family: &Family) -> Result<Option<String>> {
    let image = family.image("pulled", 32, &[])?;
    let script = format!(
        "{WAIT}mount -t ext4 /dev/vda /mnt
echo data >/mnt/x
sync
echo @@host
wait_until '[ ! -e /sys/block/vda ]'
if dd if=/dev/urandom of=/mnt/y bs=64k count=4 conv=fsync; then exit 1; fi
umount /mnt
if mount -t ext4 /dev/vda /mnt; then exit 1; fi
echo still here"
    );
    Ok(with_control(family, &image, &script, PULL_OUT)?.wrong())
}

/// Boots with a virtio disk; when the script says `@@host`, QEMU is given the command.
fn with_control(family: &Family, image: &Path, script: &str, command: &str) -> Result<Ran> {
    with_commands(family, Disk::writable(image), script, &[&[command]])
}

/// Boots; each time the script says `@@host`, QEMU is given the next list of commands.
fn with_commands(family: &Family, disk: Disk, script: &str, commands: &[&[&str]]) -> Result<Ran> {
    let socket = std::env::temp_dir().join(format!("linnet-qmp-{}", std::process::id()));
    let vm = Vm { control: Some(socket.clone()), ..family.vm.clone() };
    let script = format!("mkdir -p /mnt\nset -eux\n{script}");
    let mut commands = commands.iter();
    let ran = family.boot(&vm, vec![disk], &[], &script, &mut |line| match line {
        "@@host" => commands
            .next()
            .into_iter()
            .flat_map(|list| list.iter())
            .try_for_each(|command| qmp(&socket, command)),
        _ => Ok(()),
    });
    let _ = std::fs::remove_file(&socket);
    ran
}

/// Gives QEMU one command over its socket. What was pulled out is there for QEMU until the guest has switched its power off: then it is
/// tried again.
pub(super) fn qmp(socket: &Path, command: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("reaching QEMU")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answers = BufReader::new(stream.try_clone()?).lines();
    let mut tries = 0;
    for request in ["\"qmp_capabilities\"", command] {
        writeln!(stream, "{{\"execute\": {request}}}")?;
        loop {
            let answer = answers.next().context("QEMU says nothing")??;
            if answer.contains("Duplicate device ID") && tries < 100 {
                tries += 1;
                std::thread::sleep(Duration::from_millis(200));
                writeln!(stream, "{{\"execute\": {request}}}")?;
            } else if answer.contains("\"error\"") {
                bail!("QEMU does not: {answer}");
            } else if answer.contains("\"return\"") {
                break;
            }
        }
    }
    Ok(())
}
