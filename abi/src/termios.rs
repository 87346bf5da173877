//! Terminals: modes, control characters, window size and terminal ioctls.

pub use linux_raw_sys::general::{
    ADDRB, B0, B50, B75, B110, B134, B150, B200, B300, B600, B1200, B1800, B2400, B4800, B9600, B19200,
    B38400, B57600, B115200, B230400, B460800, B500000, B576000, B921600, B1000000, B1152000, B1500000,
    B2000000, B2500000, B3000000, B3500000, B4000000, BOTHER, BRKINT, BS0, BS1, BSDLY, CBAUD, CBAUDEX,
    CIBAUD, CLOCAL, CMSPAR, CR0, CR1, CR2, CR3, CRDLY, CREAD, CRTSCTS, CS5, CS6, CS7, CS8, CSIZE, CSTOPB,
    ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, ECHONL, ECHOPRT, EXTA, EXTB, EXTPROC, FF0, FF1, FFDLY, FLUSHO,
    HUPCL, IBSHIFT, ICANON, ICRNL, IEXTEN, IGNBRK, IGNCR, IGNPAR, IMAXBEL, INLCR, INPCK, ISIG, ISTRIP, IUCLC,
    IUTF8, IXANY, IXOFF, IXON, NCC, NL0, NL1, NLDLY, NOFLSH, OCRNL, OFDEL, OFILL, OLCUC, ONLCR, ONLRET,
    ONOCR, OPOST, PARENB, PARMRK, PARODD, PENDIN, TAB0, TAB1, TAB2, TAB3, TABDLY, TCIFLUSH, TCIOFF,
    TCIOFLUSH, TCION, TCOFLUSH, TCOOFF, TCOON, TCSADRAIN, TCSAFLUSH, TCSANOW, TIOCM_CAR, TIOCM_CD, TIOCM_CTS,
    TIOCM_DSR, TIOCM_DTR, TIOCM_LE, TIOCM_LOOP, TIOCM_OUT1, TIOCM_OUT2, TIOCM_RI, TIOCM_RNG, TIOCM_RTS,
    TIOCM_SR, TIOCM_ST, TIOCPKT_DATA, TIOCPKT_DOSTOP, TIOCPKT_FLUSHREAD, TIOCPKT_FLUSHWRITE, TIOCPKT_IOCTL,
    TIOCPKT_NOSTOP, TIOCPKT_START, TIOCPKT_STOP, TIOCSER_TEMT, TOSTOP, VDISCARD, VEOF, VEOL, VEOL2, VERASE,
    VINTR, VKILL, VLNEXT, VMIN, VQUIT, VREPRINT, VSTART, VSTOP, VSUSP, VSWTC, VT0, VT1, VTDLY, VTIME,
    VWERASE, XCASE, XTABS,
};

pub use linux_raw_sys::ioctl::{
    FIONBIO, FIONREAD, TCFLSH, TCGETA, TCGETS, TCGETS2, TCGETX, TCSBRK, TCSBRKP, TCSETA, TCSETAF, TCSETAW,
    TCSETS, TCSETS2, TCSETSF, TCSETSF2, TCSETSW, TCSETSW2, TCSETX, TCSETXF, TCSETXW, TCXONC, TIOCCBRK,
    TIOCCONS, TIOCEXCL, TIOCGDEV, TIOCGETD, TIOCGEXCL, TIOCGICOUNT, TIOCGLCKTRMIOS, TIOCGPGRP, TIOCGPKT,
    TIOCGPTLCK, TIOCGPTN, TIOCGPTPEER, TIOCGRS485, TIOCGSERIAL, TIOCGSID, TIOCGSOFTCAR, TIOCGWINSZ, TIOCINQ,
    TIOCLINUX, TIOCMBIC, TIOCMBIS, TIOCMGET, TIOCMIWAIT, TIOCMSET, TIOCNOTTY, TIOCNXCL, TIOCOUTQ, TIOCPKT,
    TIOCSBRK, TIOCSCTTY, TIOCSERCONFIG, TIOCSERGETLSR, TIOCSERGETMULTI, TIOCSERGSTRUCT, TIOCSERGWILD,
    TIOCSERSETMULTI, TIOCSERSWILD, TIOCSETD, TIOCSIG, TIOCSLCKTRMIOS, TIOCSPGRP, TIOCSPTLCK, TIOCSRS485,
    TIOCSSERIAL, TIOCSSOFTCAR, TIOCSTI, TIOCSWINSZ, TIOCVHANGUP,
};

use bitflags::bitflags;

bitflags! {
    /// Input modes (`c_iflag`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct InputFlags: u32 {
        /// Ignore breaks.
        const IGNBRK = IGNBRK;
        /// A break is an interrupt.
        const BRKINT = BRKINT;
        /// Ignore bytes with parity errors.
        const IGNPAR = IGNPAR;
        /// Mark parity errors.
        const PARMRK = PARMRK;
        /// Check parity.
        const INPCK = INPCK;
        /// Strip the eighth bit.
        const ISTRIP = ISTRIP;
        /// NL to CR.
        const INLCR = INLCR;
        /// Ignore CR.
        const IGNCR = IGNCR;
        /// CR to NL.
        const ICRNL = ICRNL;
        /// Upper to lower case.
        const IUCLC = IUCLC;
        /// Flow control of output by STOP and START.
        const IXON = IXON;
        /// Any byte restarts output.
        const IXANY = IXANY;
        /// Flow control of input.
        const IXOFF = IXOFF;
        /// Bell when the input queue is full.
        const IMAXBEL = IMAXBEL;
        /// Input is UTF-8: erase whole characters.
        const IUTF8 = IUTF8;
        const _ = !0;
    }
}

bitflags! {
    /// Output modes (`c_oflag`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OutputFlags: u32 {
        /// Process output.
        const OPOST = OPOST;
        /// Lower to upper case.
        const OLCUC = OLCUC;
        /// NL to CR NL.
        const ONLCR = ONLCR;
        /// CR to NL.
        const OCRNL = OCRNL;
        /// No CR at column 0.
        const ONOCR = ONOCR;
        /// NL does the CR's work.
        const ONLRET = ONLRET;
        /// Fill characters for delay.
        const OFILL = OFILL;
        /// Fill is DEL.
        const OFDEL = OFDEL;
        const _ = !0;
    }
}

bitflags! {
    /// Control modes (`c_cflag`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ControlFlags: u32 {
        /// Two stop bits.
        const CSTOPB = CSTOPB;
        /// Receiver on.
        const CREAD = CREAD;
        /// Parity.
        const PARENB = PARENB;
        /// Odd parity.
        const PARODD = PARODD;
        /// Hang up on last close.
        const HUPCL = HUPCL;
        /// Ignore modem lines.
        const CLOCAL = CLOCAL;
        /// Hardware flow control.
        const CRTSCTS = CRTSCTS;
        const _ = !0;
    }
}

bitflags! {
    /// Local modes (`c_lflag`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LocalFlags: u32 {
        /// INTR, QUIT and SUSP make signals.
        const ISIG = ISIG;
        /// Lines with editing.
        const ICANON = ICANON;
        /// Upper case terminal (not supported).
        const XCASE = XCASE;
        /// Echo.
        const ECHO = ECHO;
        /// ERASE erases on the screen.
        const ECHOE = ECHOE;
        /// KILL echoes a newline.
        const ECHOK = ECHOK;
        /// NL echoes even without ECHO.
        const ECHONL = ECHONL;
        /// Signals do not flush.
        const NOFLSH = NOFLSH;
        /// Background writers get SIGTTOU.
        const TOSTOP = TOSTOP;
        /// Control characters echo as ^X.
        const ECHOCTL = ECHOCTL;
        /// Hardcopy erase.
        const ECHOPRT = ECHOPRT;
        /// KILL erases on the screen.
        const ECHOKE = ECHOKE;
        /// Output is being flushed (not supported).
        const FLUSHO = FLUSHO;
        /// Reprint pending input at the next read.
        const PENDIN = PENDIN;
        /// WERASE, REPRINT, LNEXT, EOL2 work.
        const IEXTEN = IEXTEN;
        /// Processing is external.
        const EXTPROC = EXTPROC;
        const _ = !0;
    }
}

/// Control characters in the kernel's structure.
pub const NCCS: usize = 19;

abi_struct! {
    /// The kernel's `struct termios` of `TCGETS` (not the C library's, which is larger).
    #[derive(PartialEq, Eq)]
    pub struct Termios: 36 {
        /// [`InputFlags`].
        pub c_iflag: u32,
        /// [`OutputFlags`].
        pub c_oflag: u32,
        /// [`ControlFlags`], size and speed.
        pub c_cflag: u32,
        /// [`LocalFlags`].
        pub c_lflag: u32,
        /// Line discipline.
        pub c_line: u8,
        /// Control characters.
        pub c_cc: [u8; NCCS],
    }
}

abi_struct! {
    /// `struct termios2` of `TCGETS2`: with any speed.
    #[derive(PartialEq, Eq)]
    pub struct Termios2: 44 {
        /// [`InputFlags`].
        pub c_iflag: u32,
        /// [`OutputFlags`].
        pub c_oflag: u32,
        /// [`ControlFlags`], size and speed.
        pub c_cflag: u32,
        /// [`LocalFlags`].
        pub c_lflag: u32,
        /// Line discipline.
        pub c_line: u8,
        /// Control characters.
        pub c_cc: [u8; NCCS],
        /// Input speed, bits per second.
        pub c_ispeed: u32,
        /// Output speed, bits per second.
        pub c_ospeed: u32,
    }
}

impl Termios2 {
    /// What Linux gives a new terminal (`tty_std_termios`): 38400 8N1, cooked, echoing.
    pub const fn standard() -> Self {
        Self {
            c_iflag: ICRNL | IXON,
            c_oflag: OPOST | ONLCR,
            c_cflag: B38400 | CS8 | CREAD | HUPCL,
            c_lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            c_line: 0,
            c_cc: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
            c_ispeed: 38400,
            c_ospeed: 38400,
        }
    }

    /// Control character number `index` (`VINTR`...); 0, which disables it, if there is no such number.
    pub fn control_character(&self, index: u32) -> u8 {
        self.c_cc.get(index as usize).copied().unwrap_or(0)
    }

    /// [`InputFlags`].
    pub const fn input_flags(&self) -> InputFlags {
        InputFlags::from_bits_retain(self.c_iflag)
    }

    /// [`OutputFlags`].
    pub const fn output_flags(&self) -> OutputFlags {
        OutputFlags::from_bits_retain(self.c_oflag)
    }

    /// [`ControlFlags`].
    pub const fn control_flags(&self) -> ControlFlags {
        ControlFlags::from_bits_retain(self.c_cflag)
    }

    /// [`LocalFlags`].
    pub const fn local_flags(&self) -> LocalFlags {
        LocalFlags::from_bits_retain(self.c_lflag)
    }

    /// The part that `TCGETS` shows.
    pub const fn to_termios(&self) -> Termios {
        Termios {
            c_iflag: self.c_iflag,
            c_oflag: self.c_oflag,
            c_cflag: self.c_cflag,
            c_lflag: self.c_lflag,
            c_line: self.c_line,
            c_cc: self.c_cc,
        }
    }
}

abi_struct! {
    /// `struct termio` of `TCGETA`.
    #[derive(PartialEq, Eq)]
    pub struct Termio: 18 {
        /// [`InputFlags`], the low half.
        pub c_iflag: u16,
        /// [`OutputFlags`], the low half.
        pub c_oflag: u16,
        /// [`ControlFlags`], the low half.
        pub c_cflag: u16,
        /// [`LocalFlags`], the low half.
        pub c_lflag: u16,
        /// Line discipline.
        pub c_line: u8,
        /// Control characters.
        pub c_cc: [u8; 8],
        /// Explicit padding.
        pub pad: u8,
    }
}

abi_struct! {
    /// `struct winsize`.
    #[derive(PartialEq, Eq)]
    pub struct Winsize: 8 {
        /// Rows, characters.
        pub ws_row: u16,
        /// Columns, characters.
        pub ws_col: u16,
        /// Width, pixels.
        pub ws_xpixel: u16,
        /// Height, pixels.
        pub ws_ypixel: u16,
    }
}
