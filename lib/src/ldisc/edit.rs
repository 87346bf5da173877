//! Echo and line editing: ERASE, KILL, WERASE, REPRINT, LNEXT.
//!
//! What is echoed goes through the output modes like a program's output, so that the column stays right.

use super::output::{is_continuation, is_control};
use super::{LineDiscipline, Terminal};
use abi::termios::{LocalFlags, VERASE, VKILL};

const BACKSPACE: u8 = 0x08;

/// How much to erase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Erase {
    /// One character.
    Character,
    /// One word.
    Word,
    /// The line.
    Line,
}

impl LineDiscipline {
    /// Echoes a byte, control characters as `^X` if ECHOCTL says so.
    pub(super) fn echo(&mut self, byte: u8, terminal: &mut impl Terminal) {
        if self.has_local(LocalFlags::ECHOCTL) && is_control(byte) && byte != b'\t' {
            terminal.put(b'^');
            terminal.put(byte ^ 0o100);
            self.column.now += 2;
        } else {
            self.echo_raw(byte, terminal);
        }
    }

    /// Echoes a byte as it is, through the output modes.
    pub(super) fn echo_raw(&mut self, byte: u8, terminal: &mut impl Terminal) {
        self.column.output(byte, &self.termios, &mut |byte| terminal.put(byte));
    }

    /// Echoes a byte of input, if ECHO is on.
    pub(super) fn echo_input(&mut self, byte: u8, terminal: &mut impl Terminal) {
        if !self.has_local(LocalFlags::ECHO) {
            return;
        }
        self.finish_erasing(terminal);
        if byte == b'\n' {
            self.echo_raw(byte, terminal);
            return;
        }
        if self.queue.unfinished_len() == 0 {
            self.column.line_start = self.column.now;
        }
        self.echo(byte, terminal);
    }

    /// LNEXT: the next byte is taken literally. A caret shows that.
    pub(super) fn start_literal(&mut self, terminal: &mut impl Terminal) {
        self.literal_next = true;
        if self.has_local(LocalFlags::ECHO) {
            self.finish_erasing(terminal);
            if self.has_local(LocalFlags::ECHOCTL) {
                self.echo_raw(b'^', terminal);
                self.echo_raw(BACKSPACE, terminal);
            }
        }
    }

    /// REPRINT: shows the unfinished line again.
    pub(super) fn reprint(&mut self, byte: u8, terminal: &mut impl Terminal) {
        self.finish_erasing(terminal);
        self.echo(byte, terminal);
        self.echo_raw(b'\n', terminal);
        let mut index = 0;
        while let Some(byte) = self.queue.unfinished(index) {
            self.echo(byte, terminal);
            index += 1;
        }
    }

    /// ERASE, WERASE or KILL.
    pub(super) fn erase(&mut self, what: Erase, terminal: &mut impl Terminal) {
        if self.queue.unfinished_len() == 0 {
            return;
        }
        if what == Erase::Line && !self.erases_line_visibly() {
            self.kill_line(terminal);
            return;
        }
        let mut seen_word = false;
        while let Some((first, length)) = self.last_character() {
            if what == Erase::Word {
                match is_word(first) {
                    true => seen_word = true,
                    false if seen_word => break,
                    false => {}
                }
            }
            self.erase_character(what, first, length, terminal);
            if what == Erase::Character {
                break;
            }
        }
        if self.queue.unfinished_len() == 0 && self.has_local(LocalFlags::ECHO) {
            self.finish_erasing(terminal);
        }
    }

    /// Ends a `\.../` erasure (ECHOPRT).
    fn finish_erasing(&mut self, terminal: &mut impl Terminal) {
        if core::mem::take(&mut self.erasing) {
            self.echo_raw(b'/', terminal);
        }
    }

    fn erases_line_visibly(&self) -> bool {
        self.has_local(LocalFlags::ECHO | LocalFlags::ECHOK | LocalFlags::ECHOKE | LocalFlags::ECHOE)
    }

    /// KILL on a terminal that cannot erase: drop the line and perhaps go to a new one.
    fn kill_line(&mut self, terminal: &mut impl Terminal) {
        while self.queue.pop_unfinished().is_some() {}
        if !self.has_local(LocalFlags::ECHO) {
            return;
        }
        self.finish_erasing(terminal);
        self.echo(self.termios.control_character(VKILL), terminal);
        if self.has_local(LocalFlags::ECHOK) {
            self.echo_raw(b'\n', terminal);
        }
    }

    /// First byte and length of the last character of the unfinished line; `None` if there is none or only
    /// the tail of one.
    fn last_character(&self) -> Option<(u8, usize)> {
        let end = self.queue.unfinished_len();
        let mut length = 0;
        while length < end {
            length += 1;
            let byte = self.queue.unfinished(end - length)?;
            if !is_continuation(byte, &self.termios) {
                return Some((byte, length));
            }
        }
        None
    }

    fn erase_character(&mut self, what: Erase, first: u8, length: usize, terminal: &mut impl Terminal) {
        if self.has_local(LocalFlags::ECHO | LocalFlags::ECHOPRT) {
            self.print_erased(first, length, terminal);
        }
        for _ in 0..length {
            self.queue.pop_unfinished();
        }
        if !self.has_local(LocalFlags::ECHO) || self.has_local(LocalFlags::ECHOPRT) {
            return;
        }
        if what == Erase::Character && !self.has_local(LocalFlags::ECHOE) {
            self.echo(self.termios.control_character(VERASE), terminal);
        } else if first == b'\t' {
            self.erase_tab(terminal);
        } else {
            self.erase_columns(self.width(first), terminal);
        }
    }

    /// ECHOPRT: the erased characters are printed backwards between `\` and `/`.
    fn print_erased(&mut self, first: u8, length: usize, terminal: &mut impl Terminal) {
        if !core::mem::replace(&mut self.erasing, true) {
            self.echo_raw(b'\\', terminal);
        }
        self.echo(first, terminal);
        let start = self.queue.unfinished_len().saturating_sub(length);
        for index in 1..length {
            if let Some(byte) = self.queue.unfinished(start + index) {
                self.echo_raw(byte, terminal);
            }
        }
    }

    /// Columns that a character takes when echoed (not a tab).
    fn width(&self, byte: u8) -> usize {
        match (is_control(byte), self.has_local(LocalFlags::ECHOCTL)) {
            (true, true) => 2,
            (true, false) => 0,
            (false, _) => 1,
        }
    }

    fn erase_columns(&mut self, count: usize, terminal: &mut impl Terminal) {
        for _ in 0..count {
            self.echo_raw(BACKSPACE, terminal);
            self.echo_raw(b' ', terminal);
            self.echo_raw(BACKSPACE, terminal);
        }
    }

    /// Moves back over a tab: its width follows from what stands before it, back to another tab or the start
    /// of the line.
    fn erase_tab(&mut self, terminal: &mut impl Terminal) {
        let mut columns = 0;
        let mut from_line_start = true;
        for index in (0..self.queue.unfinished_len()).rev() {
            let Some(byte) = self.queue.unfinished(index) else { break };
            if byte == b'\t' {
                from_line_start = false;
                break;
            }
            if !is_continuation(byte, &self.termios) {
                columns += self.width(byte);
            }
        }
        if from_line_start {
            columns += self.column.line_start;
        }
        for _ in 0..8 - columns % 8 {
            terminal.put(BACKSPACE);
            self.column.now = self.column.now.saturating_sub(1);
        }
    }
}

/// Letters, digits and `_`, with the letters of Latin-1 (which are also the first bytes of UTF-8 characters).
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}
