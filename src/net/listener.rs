//! A socket that listens.

use crate::sys;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A TCP socket that listens, non-blocking.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`; with port 0 the system chooses one. `SO_REUSEADDR` is set, so that a restarted program need
    /// not wait, and the backlog is as long as the system allows (`net.core.somaxconn`). An IPv6 listener serves IPv6
    /// alone, so `0.0.0.0` and `[::]` can be listened on side by side.
    ///
    /// # Errors
    /// What `socket(2)`, `bind(2)` and `listen(2)` say: such as that the address is in use.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        Listener::from_fd(sys::listen(address, false)?)
    }

    /// `count` listeners on one address, for as many schedulers on as many threads. On Linux the kernel spreads the connections
    /// over them (`SO_REUSEPORT`); elsewhere they are clones, as from [`try_clone`](Listener::try_clone). A single one shares
    /// its address with nobody.
    ///
    /// # Errors
    /// As from [`bind`](Listener::bind).
    pub fn bind_shared(address: SocketAddr, count: usize) -> io::Result<Vec<Listener>> {
        // The first does not share until it has the port: with `SO_REUSEPORT` from the beginning a second daemon of the same user
        // would get it, too, and every other connection.
        let first = Listener::bind(address)?;
        // Elsewhere one of those that share an address gets all the connections.
        let is_spread = cfg!(target_os = "linux") && count > 1;
        if is_spread {
            sys::share_address(&first.fd)?;
        }
        let mut listeners = vec![first];
        while listeners.len() < count {
            let first = &listeners[0];
            let listen = || sys::listen(first.address, true).and_then(Listener::from_fd);
            let another = if is_spread { listen() } else { first.try_clone() };
            listeners.push(another?);
        }
        listeners.truncate(count);
        Ok(listeners)
    }

    /// One more listener on the same queue, for another scheduler: whichever is first accepts.
    ///
    /// # Errors
    /// What the system says: such as that no descriptor is left.
    pub fn try_clone(&self) -> io::Result<Listener> {
        Ok(Listener { fd: self.fd.try_clone()?, address: self.address })
    }

    /// The sockets that the service manager has opened for this process and passed to it: systemd's socket activation, by
    /// `LISTEN_FDS` and `LISTEN_PID`. None if it has not. Say it once, first thing in `main`, before C code can have opened
    /// descriptors that are not closed on exec. When it is said again, those that it has returned are passed over.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if one of them is not open (any more), or not a listening TCP socket, or if
    /// `LISTEN_FDS` does not say how many there are.
    pub fn passed() -> io::Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        for fd in sys::take_passed_listeners()? {
            listeners.push(Listener::from_fd(fd)?);
        }
        Ok(listeners)
    }

    fn from_fd(fd: OwnedFd) -> io::Result<Listener> {
        let socket = TcpListener::from(fd);
        let address = socket.local_addr()?;
        Ok(Listener { fd: socket.into(), address })
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        listener.fd
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
