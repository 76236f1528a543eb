//! A web server for static files: HTTP/1.1 with keep-alive, conditional and range requests.
//!
//! ```text
//! terminal 1: cargo run --release --example http -- 127.0.0.1:8080 .
//! terminal 2: curl -i http://127.0.0.1:8080/README.md
//!             curl -r 0-7 http://127.0.0.1:8080/README.md
//!             wrk -t 1 -c 100 -d 3 http://127.0.0.1:8080/Cargo.toml
//! ```
//! The first `curl` shows the headers and the file, the second its first bytes, `# fdtask`; `wrk` says how many requests a second
//! that makes, and no error (terminal 1 then names those whose answer was on its way when `wrk` hung up). Nothing outside of the
//! directory is served, whatever the path says or links point to, also while somebody changes them.
//!
//! This file is the connection, `request.rs` knows what a proper request is, `files.rs` finds what is asked for, `conditions.rs`
//! decides whether that is the version that the client means, and does not have yet, and `response.rs` sends it; the syntax of
//! HTTP is left to small crates. Files are read where the scheduler runs: `poll` calls every file ready, so there is no wait
//! for a disk, and what is read often is in memory. A server of cold files would read them on another thread
//! (`fdtask::future::blocking`).

mod conditions;
mod files;
mod request;
mod response;

use fdtask::future::{self, linger, recv_more, timeout};
use fdtask::net::{Acceptor, Limit, Listener, Stream, raise_descriptor_limit};
use fdtask::{Diagnostics, Handle, Scheduler, channel::Sender, reason};
use response::Response;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const CLIENTS_MAX: usize = 1000;
/// What a client has open while it is sent a file: the connection, and the file.
const CLIENT_DESCRIPTORS: usize = 2;
/// What the program has open itself, and some more: it may have been started with further ones.
const OWN_DESCRIPTORS: usize = 16;
const HEADERS_MAX: usize = 64;
/// How long a client may take from the end of one answer to the end of the next request, however slowly it sends.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to close the connection when it has been told that it is over.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers one request after the other.
async fn serve(scheduler: Handle, chunks: Sender<()>, client: Stream, root: Rc<Path>) -> io::Result<()> {
    let mut input = Vec::new();
    loop {
        let mut response = match timeout(&scheduler, REQUEST_TIMEOUT, next(&client, &mut input, &root)).await {
            Ok(Ok(Some(response))) => response,
            Ok(Err(error)) => return Err(error),
            // While the system cannot poll, nobody says when something has come, so this looks for itself.
            Err(_) if client.recv_queue_bytes() > 0 => continue,
            // Between two requests, where some clients leave the end of a line.
            _ if input.trim_ascii().is_empty() => return Ok(()),
            // Its client will say no more, and has forgotten the blank line at the end, say.
            Ok(Ok(None)) => Response::refusal("400 Bad Request"),
            Err(_) => Response::refusal("408 Request Timeout"),
        };
        response.send(&client, &chunks).await?;
        if response.is_last {
            return linger(&client, LINGER_TIMEOUT).await;
        }
        if !input.is_empty() {
            // Who sends many requests at once, and receives short answers, waits nowhere else; others have a turn, too.
            future::next_turn().await;
        }
    }
}

/// Receives the next request and returns the answer to it; `None` if there is none any more.
async fn next(client: &Stream, input: &mut Vec<u8>, root: &Path) -> io::Result<Option<Response>> {
    loop {
        if let Some((len, response)) = answer(input, root) {
            input.drain(..len);
            return Ok(Some(response));
        }
        if recv_more(client, input).await? == 0 {
            return Ok(None);
        }
    }
}

/// The length of the first request and the answer to it, if it is there as a whole.
fn answer(input: &[u8], root: &Path) -> Option<(usize, Response)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let (len, is_last) = match request::parse(&mut request, input) {
        Ok(len) => (len?, request::is_last(&request)),
        // After what was no proper request, nobody knows where the next one would begin.
        Err(status) => (input.len(), Err(status)),
    };
    let mut response = match is_last {
        Ok(is_last) => Response { is_last, ..files::find(root, &request).unwrap_or_else(Response::refusal) },
        Err(status) => Response::refusal(status),
    };
    if request.method == Some("HEAD") {
        (response.text, response.file) = (String::new(), None);
    }
    Some((len, response))
}

/// How many clients there may be if each of them is to have a file open. Who comes beyond them waits in the kernel's queue,
/// where with one descriptor too few everybody would be refused.
fn clients_max() -> io::Result<usize> {
    let allowed = raise_descriptor_limit(CLIENTS_MAX * CLIENT_DESCRIPTORS + OWN_DESCRIPTORS)?;
    Ok((allowed.saturating_sub(OWN_DESCRIPTORS) / CLIENT_DESCRIPTORS).clamp(1, CLIENTS_MAX))
}

fn run(address: SocketAddr, root: &Path) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    scheduler.observe(Diagnostics::to_stderr(&scheduler.handle(), "http")?);
    let root: Rc<Path> = root.canonicalize()?.into();
    std::fs::read_dir(&root)?;
    let listener = Listener::bind(address)?;
    // A server whose standard output nobody reads serves all the same.
    let _ = writeln!(io::stdout(), "Listening on {}", listener.address());
    let handle = scheduler.handle();
    let chunks = response::chunks_per_turn(&handle);
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        future::task(serve(handle.clone(), chunks.clone(), client, Rc::clone(&root))).named(format!("http {peer}"))
    });
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(clients_max()?))));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let address = arguments.first().and_then(|text| text.to_str()?.parse().ok());
    let (Some(address), [_, root]) = (address, &arguments[..]) else {
        let _ = writeln!(io::stderr(), "usage: http ADDRESS:PORT DIRECTORY");
        return ExitCode::from(2);
    };
    let Err(error) = run(address, Path::new(root)) else { return ExitCode::SUCCESS };
    let root = root.to_string_lossy();
    let _ = writeln!(io::stderr(), "http: cannot serve {root:?} on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
