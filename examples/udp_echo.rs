//! An echo server for datagrams: each one is answered with `GOT:` and the same again.
//!
//! ```text
//! terminal 1: cargo run --example udp_echo -- 127.0.0.1:25000
//! terminal 2: nc -u 127.0.0.1 25000
//! ```
//! Type `Hello` in terminal 2, and `GOT:Hello` comes back. Another port than 25000 does as well.
//!
//! The library knows nothing of datagrams, and need not: whatever has a descriptor can be waited for. One socket serves all
//! clients, so there is one task, which receives one datagram per resume. In an `async fn` the same wait is
//! `fdtask::future::readable_fd(&handle, &socket).await?`.
//!
//! What would be an error of one client must not concern the others, so an answer that cannot be sent is dropped, as the
//! network may do with any datagram at any time. What begins with `GOT:` is not answered: it is the answer of another echo,
//! and the two would entertain each other for ever. (Anyone can put your address on a datagram. A UDP server that faces the
//! internet should never answer with more bytes than it was asked with, unless it knows the client.)

use fdtask::{Context, Scheduler, Task, Wait, reason};
use std::borrow::Cow;
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

/// What each answer begins with.
const PREFIX: &[u8] = b"GOT:";

/// How long to wait when receiving fails, which is the system's trouble and passes.
const TROUBLE_PAUSE: Duration = Duration::from_millis(100);

/// Answers datagrams.
struct UdpEcho {
    socket: UdpSocket,
    address: SocketAddr,
    answered: u64,
    dropped: u64,
}

impl UdpEcho {
    fn bind(address: SocketAddr) -> io::Result<UdpEcho> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(UdpEcho { address: socket.local_addr()?, socket, answered: 0, dropped: 0 })
    }
}

impl Task for UdpEcho {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let wait = Wait::Recv(self.socket.as_raw_fd());
        // No datagram carries more than 65,527 bytes, and there is room for 65,532 behind the prefix.
        let buffer = cx.scratch();
        let (prefix, data) = buffer.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX);
        let (len, peer) = match self.socket.recv_from(data) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(wait),
            Err(_) => return Ok(Wait::Until(cx.now() + TROUBLE_PAUSE)),
        };
        let is_answered =
            !data[..len].starts_with(PREFIX) && self.socket.send_to(&buffer[..PREFIX.len() + len], peer).is_ok();
        *if is_answered { &mut self.answered } else { &mut self.dropped } += 1;
        Ok(wait)
    }

    fn name(&self) -> Cow<'_, str> {
        format!("udp echo {}", self.address).into()
    }

    fn progress(&self) -> Cow<'_, str> {
        format!("{} answered, {} dropped", self.answered, self.dropped).into()
    }
}

fn arguments() -> Option<SocketAddr> {
    let mut addresses = std::env::args_os().skip(1).map(|text| text.to_str()?.parse().ok());
    let address = addresses.next()??;
    addresses.next().is_none().then_some(address)
}

fn main() -> ExitCode {
    let Some(address) = arguments() else {
        let _ = writeln!(io::stderr(), "usage: udp_echo ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let echo = match UdpEcho::bind(address) {
        Ok(echo) => echo,
        Err(error) => {
            let _ = writeln!(io::stderr(), "udp_echo: cannot listen on {address}: {}", reason(&error));
            return ExitCode::FAILURE;
        }
    };
    // A server whose standard output nobody reads serves all the same.
    let _ = writeln!(io::stdout(), "Listening on {}", echo.address);
    let mut scheduler = Scheduler::new();
    scheduler.spawn(echo);
    scheduler.run();
    ExitCode::SUCCESS
}
