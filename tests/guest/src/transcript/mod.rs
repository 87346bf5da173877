//! Transcripts: what long series of calls answer, one line each, compared byte by byte with what Linux answered.
//!
//! `guest-tests --transcripts [FILTER]…` prints for each section its name and its lines. A section is a function that
//! makes calls and notes their results in a [`Transcript`]; nothing in a line may differ from run to run (no addresses,
//! no process ids, no times). Each runs in a child of its own with a time limit.

mod bridge_vlans;
mod devices;
mod epoll;
mod files;
mod filesystems;
mod futexes;
mod identity;
mod inet;
mod inet_more;
mod internet;
mod locks;
mod memory;
mod mounts;
mod msg;
mod namespaces;
mod netlink;
mod notify;
mod packet;
mod processes;
mod reports;
mod scheduling;
mod shm;
mod signals;
mod sockets;
mod sysfs;
mod timers;
mod tun;

use crate::case::Outcome;
use std::fmt::{Debug, Write};
use std::io::Read;
use std::os::fd::FromRawFd;

/// The lines of one section.
#[derive(Default)]
pub struct Transcript {
    text: String,
    /// Where each line goes at once, so that those before a crash are not lost.
    pipe: Option<i32>,
}

impl Transcript {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let start = self.text.len();
        let _ = writeln!(self.text, "{line}");
        if let Some(pipe) = self.pipe {
            let _ = crate::sys::write(pipe, &self.text.as_bytes()[start..]);
        }
    }

    /// Notes what a call returned, with the error if it was -1; gives the value back.
    pub fn call(&mut self, what: &str, value: impl Into<i64>) -> i64 {
        let value = value.into();
        let error = std::io::Error::last_os_error();
        if value == -1 {
            self.line(format_args!("{what} = {error}"));
        } else {
            self.line(format_args!("{what} = {value}"));
        }
        value
    }

    /// The same for a call whose value is different each time (a descriptor is not: those are noted as numbers).
    pub fn works(&mut self, what: &str, value: impl Into<i64>) -> i64 {
        let value = value.into();
        let error = std::io::Error::last_os_error();
        if value == -1 {
            self.line(format_args!("{what} = {error}"));
        } else {
            self.line(format_args!("{what} works"));
        }
        value
    }

    /// Appends the lines of another, made in a child.
    pub fn append(&mut self, lines: &str) {
        lines.lines().for_each(|line| self.line(format_args!("{line}")));
    }

    /// Its lines.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Notes something that was found.
    pub fn note(&mut self, what: &str, value: impl Debug) {
        self.line(format_args!("{what}: {value:?}"));
    }
}

/// A section's function.
pub type Section = (&'static str, fn(&mut Transcript) -> Outcome);

const SECONDS: u32 = 20;

/// Prints the sections whose names contain a filter.
pub fn print(filters: &[String]) {
    let groups: &[&[Section]] = &[
        bridge_vlans::SECTIONS,
        devices::SECTIONS,
        epoll::SECTIONS,
        files::SECTIONS,
        filesystems::SECTIONS,
        futexes::SECTIONS,
        identity::SECTIONS,
        inet::SECTIONS,
        inet_more::SECTIONS,
        internet::SECTIONS,
        locks::SECTIONS,
        memory::SECTIONS,
        mounts::SECTIONS,
        msg::SECTIONS,
        shm::SECTIONS,
        namespaces::SECTIONS,
        namespaces::users::SECTIONS,
        namespaces::pids::SECTIONS,
        namespaces::mounts::SECTIONS,
        namespaces::times::SECTIONS,
        netlink::SECTIONS,
        notify::SECTIONS,
        packet::SECTIONS,
        processes::SECTIONS,
        reports::SECTIONS,
        scheduling::SECTIONS,
        signals::SECTIONS,
        sockets::SECTIONS,
        sysfs::SECTIONS,
        timers::SECTIONS,
        tun::SECTIONS,
    ];
    for (name, section) in groups.iter().copied().flatten() {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            println!("## {name}\n{}", in_child(*section));
        }
    }
}

/// Runs a section in a child and returns its lines, with a last line if it did not end well.
fn in_child(section: fn(&mut Transcript) -> Outcome) -> String {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two descriptors; this process has one thread.
    let child = unsafe {
        libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC);
        libc::fork()
    };
    if child == 0 {
        run(section, ends[1]);
    }
    // SAFETY: the descriptors are ours.
    let mut reader = unsafe {
        libc::setpgid(child, child);
        libc::close(ends[1]);
        std::fs::File::from_raw_fd(ends[0])
    };
    let mut text = String::new();
    let _ = reader.read_to_string(&mut text);
    let mut status = 0;
    // SAFETY: waitpid writes one int.
    unsafe {
        libc::waitpid(child, &raw mut status, 0);
        libc::kill(-child, libc::SIGKILL);
        while libc::waitpid(-child, std::ptr::null_mut(), 0) > 0 {}
    }
    if status != 0 {
        let _ = writeln!(text, "the section ended with wait status {status:#x}");
    }
    text
}

/// In the child: runs the section and sends its lines. Standard descriptors are /dev/null, the pipe is out of the way.
fn run(section: fn(&mut Transcript) -> Outcome, pipe: i32) -> ! {
    let mut transcript = Transcript::default();
    // SAFETY: descriptors and numbers only.
    let pipe = unsafe {
        libc::setpgid(0, 0);
        libc::alarm(SECONDS);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for standard in 0..3 {
            libc::dup2(null, standard);
        }
        let high = libc::fcntl(pipe, libc::F_DUPFD_CLOEXEC, 200);
        libc::close_range(3, 199, 0);
        high
    };
    transcript.pipe = Some(pipe);
    std::panic::set_hook(Box::new(|_| {}));
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| section(&mut transcript))) {
        Ok(Ok(())) => {}
        Ok(Err(crate::case::Failure::Wrong(why) | crate::case::Failure::Skip(why))) => {
            transcript.note("the section failed", why)
        }
        Err(_) => transcript.note("the section", "panicked"),
    }
    // SAFETY: ends this process.
    unsafe { libc::_exit(0) }
}

/// A raw system call of up to six numbers or pointers.
macro_rules! sys {
    // The sixth goes over the stack, where a 32-bit number would leave half of its place as it was.
    ($name:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr $(,)?) => {{
        #[allow(clippy::unnecessary_cast, reason = "some are wide enough already")]
        let sixth = $f as usize;
        sys!(@call $name, $a, $b, $c, $d, $e, sixth)
    }};
    (@call $name:ident $(, $argument:expr)*) => {
        {
            // SAFETY: the arguments are numbers, or pointers that are valid or meant to be refused.
            #[allow(unused_unsafe, reason = "some callers are in an unsafe block already")]
            let result = unsafe { libc::syscall(libc::$name $(, $argument)*) };
            result
        }
    };
    ($name:ident $(, $argument:expr)* $(,)?) => {
        sys!(@call $name $(, $argument)*)
    };
}
pub(crate) use sys;
