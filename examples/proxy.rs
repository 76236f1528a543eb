//! A TCP port forwarder: whoever connects here talks to the target there.
//!
//! ```text
//! terminal 1: python3 -m http.server 8000 --bind 127.0.0.1
//! terminal 2: cargo run --release --example proxy -- 127.0.0.1:8080 127.0.0.1:8000
//! terminal 3: curl http://127.0.0.1:8080/
//! ```
//! Terminal 3 shows what the server in terminal 1 has to show. End that server and ask again: terminal 2 says for whom the
//! target could not be reached, and why, and `curl` says that the reply was empty: it has been sent the end of the stream.
//!
//! Both directions of a connection move at once. What one end sends and the other does not take yet stays in the kernel,
//! but for one buffer per direction, so a slow reader slows down its own sender and nobody else (*backpressure*); and when
//! one end says that it will send no more, the other is told so and can still answer (*half-close*).
//!
//! Connecting is a dialogue of one step after the other, and is written as an `async fn`; moving bytes is a state machine by hand.
//! The target is a number, because looking up a name may take long; `socks5.rs` shows how to do that.

use fdtask::future::{self, linger, timeout};
use fdtask::net::{Acceptor, Listener, Stream};
use fdtask::{Context, Diagnostics, Handle, Scheduler, Task, Wait, reason};
use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

/// How long the target may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client whose target cannot be reached may take to close the connection.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the target, and leaves the rest to a [`Tunnel`].
async fn connect(scheduler: Handle, client: Stream, name: String, target: SocketAddr) -> io::Result<()> {
    let connecting = timeout(&scheduler, CONNECT_TIMEOUT, future::connect(&scheduler, target));
    match connecting.await.unwrap_or_else(|late| Err(late.into())) {
        Ok(server) => {
            scheduler.spawn(Tunnel { name, client, server, up: Flow::default(), down: Flow::default() });
            Ok(())
        }
        Err(error) => {
            // The client is told the end by another task, and whoever runs the proxy is told the reason now.
            scheduler.spawn(future::task(async move { linger(&client, LINGER_TIMEOUT).await }).named(name));
            Err(error)
        }
    }
}

/// A client, and its connection to the target.
struct Tunnel {
    name: String,
    client: Stream,
    server: Stream,
    up: Flow,
    down: Flow,
}

impl Task for Tunnel {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        // Both are tried, whatever fired: if both did, only one of them is the reason for this resume, and a direction that
        // is always busy must not keep the other one waiting.
        let up = self.up.advance(&self.client, &self.server, cx.scratch())?;
        let down = self.down.advance(&self.server, &self.client, cx.scratch())?;
        Ok(match (up, down) {
            (Wait::Done, wait) | (wait, Wait::Done) => wait,
            (up, down) => {
                cx.or(up);
                down
            }
        })
    }

    fn name(&self) -> Cow<'_, str> {
        self.name.as_str().into()
    }
}

/// One direction of a tunnel.
#[derive(Default)]
struct Flow {
    /// What has been received and not been sent yet. While there is any, nothing more is received.
    unsent: Vec<u8>,
    has_ended: bool,
}

impl Flow {
    /// Moves one buffer's worth, as far as it goes, and says what to wait for.
    fn advance(&mut self, from: &Stream, to: &Stream, buffer: &mut [u8]) -> io::Result<Wait> {
        if self.has_ended {
            return Ok(Wait::Done);
        }
        if self.unsent.is_empty() {
            let Some(received) = unless_it_would_block(from.recv(buffer))? else {
                return Ok(Wait::Recv(from.as_raw_fd()));
            };
            if received == 0 {
                self.has_ended = true;
                to.shutdown_send()?;
                return Ok(Wait::Done);
            }
            let sent = unless_it_would_block(to.send(&buffer[..received]))?.unwrap_or(0);
            self.unsent = buffer[sent..received].to_vec();
        } else {
            let sent = unless_it_would_block(to.send(&self.unsent))?.unwrap_or(0);
            // An idle connection holds no memory.
            self.unsent = self.unsent.split_off(sent);
        }
        Ok(if self.unsent.is_empty() { Wait::Recv(from.as_raw_fd()) } else { Wait::Send(to.as_raw_fd()) })
    }
}

fn unless_it_would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}

fn serve(address: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    scheduler.observe(Diagnostics::to_stderr(&scheduler.handle(), "proxy")?);
    let listener = Listener::bind(address)?;
    println!("Listening on {}", listener.address());
    let handle = scheduler.handle();
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        let name = format!("tunnel {peer} to {target}");
        future::task(connect(handle.clone(), client, name.clone(), target)).named(name)
    }));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|text| text.to_str()?.parse().ok()).collect();
    let [Some(address), Some(target)] = arguments[..] else {
        eprintln!("usage: proxy LISTEN_ADDRESS:PORT TARGET_ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let Err(error) = serve(address, target) else { return ExitCode::SUCCESS };
    eprintln!("proxy: cannot listen on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
