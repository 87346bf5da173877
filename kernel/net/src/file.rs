//! A socket as an open file: read(2), write(2), poll(2), ioctl(2), close(2) on its descriptor.
//!
//! Locks: none; those of the family's operations.

use abi::errno::{Errno, Result};
use abi::ioctl::{FIOASYNC, FIOGETOWN, FIOSETOWN, SIOCGPGRP, SIOCSPGRP};
use abi::poll::PollEvents;
use alloc::sync::Arc;
use mm::io::{IoReader, IoWriter};
use mm::user::UserPtr;
use vfs::file::SignalOwner;
use vfs::{File, FileOperations, PollTable, Positioning};

use crate::message::{Ancillary, MessageFlags, ReceiveMessage, SendMessage, SocketAddress};
use crate::options::Switches;
use crate::socket::Socket;

/// `DONTWAIT` for a description that does not block.
pub fn blocking_flags(file: &File) -> MessageFlags {
    if file.is_nonblocking() { MessageFlags::DONTWAIT } else { MessageFlags::empty() }
}

impl FileOperations for Socket {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        // As in System V: reading nothing gives nothing, also where a message would have been taken.
        if to.remaining() == 0 {
            return Ok(0);
        }
        let mut message = ReceiveMessage::new(to, blocking_flags(file));
        self.operations().receive(self, &mut message)
    }

    fn write(&self, file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        let mut message = SendMessage {
            address: SocketAddress::NONE,
            data: from,
            ancillary: Ancillary::default(),
            flags: blocking_flags(file),
        };
        self.operations().send(self, &mut message)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<usize> {
        match command {
            FIOSETOWN | SIOCSPGRP => {
                let id = UserPtr::<i32>::new(argument).read()?;
                let signal = file.signal_owner().signal;
                file.set_signal_owner(SignalOwner { signal, ..SignalOwner::from_number(id)? });
                Ok(0)
            }
            FIOGETOWN | SIOCGPGRP => {
                UserPtr::new(argument).write(&file.signal_owner().as_number())?;
                Ok(0)
            }
            FIOASYNC => {
                let on = UserPtr::<i32>::new(argument).read()? != 0;
                self.core().options.switch(Switches::ASYNC, on);
                Ok(0)
            }
            _ => match self.operations().ioctl(self, command, argument) {
                Err(Errno::ENOIOCTLCMD) => crate::device::ioctl::ioctl(self.namespace(), command, argument),
                other => other,
            },
        }
    }

    fn map(&self, file: &Arc<File>) -> Result<Arc<dyn mm::MappedFile>> {
        self.operations().map(self, file)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        self.operations().poll(self, table)
    }

    fn release(&self, _file: &File) {
        self.operations().release(self);
    }
}
