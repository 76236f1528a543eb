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
//! but for one buffer per direction, so a slow reader slows down its own sender and nobody else (*backpressure*). When one end
//! says that it will send no more, the other is told so and can still answer (*half-close*); when one takes no more, for it has
//! reset the connection, what it had said before still arrives. Clients beyond the limit wait in the kernel's queue.
//!
//! Connecting is a dialogue of one step after the other, and is written as an `async fn`; moving bytes is a state machine by hand.
//! The target is a number, because looking up a name may take long; `socks5.rs` shows how to do that.

use fdtask::future::{self, linger, timeout};
use fdtask::net::{Acceptor, Limit, Listener, Stream, raise_descriptor_limit};
use fdtask::{Context, Diagnostics, Handle, Scheduler, Task, Wait, channel, reason};
use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// Fewer, if the system does not allow two descriptors for each of them beside those that the proxy itself needs.
const CLIENTS_MAX: usize = 4096;
const OWN_DESCRIPTORS: usize = 16;
/// How long the target may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that was told the end may take to close the connection.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the target, leaves the rest to a [`Tunnel`], and outlives it: this task is what the limit counts.
async fn forward(scheduler: Handle, client: Rc<Stream>, name: String, target: SocketAddr) -> io::Result<()> {
    let connecting = timeout(&scheduler, CONNECT_TIMEOUT, future::connect(&scheduler, target));
    match connecting.await.unwrap_or_else(|late| Err(late.into())) {
        Ok(server) => {
            let (alive, tunnel) = channel::channel(&scheduler, 1);
            let (up, down) = (Flow::default(), Flow::default());
            scheduler.spawn(Tunnel { name, client: Rc::clone(&client), server, up, down, _alive: alive });
            tunnel.recv().await;
        }
        // Whoever runs the proxy is told the reason now, by a task that fails with it.
        Err(error) => scheduler.spawn(future::task(async { Err(error) }).named(name)),
    }
    linger(&client, LINGER_TIMEOUT).await
}

/// A client, and its connection to the target.
struct Tunnel {
    name: String,
    client: Rc<Stream>,
    server: Stream,
    up: Flow,
    down: Flow,
    /// Says by its end that the tunnel has ended.
    _alive: channel::Sender<()>,
}

impl Task for Tunnel {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        // Both, whatever fired: if both did, only one of them is the reason, and a busy one must not keep the other waiting.
        let up = self.up.advance(&self.client, &self.server, cx.scratch())?;
        let down = self.down.advance(&self.server, &self.client, cx.scratch())?;
        match (up, down) {
            (Wait::Done, Wait::Done) => self.up.failure.take().or(self.down.failure.take()).map_or(Ok(up), Err),
            (Wait::Done, wait) | (wait, Wait::Done) => Ok(wait),
            (up, down) => {
                cx.or(up);
                Ok(down)
            }
        }
    }

    fn name(&self) -> Cow<'_, str> {
        self.name.as_str().into()
    }
}

/// One direction of a tunnel.
#[derive(Default)]
struct Flow {
    /// What has been received and not been sent yet. While there is any, nothing more is received; idle, it has no memory.
    unsent: Vec<u8>,
    has_ended: bool,
    failure: Option<io::Error>,
}

impl Flow {
    /// Moves one buffer's worth, as far as it goes, and says what to wait for. A failure to send ends this direction alone:
    /// what `to` had said before it reset the connection is still there to be received. So an `Err` is one of receiving.
    fn advance(&mut self, from: &Stream, to: &Stream, buffer: &mut [u8]) -> io::Result<Wait> {
        if self.has_ended {
            return Ok(Wait::Done);
        }
        let mut bytes = &self.unsent[..];
        if bytes.is_empty() {
            match from.recv(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Wait::Recv(from.as_raw_fd())),
                Ok(0) => return Ok(self.end(to, None)),
                received => bytes = &buffer[..received?],
            }
        }
        self.unsent = match to.send(bytes) {
            Ok(sent) => bytes[sent..].to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => bytes.to_vec(),
            Err(error) => return Ok(self.end(to, Some(error))),
        };
        Ok(if self.unsent.is_empty() { Wait::Recv(from.as_raw_fd()) } else { Wait::Send(to.as_raw_fd()) })
    }

    fn end(&mut self, to: &Stream, failure: Option<io::Error>) -> Wait {
        let told = to.shutdown_send();
        self.has_ended = true;
        self.failure = failure.or(told.err());
        Wait::Done
    }
}

fn serve(address: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    scheduler.observe(Diagnostics::to_stderr(&handle, "proxy")?);
    let listener = Listener::bind(address)?;
    let room = raise_descriptor_limit(OWN_DESCRIPTORS + 2 * CLIENTS_MAX)?.saturating_sub(OWN_DESCRIPTORS) / 2;
    println!("Listening on {}", listener.address());
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        let name = format!("tunnel {peer} to {target}");
        future::task(forward(handle.clone(), Rc::new(client), name.clone(), target)).named(name)
    });
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(room.clamp(1, CLIENTS_MAX)))));
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
