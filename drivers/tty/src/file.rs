//! An open terminal: the slave of a pair, a serial port, `/dev/console`, `/dev/tty`.

use crate::ioctl::{Call, Side};
use crate::job::job_control;
use crate::tty::{Blocking, Opened, Tty};
use abi::fcntl::OpenFlags;
use abi::poll::PollEvents;
use abi::{Errno, Result};
use alloc::sync::Arc;
use mm::io::{IoReader, IoWriter};
use task::job::Steal;
use vfs::{File, FileOperations, PollTable, Positioning};

/// May opening it make it the controlling terminal?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquire {
    /// If the opener leads a session without one and did not say `O_NOCTTY`.
    Allowed,
    /// Never (`/dev/tty`).
    Never,
    /// Never, and no hang-up reaches it (`/dev/console`).
    Console,
}

/// The operations.
pub struct TtyFile {
    tty: Arc<Tty>,
    opened: Opened,
}

impl TtyFile {
    /// Opens `tty` with these flags. Errors: `EBUSY`, and `EIO` for the slave of a locked pair.
    pub fn open(tty: Arc<Tty>, flags: OpenFlags, acquire: Acquire) -> Result<Arc<TtyFile>> {
        let mut opened = tty.open()?;
        if acquire == Acquire::Console {
            opened = Opened::CONSOLE;
        }
        if let Some(pty) = tty.pty()
            && let Err(error) = pty.slave_opened()
        {
            tty.close();
            return Err(error);
        }
        let wanted = acquire == Acquire::Allowed && !flags.contains(OpenFlags::NOCTTY) && flags.reads();
        if wanted && tty.session_and_foreground().0 == 0 && job_control().caller_may_acquire() {
            // Losing a race for it means to be without it.
            let _ = tty.acquire(Steal::No);
        }
        Ok(Arc::new(TtyFile { tty, opened }))
    }

    /// What it is ready for.
    pub fn readiness(&self) -> PollEvents {
        let tty = &self.tty;
        if tty.is_hung_up(self.opened) {
            return PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::ERR | PollEvents::HUP;
        }
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, tty.is_readable());
        events.set(PollEvents::WRITABLE, tty.is_writable());
        events.set(PollEvents::HUP, tty.is_peer_closed());
        events
    }
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        let left = self.tty.close();
        if left == 0
            && let Some(pty) = self.tty.pty()
        {
            pty.slave_closed();
        }
    }
}

/// May calls on the file wait?
pub fn blocking(file: &File) -> Blocking {
    if file.is_nonblocking() { Blocking::No } else { Blocking::Yes }
}

impl FileOperations for TtyFile {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        self.tty.read(to, blocking(file), self.opened)
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        self.tty.write(from, blocking(file), self.opened)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<usize> {
        if self.tty.is_hung_up(self.opened) {
            let asks_group = command == abi::termios::TIOCSPGRP;
            return Err(if asks_group { Errno::ENOTTY } else { Errno::EIO });
        }
        let call =
            Call { tty: &self.tty, opened: self.opened, side: Side::Slave, reads: file.flags().reads() };
        call.run(command, argument)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.tty.readable);
        table.register(&self.tty.writable);
        self.readiness()
    }
}
