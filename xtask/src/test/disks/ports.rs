//! Ports to the host (virtio-console): bytes both ways, names, what programs see when the other side goes, and ports that come and go while the machine
//! runs. The host's end is a socket that QEMU listens at.
//!
//! Linux is Debian's ordinary kernel here: the one for virtual machines has no driver for it.

use super::changes::qmp;
use super::{Family, PROGRAM, Ran};
use crate::linux::Flavour;
use crate::qemu::{Port, Vm};
use crate::root::Root;
use crate::run::{Kernel, machine_with};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The guest's name for the port.
const NAME: &str = "org.linnet.test";

/// Finds the port by its name, as udev's rule does.
const FIND: &str = "find_port() {
    tries=0
    while ! port=$(grep -lx \"$1\" /sys/class/virtio-ports/*/name 2>/dev/null); do
        sleep 0.1; tries=$((tries + 1)); [ $tries -lt 300 ]
    done
    port=${port%/name}; port=/dev/${port##*/}
    [ -c $port ]
}
";

/// Runs all.
pub fn run(family: &mut Family) -> Result<()> {
    for (name, test) in [
        ("port_exchange", exchange as fn(&Family) -> Result<Option<String>>),
        ("port_rules", rules),
        ("port_plugged_in", plugged_in),
    ] {
        if family.takes(name) {
            let wrong = test(family)?;
            family.judge(name, wrong);
        }
    }
    Ok(())
}

/// What the host does when the guest says `@@host`.
type Step<'s> = &'s mut dyn FnMut(&Host) -> Result<()>;

/// The host's side.
struct Host {
    socket: PathBuf,
    control: PathBuf,
}

impl Host {
    fn connect(&self) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket).context("the port's socket")?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }
}

/// Boots with a port; each time the script says `@@host`, the host does the next step.
fn boot(family: &Family, script: &str, steps: &mut [Step<'_>]) -> Result<Ran> {
    let place = |what: &str| std::env::temp_dir().join(format!("linnet-{what}-{}", std::process::id()));
    let host = Host { socket: place("port"), control: place("qmp") };
    let mut vm = Vm {
        ports: vec![Port { name: NAME.to_owned(), socket: host.socket.clone() }],
        control: Some(host.control.clone()),
        ..family.vm.clone()
    };
    if family.tests_linux {
        let linux = machine_with(&Kernel::Linux, family.profile, &Root::Busybox, Flavour::Generic)?;
        (vm.kernel, vm.initrd) = (linux.kernel, linux.initrd);
    }
    let script = format!("set -eux\n{FIND}{script}");
    let mut steps = steps.iter_mut();
    let ran = family.boot(&vm, Vec::new(), &[], &script, &mut |line| match line {
        "@@host" => steps.next().context("no step is left for the host")?(&host),
        _ => Ok(()),
    });
    for path in [&host.socket, &host.control] {
        let _ = std::fs::remove_file(path);
    }
    ran
}

/// 1 MiB that does not repeat soon.
fn bytes() -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..1 << 20).map(|_| next()).collect()
}

/// A megabyte to the guest and back again, more than any queue holds; the guest waits for the host and the host for the guest.
fn exchange(family: &Family) -> Result<Option<String>> {
    let script = format!(
        "find_port {NAME}
[ $(stat -c %F $port) = 'character special file' ] || [ -c $port ]
exec 3<>$port
echo @@host
head -c 1048576 <&3 >/tmp/came
cat /tmp/came >&3
sleep 1
exec 3>&-
wc -c </tmp/came"
    );
    let sent = bytes();
    let mut host_side = None;
    let ran = boot(
        family,
        &script,
        &mut [&mut |host| {
            let mut stream = host.connect()?;
            let sent = sent.clone();
            host_side = Some(std::thread::spawn(move || {
                let mut came = vec![0; sent.len()];
                match stream.write_all(&sent).and_then(|()| stream.read_exact(&mut came)) {
                    Ok(()) if came == sent => None,
                    Ok(()) => Some("other bytes came back".to_owned()),
                    Err(error) => Some(format!("the host's side: {error}")),
                }
            }));
            Ok(())
        }],
    )?;
    let outcome = host_side.context("the guest never asked for the host")?.join();
    Ok(ran.wrong().or(outcome.unwrap_or_else(|_| Some("the host's side panicked".to_owned()))))
}

/// Who may open it, what waits and what does not, what is seen of the host's coming and going.
fn rules(family: &Family) -> Result<Option<String>> {
    let script = format!("find_port {NAME}\n{PROGRAM} --port $port");
    let stream = std::cell::RefCell::new(None);
    let ran = boot(
        family,
        &script,
        &mut [
            &mut |host| {
                *stream.borrow_mut() = Some(host.connect()?);
                Ok(())
            },
            &mut |_| {
                let mut stream = stream.borrow_mut().take().context("not connected")?;
                stream.write_all(b"last words")?;
                Ok(())
            },
            &mut |host| qmp(&host.control, "\"device_del\", \"arguments\": {\"id\": \"vport1\"}"),
        ],
    )?;
    Ok(ran.wrong())
}

/// A port comes, carries bytes, goes, and comes again; programs hear of it.
fn plugged_in(family: &Family) -> Result<Option<String>> {
    let script = format!(
        "{PROGRAM} --disk-device hear /tmp/heard & listener=$!
sleep 0.5
echo @@host
find_port late.port
echo hello >$port
echo @@host
tries=0
while [ -e $port ]; do sleep 0.1; tries=$((tries + 1)); [ $tries -lt 300 ]; done
[ ! -e /sys/class/virtio-ports/${{port##*/}} ]
echo @@host
find_port late.port
sleep 0.5
kill $listener
grep @ /tmp/heard
[ $(grep -c '^add@/devices/.*/virtio-ports/vport[0-9]*p5$' /tmp/heard) = 2 ]
[ $(grep -c '^change@/devices/.*/virtio-ports/vport[0-9]*p5$' /tmp/heard) = 2 ]
[ $(grep -c '^remove@/devices/.*/virtio-ports/vport[0-9]*p5$' /tmp/heard) = 1 ]"
    );
    let file = family.folder.join("port-output");
    let chardev = format!(
        "\"chardev-add\", \"arguments\": {{\"id\": \"late\", \"backend\": {{\"type\": \"file\", \"data\": {{\"out\": \"{}\"}}}}}}",
        file.display()
    );
    let add = "\"device_add\", \"arguments\": {\"driver\": \"virtserialport\", \"bus\": \"ports.0\", \"id\": \"late0\", \"nr\": 5, \"chardev\": \"late\", \"name\": \"late.port\"}";
    let del = "\"device_del\", \"arguments\": {\"id\": \"late0\"}";
    let ran = boot(
        family,
        &script,
        &mut [
            &mut |host| {
                qmp(&host.control, &chardev)?;
                qmp(&host.control, add)
            },
            &mut |host| qmp(&host.control, del),
            &mut |host| qmp(&host.control, add),
        ],
    )?;
    Ok(ran.wrong().or(said(&file)?))
}

/// What is wrong with what came out on the host.
fn said(file: &Path) -> Result<Option<String>> {
    let text = std::fs::read(file).context("the port's file")?;
    if text.is_empty() {
        bail!("nothing reached {}", file.display());
    }
    Ok((text != b"hello\n").then(|| format!("the host got {:?}", String::from_utf8_lossy(&text))))
}
