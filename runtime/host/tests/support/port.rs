//! A port for a server under test.

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

/// A port of this computer that the system gives to nobody else while this is there, so that a program under test can be stopped
/// and started on it again, and tests that run at the same time do not get the same one.
///
/// The socket is bound and does not listen, which leaves the port to programs that say which they want and reuse addresses, as
/// all servers do.
pub struct Port(OwnedFd);

impl Port {
    pub fn new() -> Port {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        Port(socket)
    }

    pub fn number(&self) -> u16 {
        SocketAddr::try_from(getsockname(&self.0).unwrap())
            .unwrap()
            .port()
    }
}
