//! The echo server as an `async fn`: the same server as the daemon, written by the compiler.
//!
//! ```text
//! terminal 1: cargo run --example echo_async
//! terminal 2: nc localhost 25000
//! ```
//! What you type in terminal 2 comes back behind `GOT:`. Another address is given as the argument: `127.0.0.1:0`, say.
//!
//! The seed's handler is a generator, and the daemon's (`src/net/echo.rs`) a state machine written by hand. Here it is an
//! `async fn`, whose state machine is the compiler's. All three have the same five lines in the middle; see `fdtask::guide`.

use fdtask::Scheduler;
use fdtask::future::{self, readable, send_all};
use fdtask::net::{Acceptor, ECHO_PREFIX, Listener, RECV_CHUNK_BYTES, Stream};
use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

/// What is received and answered at a time.
type Buffer = RefCell<[u8; ECHO_PREFIX.len() + RECV_CHUNK_BYTES]>;

/// `def echo_handler(client, address):`
async fn echo(client: Stream, buffer: Rc<Buffer>) -> io::Result<()> {
    loop {
        readable(&client).await?; // yield 'recv', client
        let answer = answer(&client, &mut buffer.borrow_mut())?; // data = client.recv(1000); client.send(b'GOT:' + data)
        match answer {
            Answer::Sent => {}
            Answer::Unsent(rest) => send_all(&client, &rest).await?, // yield 'send', client
            Answer::End => return Ok(()),                            // if not data: break
        }
    }
}

enum Answer {
    Sent,
    /// There was no room for all of it.
    Unsent(Box<[u8]>),
    /// There was nothing to answer: the client has ended the stream.
    End,
}

/// Receives a chunk and sends the answer, as far as both go without waiting.
///
/// All connections share one buffer, which nobody needs while they wait. A buffer that is a local of the `async fn` above,
/// and is used again after an `await`, is part of its state, and so of each connection's memory.
#[inline]
fn answer(client: &Stream, buffer: &mut [u8; ECHO_PREFIX.len() + RECV_CHUNK_BYTES]) -> io::Result<Answer> {
    let received = match client.recv(&mut buffer[ECHO_PREFIX.len()..]) {
        Ok(0) => return Ok(Answer::End),
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Answer::Sent),
        Err(error) => return Err(error),
    };
    buffer[..ECHO_PREFIX.len()].copy_from_slice(ECHO_PREFIX);
    let answer = &buffer[..ECHO_PREFIX.len() + received];
    match client.send(answer) {
        Ok(sent) if sent == answer.len() => Ok(Answer::Sent),
        Ok(sent) => Ok(Answer::Unsent(answer[sent..].into())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Answer::Unsent(answer.into())),
        Err(error) => Err(error),
    }
}

fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| "0.0.0.0:25000".to_owned());
    let listener = match address.parse().map_err(io::Error::other).and_then(Listener::bind) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("Listening on {}", listener.address());
    let mut scheduler = Scheduler::new();
    let buffer = Rc::new(RefCell::new([0; ECHO_PREFIX.len() + RECV_CHUNK_BYTES]));
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        future::task(echo(client, Rc::clone(&buffer))).named(format!("echo {peer}"))
    });
    scheduler.spawn(acceptor);
    scheduler.run();
    ExitCode::SUCCESS
}
