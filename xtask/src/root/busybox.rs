//! The built-in root: Debian's static BusyBox with every applet.
//!
//! BusyBox is taken from one fixed Debian suite, so that the recorded outputs of `tests/busybox/` belong to one version.

use super::{init, is_newer};
use crate::apt::Apt;
use crate::cpio::Archive;
use crate::util::{output, target_sub, workspace, write_atomically};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

const BUSYBOX_SUITE: &str = "bookworm";

/// The host path of Debian's static busybox.
pub fn program() -> Result<PathBuf> {
    let dir = target_sub("busybox")?.join("package");
    let program = dir.join("bin/busybox");
    if !program.is_file() {
        let apt = Apt::open(BUSYBOX_SUITE)?;
        let version = apt.version("busybox-static", |_| true)?;
        apt.unpack("busybox-static", &version, &dir)?;
    }
    Ok(program)
}

/// The BusyBox root, made again only when an ingredient has changed.
pub fn archive() -> Result<Vec<u8>> {
    let program = program()?;
    let cached = target_sub("busybox")?.join("root.cpio");
    let ours =
        [workspace().join("xtask/root/init"), workspace().join("xtask/src/root/busybox.rs"), program.clone()];
    if is_newer(&cached, &ours) {
        return Ok(std::fs::read(cached)?);
    }
    let mut archive = Archive::new();
    for (name, permissions) in [
        ("bin", 0o755),
        ("sbin", 0o755),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("usr/lib", 0o755),
        ("usr/sbin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("run", 0o755),
        ("root", 0o700),
        ("home", 0o755),
        ("mnt", 0o755),
        ("var", 0o755),
        ("var/log", 0o755),
        ("var/tmp", 0o1777),
        ("lib64", 0o755),
    ] {
        archive.directory(name, permissions);
    }
    // Where Linux finds modules.
    archive.symlink("lib", "usr/lib");
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.character_device("dev/null", 0o666, 1, 3);
    archive.file("bin/busybox", 0o755, &std::fs::read(&program)?);
    for applet in output(Command::new(&program).arg("--list-full"))?.lines() {
        if applet != "bin/busybox" && applet.contains('/') && !applet.starts_with("linuxrc") {
            archive.symlink(applet, "/bin/busybox");
        }
    }
    archive.file("init", 0o755, &init()?);
    for (name, text) in SETTINGS {
        archive.file(name, 0o644, text.as_bytes());
    }
    archive.file("etc/session", 0o755, SESSION.as_bytes());
    // Not compressed: it is never far away, and unpacking would be most of the boot under emulation.
    let bytes = archive.finish();
    write_atomically(&cached, &bytes)?;
    Ok(bytes)
}

/// The files of `/etc`.
const SETTINGS: [(&str, &str); 9] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nuser:x:1000:1000:user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n"),
    ("etc/shadow", "root::10000:0:99999:7:::\nuser::10000:0:99999:7:::\n"),
    ("etc/hostname", "linnet\n"),
    ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 linnet\n"),
    ("etc/shells", "/bin/sh\n"),
    ("etc/profile", "export PATH=/usr/bin:/usr/sbin:/bin:/sbin\nPS1='\\w \\$ '\nalias ll='ls -l'\n"),
    ("etc/issue", ""),
    // The shell's end is the machine's end; a child of init, so that job control has a session of its own.
    ("etc/inittab", "ttyS0::once:/etc/session\n::ctrlaltdel:/sbin/reboot -f\n::shutdown:/bin/umount -a -r\n"),
];

const SESSION: &str =
    "#!/bin/sh\nstty -F /dev/ttyS0 sane ${ROWS:+rows $ROWS cols $COLS} 2>/dev/null\nsh -l\npoweroff -f\n";
