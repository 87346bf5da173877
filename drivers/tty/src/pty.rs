//! Pseudo-terminals: a [`Pty`] joins a slave, which is a terminal like any other, with a master (pty(7)).
//!
//! What the slave puts out waits in the slave's own output queue until the master is read; what is written to the master
//! goes straight into the slave's line discipline. The pair lives as long as one side is open. Closing the master hangs the
//! slave up; closing the slave for the last time gives the master `EIO` once it has read what is left.

use crate::devpts::DevPts;
use crate::file::blocking;
use crate::ioctl::{Call, Side};
use crate::tty::{Blocking, Opened, Sink, Tty};
use abi::poll::PollEvents;
use abi::termios::*;
use abi::{Errno, Result};
use alloc::sync::Arc;
use linnet_lib::ldisc::Flow;
use machine::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use machine::sync::{Once, WaitKind, WaitQueue};
use machine::user::{read_value, write_value};
use mm::io::{IoReader, IoWriter};
use task::signal::Signal;
use vfs::{DeviceId, File, FileOperations, Path, PollTable, Positioning};

/// Major number of slaves; the minor is the number of the pair.
pub const SLAVE_MAJOR: u32 = 136;
const CHUNK: usize = 256;

/// A pair.
pub struct Pty {
    number: u32,
    slave: Arc<Tty>,
    /// The slave cannot be opened (until `TIOCSPTLCK` says so).
    locked: AtomicBool,
    packet_mode: AtomicBool,
    /// `TIOCPKT_*` that the master has not been told.
    packet_status: AtomicU8,
    master_open: AtomicBool,
    /// The slave was open and no longer is.
    slave_gone: AtomicBool,
    master_readable: Arc<WaitQueue>,
}

impl Pty {
    /// A new pair with this number, its master open and its slave locked. Errors: `ENOMEM`.
    pub fn new(number: u32) -> Result<Arc<Pty>> {
        let slave = Tty::new(DeviceId::new(SLAVE_MAJOR, number), Sink::Master(Once::new()))?;
        let pty = Arc::new(Pty {
            number,
            slave: Arc::new(slave),
            locked: AtomicBool::new(true),
            packet_mode: AtomicBool::new(false),
            packet_status: AtomicU8::new(0),
            master_open: AtomicBool::new(true),
            slave_gone: AtomicBool::new(false),
            master_readable: Arc::new(WaitQueue::new()),
        });
        pty.slave.set_pty(&pty);
        Ok(pty)
    }

    /// Its number: `/dev/pts/N`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The slave.
    pub fn slave(&self) -> &Arc<Tty> {
        &self.slave
    }

    /// The slave is being opened. Errors: `EIO` while it is locked or when the master is closed.
    pub(crate) fn slave_opened(&self) -> Result<()> {
        if self.locked.load(Ordering::Acquire) || !self.master_open.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        self.slave_gone.store(false, Ordering::Release);
        Ok(())
    }

    /// The slave was closed for the last time.
    pub(crate) fn slave_closed(&self) {
        self.slave_gone.store(true, Ordering::Release);
        self.wake_master_reader();
        self.slave.input_room.wake_all();
    }

    /// The master was closed: whoever has the slave is hung up.
    pub fn master_closed(&self) {
        self.master_open.store(false, Ordering::Release);
        self.slave.set_peer_closed(true);
        self.slave.hang_up();
    }

    /// The slave put something out.
    pub(crate) fn wake_master_reader(&self) {
        self.master_readable.wake_all();
    }

    /// Packet mode: notes what the master is to be told of.
    pub(crate) fn note_packet_events(&self, flow: Option<Flow>, flushed_output: bool) {
        let mut status = match flow {
            Some(Flow::Stopped) => TIOCPKT_STOP,
            Some(Flow::Running) => TIOCPKT_START,
            None => 0,
        };
        if flushed_output {
            status |= TIOCPKT_FLUSHWRITE;
        }
        self.add_packet_status(status);
    }

    /// Packet mode: the slave's modes changed.
    pub(crate) fn note_modes_changed(&self, old: &Termios2, new: &Termios2) {
        let automatic = |termios: &Termios2| {
            let standard =
                termios.control_character(VSTOP) == 0x13 && termios.control_character(VSTART) == 0x11;
            termios.c_iflag & IXON != 0 && standard
        };
        match (automatic(old), automatic(new)) {
            (true, false) => self.add_packet_status(TIOCPKT_NOSTOP),
            (false, true) => self.add_packet_status(TIOCPKT_DOSTOP),
            _ => {}
        }
        if old.c_lflag & EXTPROC != new.c_lflag & EXTPROC || new.c_lflag & EXTPROC != 0 {
            self.add_packet_status(TIOCPKT_IOCTL);
        }
    }

    fn add_packet_status(&self, status: u32) {
        if status == 0 || !self.packet_mode.load(Ordering::Relaxed) {
            return;
        }
        let opposite = match status {
            TIOCPKT_STOP => TIOCPKT_START,
            TIOCPKT_START => TIOCPKT_STOP,
            TIOCPKT_NOSTOP => TIOCPKT_DOSTOP,
            TIOCPKT_DOSTOP => TIOCPKT_NOSTOP,
            _ => 0,
        };
        self.packet_status.fetch_and(!(opposite as u8), Ordering::AcqRel);
        self.packet_status.fetch_or(status as u8, Ordering::AcqRel);
        self.wake_master_reader();
    }

    fn has_packet_status(&self) -> bool {
        self.packet_mode.load(Ordering::Relaxed) && self.packet_status.load(Ordering::Acquire) != 0
    }

    /// Reads from the master: what the slave put out, in packet mode after a byte that says what it is.
    ///
    /// Errors: `EAGAIN`, `ERESTARTSYS`, `EFAULT`; `EIO` when the slave is closed and nothing is left.
    pub fn master_read(&self, to: &mut dyn IoWriter, blocking: Blocking) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let ready = || {
            let something = self.has_packet_status() || self.slave.output_len() > 0;
            match (something, self.slave_gone.load(Ordering::Acquire)) {
                (true, _) => Some(Ok(())),
                (false, true) => Some(Err(Errno::EIO)),
                (false, false) => None,
            }
        };
        loop {
            match (ready(), blocking) {
                (Some(result), _) => result?,
                (None, Blocking::No) => return Err(Errno::EAGAIN),
                (None, Blocking::Yes) => self
                    .master_readable
                    .wait_until(WaitKind::Interruptible, None, ready)
                    .map_err(|_| Errno::ERESTARTSYS)??,
            }
            // Another reader may have been quicker.
            if let Some(count) = self.take_for_master(to)? {
                return Ok(count);
            }
        }
    }

    fn take_for_master(&self, to: &mut dyn IoWriter) -> Result<Option<usize>> {
        let packets = self.packet_mode.load(Ordering::Relaxed);
        if packets {
            let status = self.packet_status.swap(0, Ordering::AcqRel);
            if status != 0 {
                return to.write_bytes(&[status]).map(Some);
            }
        }
        let mut chunk = [0; CHUNK];
        let mut done = 0;
        let header = usize::from(packets);
        let mut limit = to.remaining().saturating_sub(header);
        while limit > 0 {
            let wanted = limit.min(CHUNK);
            let piece = chunk.get_mut(..wanted).unwrap_or_default();
            let count = self.slave.take_output(piece);
            if count == 0 {
                break;
            }
            if packets && done == 0 {
                to.write_bytes(&[TIOCPKT_DATA as u8])?;
            }
            to.write_bytes(piece.get(..count).unwrap_or_default())?;
            done += count;
            limit -= count;
        }
        if done == 0 {
            return Ok(None);
        }
        self.slave.writable.wake_all();
        Ok(Some(done + header))
    }

    /// Writes to the master: input for the slave.
    ///
    /// Errors: `EAGAIN`, `ERESTARTSYS`, `EFAULT`; `EIO` when the slave is closed.
    pub fn master_write(&self, from: &mut dyn IoReader, blocking: Blocking) -> Result<usize> {
        let mut done = 0;
        let mut chunk = [0; CHUNK];
        while from.remaining() > 0 {
            let wanted = from.remaining().min(CHUNK);
            let piece = chunk.get_mut(..wanted).unwrap_or_default();
            let result = from.read_bytes(piece).and_then(|count| {
                self.give_to_slave(piece.get(..count).unwrap_or_default(), blocking, &mut done)
            });
            match result {
                Ok(()) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn give_to_slave(&self, bytes: &[u8], blocking: Blocking, done: &mut usize) -> Result<()> {
        let mut rest = bytes;
        loop {
            if self.slave_gone.load(Ordering::Acquire) {
                return Err(Errno::EIO);
            }
            let count = self.slave.input(rest);
            *done += count;
            rest = rest.get(count..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            if blocking == Blocking::No {
                return Err(Errno::EAGAIN);
            }
            let room = || (self.slave.can_receive() || self.slave_gone.load(Ordering::Acquire)).then_some(());
            self.slave
                .input_room
                .wait_until(WaitKind::Interruptible, None, room)
                .map_err(|_| Errno::ERESTARTSYS)?;
        }
    }

    /// What the master is ready for.
    pub fn master_readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        let gone = self.slave_gone.load(Ordering::Acquire);
        events.set(PollEvents::READABLE, self.slave.output_len() > 0 || self.has_packet_status());
        events.set(PollEvents::PRI, self.has_packet_status());
        events.set(PollEvents::WRITABLE, self.slave.can_receive());
        events.set(PollEvents::HUP, gone);
        events
    }

    /// The calls that only a master has; `None` if this is not one.
    fn master_ioctl(&self, command: u32, argument: usize) -> Option<Result<usize>> {
        let get = || read_value::<i32>(argument).map_err(Errno::from);
        let put = |value: i32| write_value(argument, &value).map(|()| 0).map_err(Errno::from);
        Some(match command {
            TIOCSPTLCK => get().map(|lock| {
                self.set_locked(lock != 0);
                0
            }),
            TIOCGPTLCK => put(i32::from(self.locked.load(Ordering::Acquire))),
            TIOCPKT => get().map(|on| {
                self.set_packet_mode(on != 0);
                0
            }),
            TIOCGPKT => put(i32::from(self.packet_mode.load(Ordering::Acquire))),
            TIOCGPTN => put(self.number as i32),
            TIOCSIG => self.send_signal(argument),
            _ => return None,
        })
    }

    /// `TIOCSPTLCK`: while locked the slave cannot be opened.
    pub(crate) fn set_locked(&self, locked: bool) {
        self.locked.store(locked, Ordering::Release);
    }

    /// `TIOCPKT`: reads of the master say what they carry.
    pub(crate) fn set_packet_mode(&self, on: bool) {
        if on && !self.packet_mode.swap(true, Ordering::AcqRel) {
            self.packet_status.store(0, Ordering::Release);
        } else if !on {
            self.packet_mode.store(false, Ordering::Release);
        }
    }

    /// `TIOCSIG`: a signal to the slave's foreground group.
    fn send_signal(&self, number: usize) -> Result<usize> {
        let signal = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP]
            .into_iter()
            .find(|signal| signal.number() as usize == number)
            .ok_or(Errno::EINVAL)?;
        self.slave.signal_foreground(signal);
        Ok(0)
    }
}

/// An open master.
pub struct MasterFile {
    pty: Arc<Pty>,
    opened: Opened,
    instance: Arc<DevPts>,
    /// The root of the devpts that the slave is in, as the opener saw it.
    directory: Path,
}

impl MasterFile {
    /// An open master of a pair that is in `instance`, whose root the opener found at `directory`.
    pub(crate) fn new(pty: Arc<Pty>, instance: Arc<DevPts>, directory: Path) -> Result<Arc<MasterFile>> {
        let opened = pty.slave().hang_up_mark();
        Ok(Arc::new(MasterFile { pty, opened, instance, directory }))
    }

    /// The pair.
    pub fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }

    /// `TIOCGPTPEER`: opens the slave without a way through the file system.
    fn open_peer(&self, flags: usize) -> Result<usize> {
        let flags = abi::fcntl::OpenFlags::from_bits_truncate(flags as u32);
        crate::device::open_slave(&self.directory, self.pty.number(), flags)
    }
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.instance.remove(self.pty.number());
        self.pty.master_closed();
    }
}

impl FileOperations for MasterFile {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        self.pty.master_read(to, blocking(file))
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        self.pty.master_write(from, blocking(file))
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<usize> {
        if command == TIOCGPTPEER {
            return self.open_peer(argument);
        }
        if let Some(result) = self.pty.master_ioctl(command, argument) {
            return result;
        }
        let call = Call {
            tty: self.pty.slave(),
            opened: self.opened,
            side: Side::Master,
            reads: file.flags().reads(),
        };
        call.run(command, argument)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.pty.master_readable);
        table.register(&self.pty.slave().input_room);
        self.pty.master_readiness()
    }
}
