//! Terminals on lines of the host: `/dev/hvc0` to `hvc7` (major 229).
//!
//! Key types: [`HvcPort`] (one line and the thread that moves its input), [`Hvc`] (what the line's driver tells of), [`Lines`] (makes them). As on Linux all
//! eight nodes are there as soon as there is a line; opening one without a line gives `ENODEV`.
//!
//! Output is offered to the line by whoever has some, and what it has no room for when the line tells of room, by the thread: nobody waits
//! but writers, in the terminal's own queue. Input stays with the line as long as nobody has the terminal open or its queue is full.
//!
//! Locks: `HvcPort::sending` (sleeping) is a turn lock; [`TABLE`] is a leaf; [`SETUP`] (sleeping) is held while nodes are made, outside everything.

use crate::console;
use crate::file::{Acquire, TtyFile};
use crate::tty::{Sink, Tty};
use abi::termios::Winsize;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use channel::line::{Line, Terminals, User};
use device::class::{self, ClassDevice};
use machine::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use machine::sync::{Mutex, SpinLock, WaitKind, WaitQueue};
use vfs::chardev::{self, Device};
use vfs::{DeviceId, File, FileKind, FileOperations};

/// Major number.
pub(crate) const MAJOR: u32 = 229;
/// As many as Linux has (`HVC_ALLOC_TTY_ADAPTERS`).
pub(crate) const MOST: usize = 8;
/// Bytes moved at a time; between two such pieces flow control takes effect.
const PIECE: usize = 256;

/// Output that has left the terminal's queue and that the line has not taken.
struct Piece {
    bytes: [u8; PIECE],
    start: usize,
    end: usize,
}

/// A line.
pub struct HvcPort {
    line: Arc<dyn Line>,
    /// Held while output is moved, so that it stays in order.
    sending: Mutex<Piece>,
    /// Bytes in `sending`.
    held: AtomicUsize,
    /// Output waits for the line to have room.
    wants_room: AtomicBool,
    /// The thread is to look again.
    is_due: AtomicBool,
    is_gone: AtomicBool,
    changed: WaitQueue,
}

impl HvcPort {
    /// A port on `line`.
    pub(crate) fn new(line: Arc<dyn Line>) -> HvcPort {
        HvcPort {
            line,
            sending: Mutex::new(Piece { bytes: [0; PIECE], start: 0, end: 0 }),
            held: AtomicUsize::new(0),
            wants_room: AtomicBool::new(false),
            is_due: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            changed: WaitQueue::new(),
        }
    }

    /// Offers the line the output of `tty` as long as there is some, its flow is not stopped and the line has room.
    pub(crate) fn drain(&self, tty: &Tty) {
        let mut moved = 0;
        let mut piece = self.sending.lock();
        loop {
            if piece.start == piece.end {
                let end = tty.take_output(&mut piece.bytes);
                (piece.start, piece.end) = (0, end);
                self.held.store(end, Ordering::Release);
                if end == 0 {
                    break;
                }
            }
            // Said before: room that comes in between is told of.
            self.wants_room.store(true, Ordering::SeqCst);
            let sent = self.line.send(piece.bytes.get(piece.start..piece.end).unwrap_or_default());
            if sent == 0 {
                break;
            }
            piece.start += sent;
            moved += sent;
            self.held.store(piece.end - piece.start, Ordering::Release);
            self.wants_room.store(false, Ordering::SeqCst);
        }
        drop(piece);
        if moved > 0 {
            tty.writable.wake_all();
        }
    }

    /// Bytes that have left the terminal's queue and have not reached the other side.
    pub(crate) fn unsent(&self) -> usize {
        self.held.load(Ordering::Acquire) + self.line.unsent()
    }

    /// Has the thread look: somebody has opened the terminal, or read from it.
    pub(crate) fn look_again(&self) {
        self.is_due.store(true, Ordering::Release);
        self.changed.wake_all();
    }

    /// Moves input to the line discipline; gives whether anything was moved.
    pub(crate) fn deliver(&self, tty: &Tty) -> bool {
        if !tty.is_open() {
            return false;
        }
        let mut piece = [0; PIECE];
        let count = self.line.peek(&mut piece);
        let taken = tty.input(piece.get(..count).unwrap_or_default());
        self.line.consume(taken);
        taken > 0
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// The thread: moves input, and output that had to wait, until the line is gone.
    fn work(&self, tty: &Tty) {
        while !self.is_gone() {
            let due = || (self.is_due.swap(false, Ordering::AcqRel) || self.is_gone()).then_some(());
            // Kernel threads get no signals; the result says nothing.
            let _ = self.changed.wait_until(WaitKind::Uninterruptible, None, due);
            self.drain(tty);
            while !self.is_gone() && self.deliver(tty) {}
        }
    }
}

/// A terminal of a line, for the line's driver.
struct Hvc {
    index: usize,
    port: Arc<HvcPort>,
    tty: Arc<Tty>,
}

impl User for Hvc {
    fn input(&self) {
        self.port.look_again();
    }

    fn room(&self) {
        if self.port.wants_room.swap(false, Ordering::SeqCst) {
            self.port.look_again();
        }
        // Who waits for the end of output.
        self.tty.writable.wake_all();
        console::show_messages();
    }

    fn resized(&self, rows: u16, columns: u16) {
        let window = Winsize { ws_row: rows, ws_col: columns, ..Winsize::default() };
        self.tty.set_window(window);
    }

    fn gone(&self) {
        console::remove_line(self.index);
        if let Some(place) = TABLE.lock().get_mut(self.index) {
            *place = None;
        }
        self.port.is_gone.store(true, Ordering::Release);
        self.tty.hang_up();
        // For `/dev/console`, which no hang-up reaches.
        self.tty.set_peer_closed(true);
        self.port.changed.wake_all();
    }
}

static TABLE: SpinLock<[Option<Arc<Tty>>; MOST]> = SpinLock::new([const { None }; MOST]);
/// Whether the nodes are there.
static SETUP: Mutex<bool> = Mutex::new(false);

/// The device.
struct HvcDevice;

impl Device for HvcDevice {
    fn name(&self) -> &str {
        "hvc"
    }

    fn open(&self, id: DeviceId, file: &File) -> Result<Arc<dyn FileOperations>> {
        let tty = find(id).ok_or(Errno::ENODEV)?;
        Ok(TtyFile::open(tty, file.flags(), Acquire::Allowed)?)
    }
}

/// The terminal of that number, if there is a line.
pub(crate) fn find(id: DeviceId) -> Option<Arc<Tty>> {
    if id.major != MAJOR {
        return None;
    }
    TABLE.lock().get(id.minor as usize)?.clone()
}

/// Makes terminals on lines.
struct Lines;

impl Terminals for Lines {
    fn attach(&self, line: Arc<dyn Line>) -> Result<Arc<dyn User>> {
        let mut is_set_up = SETUP.lock();
        let index = TABLE.lock().iter().position(Option::is_none).ok_or(Errno::ENOSPC)?;
        let port = Arc::new(HvcPort::new(line.clone()));
        let id = DeviceId::new(MAJOR, index as u32);
        let tty = Arc::new(Tty::new(id, Sink::Line(port.clone()))?);
        if !*is_set_up {
            make_nodes()?;
            *is_set_up = true;
        }
        let (worker_port, worker_tty) = (port.clone(), tty.clone());
        let name = format!("hvc{index}");
        sched::spawn(&name, sched::SpawnOptions::default(), move || worker_port.work(&worker_tty))?;
        if let Some(place) = TABLE.lock().get_mut(index) {
            *place = Some(tty.clone());
        }
        console::add_line(index, &name, line);
        Ok(Arc::new(Hvc { index, port, tty }))
    }
}

/// The nodes of all lines there can be. Errors: `EBUSY`, `EEXIST`, `ENOMEM`.
fn make_nodes() -> Result<()> {
    chardev::register(FileKind::CharDevice, MAJOR, 0..=MOST as u32 - 1, Arc::new(HvcDevice))?;
    for minor in 0..MOST as u32 {
        let name = format!("hvc{minor}");
        class::register(ClassDevice { name, class: "tty", parent: None, number: (MAJOR, minor) })?.keep();
    }
    Ok(())
}

/// Takes all lines there will be.
pub(crate) fn init() {
    channel::line::serve(&Lines);
}
