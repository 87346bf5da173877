//! A terminal as programs see it: a slave of a pseudo-terminal or a serial port.
//!
//! [`Tty`] joins the line discipline with queues to wait on. Input comes in through [`Tty::input`] (from a port's worker or
//! the master's writers), output goes out through a [`Sink`]. What the line discipline causes while the state is locked
//! (signals, wake-ups) is collected in [`Effects`] and done after the lock is released. For locks see `lib.rs`.

use crate::hvc::HvcPort;
use crate::job::job_control;
use crate::pty::Pty;
use crate::ring::Ring;
use crate::serial::SerialPort;
use crate::turn::Turn;
use abi::termios::{LocalFlags, Termios2, Winsize};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use linnet_lib::ldisc::{Flow, LineDiscipline, ReadPolicy, Terminal, TerminalSignal};
use machine::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use machine::sync::{Once, SpinLock, WaitError, WaitKind, WaitQueue};
use mm::io::{IoReader, IoWriter};
use task::job::{BackgroundAccess, ControllingTerminal, Steal};
use task::signal::Signal;
use task::tree::Number;
use vfs::DeviceId;

/// Output that programs may have under way, bytes.
const OUTPUT_CAPACITY: usize = 4096;
/// Output beyond that, kept for echo.
const ECHO_RESERVE: usize = 1024;
/// No byte becomes longer than this on its way out (a tab).
const LONGEST_EXPANSION: usize = 8;
/// Bytes moved at a time with the state locked.
const CHUNK: usize = 256;
const NS_PER_DECISECOND: u64 = 100_000_000;

/// The terminals that control a session, by session. A leaf: taken with the process tree locked.
static CONTROLLING: SpinLock<BTreeMap<Number, Weak<Tty>>> = SpinLock::new(BTreeMap::new());

/// May a call wait?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Yes.
    Yes,
    /// No: `EAGAIN` instead.
    No,
}

/// Where a terminal's output goes.
pub enum Sink {
    /// To a serial port.
    Serial(Arc<SerialPort>),
    /// To a line of the host's.
    Line(Arc<HvcPort>),
    /// To whoever reads the master; set when the pair is made.
    Master(Once<Weak<Pty>>),
}

/// Proof of an open: it remembers how many hang-ups there had been. A terminal opened as `/dev/console` is never hung up,
/// and whoever uses it so is not stopped in the background, as in Linux.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    hang_ups: Option<u32>,
}

impl Opened {
    /// The mark of `/dev/console`.
    pub(crate) const CONSOLE: Opened = Opened { hang_ups: None };

    fn is_console(self) -> bool {
        self.hang_ups.is_none()
    }
}

struct State {
    ldisc: LineDiscipline,
    output: Ring,
    urgent: Ring,
    window: Winsize,
}

struct Control {
    session: Number,
    foreground: Number,
}

/// A terminal.
pub struct Tty {
    device: DeviceId,
    sink: Sink,
    state: SpinLock<State>,
    control: SpinLock<Control>,
    hang_ups: AtomicU32,
    /// The other side of a pair is closed.
    peer_closed: AtomicBool,
    exclusive: AtomicBool,
    opens: AtomicU32,
    /// Woken when there may be something to read.
    pub(crate) readable: Arc<WaitQueue>,
    /// Woken when there may be room for output.
    pub(crate) writable: Arc<WaitQueue>,
    /// Woken when there may be room for input.
    pub(crate) input_room: Arc<WaitQueue>,
    read_turn: Turn,
    write_turn: Turn,
}

/// What the line discipline wants done, and where its output goes meanwhile.
pub(crate) struct Effects<'a> {
    output: &'a mut Ring,
    urgent: &'a mut Ring,
    done: Done,
}

/// What is to be done when the state is no longer locked.
#[derive(Clone, Copy, Default)]
pub(crate) struct Done {
    /// Bits: interrupt, quit, suspend.
    signals: u8,
    flow: Option<Flow>,
    flushed_output: bool,
    has_output: bool,
}

impl Terminal for Effects<'_> {
    fn put(&mut self, byte: u8) {
        self.output.push(byte);
    }

    fn put_urgent(&mut self, byte: u8) {
        self.urgent.push(byte);
    }

    fn signal(&mut self, signal: TerminalSignal) {
        self.done.signals |= match signal {
            TerminalSignal::Interrupt => 1,
            TerminalSignal::Quit => 2,
            TerminalSignal::Suspend => 4,
        };
    }

    fn flush_output(&mut self) {
        self.output.clear();
        self.done.flushed_output = true;
    }

    fn flow_changed(&mut self, flow: Flow) {
        self.done.flow = Some(flow);
    }
}

impl Tty {
    /// A terminal with Linux's standard modes. Errors: `ENOMEM`.
    pub fn new(device: DeviceId, sink: Sink) -> Result<Tty> {
        let state = State {
            ldisc: LineDiscipline::new()?,
            output: Ring::new(OUTPUT_CAPACITY + ECHO_RESERVE)?,
            urgent: Ring::new(16)?,
            window: Winsize::default(),
        };
        Ok(Tty {
            device,
            sink,
            state: SpinLock::new(state),
            control: SpinLock::new(Control { session: 0, foreground: 0 }),
            hang_ups: AtomicU32::new(0),
            peer_closed: AtomicBool::new(false),
            exclusive: AtomicBool::new(false),
            opens: AtomicU32::new(0),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
            input_room: Arc::new(WaitQueue::new()),
            read_turn: Turn::new(),
            write_turn: Turn::new(),
        })
    }

    /// Its device number.
    pub fn device_id(&self) -> DeviceId {
        self.device
    }

    /// The pair it is the slave of.
    pub fn pty(&self) -> Option<Arc<Pty>> {
        match &self.sink {
            Sink::Master(pty) => pty.get()?.upgrade(),
            Sink::Serial(_) | Sink::Line(_) => None,
        }
    }

    /// Tells a slave its pair; once.
    pub(crate) fn set_pty(&self, pty: &Arc<Pty>) {
        if let Sink::Master(place) = &self.sink {
            let _ = place.set(Arc::downgrade(pty));
        }
    }

    /// Is it the slave of a pair?
    pub(crate) fn is_pseudo(&self) -> bool {
        matches!(self.sink, Sink::Master(_))
    }

    /// Calls `f` with the line discipline, then does what came of it.
    pub(crate) fn with_ldisc<R>(&self, f: impl FnOnce(&mut LineDiscipline, &mut Effects<'_>) -> R) -> R {
        let (result, done) = {
            let mut state = self.state.lock();
            let State { ldisc, output, urgent, .. } = &mut *state;
            let mut effects = Effects { output, urgent, done: Done::default() };
            let result = f(ldisc, &mut effects);
            effects.done.has_output = !effects.output.is_empty() || !effects.urgent.is_empty();
            (result, effects.done)
        };
        self.finish(done);
        result
    }

    fn finish(&self, done: Done) {
        if done.signals != 0 {
            let foreground = self.control.lock().foreground;
            let names = [(1, Signal::SIGINT), (2, Signal::SIGQUIT), (4, Signal::SIGTSTP)];
            for (_, signal) in names.into_iter().filter(|(bit, _)| done.signals & bit != 0) {
                if foreground != 0 {
                    job_control().signal_group(foreground, signal);
                }
            }
        }
        if let Some(pty) = self.pty() {
            pty.note_packet_events(done.flow, done.flushed_output);
        }
        if done.flushed_output || done.flow == Some(Flow::Running) {
            self.writable.wake_all();
        }
        if done.has_output {
            self.push_output();
        }
    }

    /// Sends waiting output on its way. Thread context, no spinlock held.
    pub(crate) fn push_output(&self) {
        match &self.sink {
            Sink::Serial(port) => port.drain(self),
            Sink::Line(port) => port.drain(self),
            Sink::Master(_) => {
                if let Some(pty) = self.pty() {
                    pty.wake_master_reader();
                }
            }
        }
    }

    /// Takes output for the hardware or the master, whose queue this is; stopped flow holds back that for hardware.
    pub(crate) fn take_output(&self, buffer: &mut [u8]) -> usize {
        let mut state = self.state.lock();
        let urgent = state.urgent.pop(buffer);
        let stopped = state.ldisc.flow() == Flow::Stopped && !self.is_pseudo();
        match buffer.get_mut(urgent..) {
            Some(rest) if !stopped => urgent + state.output.pop(rest),
            _ => urgent,
        }
    }

    /// Output that has not gone out, bytes.
    pub(crate) fn output_len(&self) -> usize {
        let under_way = if let Sink::Line(port) = &self.sink { port.unsent() } else { 0 };
        let state = self.state.lock();
        state.output.len() + state.urgent.len() + under_way
    }

    /// Throws away output that has not gone out.
    pub(crate) fn flush_output(&self) {
        self.state.lock().output.clear();
        self.finish(Done { flushed_output: true, ..Done::default() });
    }

    /// Throws away input that was not read.
    pub(crate) fn flush_input(&self) {
        self.with_ldisc(|ldisc, effects| ldisc.flush_input(effects));
        self.note_input_room();
    }

    /// There may be room for input.
    fn note_input_room(&self) {
        self.input_room.wake_all();
        if let Sink::Line(port) = &self.sink {
            port.look_again();
        }
    }

    /// Bytes from the line: gives how many the line discipline took (fewer only if its queue is full).
    pub fn input(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for chunk in bytes.chunks(CHUNK) {
            let taken = self.with_ldisc(|ldisc, effects| ldisc.receive(chunk, effects));
            done += taken;
            if taken < chunk.len() {
                break;
            }
        }
        if self.state.lock().ldisc.has_readable() {
            self.readable.wake_all();
        }
        done
    }

    /// A break came in.
    pub fn input_break(&self) {
        self.with_ldisc(|ldisc, effects| ldisc.receive_break(effects));
        self.readable.wake_all();
    }

    /// Is there room for input?
    pub(crate) fn can_receive(&self) -> bool {
        self.state.lock().ldisc.can_receive()
    }

    // Opening, closing, hanging up.

    /// Counts an open. Errors: `EBUSY` (exclusive use, and the caller lacks CAP_SYS_ADMIN).
    pub(crate) fn open(&self) -> Result<Opened> {
        if self.exclusive.load(Ordering::Relaxed)
            && self.opens.load(Ordering::Relaxed) > 0
            && !job_control().caller_has(security::Capability::SysAdmin)
        {
            return Err(Errno::EBUSY);
        }
        self.opens.fetch_add(1, Ordering::AcqRel);
        if let Sink::Line(port) = &self.sink {
            port.look_again();
        }
        Ok(self.hang_up_mark())
    }

    /// Has anybody opened it?
    pub(crate) fn is_open(&self) -> bool {
        self.opens.load(Ordering::Acquire) > 0
    }

    /// An open that is not counted (the master's).
    pub(crate) fn hang_up_mark(&self) -> Opened {
        Opened { hang_ups: Some(self.hang_ups.load(Ordering::Acquire)) }
    }

    /// Counts a close; gives the number of opens left.
    pub(crate) fn close(&self) -> u32 {
        let left = self.opens.fetch_sub(1, Ordering::AcqRel).saturating_sub(1);
        if left == 0 {
            self.exclusive.store(false, Ordering::Relaxed);
            // `TTY_DRIVER_RESET_TERMIOS`.
            if matches!(self.sink, Sink::Line(_)) {
                self.set_termios(Termios2::standard());
            }
        }
        left
    }

    /// Did it hang up since `opened`?
    pub(crate) fn is_hung_up(&self, opened: Opened) -> bool {
        opened.hang_ups.is_some_and(|mark| self.hang_ups.load(Ordering::Acquire) != mark)
    }

    /// The other side of the pair is open or closed.
    pub(crate) fn set_peer_closed(&self, closed: bool) {
        self.peer_closed.store(closed, Ordering::Release);
        self.readable.wake_all();
        self.writable.wake_all();
    }

    /// Hangs up: whoever has it open now gets end of file and `EIO`, its session loses it (tty_vhangup).
    pub fn hang_up(&self) {
        let session = self.control.lock().session;
        self.hang_up_files();
        if session != 0 {
            job_control().hang_up(session);
        }
    }

    /// The part of a hang-up that concerns open files and waiting input. Does not sleep; the process tree may be locked.
    fn hang_up_files(&self) {
        self.hang_ups.fetch_add(1, Ordering::AcqRel);
        {
            let mut state = self.state.lock();
            let State { ldisc, output, urgent, .. } = &mut *state;
            let mut effects = Effects { output, urgent, done: Done::default() };
            ldisc.flush_input(&mut effects);
            if self.is_pseudo() {
                ldisc.set_termios(Termios2::standard(), &mut effects);
            }
        }
        for queue in [&self.readable, &self.writable, &self.input_room] {
            queue.wake_all();
        }
        if self.opens.load(Ordering::Acquire) > 0
            && let Some(pty) = self.pty()
        {
            pty.slave_closed();
        }
    }

    /// `TIOCNOTTY` by a session's leader: a pseudo-terminal stays open, other terminals hang up. Errors: `ENOTTY`.
    pub(crate) fn give_up(&self) -> Result<()> {
        job_control().give_up()
    }

    /// `TIOCEXCL`, `TIOCNXCL`, `TIOCGEXCL`.
    pub(crate) fn exclusive(&self) -> &AtomicBool {
        &self.exclusive
    }

    // Sessions.

    /// Session and foreground group; 0 for none.
    pub(crate) fn session_and_foreground(&self) -> (Number, Number) {
        let control = self.control.lock();
        (control.session, control.foreground)
    }

    /// Makes it the caller's controlling terminal. Errors: `EPERM`.
    pub(crate) fn acquire(self: &Arc<Self>, steal: Steal) -> Result<()> {
        let current = self.session_and_foreground().0;
        let (session, foreground) = job_control().acquire(self, current, steal)?;
        if current != session {
            *self.control.lock() = Control { session, foreground };
            let mut terminals = CONTROLLING.lock();
            terminals.remove(&current);
            terminals.insert(session, Arc::downgrade(self));
        }
        Ok(())
    }

    /// The terminal that controls a session.
    pub(crate) fn of_session(session: Number) -> Option<Arc<Tty>> {
        let tty = CONTROLLING.lock().get(&session).and_then(Weak::upgrade)?;
        (tty.session_and_foreground().0 == session).then_some(tty)
    }

    /// Stops a background process that wants to read, write or change settings. Errors: `ERESTARTSYS`, `EIO`.
    pub(crate) fn check_job(self: &Arc<Self>, access: BackgroundAccess) -> Result<()> {
        let (session, foreground) = self.session_and_foreground();
        if session == 0 || !job_control().controls_caller(self) {
            return Ok(());
        }
        job_control().check_background(session, foreground, access)
    }

    /// Sends a signal to the foreground group.
    pub(crate) fn signal_foreground(&self, signal: Signal) {
        let foreground = self.control.lock().foreground;
        if foreground != 0 {
            job_control().signal_group(foreground, signal);
        }
    }

    // Settings.

    /// The modes.
    pub(crate) fn termios(&self) -> Termios2 {
        *self.state.lock().ldisc.termios()
    }

    /// Changes the modes.
    pub(crate) fn set_termios(&self, termios: Termios2) {
        self.with_ldisc(|ldisc, effects| ldisc.set_termios(termios, effects));
        self.readable.wake_all();
        self.note_input_room();
    }

    /// The window size.
    pub(crate) fn window(&self) -> Winsize {
        self.state.lock().window
    }

    /// Changes the window size; the foreground group hears of a change.
    pub(crate) fn set_window(&self, window: Winsize) {
        let old = core::mem::replace(&mut self.state.lock().window, window);
        if old != window {
            self.signal_foreground(Signal::SIGWINCH);
        }
    }

    /// Stops or starts output (`TCXONC`).
    pub(crate) fn set_flow(&self, flow: Flow) {
        self.with_ldisc(|ldisc, effects| ldisc.set_flow(flow, effects));
    }

    /// Sends a byte past everything that waits.
    pub(crate) fn send_urgent(&self, byte: u8) {
        self.with_ldisc(|_, effects| effects.put_urgent(byte));
    }

    /// Waits until all output has gone out. A pair's has at once: it is in the reader's queue. Errors: `ERESTARTSYS`.
    pub(crate) fn wait_until_sent(&self, opened: Opened) -> Result<()> {
        if matches!(self.sink, Sink::Master(_)) {
            return Ok(());
        }
        let sent = || (self.output_len() == 0 || self.is_hung_up(opened)).then_some(());
        self.writable.wait_until(WaitKind::Interruptible, None, sent).map_err(|_| Errno::ERESTARTSYS)
    }

    // Reading and writing.

    /// Is there something that `poll` calls readable?
    pub(crate) fn is_readable(&self) -> bool {
        self.state.lock().ldisc.is_poll_readable()
    }

    /// Bytes that a read would get (`FIONREAD`).
    pub(crate) fn readable_bytes(&self) -> usize {
        self.state.lock().ldisc.readable_bytes()
    }

    /// Would a write not block?
    pub(crate) fn is_writable(&self) -> bool {
        !self.write_turn.is_taken() && self.output_room() >= LONGEST_EXPANSION
    }

    /// Has the other side gone?
    pub(crate) fn is_peer_closed(&self) -> bool {
        self.peer_closed.load(Ordering::Acquire)
    }

    /// Room for programs' output. What goes to a master stops here, what goes to hardware when it is drained.
    fn output_room(&self) -> usize {
        let state = self.state.lock();
        let held = state.ldisc.flow() == Flow::Stopped && matches!(self.sink, Sink::Master(_));
        if held { 0 } else { state.output.room().saturating_sub(ECHO_RESERVE) }
    }

    /// Reads as the modes say: a line, or bytes by VMIN and VTIME. 0 is an end of file, a time-out or a hang-up.
    ///
    /// Errors: `EAGAIN`, `ERESTARTSYS`, `EIO` (background and orphaned, or the other side is gone), `EFAULT`, `ENOMEM`.
    pub fn read(
        self: &Arc<Self>,
        to: &mut dyn IoWriter,
        blocking: Blocking,
        opened: Opened,
    ) -> Result<usize> {
        if self.is_hung_up(opened) {
            return Ok(0);
        }
        if !opened.is_console() {
            self.check_job(BackgroundAccess::Read)?;
        }
        let _turn = self.read_turn.take(blocking)?;
        let policy = self.state.lock().ldisc.read_policy();
        let mut wait = ReadWait::new(policy);
        let mut done = 0;
        while to.remaining() > 0 {
            match self.take_input(to) {
                Ok(Some(count)) => {
                    done += count;
                    if policy == ReadPolicy::Line || done >= wait.minimum {
                        break;
                    }
                    wait.note_data();
                }
                Ok(None) => match self.wait_readable(&wait, blocking, opened) {
                    Ok(WaitResult::Ready) => {}
                    Ok(WaitResult::Over) => break,
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                },
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Moves what the line discipline gives now; `None` if nothing.
    fn take_input(&self, to: &mut dyn IoWriter) -> Result<Option<usize>> {
        let mut small = [0; CHUNK];
        let mut large = Vec::new();
        let wanted = to.remaining().min(linnet_lib::ldisc::INPUT_CAPACITY);
        let buffer: &mut [u8] = match small.get_mut(..wanted) {
            Some(buffer) => buffer,
            None => {
                large.try_reserve_exact(wanted).map_err(|_| Errno::ENOMEM)?;
                large.resize(wanted, 0);
                &mut large
            }
        };
        let Some(count) = self.with_ldisc(|ldisc, effects| ldisc.read(buffer, effects)) else {
            return Ok(None);
        };
        self.note_input_room();
        let bytes = buffer.get(..count).unwrap_or_default();
        if count > 0 {
            to.write_bytes(bytes)?;
        }
        Ok(Some(count))
    }

    fn wait_readable(&self, wait: &ReadWait, blocking: Blocking, opened: Opened) -> Result<WaitResult> {
        let look = || {
            if self.state.lock().ldisc.has_readable() {
                Some(Ok(WaitResult::Ready))
            } else if self.is_hung_up(opened) {
                Some(Ok(WaitResult::Over))
            } else if self.is_peer_closed() {
                Some(Err(Errno::EIO))
            } else {
                None
            }
        };
        if let Some(result) = look() {
            return result;
        }
        if wait.deadline_ns.is_some_and(|deadline| deadline <= machine::time::now_ns()) {
            return Ok(WaitResult::Over);
        }
        if blocking == Blocking::No {
            return Err(Errno::EAGAIN);
        }
        match self.readable.wait_until(WaitKind::Interruptible, wait.deadline_ns, look) {
            Ok(result) => result,
            Err(WaitError::TimedOut) => Ok(WaitResult::Over),
            Err(WaitError::Interrupted) => Err(Errno::ERESTARTSYS),
        }
    }

    /// Writes through the output modes.
    ///
    /// Errors: `EAGAIN`, `ERESTARTSYS`, `EIO` (hung up, the other side is gone, or background and orphaned), `EFAULT`.
    pub fn write(
        self: &Arc<Self>,
        from: &mut dyn IoReader,
        blocking: Blocking,
        opened: Opened,
    ) -> Result<usize> {
        if self.is_hung_up(opened) {
            return Err(Errno::EIO);
        }
        if !opened.is_console() && self.termios().local_flags().contains(LocalFlags::TOSTOP) {
            self.check_job(BackgroundAccess::Write)?;
        }
        let _turn = self.write_turn.take(blocking)?;
        let mut done = 0;
        let mut chunk = [0; CHUNK];
        while from.remaining() > 0 {
            let wanted = from.remaining().min(CHUNK);
            let piece = chunk.get_mut(..wanted).unwrap_or_default();
            let result = from.read_bytes(piece).and_then(|count| {
                self.write_chunk(piece.get(..count).unwrap_or_default(), blocking, opened, &mut done)
            });
            match result {
                Ok(()) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_chunk(&self, bytes: &[u8], blocking: Blocking, opened: Opened, done: &mut usize) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.is_hung_up(opened) || self.is_peer_closed() {
                return Err(Errno::EIO);
            }
            let room = self.output_room();
            let count = self.with_ldisc(|ldisc, effects| ldisc.write(rest, room, effects));
            *done += count;
            rest = rest.get(count..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if count == 0 && blocking == Blocking::No {
                return Err(Errno::EAGAIN);
            }
            let ready = || {
                let over = self.is_hung_up(opened) || self.is_peer_closed();
                (over || self.output_room() >= LONGEST_EXPANSION).then_some(())
            };
            self.writable.wait_until(WaitKind::Interruptible, None, ready).map_err(|_| Errno::ERESTARTSYS)?;
        }
        Ok(())
    }
}

enum WaitResult {
    /// There is something to read.
    Ready,
    /// Nothing will come (any more): the read ends with what it has.
    Over,
}

/// How long a read waits (termios(3), VMIN and VTIME).
struct ReadWait {
    minimum: usize,
    deadline_ns: Option<u64>,
    gap_ns: Option<u64>,
}

impl ReadWait {
    fn new(policy: ReadPolicy) -> ReadWait {
        let after = |time_ds: u8| u64::from(time_ds) * NS_PER_DECISECOND;
        match policy {
            ReadPolicy::Line => ReadWait { minimum: 1, deadline_ns: None, gap_ns: None },
            ReadPolicy::Bytes { minimum: 0, time_ds } => {
                let deadline = machine::time::now_ns() + after(time_ds);
                ReadWait { minimum: 1, deadline_ns: Some(deadline), gap_ns: None }
            }
            ReadPolicy::Bytes { minimum, time_ds } => ReadWait {
                minimum: usize::from(minimum),
                deadline_ns: None,
                gap_ns: (time_ds > 0).then(|| after(time_ds)),
            },
        }
    }

    /// Bytes came: the time between bytes starts again.
    fn note_data(&mut self) {
        self.deadline_ns = self.gap_ns.map(|gap| machine::time::now_ns() + gap);
    }
}

impl ControllingTerminal for Tty {
    fn foreground(&self) -> Number {
        self.control.lock().foreground
    }

    fn set_foreground(&self, group: Number) {
        self.control.lock().foreground = group;
    }

    fn release_session(&self) {
        let none = Control { session: 0, foreground: 0 };
        let old = core::mem::replace(&mut *self.control.lock(), none);
        CONTROLLING.lock().remove(&old.session);
        // A pair outlives the session: others may have it open still (`disassociate_ctty`).
        if !self.is_pseudo() {
            self.hang_up_files();
        }
    }

    fn device(&self) -> (u32, u32) {
        (self.device.major, self.device.minor)
    }
}
