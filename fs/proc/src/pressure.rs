//! `/proc/pressure`: what waiting for CPUs, devices and memory costs, and triggers on it (proc(5), `Documentation/accounting/psi`).
//!
//! Key type: [`PressureFile`], an open file: what it says was made when it was opened; a write makes it a trigger, which poll(2) then waits for. The figures are
//! `sched::pressure`'s. Locks: an open file's trigger has a leaf lock.

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use machine::sync::SpinLock;
use mm::io::{IoReader, IoWriter};
use sched::pressure::{self, Resource, Severity, Trigger};
use security::Capability;
use vfs::pseudo::{Node, StaticDirectory};
use vfs::{File, FileOperations, PollTable};

/// As many bytes of a trigger are read.
const LONGEST: usize = 32;

/// The folder.
pub fn tree() -> StaticDirectory {
    let file = |resource| Node::opening(0o666, move || open(resource));
    StaticDirectory::new()
        .add("cpu", file(Resource::Cpu))
        .add("io", file(Resource::Io))
        .add("memory", file(Resource::Memory))
}

struct PressureFile {
    resource: Resource,
    trigger: SpinLock<Option<Arc<Trigger>>>,
}

fn open(resource: Resource) -> Result<Arc<dyn FileOperations>> {
    Ok(Arc::new(PressureFile { resource, trigger: SpinLock::new(None) }))
}

fn text(resource: Resource) -> String {
    let mut text = String::new();
    for (name, severity) in [("some", Severity::Some), ("full", Severity::Full)] {
        let line = pressure::line(resource, severity);
        let [ten, sixty, three_hundred] = line.averages;
        let show = |average: u64| alloc::format!("{}.{:02}", average / 100, average % 100);
        // Into a string it cannot fail.
        let _ = writeln!(
            text,
            "{name} avg10={} avg60={} avg300={} total={}",
            show(ten),
            show(sixty),
            show(three_hundred),
            line.total_us
        );
    }
    text
}

impl FileOperations for PressureFile {
    fn read(&self, _file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        let text = text(self.resource);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = text.as_bytes().get(start..).unwrap_or_default();
        to.write_bytes(rest.get(..rest.len().min(to.remaining())).unwrap_or_default())
    }

    /// Makes the file a trigger. Errors: `EINVAL`: see [`Trigger::new`]; `EBUSY`: it is one already; `ENOMEM`.
    fn write(&self, file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        let mut bytes = [0; LONGEST];
        let length = from.remaining();
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let count = from.read_bytes(bytes.get_mut(..length.min(LONGEST)).unwrap_or_default())?;
        // As on Linux the last byte is not looked at: it is the string's NUL, or the line's end.
        let text = bytes.get(..count.saturating_sub(1)).unwrap_or_default();
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        if self.trigger.lock().is_some() {
            return Err(Errno::EBUSY);
        }
        let trigger = Trigger::new(self.resource, text, file.opener_capable(Capability::SysResource))?;
        let mut own = self.trigger.lock();
        if own.is_some() {
            return Err(Errno::EBUSY);
        }
        *own = Some(trigger);
        Ok(length)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        let trigger = self.trigger.lock().clone();
        let Some(trigger) = trigger else { return PollEvents::ERR | PollEvents::PRI };
        table.register(&trigger.queue);
        if trigger.take() { PollEvents::PRI } else { PollEvents::empty() }
    }
}
