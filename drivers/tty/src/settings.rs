//! Terminal modes as programs give and take them: `struct termios`, `termios2` and the old `termio`.

use crate::baud;
use crate::tty::Tty;
use abi::termios::{CREAD, CS8, CSIZE, PARENB, Termio, Termios, Termios2};

/// Which structure a `TCGET`/`TCSET` call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `struct termio`.
    Old,
    /// `struct termios`.
    Plain,
    /// `struct termios2`.
    WithSpeeds,
}

/// What a `TCSET` call does before the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing.
    Now,
    /// It waits for output to be sent.
    Drain,
    /// And throws away input.
    Flush,
}

/// The modes with `given` laid over them, as a `struct termios` can say it.
pub fn from_termios(given: &Termios, old: &Termios2) -> Termios2 {
    Termios2 {
        c_iflag: given.c_iflag,
        c_oflag: given.c_oflag,
        c_cflag: given.c_cflag,
        c_lflag: given.c_lflag,
        c_line: given.c_line,
        c_cc: given.c_cc,
        ..*old
    }
}

/// The modes with `given` laid over them: the low halves and the first eight control characters.
pub fn from_termio(given: &Termio, old: &Termios2) -> Termios2 {
    let low = |old: u32, new: u16| (old & 0xffff_0000) | u32::from(new);
    let mut new = Termios2 {
        c_iflag: low(old.c_iflag, given.c_iflag),
        c_oflag: low(old.c_oflag, given.c_oflag),
        c_cflag: low(old.c_cflag, given.c_cflag),
        c_lflag: low(old.c_lflag, given.c_lflag),
        c_line: given.c_line,
        ..*old
    };
    for (to, from) in new.c_cc.iter_mut().zip(given.c_cc) {
        *to = from;
    }
    new
}

/// The old structure.
pub fn to_termio(termios: &Termios2) -> Termio {
    let mut old = Termio {
        c_iflag: termios.c_iflag as u16,
        c_oflag: termios.c_oflag as u16,
        c_cflag: termios.c_cflag as u16,
        c_lflag: termios.c_lflag as u16,
        c_line: termios.c_line,
        ..Termio::default()
    };
    for (to, from) in old.c_cc.iter_mut().zip(termios.c_cc) {
        *to = from;
    }
    old
}

/// What becomes of modes that a program asks for: the speeds follow the codes, the line discipline is the only one there
/// is, and a pseudo-terminal always has eight bits without parity.
pub fn settle(tty: &Tty, mut asked: Termios2) -> Termios2 {
    (asked.c_ospeed, asked.c_ispeed) = baud::decode(asked.c_cflag, asked.c_ospeed, asked.c_ispeed);
    asked.c_line = 0;
    if tty.is_pseudo() {
        asked.c_cflag = asked.c_cflag & !(CSIZE | PARENB) | CS8 | CREAD;
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_carry_what_they_can() {
        let standard = Termios2::standard();
        let plain = standard.to_termios();
        assert_eq!(from_termios(&plain, &standard), standard);
        let old = to_termio(&standard);
        assert_eq!(from_termio(&old, &standard), standard);
        let mut changed = old;
        changed.c_lflag = 0;
        changed.c_cc[0] = 9;
        let new = from_termio(&changed, &standard);
        assert_eq!((new.c_lflag, new.c_cc[0], new.c_cc[8]), (0, 9, 17));
    }
}
