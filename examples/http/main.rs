//! A web server for static files: HTTP/1.1 with keep-alive, conditional and range requests.
//!
//! ```text
//! terminal 1: cargo run --release --example http -- 127.0.0.1:8080 .
//! terminal 2: curl -i http://127.0.0.1:8080/README.md
//!             curl -r 0-7 http://127.0.0.1:8080/README.md
//!             wrk -t 1 -c 100 -d 3 http://127.0.0.1:8080/Cargo.toml
//! ```
//! The first `curl` shows the headers and the file, the second its first eight bytes, `# fdtask`; `wrk` says how many requests a
//! second that makes, and no line about errors.
//!
//! One file a concern: this one is the connection, `request.rs` understands what was received, `files.rs` finds what it
//! asks for. Nothing outside of the directory is served, whatever the path says or links point to.
//!
//! Files are read where the scheduler runs. `poll` calls every file ready, so there is no wait for a disk; what is
//! read often is in memory. A server of cold files would read them on another thread (`fdtask::future::blocking`).

mod date;
mod files;
mod request;

use fdtask::future::{self, readable, recv, send_all, timeout};
use fdtask::net::{Acceptor, Limit, Listener, Stream};
use fdtask::{Handle, Scheduler, reason};
use files::{Body, Response};
use request::Request;
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const CLIENTS_MAX: usize = 1000;
/// What a request may be long, but for its body, which none has here.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// How long a client may take from the end of one request to the end of the next, however slowly it sends.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to receive a chunk of a file.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a client may take to close the connection when it has been told that it is over.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers one request after the other.
async fn serve(scheduler: Handle, client: Stream, root: Rc<Path>) -> io::Result<()> {
    let mut input = Vec::new();
    loop {
        let request = match timeout(&scheduler, REQUEST_TIMEOUT, receive(&client, &mut input)).await {
            Ok(Ok(Some(head))) => Request::parse(&head),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => Err("431 Request Header Fields Too Large"),
            Ok(Err(error)) => return Err(error),
            Err(_) if input.is_empty() => return Ok(()),
            Err(_) => Err("408 Request Timeout"),
        };
        let response = match &request {
            Ok(request) => files::find(&root, request).unwrap_or_else(Response::refusal),
            Err(status) => Response::refusal(status),
        };
        // After what was no proper request, nobody knows where the next one would begin.
        let (is_last, is_head) = request.map_or((true, false), |request| (request.is_last, request.is_head));
        send(&scheduler, &client, response, is_last, is_head).await?;
        if is_last {
            break;
        }
    }
    client.shutdown_send()?;
    // To close with something unread would be a reset, which destroys the answer on its way.
    let rest = async {
        while recv(&client, &mut [0; 1024]).await? > 0 {}
        Ok(())
    };
    timeout(&scheduler, LINGER_TIMEOUT, rest).await?
}

/// Receives the head of the next request, up to the empty line; `None` if there is none any more.
async fn receive(client: &Stream, input: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = request::end_of_head(input) {
            let rest = input.split_off(end);
            return Ok(Some(std::mem::replace(input, rest)));
        }
        if input.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        readable(client).await?;
        if !receive_more(client, input)? {
            return Ok(None);
        }
    }
}

/// Receives what is there; whether anything will come after it. (A buffer in here belongs to no connection.)
fn receive_more(client: &Stream, input: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    match client.recv(&mut buffer) {
        Ok(received) => {
            input.extend_from_slice(&buffer[..received]);
            Ok(received > 0)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

async fn send(scheduler: &Handle, client: &Stream, response: Response, is_last: bool, is_head: bool) -> io::Result<()> {
    let mut chunk = response.head(is_last).into_bytes();
    let (mut file, mut left) = match response.body {
        Body::Text(text) if !is_head => {
            chunk.extend(text.bytes());
            (None, 0)
        }
        Body::File(file, range) if !is_head => (Some(file), range.end - range.start),
        Body::None | Body::Text(_) | Body::File(..) => (None, 0),
    };
    loop {
        if let Some(file) = &mut file {
            let start = chunk.len();
            chunk.resize(CHUNK_BYTES.min(start.saturating_add(usize::try_from(left).unwrap_or(usize::MAX))), 0);
            let read = file.read(&mut chunk[start..])?;
            if read == 0 && left > 0 {
                // The file has become shorter since its length was promised.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            chunk.truncate(start + read);
            left -= read as u64;
        }
        timeout(scheduler, CHUNK_TIMEOUT, send_all(client, &chunk)).await??;
        if left == 0 {
            return Ok(());
        }
        chunk.clear();
        future::next_turn().await;
    }
}

fn arguments() -> Option<(SocketAddr, OsString)> {
    let mut arguments = std::env::args_os().skip(1);
    let both = (arguments.next()?.to_str()?.parse().ok()?, arguments.next()?);
    arguments.next().is_none().then_some(both)
}

fn run(address: SocketAddr, root: &Path) -> io::Result<()> {
    let root: Rc<Path> = files::directory(root)?.into();
    let listener = Listener::bind(address)?;
    println!("Listening on {}", listener.address());
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        future::task(serve(handle.clone(), client, Rc::clone(&root))).named(format!("http {peer}"))
    });
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(CLIENTS_MAX))));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn main() -> ExitCode {
    let Some((address, root)) = arguments() else {
        eprintln!("usage: http ADDRESS:PORT DIRECTORY");
        return ExitCode::from(2);
    };
    let Err(error) = run(address, Path::new(&root)) else { return ExitCode::SUCCESS };
    eprintln!("http: cannot serve {} on {address}: {}", root.display(), reason(&error));
    ExitCode::FAILURE
}
