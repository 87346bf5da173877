//! Output modes (OPOST and what depends on it) and the column of the cursor.
//!
//! The column is needed to expand tabs, to erase them again, and for ONOCR. It is tracked only while OPOST is
//! set, as in Linux. Used by the line discipline for programs' output and for echo.

use abi::termios::{InputFlags, OutputFlags, TABDLY, Termios2, XTABS};

const TAB_WIDTH: usize = 8;

/// Where the cursor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Column, from 0.
    pub now: usize,
    /// Column at which the present input line began.
    pub line_start: usize,
}

impl Column {
    /// How many bytes [`Column::output`] will put out for `byte`.
    pub fn output_length(&self, byte: u8, termios: &Termios2) -> usize {
        let flags = termios.output_flags();
        if !flags.contains(OutputFlags::OPOST) {
            return 1;
        }
        match byte {
            b'\n' if flags.contains(OutputFlags::ONLCR) => 2,
            b'\r' if flags.contains(OutputFlags::ONOCR) && self.now == 0 => 0,
            b'\t' if expands_tabs(termios) => TAB_WIDTH - self.now % TAB_WIDTH,
            _ => 1,
        }
    }

    /// Puts `byte` out through the output modes.
    pub fn output(&mut self, byte: u8, termios: &Termios2, put: &mut impl FnMut(u8)) {
        let flags = termios.output_flags();
        if !flags.contains(OutputFlags::OPOST) {
            put(byte);
            return;
        }
        match byte {
            b'\n' => self.newline(flags, put),
            b'\r' => self.carriage_return(flags, put),
            b'\t' => {
                let width = TAB_WIDTH - self.now % TAB_WIDTH;
                self.now += width;
                if expands_tabs(termios) {
                    (0..width).for_each(|_| put(b' '));
                } else {
                    put(b'\t');
                }
            }
            0x08 => {
                self.now = self.now.saturating_sub(1);
                put(byte);
            }
            _ if is_control(byte) => put(byte),
            _ => {
                if !is_continuation(byte, termios) {
                    self.now += 1;
                }
                put(if flags.contains(OutputFlags::OLCUC) { byte.to_ascii_uppercase() } else { byte });
            }
        }
    }

    fn newline(&mut self, flags: OutputFlags, put: &mut impl FnMut(u8)) {
        if flags.contains(OutputFlags::ONLRET) {
            self.now = 0;
        }
        if flags.contains(OutputFlags::ONLCR) {
            self.now = 0;
            put(b'\r');
        }
        self.line_start = self.now;
        put(b'\n');
    }

    fn carriage_return(&mut self, flags: OutputFlags, put: &mut impl FnMut(u8)) {
        if flags.contains(OutputFlags::ONOCR) && self.now == 0 {
            return;
        }
        if flags.contains(OutputFlags::OCRNL) {
            if flags.contains(OutputFlags::ONLRET) {
                self.now = 0;
                self.line_start = 0;
            }
            put(b'\n');
            return;
        }
        self.now = 0;
        self.line_start = 0;
        put(b'\r');
    }
}

/// Do tabs go out as spaces?
fn expands_tabs(termios: &Termios2) -> bool {
    termios.c_oflag & TABDLY == XTABS
}

/// Is it an ASCII control character?
pub fn is_control(byte: u8) -> bool {
    byte.is_ascii_control()
}

/// Is it the second or a later byte of a UTF-8 character, on a terminal that says it speaks UTF-8?
pub fn is_continuation(byte: u8, termios: &Termios2) -> bool {
    termios.input_flags().contains(InputFlags::IUTF8) && byte & 0xc0 == 0x80
}
