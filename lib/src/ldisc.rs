//! The terminal line discipline (Linux's `N_TTY`, termios(3)) as a pure state machine.
//!
//! [`LineDiscipline`] holds the terminal's modes, the input [`queue`], the echo and erase state and the output
//! column. Bytes from the line go into [`LineDiscipline::receive`]; what that causes (echo, signals, flow
//! control) comes out of the [`Terminal`] it is given, so that the driver decides where to. Programs read
//! with [`LineDiscipline::read`] and write with [`LineDiscipline::write`]. It never sleeps and never
//! allocates after it is made: a driver may call it under a spinlock, from an interrupt. Waiting (VMIN,
//! VTIME), job control and TOSTOP are the driver's (`drivers/tty`). `edit` holds echo and line editing,
//! `output` the output modes.

use abi::Result;
use abi::termios::{
    InputFlags, LocalFlags, Termios2, VEOF, VEOL, VEOL2, VERASE, VINTR, VKILL, VLNEXT, VMIN, VQUIT, VREPRINT,
    VSTART, VSTOP, VSUSP, VTIME, VWERASE,
};

mod edit;
mod output;
mod queue;

use output::Column;
pub use queue::CAPACITY as INPUT_CAPACITY;
use queue::{InputQueue, Mark};

/// A control character with this value is switched off (`_POSIX_VDISABLE`).
pub const DISABLED: u8 = 0;
/// Input left in the queue when START is sent to the other side (IXOFF).
const UNTHROTTLE_BELOW: usize = 128;
/// Room left in the queue when STOP is sent to the other side (IXOFF).
const THROTTLE_ROOM: usize = 128;

/// A signal for the foreground process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalSignal {
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGTSTP.
    Suspend,
}

/// Flow of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Output goes out.
    Running,
    /// Output waits.
    Stopped,
}

/// The side of the line discipline that faces the hardware (or the master of a pseudo-terminal).
pub trait Terminal {
    /// Puts one byte out, after output processing.
    fn put(&mut self, byte: u8);
    /// Puts one byte out past everything that waits and past stopped flow (START and STOP for IXOFF).
    fn put_urgent(&mut self, byte: u8);
    /// Sends a signal to the foreground process group.
    fn signal(&mut self, signal: TerminalSignal);
    /// Throws away output that has not gone out.
    fn flush_output(&mut self);
    /// The flow of output changed.
    fn flow_changed(&mut self, flow: Flow);
}

/// When a read is satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPolicy {
    /// By a line.
    Line,
    /// By bytes: at least `minimum`; `time_ds` (tenths of a second) is, with a minimum, the longest gap
    /// between bytes, and without one the longest wait for the first byte. Both zero: never wait.
    Bytes {
        /// VMIN.
        minimum: u8,
        /// VTIME.
        time_ds: u8,
    },
}

/// The line discipline of one terminal.
pub struct LineDiscipline {
    termios: Termios2,
    queue: InputQueue,
    column: Column,
    flow: Flow,
    /// The next byte is taken literally.
    literal_next: bool,
    /// Within a `\`-quoted erasure (ECHOPRT).
    erasing: bool,
    /// STOP was sent to the other side.
    throttled: bool,
}

impl LineDiscipline {
    /// A line discipline with Linux's standard modes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Ok(Self {
            termios: Termios2::standard(),
            queue: InputQueue::new()?,
            column: Column::default(),
            flow: Flow::Running,
            literal_next: false,
            erasing: false,
            throttled: false,
        })
    }

    /// The modes.
    pub fn termios(&self) -> &Termios2 {
        &self.termios
    }

    /// Changes the modes. When ICANON is switched on, what is in the queue counts as a line; switched off, it
    /// becomes readable as bytes. Output stopped by STOP starts again if IXON is switched off.
    pub fn set_termios(&mut self, termios: Termios2, terminal: &mut impl Terminal) {
        let old = core::mem::replace(&mut self.termios, termios);
        if (old.c_lflag ^ termios.c_lflag) & abi::termios::ICANON != 0 {
            self.queue.change_mode(self.is_canonical());
            self.erasing = false;
            self.literal_next = false;
        }
        if old.input_flags().contains(InputFlags::IXON) && !self.has_input(InputFlags::IXON) {
            self.set_flow(Flow::Running, terminal);
        }
        if !self.has_input(InputFlags::IXOFF) {
            self.throttled = false;
        }
    }

    /// Is output stopped?
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// Stops or starts output (also for `TCXONC`).
    pub fn set_flow(&mut self, flow: Flow, terminal: &mut impl Terminal) {
        if self.flow != flow {
            self.flow = flow;
            terminal.flow_changed(flow);
        }
    }

    /// Throws away the input (`TCFLSH`), half-typed lines too.
    pub fn flush_input(&mut self, terminal: &mut impl Terminal) {
        self.queue.clear();
        self.erasing = false;
        self.literal_next = false;
        self.unthrottle(terminal);
    }

    /// When a read is satisfied.
    pub fn read_policy(&self) -> ReadPolicy {
        if self.is_canonical() {
            return ReadPolicy::Line;
        }
        let minimum = self.termios.control_character(VMIN);
        ReadPolicy::Bytes { minimum, time_ds: self.termios.control_character(VTIME) }
    }

    /// Is there anything that a read would return now (an end-of-file mark too)?
    pub fn has_readable(&self) -> bool {
        if self.is_canonical() { self.queue.has_line() } else { !self.queue.is_empty() }
    }

    /// Would `poll(2)` call it readable? Without VTIME, VMIN bytes must be there.
    pub fn is_poll_readable(&self) -> bool {
        match self.read_policy() {
            ReadPolicy::Bytes { minimum, time_ds: 0 } => self.queue.len() >= usize::from(minimum.max(1)),
            _ => self.has_readable(),
        }
    }

    /// Bytes that a read could get (`FIONREAD`).
    pub fn readable_bytes(&self) -> usize {
        if self.is_canonical() { self.queue.bytes_in_lines() } else { self.queue.len() }
    }

    /// Takes input for a program: in canonical mode at most the rest of one line, else what is there. Returns
    /// the number of bytes; `None` if there is nothing to read yet; `Some(0)` for an end of file (or an empty
    /// buffer).
    pub fn read(&mut self, buffer: &mut [u8], terminal: &mut impl Terminal) -> Option<usize> {
        if !self.has_readable() {
            return None;
        }
        let count =
            if self.is_canonical() { self.queue.take_line(buffer) } else { self.queue.take_bytes(buffer) };
        if self.queue.len() <= UNTHROTTLE_BELOW {
            self.unthrottle(terminal);
        }
        Some(count)
    }

    /// Processes a program's output: puts as many of `bytes` as fit into `room` bytes of output, returns how
    /// many that were. A byte that grows (a tab, a newline) goes out whole or not at all.
    pub fn write(&mut self, bytes: &[u8], room: usize, terminal: &mut impl Terminal) -> usize {
        let mut left = room;
        for (done, byte) in bytes.iter().enumerate() {
            let length = self.column.output_length(*byte, &self.termios);
            if length > left {
                return done;
            }
            left -= length;
            self.column.output(*byte, &self.termios, &mut |byte| terminal.put(byte));
        }
        bytes.len()
    }

    /// Takes bytes from the line, returns how many: fewer than all only if the queue is full (the driver
    /// offers the rest again after a read).
    pub fn receive(&mut self, bytes: &[u8], terminal: &mut impl Terminal) -> usize {
        for (done, byte) in bytes.iter().enumerate() {
            if !self.make_room(terminal) {
                return done;
            }
            self.receive_byte(*byte, terminal);
        }
        bytes.len()
    }

    /// Can [`LineDiscipline::receive`] take a byte?
    pub fn can_receive(&self) -> bool {
        self.queue.len() + self.growth() < queue::CAPACITY || self.overflows()
    }

    /// A break on the line: nothing, a signal, a mark or a NUL, as IGNBRK, BRKINT and PARMRK say.
    pub fn receive_break(&mut self, terminal: &mut impl Terminal) {
        if self.has_input(InputFlags::IGNBRK) || !self.make_room(terminal) {
            return;
        }
        if self.has_input(InputFlags::BRKINT) {
            self.signal(TerminalSignal::Interrupt, terminal);
            return;
        }
        if self.has_input(InputFlags::PARMRK) {
            self.queue.push(0xff, Mark::None);
            self.queue.push(0, Mark::None);
        }
        self.queue.push(0, Mark::None);
    }

    /// A byte with a parity or framing error: dropped, marked or replaced, as IGNPAR, PARMRK and INPCK say.
    pub fn receive_error(&mut self, byte: u8, terminal: &mut impl Terminal) {
        if !self.has_input(InputFlags::INPCK) {
            self.receive(&[byte], terminal);
            return;
        }
        if self.has_input(InputFlags::IGNPAR) || !self.make_room(terminal) {
            return;
        }
        if self.has_input(InputFlags::PARMRK) {
            self.queue.push(0xff, Mark::None);
            self.queue.push(0, Mark::None);
            self.queue.push(byte, Mark::None);
        } else {
            self.queue.push(0, Mark::None);
        }
    }

    fn is_canonical(&self) -> bool {
        self.has_local(LocalFlags::ICANON)
    }

    fn has_input(&self, flags: InputFlags) -> bool {
        self.termios.input_flags().contains(flags)
    }

    fn has_local(&self, flags: LocalFlags) -> bool {
        self.termios.local_flags().contains(flags)
    }

    /// Is `byte` control character number `index`? NUL never is one.
    fn is_control(&self, byte: u8, index: u32) -> bool {
        byte != DISABLED && byte == self.termios.control_character(index)
    }

    /// Queue entries that one byte may take beside its own.
    fn growth(&self) -> usize {
        if self.has_input(InputFlags::PARMRK) { 3 } else { 1 }
    }

    /// A line that fills the whole queue: more of it is thrown away until it ends.
    fn overflows(&self) -> bool {
        self.is_canonical() && !self.queue.has_line()
    }

    /// Makes room for a byte: in an overlong line the last place is used again and again, so that at last the
    /// newline stands there (termios(3): 4095 bytes and the newline). Returns whether there is room.
    fn make_room(&mut self, terminal: &mut impl Terminal) -> bool {
        if self.queue.len() + self.growth() < queue::CAPACITY {
            return true;
        }
        if !self.overflows() {
            return false;
        }
        if self.queue.len() + self.growth() > queue::CAPACITY {
            self.queue.pop_unfinished();
            if self.has_input(InputFlags::IMAXBEL) {
                terminal.put(0x07);
            }
        }
        true
    }

    fn receive_byte(&mut self, byte: u8, terminal: &mut impl Terminal) {
        let mut byte = byte;
        if self.has_input(InputFlags::ISTRIP) {
            byte &= 0x7f;
        }
        if self.has_input(InputFlags::IUCLC) && self.has_local(LocalFlags::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if core::mem::take(&mut self.literal_next) {
            self.put_character(byte, terminal);
        } else if !self.flow_control(byte, terminal) && !self.signal_character(byte, terminal) {
            self.receive_mapped(byte, terminal);
        }
        self.throttle(terminal);
    }

    /// START, STOP and IXANY. Returns whether the byte was used up.
    fn flow_control(&mut self, byte: u8, terminal: &mut impl Terminal) -> bool {
        if !self.has_input(InputFlags::IXON) {
            return false;
        }
        let start = self.is_control(byte, VSTART);
        if !start && self.is_control(byte, VSTOP) {
            self.set_flow(Flow::Stopped, terminal);
            return true;
        }
        if start || self.has_input(InputFlags::IXANY) {
            self.set_flow(Flow::Running, terminal);
        }
        start
    }

    fn signal_character(&mut self, byte: u8, terminal: &mut impl Terminal) -> bool {
        if !self.has_local(LocalFlags::ISIG) {
            return false;
        }
        let signal = if self.is_control(byte, VINTR) {
            TerminalSignal::Interrupt
        } else if self.is_control(byte, VQUIT) {
            TerminalSignal::Quit
        } else if self.is_control(byte, VSUSP) {
            TerminalSignal::Suspend
        } else {
            return false;
        };
        self.signal(signal, terminal);
        if self.has_input(InputFlags::IXON) {
            self.set_flow(Flow::Running, terminal);
        }
        if self.has_local(LocalFlags::ECHO) {
            self.echo(byte, terminal);
        }
        true
    }

    /// Sends a signal, and unless NOFLSH says not to, throws away input and output.
    fn signal(&mut self, signal: TerminalSignal, terminal: &mut impl Terminal) {
        terminal.signal(signal);
        if !self.has_local(LocalFlags::NOFLSH) {
            terminal.flush_output();
            self.flush_input(terminal);
        }
    }

    /// CR and NL mapping, then editing or plain input.
    fn receive_mapped(&mut self, byte: u8, terminal: &mut impl Terminal) {
        let byte = match byte {
            b'\r' if self.has_input(InputFlags::IGNCR) => return,
            b'\r' if self.has_input(InputFlags::ICRNL) => b'\n',
            b'\n' if self.has_input(InputFlags::INLCR) => b'\r',
            byte => byte,
        };
        if self.is_canonical() && self.edit_or_end_line(byte, terminal) {
            return;
        }
        self.put_character(byte, terminal);
    }

    /// The special characters of canonical mode. Returns whether the byte was used up.
    fn edit_or_end_line(&mut self, byte: u8, terminal: &mut impl Terminal) -> bool {
        let extended = self.has_local(LocalFlags::IEXTEN);
        if self.is_control(byte, VERASE) {
            self.erase(edit::Erase::Character, terminal);
        } else if self.is_control(byte, VKILL) {
            self.erase(edit::Erase::Line, terminal);
        } else if extended && self.is_control(byte, VWERASE) {
            self.erase(edit::Erase::Word, terminal);
        } else if extended && self.is_control(byte, VLNEXT) {
            self.start_literal(terminal);
        } else if extended && self.has_local(LocalFlags::ECHO) && self.is_control(byte, VREPRINT) {
            self.reprint(byte, terminal);
        } else if byte == b'\n' {
            if self.termios.local_flags().intersects(LocalFlags::ECHO | LocalFlags::ECHONL) {
                self.echo_raw(b'\n', terminal);
            }
            self.queue.push(byte, Mark::Delimiter);
        } else if self.is_control(byte, VEOF) {
            self.queue.push(0, Mark::EndOfFile);
        } else if self.is_control(byte, VEOL) || (extended && self.is_control(byte, VEOL2)) {
            self.echo_input(byte, terminal);
            self.double_marker(byte);
            self.queue.push(byte, Mark::Delimiter);
        } else {
            return false;
        }
        true
    }

    /// An ordinary character.
    fn put_character(&mut self, byte: u8, terminal: &mut impl Terminal) {
        self.echo_input(byte, terminal);
        self.double_marker(byte);
        self.queue.push(byte, Mark::None);
    }

    /// With PARMRK a true 0xff is doubled, to tell it from a mark.
    fn double_marker(&mut self, byte: u8) {
        if byte == 0xff && self.has_input(InputFlags::PARMRK) && !self.has_input(InputFlags::ISTRIP) {
            self.queue.push(byte, Mark::None);
        }
    }

    fn throttle(&mut self, terminal: &mut impl Terminal) {
        let nearly_full = self.queue.len() + THROTTLE_ROOM > queue::CAPACITY;
        let stop = self.termios.control_character(VSTOP);
        // In an unfinished line the rest is thrown away; stopping the sender would only hang it.
        if nearly_full
            && !self.throttled
            && !self.overflows()
            && self.has_input(InputFlags::IXOFF)
            && stop != DISABLED
        {
            self.throttled = true;
            terminal.put_urgent(stop);
        }
    }

    fn unthrottle(&mut self, terminal: &mut impl Terminal) {
        if core::mem::take(&mut self.throttled) {
            terminal.put_urgent(self.termios.control_character(VSTART));
        }
    }
}

#[cfg(test)]
mod tests;
