//! The ioctls that a terminal has from either side (ioctl_tty(2)).
//!
//! The side matters for a few: a master may ask for the slave's group without being in its session, and flushes the other
//! way round. What only masters have is in `pty`.

use crate::job::job_control;
use crate::settings::{self, Layout, When};
use crate::tty::{Opened, Tty};
use abi::termios::*;
use abi::{Errno, Result};
use alloc::sync::Arc;
use linnet_lib::ldisc::Flow;
use machine::sync::atomic::Ordering;
use machine::user::{read_value, write_value};
use security::Capability;
use task::job::{BackgroundAccess, Steal};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// From which side a call comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The terminal itself.
    Slave,
    /// The master of the pair.
    Master,
}

/// One call.
pub struct Call<'a> {
    /// The terminal (the slave, if the call comes from the master).
    pub tty: &'a Arc<Tty>,
    /// The open file.
    pub opened: Opened,
    /// Whence.
    pub side: Side,
    /// Is the file open for reading?
    pub reads: bool,
}

fn get<T: FromBytes + IntoBytes>(argument: usize) -> Result<T> {
    Ok(read_value(argument)?)
}

fn put<T: IntoBytes + Immutable>(argument: usize, value: &T) -> Result<usize> {
    write_value(argument, value)?;
    Ok(0)
}

impl Call<'_> {
    /// Does it. Errors: `ENOTTY` for a call that terminals do not have, `EFAULT`, and what the manual page says.
    pub fn run(&self, command: u32, argument: usize) -> Result<usize> {
        match command {
            TCGETS
            | TCGETS2
            | TCGETA
            | TCSETS..=TCSETSF
            | TCSETA..=TCSETAF
            | TCSETS2
            | TCSETSW2
            | TCSETSF2 => self.modes(command, argument),
            TIOCGPGRP | TIOCSPGRP | TIOCGSID | TIOCSCTTY | TIOCNOTTY => self.session(command, argument),
            TCFLSH | TCXONC | TCSBRK | TCSBRKP | TIOCSBRK | TIOCCBRK => self.line(command, argument),
            _ => self.other(command, argument),
        }
    }

    fn modes(&self, command: u32, argument: usize) -> Result<usize> {
        let now = self.tty.termios();
        match command {
            TCGETS => put(argument, &now.to_termios()),
            TCGETS2 => put(argument, &now),
            TCGETA => put(argument, &settings::to_termio(&now)),
            TCSETS => self.set_modes(Layout::Plain, When::Now, argument),
            TCSETSW => self.set_modes(Layout::Plain, When::Drain, argument),
            TCSETSF => self.set_modes(Layout::Plain, When::Flush, argument),
            TCSETA => self.set_modes(Layout::Old, When::Now, argument),
            TCSETAW => self.set_modes(Layout::Old, When::Drain, argument),
            TCSETAF => self.set_modes(Layout::Old, When::Flush, argument),
            TCSETS2 => self.set_modes(Layout::WithSpeeds, When::Now, argument),
            TCSETSW2 => self.set_modes(Layout::WithSpeeds, When::Drain, argument),
            _ => self.set_modes(Layout::WithSpeeds, When::Flush, argument),
        }
    }

    fn set_modes(&self, layout: Layout, when: When, argument: usize) -> Result<usize> {
        self.tty.check_job(BackgroundAccess::Write)?;
        let now = self.tty.termios();
        let asked = match layout {
            Layout::Old => settings::from_termio(&get(argument)?, &now),
            Layout::Plain => settings::from_termios(&get(argument)?, &now),
            Layout::WithSpeeds => get(argument)?,
        };
        if when != When::Now {
            self.tty.wait_until_sent(self.opened)?;
        }
        if when == When::Flush {
            self.tty.flush_input();
        }
        self.tty.set_termios(settings::settle(self.tty, asked));
        if let Some(pty) = self.tty.pty() {
            pty.note_modes_changed(&now, &self.tty.termios());
        }
        Ok(0)
    }

    fn session(&self, command: u32, argument: usize) -> Result<usize> {
        let (session, foreground) = self.tty.session_and_foreground();
        let jobs = job_control();
        match command {
            TIOCGPGRP => {
                self.check_own()?;
                put(argument, &jobs.number_for_caller(foreground))
            }
            TIOCGSID => {
                self.check_own()?;
                if session == 0 {
                    return Err(Errno::ENOTTY);
                }
                put(argument, &jobs.number_for_caller(session))
            }
            TIOCSPGRP => self.set_foreground(argument),
            TIOCSCTTY => {
                let privileged = jobs.caller_has(Capability::SysAdmin);
                if !self.reads && !privileged {
                    return Err(Errno::EPERM);
                }
                let steal = if argument == 1 && privileged { Steal::Yes } else { Steal::No };
                self.tty.acquire(steal).map(|()| 0)
            }
            _ if self.side == Side::Slave && jobs.controls_caller(self.tty) => self.tty.give_up().map(|()| 0),
            _ => Err(Errno::ENOTTY),
        }
    }

    /// From the slave's side one may ask only about one's own terminal.
    fn check_own(&self) -> Result<()> {
        match self.side == Side::Master || job_control().controls_caller(self.tty) {
            true => Ok(()),
            false => Err(Errno::ENOTTY),
        }
    }

    fn set_foreground(&self, argument: usize) -> Result<usize> {
        match self.tty.check_job(BackgroundAccess::Write) {
            Err(Errno::EIO) => return Err(Errno::ENOTTY),
            other => other?,
        }
        let number: i32 = get(argument)?;
        if number < 0 {
            return Err(Errno::EINVAL);
        }
        let jobs = job_control();
        let (session, _) = self.tty.session_and_foreground();
        if !jobs.controls_caller(self.tty) || session != jobs.session_of_caller() {
            return Err(Errno::ENOTTY);
        }
        let group = jobs.find_group(number).ok_or(Errno::ESRCH)?;
        if jobs.session_of_group(group) != Some(session) {
            return Err(Errno::EPERM);
        }
        task::job::ControllingTerminal::set_foreground(&**self.tty, group);
        Ok(0)
    }

    fn line(&self, command: u32, argument: usize) -> Result<usize> {
        self.tty.check_job(BackgroundAccess::Write)?;
        match command {
            TCFLSH => self.flush(argument),
            TCXONC => self.flow(argument),
            // A break cannot be sent on any line there is; asking for it only waits, as on Linux without `break_ctl`.
            _ => {
                self.tty.wait_until_sent(self.opened)?;
                Ok(0)
            }
        }
    }

    fn flush(&self, which: usize) -> Result<usize> {
        let (input, output) = match which as u32 {
            TCIFLUSH => (true, false),
            TCOFLUSH => (false, true),
            TCIOFLUSH => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        // The master's input is the slave's output.
        let (slave_input, slave_output) = match self.side {
            Side::Slave => (input, output),
            Side::Master => (output, input),
        };
        if slave_input {
            self.tty.flush_input();
        }
        if slave_output {
            self.tty.flush_output();
        }
        Ok(0)
    }

    fn flow(&self, action: usize) -> Result<usize> {
        let termios = self.tty.termios();
        match action as u32 {
            TCOOFF => self.tty.set_flow(Flow::Stopped),
            TCOON => self.tty.set_flow(Flow::Running),
            TCIOFF | TCION => {
                let index = if action as u32 == TCIOFF { VSTOP } else { VSTART };
                let byte = termios.control_character(index);
                if byte != linnet_lib::ldisc::DISABLED {
                    self.tty.send_urgent(byte);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    fn other(&self, command: u32, argument: usize) -> Result<usize> {
        match command {
            TIOCGWINSZ => put(argument, &self.tty.window()),
            TIOCSWINSZ => {
                self.tty.set_window(get(argument)?);
                Ok(0)
            }
            FIONREAD => {
                let count = match self.side {
                    Side::Slave => self.tty.readable_bytes(),
                    Side::Master => self.tty.output_len(),
                };
                put(argument, &(count as i32))
            }
            TIOCOUTQ => {
                let count = if self.tty.is_pseudo() { 0 } else { self.tty.output_len() };
                put(argument, &(count as i32))
            }
            TIOCEXCL | TIOCNXCL => {
                self.tty.exclusive().store(command == TIOCEXCL, Ordering::Relaxed);
                Ok(0)
            }
            TIOCGEXCL => put(argument, &i32::from(self.tty.exclusive().load(Ordering::Relaxed))),
            TIOCGETD => put(argument, &0i32),
            TIOCSETD => match get::<i32>(argument)? {
                0 => Ok(0),
                _ => Err(Errno::EINVAL),
            },
            TIOCSTI => self.simulate_input(argument),
            TIOCVHANGUP => {
                if !job_control().caller_has(Capability::SysAdmin) {
                    return Err(Errno::EPERM);
                }
                self.tty.hang_up();
                Ok(0)
            }
            TIOCGDEV => put(argument, &(self.tty.device_id().encode() as u32)),
            TIOCGSOFTCAR => put(argument, &i32::from(self.tty.termios().c_cflag & CLOCAL != 0)),
            TIOCSSOFTCAR => self.set_local(argument),
            _ => Err(Errno::ENOTTY),
        }
    }

    /// `TIOCSTI` as on a Linux with `dev.tty.legacy_tiocsti=0`.
    fn simulate_input(&self, argument: usize) -> Result<usize> {
        if !job_control().caller_has(Capability::SysAdmin) {
            return Err(Errno::EIO);
        }
        let byte: u8 = get(argument)?;
        self.tty.input(&[byte]);
        Ok(0)
    }

    fn set_local(&self, argument: usize) -> Result<usize> {
        let local: i32 = get(argument)?;
        let mut termios = self.tty.termios();
        termios.c_cflag = if local != 0 { termios.c_cflag | CLOCAL } else { termios.c_cflag & !CLOCAL };
        self.tty.set_termios(termios);
        Ok(0)
    }
}
