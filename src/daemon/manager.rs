//! What the service manager is told: that the daemon is ready, and that it is stopping (`sd_notify(3)`).

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The daemon listens.
pub const READY: &str = "READY=1";

/// The daemon has begun to drain.
pub const STOPPING: &str = "STOPPING=1";

/// The service manager, if there is one that wants to be told (`NOTIFY_SOCKET`).
pub struct Manager(Option<(UnixDatagram, SocketAddr)>);

impl Manager {
    /// The one that the environment names.
    ///
    /// # Errors
    /// The name is no socket's, or no socket can be made.
    pub fn from_environment() -> io::Result<Manager> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Manager(None));
        };
        let address = match name.as_bytes() {
            // An abstract name, which no file stands for.
            #[cfg(target_os = "linux")]
            [b'@', rest @ ..] => {
                use std::os::linux::net::SocketAddrExt;
                SocketAddr::from_abstract_name(rest)?
            }
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not listen is not waited for.
        socket.set_nonblocking(true)?;
        Ok(Manager(Some((socket, address))))
    }

    /// Tells it this, if there is one.
    ///
    /// # Errors
    /// It could not be told.
    pub fn tell(&self, news: &str) -> io::Result<()> {
        match &self.0 {
            Some((socket, address)) => socket.send_to_addr(news.as_bytes(), address).map(drop),
            None => Ok(()),
        }
    }
}
