//! What the calls on an Internet socket's descriptor do. Locks: those of what is called.

use abi::errno::{Errno, Result};
use abi::inet::{SOCKADDR_IN6_OLD, SockaddrIn};
use abi::poll::PollEvents;
use abi::socket::{AF_INET, AF_UNSPEC, SIOCINQ, SIOCOUTQ};
use alloc::sync::Arc;
use mm::user::UserPtr;
use vfs::PollTable;

use super::address::{Endpoint, Given, needs_scope, parse};
use super::socket::InetSocket;
use super::{bind, membership, options, receive, send};
use crate::message::{ReceiveMessage, SendMessage, SocketAddress};
use crate::options::Switches;
use crate::socket::{Shutdown, Socket, SocketOperations};

/// The socket of one descriptor.
pub(super) struct Operations(Arc<InetSocket>);

impl Operations {
    pub(super) fn new(socket: Arc<InetSocket>) -> Operations {
        Operations(socket)
    }

    fn shown(&self, mut endpoint: Endpoint) -> SocketAddress {
        let bound = self.0.core().options.bound_interface();
        if needs_scope(endpoint.address) && endpoint.scope == 0 {
            endpoint.scope = bound as u32;
        }
        endpoint.to_socket_address(self.0.core().family())
    }
}

/// An address to bind to: of the socket's own family. An IPv4 one may leave its family out if it is no address.
fn parse_own(socket: &InetSocket, address: &SocketAddress) -> Result<Endpoint> {
    let family = socket.core().family();
    let bytes = address.as_bytes();
    let least = if socket.is_v6() { SOCKADDR_IN6_OLD } else { size_of::<SockaddrIn>() };
    if bytes.len() < least {
        return Err(Errno::EINVAL);
    }
    let given = u32::from(address.family().ok_or(Errno::EINVAL)?);
    if given == u32::from(family) {
        return match parse(family, address)? {
            Given::Endpoint(endpoint) => Ok(endpoint),
            Given::Unspecified => Err(Errno::EAFNOSUPPORT),
        };
    }
    let is_nothing = given == AF_UNSPEC && !socket.is_v6() && bytes.get(4..8) == Some(&[0; 4]);
    if !is_nothing {
        return Err(Errno::EAFNOSUPPORT);
    }
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    Ok(Endpoint::new(super::address::any(AF_INET as u16), port))
}

impl SocketOperations for Operations {
    fn bind(&self, _socket: &Socket, address: &SocketAddress) -> Result<()> {
        bind::bind(&self.0, &parse_own(&self.0, address)?)
    }

    fn connect(&self, _socket: &Socket, address: &SocketAddress, _nonblocking: bool) -> Result<()> {
        let family = address.family().ok_or(Errno::EINVAL)?;
        if u32::from(family) == AF_UNSPEC {
            return bind::disconnect(&self.0);
        }
        let is_v6_only = self.0.is_v6() && self.0.settings().has(super::settings::Flag::V6_ONLY);
        if is_v6_only && u32::from(family) == AF_INET {
            return Err(Errno::EAFNOSUPPORT);
        }
        match parse(self.0.core().family(), address)? {
            Given::Endpoint(endpoint) => bind::connect(&self.0, &endpoint),
            Given::Unspecified => bind::disconnect(&self.0),
        }
    }

    fn local_address(&self, _socket: &Socket) -> Result<SocketAddress> {
        let endpoints = self.0.endpoints();
        let address = if endpoints.local.is_unspecified() { endpoints.source } else { endpoints.local };
        Ok(self.shown(Endpoint::new(address, endpoints.port)))
    }

    fn peer_address(&self, _socket: &Socket) -> Result<SocketAddress> {
        let remote = self.0.endpoints().remote.ok_or(Errno::ENOTCONN)?;
        if remote.port == 0 {
            return Err(Errno::ENOTCONN);
        }
        Ok(self.shown(remote))
    }

    fn send(&self, _socket: &Socket, message: &mut SendMessage<'_>) -> Result<usize> {
        send::send(&self.0, message)
    }

    fn receive(&self, _socket: &Socket, message: &mut ReceiveMessage<'_>) -> Result<usize> {
        match receive::receive(&self.0, message) {
            // Nothing more comes.
            Err(Errno::ESHUTDOWN) => Ok(0),
            other => other,
        }
    }

    fn shutdown(&self, _socket: &Socket, how: Shutdown) -> Result<()> {
        // As on Linux it takes effect although it fails where nothing is connected.
        self.0.core().add_shutdown(how);
        self.0.core().wake_all();
        if self.0.endpoints().remote.is_some() { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    fn set_option(&self, _socket: &Socket, level: i32, name: i32, value: &[u8]) -> Result<()> {
        options::set(&self.0, level as u32, name, value)
    }

    fn get_option(&self, _socket: &Socket, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        options::get(&self.0, level as u32, name, value)
    }

    fn ioctl(&self, _socket: &Socket, command: u32, argument: usize) -> Result<usize> {
        let value = match command {
            SIOCOUTQ => self.0.core().send_charged() as i32,
            SIOCINQ => self.0.queue.first_length() as i32,
            _ if u32::from(self.0.core().family()) == abi::socket::AF_INET6 => {
                return crate::ip::ioctl::inet6(self.0.core().namespace(), command, argument);
            }
            _ => return crate::ip::ioctl::inet(self.0.core().namespace(), command, argument),
        };
        UserPtr::new(argument).write(&value)?;
        Ok(0)
    }

    fn binding_changed(&self, _socket: &Socket) -> Result<()> {
        bind::options_changed(&self.0)
    }

    fn poll(&self, _socket: &Socket, table: &mut PollTable<'_>) -> PollEvents {
        let core = self.0.core();
        table.register(core.readable());
        table.register(core.writable());
        let mut events = PollEvents::empty();
        let has_errors = !self.0.errors.is_empty();
        if core.has_error() || has_errors {
            events |= PollEvents::ERR;
            if core.options.has(Switches::SELECT_ERR_QUEUE) {
                events |= PollEvents::PRI;
            }
        }
        if core.is_receive_shut() {
            events |= PollEvents::READABLE | PollEvents::RDHUP;
        }
        if core.is_shut() {
            events |= PollEvents::HUP;
        }
        if !self.0.queue.is_empty() {
            events |= PollEvents::READABLE;
        }
        // Half of the buffer is free (`sock_writeable`).
        if core.send_charged() * 2 < core.options.send_buffer() {
            events |= PollEvents::WRITABLE | PollEvents::WRBAND;
        }
        events
    }

    fn release(&self, _socket: &Socket) {
        let socket = &self.0;
        bind::close(socket);
        membership::leave_all(socket);
        socket.core().namespace().inet().forget(socket.number());
        drop(socket.queue.close());
        drop(socket.errors.close());
        let corked = socket.cork.lock().take();
        drop(corked);
    }
}

impl Drop for Operations {
    /// A socket that never got a descriptor is closed here.
    fn drop(&mut self) {
        bind::close(&self.0);
        self.0.core().namespace().inet().forget(self.0.number());
    }
}
