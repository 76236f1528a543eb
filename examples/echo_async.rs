//! The echo server as an `async fn`: the daemon's echo, with its draining and its idle timeout, written by the compiler.
//!
//! ```text
//! terminal 1: cargo run --example echo_async -- --idle-timeout 60
//! terminal 2: telnet localhost 25000
//! ```
//! What you type in terminal 2 comes back behind `GOT:`; type nothing for 60 to 75 seconds, and you are let go. Ctrl-C in
//! terminal 1 ends the server when every client has its answers and has hung up, in ten seconds at most; a second one, at once.

use fdtask::future::{self, Source, next_signal, next_turn, race, readable, recv, send_all, sleep, timeout};
use fdtask::net::{self, Acceptor, ECHO_PREFIX, Futile, Listener, RECV_CHUNK_BYTES, Stream, try_again};
use fdtask::{Diagnostics, Scheduler, Signal, Signals, channel::channel, reason};
use std::{cell::Cell, cell::RefCell, io, io::Write, net::SocketAddr, process::ExitCode, rc::Rc, time::Duration};

struct Client {
    stream: Stream,
    /// All share one: nobody needs it while he waits, and a local that outlives an `await` is part of each connection's memory.
    buffer: Rc<RefCell<[u8; ECHO_PREFIX.len() + RECV_CHUNK_BYTES]>>,
    chunks: Cell<u64>, // that it has sent
    futile: Cell<Futile>,
}

/// `def echo_handler(client, address):` Answers until the client ends the stream, or a drain begins. What is rare is in a box.
async fn echo(client: Rc<Client>, idle_timeout: Option<Duration>) -> io::Result<()> {
    if let Some(timeout) = idle_timeout {
        return Box::pin(race(Box::pin(echo(Rc::clone(&client), None)), client.be_idle(timeout))).await;
    }
    let mut ready = readable(&client.stream).until_drain(); // One for all messages: to make one for each costs more.
    // yield 'recv', client
    while (&mut ready).await.transpose()?.is_some() {
        let Some((received, sent)) = client.answer()? else { return Ok(()) }; // if not data: break
        if sent < ECHO_PREFIX.len() + received {
            Box::pin(client.catch_up(received, sent)).await?; // yield 'send', client
        }
    }
    Box::pin(client.leave()).await
}

impl Client {
    /// Answers what has come, up to a chunk: how much that was, and how much of the answer has gone. Nothing at the end.
    #[inline]
    fn answer(&self) -> io::Result<Option<(usize, usize)>> {
        let buffer = &mut *self.buffer.borrow_mut();
        let received = match self.stream.recv(&mut buffer[ECHO_PREFIX.len()..]) {
            Ok(0) => return Ok(None),
            Err(error) if try_again(&error) => return Ok(Some((0, 0))),
            received => received?, // data = client.recv(1000)
        };
        self.chunks.set(self.chunks.get() + 1);
        self.futile.take();
        let sent = self.stream.send(&buffer[..ECHO_PREFIX.len() + received]); // client.send(b'GOT:' + data)
        Ok(Some((received, sent.or_else(|error| if try_again(&error) { Ok(0) } else { Err(error) })?)))
    }

    /// Sends the rest of an answer, which nobody has written over yet. If nothing could be received, pauses, but not at first.
    async fn catch_up(&self, received: usize, sent: usize) -> io::Result<()> {
        if received == 0 {
            let mut futile = self.futile.take();
            futile.pause(&self.stream).await;
            self.futile.set(futile);
            return Ok(());
        }
        let rest = self.buffer.borrow()[sent..ECHO_PREFIX.len() + received].to_vec();
        send_all(&self.stream, &rest).await
    }

    /// A drain has begun: answers what has come, ends the stream, and reads to its end. To close earlier may destroy answers.
    async fn leave(&self) -> io::Result<()> {
        if self.chunks.get() == 0 {
            // It has only just connected, and its question may be on its way.
            let _ = timeout(&self.stream.descriptor().scheduler(), net::DRAIN_GRACE, readable(&self.stream)).await;
        }
        let mut budget = self.stream.recv_queue_bytes() + net::DRAIN_BYTES_MAX;
        while budget > 0 && self.stream.recv_queue_bytes() > 0 {
            let Some((received, sent)) = self.answer()? else { break };
            if sent < ECHO_PREFIX.len() + received {
                self.catch_up(received, sent).await?;
            }
            budget = budget.saturating_sub(received);
            next_turn().await;
        }
        self.stream.shutdown_send()?;
        while recv(&self.stream, &mut [0; RECV_CHUNK_BYTES]).await? > 0 {
            self.chunks.set(self.chunks.get() + 1);
        }
        Ok(())
    }

    /// Ends when nothing has moved for so long, or a quarter more: neither has something come, nor was what was sent taken.
    async fn be_idle(&self, timeout: Duration) -> io::Result<()> {
        let (mut before, mut looks) = ((0, usize::MAX), 0); // What has come counts, though polls are refused, if all was taken.
        while looks < 4 || self.stream.send_queue_bytes() == 0 && self.stream.recv_queue_bytes() > 0 {
            sleep(&self.stream.descriptor().scheduler(), timeout / 4).await;
            let now = (self.chunks.get(), self.stream.send_queue_bytes());
            (looks, before) = (if now.0 > before.0 || now.1 < before.1 { 0 } else { looks + 1 }, now);
        }
        Ok(())
    }
}

fn run(listen: SocketAddr, idle_timeout: Option<Duration>, drain_timeout: Duration) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    scheduler.observe(Diagnostics::to_stderr(&handle, "echo_async")?);
    let signals = Signals::new(&handle, &[Signal::Interrupt, Signal::Terminate])?;
    let listener = Listener::bind(listen)?;
    let _ = writeln!(io::stdout(), "Listening on {}", listener.address());
    let buffer = Rc::new(RefCell::new([0; ECHO_PREFIX.len() + RECV_CHUNK_BYTES]));
    buffer.borrow_mut()[..ECHO_PREFIX.len()].copy_from_slice(ECHO_PREFIX);
    let ((listening, deaf), is_told) = (channel::<()>(&handle, 1), Rc::new(Cell::new(false))); // The acceptor may break.
    scheduler.spawn(Acceptor::new(&handle, listener, move |stream, _| {
        let (_, buffer, chunks, futile) = (&listening, Rc::clone(&buffer), Cell::default(), Cell::default());
        future::task(echo(Rc::new(Client { stream, buffer, chunks, futile }), idle_timeout))
    }));
    let told = Rc::clone(&is_told);
    scheduler.spawn_service(future::task(async move {
        told.set(race(async { next_signal(&signals).await.is_ok() }, async { deaf.recv().await.is_some() }).await);
        handle.drain(handle.now() + drain_timeout);
        next_signal(&signals).await.map(|_| handle.stop())
    }));
    scheduler.run();
    if is_told.get() { Ok(()) } else { Err(io::Error::other("nobody is accepted any more")) }
}

fn options() -> Option<(SocketAddr, Option<Duration>, Duration)> {
    let mut options = ("0.0.0.0:25000".parse().ok()?, None, Duration::from_secs(10));
    // What is longer than a century or so is no time to wait, and may be more than a clock can show.
    let seconds = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok().filter(|t| t.as_secs() < 1 << 32);
    let args = std::env::args_os().skip(1).map(|arg| arg.into_string().ok()).collect::<Option<Vec<String>>>()?;
    for option in args.chunks(2) {
        match [option[0].as_str(), option.get(1)?] {
            ["--listen", address] => options.0 = address.parse().ok()?,
            ["--idle-timeout", time] => options.1 = Some(seconds(time).filter(|time| !time.is_zero())?),
            ["--drain-timeout", time] => options.2 = seconds(time)?,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some((listen, idle_timeout, drain_timeout)) = options() else {
        let usage = "usage: echo_async [--listen ADDRESS:PORT] [--idle-timeout SECONDS] [--drain-timeout SECONDS]";
        let _ = writeln!(io::stderr(), "{usage}");
        return ExitCode::from(2);
    };
    let Err(error) = run(listen, idle_timeout, drain_timeout) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "echo_async: cannot serve {listen}: {}", reason(&error));
    ExitCode::FAILURE
}
