//! `/sys`: the tree, processors, devices and their classes.

use super::{Section, Transcript};
use crate::case::{Failure, Outcome};
use crate::sys::{self, c};
use std::path::Path;

/// The sections of this file.
pub const SECTIONS: &[Section] = &[
    ("sysfs_tree", tree),
    ("sysfs_processors", processors),
    ("sysfs_devices", devices),
    ("sysfs_errors", errors),
];

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Wrong(format!("{path}: {error}")))
}

fn link(path: &str) -> Option<String> {
    Some(std::fs::read_link(path).ok()?.to_string_lossy().into_owned())
}

fn tree(t: &mut Transcript) -> Outcome {
    for name in ["block", "bus", "class", "dev", "devices", "firmware", "fs", "kernel", "module", "power"] {
        t.note(name, Path::new("/sys").join(name).is_dir());
    }
    for name in ["dev/block", "dev/char", "devices/virtual", "devices/system/cpu", "kernel/mm", "class/mem"] {
        t.note(name, Path::new("/sys").join(name).is_dir());
    }
    for name in ["kernel/address_bits", "kernel/cpu_byteorder"] {
        t.note(name, read(&format!("/sys/{name}"))?);
    }
    Ok(())
}

fn processors(t: &mut Transcript) -> Outcome {
    let folder = "/sys/devices/system/cpu";
    // SAFETY: a number only.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    let list = if count == 1 { "0\n".to_owned() } else { format!("0-{}\n", count - 1) };
    t.note("online", read(&format!("{folder}/online"))? == list);
    t.note("present", read(&format!("{folder}/present"))?.starts_with('0'));
    t.note("possible", read(&format!("{folder}/possible"))?.starts_with('0'));
    t.note("the last one", Path::new(&format!("{folder}/cpu{}", count - 1)).is_dir());
    Ok(())
}

fn devices(t: &mut Transcript) -> Outcome {
    for name in ["null", "zero", "full", "random", "urandom", "kmsg"] {
        t.note(name, link(&format!("/sys/class/mem/{name}")));
        let folder = format!("/sys/devices/virtual/mem/{name}");
        t.note("  dev", read(&format!("{folder}/dev"))?);
        t.note("  uevent", read(&format!("{folder}/uevent"))?);
        t.note("  subsystem", link(&format!("{folder}/subsystem")));
    }
    for name in ["tty", "console", "ptmx"] {
        t.note(name, link(&format!("/sys/class/tty/{name}")));
        t.note("  uevent", read(&format!("/sys/class/tty/{name}/uevent"))?);
    }
    t.note("1:3", link("/sys/dev/char/1:3"));
    t.note("5:0 through its link", read("/sys/dev/char/5:0/dev")?);
    t.note("the serial line", read("/sys/class/tty/ttyS0/dev")?);
    Ok(())
}

fn errors(t: &mut Transcript) -> Outcome {
    // SAFETY: valid strings and numbers.
    unsafe {
        t.call("no name", libc::access(c("/sys/class/none").as_ptr(), 0));
        t.call("make a folder", libc::mkdir(c("/sys/class/none").as_ptr(), 0o700));
        t.call("remove a folder", libc::rmdir(c("/sys/class/mem").as_ptr()));
        t.call("remove a file", libc::unlink(c("/sys/kernel/cpu_byteorder").as_ptr()));
        t.call("rename", libc::rename(c("/sys/class/mem").as_ptr(), c("/sys/class/rem").as_ptr()));
        let fd = libc::open(c("/sys/devices/virtual/mem/null/dev").as_ptr(), libc::O_RDONLY);
        t.call("seek", libc::lseek(fd, 2, libc::SEEK_SET));
        t.note("the rest", sys::read(fd, 10)?);
        t.note("the end", sys::read(fd, 10)?);
    }
    t.note("device numbers are folders", link("/sys/dev/char"));
    Ok(())
}
