//! A TCP port forwarder: whoever connects here talks to the target there.
//!
//! ```text
//! terminal 1: python3 -m http.server 8000 --bind 127.0.0.1
//! terminal 2: cargo run --release --example proxy -- 127.0.0.1:8080 127.0.0.1:8000
//! terminal 3: curl http://127.0.0.1:8080/
//! ```
//! Terminal 3 shows what the server in terminal 1 has to show. End that server and ask again: terminal 2 says for whom the
//! target could not be reached, and why, and curl that it got an empty reply. (The end of the stream, and never a reset: what
//! the client has sent meanwhile is received and dropped until it closes, because closing with something unread resets.)
//!
//! Both directions of a connection move at once. What one end sends and the other does not take yet stays in the kernel,
//! but for one buffer per direction, so a slow reader slows down its own sender and nobody else (*backpressure*); and when
//! one end says that it will send no more, the other is told so and can still answer (*half-close*).
//!
//! The target is a number, because looking up a name may take long; `socks5.rs` shows how to do that.

use fdtask::net::{Acceptor, Listener, Stream};
use fdtask::{Context, End, Log, Observer, Scheduler, Task, TaskId, Wait, reason};
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the target may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client whose target cannot be reached may take to close the connection.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// A client, and its connection to the target.
struct Tunnel {
    client: Stream,
    peer: SocketAddr,
    target: SocketAddr,
    state: State,
    up: Flow,
    down: Flow,
}

enum State {
    New,
    Connecting(Stream),
    /// Both are there, and what each sends goes to the other.
    Open(Stream),
    /// The target cannot be reached, and the client, which has been told the end, may take until then to close.
    Unreachable(Instant),
}

impl Tunnel {
    /// Moves on to the next state, if it is time for it.
    fn connect(&mut self, cx: &mut Context<'_>) -> io::Result<State> {
        Ok(match std::mem::replace(&mut self.state, State::New) {
            State::New => State::Connecting(Stream::connect(cx, self.target)?),
            State::Connecting(_) if cx.timed_out() => return Err(io::ErrorKind::TimedOut.into()),
            State::Connecting(server) => server.connected().map(|()| State::Open(server))?,
            state => state,
        })
    }

    /// Receives what the client has to say to nobody.
    fn linger(&self, cx: &mut Context<'_>, until: Instant) -> io::Result<Wait> {
        match self.client.recv(cx.scratch()) {
            Ok(0) => return Ok(Wait::Done),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ if cx.now() >= until => return Ok(Wait::Done),
            _ => {}
        }
        cx.or(Wait::Until(until));
        Ok(Wait::Recv(self.client.as_raw_fd()))
    }
}

impl Task for Tunnel {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.state = match self.connect(cx) {
            Ok(state) => state,
            Err(error) => {
                cx.report(&format!("{}: {}", self.name(), reason(&error)));
                self.client.shutdown_send()?;
                State::Unreachable(cx.now() + LINGER_TIMEOUT)
            }
        };
        let server = match &self.state {
            State::New => return Ok(Wait::Turn),
            State::Connecting(server) => {
                cx.or(Wait::Until(cx.now() + CONNECT_TIMEOUT));
                return Ok(Wait::Send(server.as_raw_fd()));
            }
            State::Unreachable(until) => return self.linger(cx, *until),
            State::Open(server) => server,
        };
        // Both are tried, whatever fired: if both did, only one of them is the reason for this resume, and a direction that
        // is always busy must not keep the other one waiting.
        let up = self.up.advance(&self.client, server, cx.scratch())?;
        let down = self.down.advance(server, &self.client, cx.scratch())?;
        Ok(match (up, down) {
            (Wait::Done, wait) | (wait, Wait::Done) => wait,
            (up, down) => {
                cx.or(up);
                down
            }
        })
    }

    fn name(&self) -> Cow<'_, str> {
        format!("tunnel {} to {}", self.peer, self.target).into()
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
            match from.recv(buffer) {
                Ok(0) => {
                    self.has_ended = true;
                    to.shutdown_send()?;
                    return Ok(Wait::Done);
                }
                Ok(received) => {
                    let sent = send(to, &buffer[..received])?;
                    self.unsent = buffer[sent..received].to_vec();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        } else {
            let sent = send(to, &self.unsent)?;
            self.unsent.drain(..sent);
        }
        if self.unsent.is_empty() {
            // An idle connection holds no memory.
            self.unsent = Vec::new();
            return Ok(Wait::Recv(from.as_raw_fd()));
        }
        Ok(Wait::Send(to.as_raw_fd()))
    }
}

/// Sends what there is room for.
fn send(to: &Stream, bytes: &[u8]) -> io::Result<usize> {
    match to.send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// Says on standard error what has failed, without ever waiting for somebody to read it.
struct Journal(Log);

impl Observer for Journal {
    fn reported(&mut self, _id: TaskId, message: &str) {
        self.0.line(&format!("proxy: {message}"));
    }

    fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, task: &dyn Task, end: &End) {
        if let End::Failed(error) = end {
            self.0.line(&format!("proxy: {}: {}", task.name(), reason(error)));
        }
    }
}

fn serve(address: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", io::stderr().as_fd().try_clone_to_owned()?);
    scheduler.spawn_service(writer);
    scheduler.observe(Journal(log));
    let listener = Listener::bind(address)?;
    println!("Listening on {}", listener.address());
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        let (up, down) = (Flow::default(), Flow::default());
        Tunnel { client, peer, target, state: State::New, up, down }
    }));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn arguments() -> Option<(SocketAddr, SocketAddr)> {
    let mut addresses = std::env::args_os().skip(1).map(|text| text.to_str()?.parse().ok());
    let both = (addresses.next()??, addresses.next()??);
    addresses.next().is_none().then_some(both)
}

fn main() -> ExitCode {
    let Some((address, target)) = arguments() else {
        eprintln!("usage: proxy LISTEN_ADDRESS:PORT TARGET_ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let Err(error) = serve(address, target) else { return ExitCode::SUCCESS };
    eprintln!("proxy: cannot listen on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
