//! A SOCKS5 proxy (RFC 1928): CONNECT to IPv4 addresses, IPv6 addresses and names.
//!
//! ```text
//! terminal 1: python3 -m http.server 8000 --bind 127.0.0.1
//! terminal 2: cargo run --example socks5 -- 127.0.0.1:1080
//! terminal 3: curl --socks5 127.0.0.1:1080 http://127.0.0.1:8000/
//!             curl --socks5-hostname 127.0.0.1:1080 http://localhost:8000/
//! ```
//! Terminal 3 shows what the server in terminal 1 has to show, twice; the second time the proxy has looked up the name.
//!
//! The system looks up names by a call that blocks (`getaddrinfo`), for seconds if the network is slow. So each look-up has a
//! thread of its own, which wakes the task that waits for it ([`future::blocking`]), and everybody else is served meanwhile.
//! There are as many threads as look-ups at a time, at most one for each of [`CLIENTS_MAX`].
//!
//! `request.rs` is what a client asks for and is answered, `relay.rs` moves the bytes afterwards. When one end says that it will
//! send no more, the other is told so and can still answer, unless nothing moves for ten minutes; a number of seconds behind the
//! address is another time. When one end has reset its connection, what it had said before still arrives, unless the other end
//! takes nothing of it for some seconds.
//!
//! Whoever can connect to the proxy can use it: do not let it listen where strangers come by.

mod relay;
mod request;

use fdtask::future::{self, linger, send_all, timeout};
use fdtask::net::{Acceptor, Limit, Listener, Stream, raise_descriptor_limit};
use fdtask::{Diagnostics, Handle, Scheduler, reason};
use relay::relay;
use request::{connect, request};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// Fewer, if the system does not allow two descriptors for each of them beside those that the proxy itself needs. The second is
/// what the look-up of a name takes, and then the connection to the target.
const CLIENTS_MAX: usize = 256;
const OWN_DESCRIPTORS: usize = 16;
/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that was told the end may take to close the connection.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing may move once one end will send no more, unless the last argument says otherwise.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(600);

async fn serve(scheduler: Handle, client: Rc<Stream>, patience: Duration) -> io::Result<()> {
    let server = match timeout(&scheduler, REQUEST_TIMEOUT, request(&client)).await?? {
        Ok((host, port)) => connect(&scheduler, host, port).await,
        Err(refusal) => Err(refusal),
    };
    let outcome = match server {
        Ok(server) => relay(&scheduler, Rc::clone(&client), Rc::new(server), patience).await,
        Err(refusal) => send_all(&client, &refusal).await,
    };
    linger(&client, LINGER_TIMEOUT).await.and(outcome)
}

fn run(address: SocketAddr, patience: Duration) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    scheduler.observe(Diagnostics::to_stderr(&scheduler.handle(), "socks5")?);
    let listener = Listener::bind(address)?;
    let room = raise_descriptor_limit(OWN_DESCRIPTORS + 2 * CLIENTS_MAX)?.saturating_sub(OWN_DESCRIPTORS) / 2;
    let _ = writeln!(io::stdout(), "Listening on {}", listener.address());
    let handle = scheduler.handle();
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        future::task(serve(handle.clone(), Rc::new(client), patience)).named(format!("socks5 {peer}"))
    });
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(room.clamp(1, CLIENTS_MAX)))));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn arguments() -> Option<(SocketAddr, Duration)> {
    let mut arguments = std::env::args_os().skip(1).map(|text| text.into_string().ok());
    let address = arguments.next()??.parse().ok()?;
    let patience = match arguments.next() {
        Some(seconds) => Duration::from_secs(seconds?.parse::<NonZeroU32>().ok()?.get().into()),
        None => HALF_CLOSED_TIMEOUT,
    };
    arguments.next().is_none().then_some((address, patience))
}

fn main() -> ExitCode {
    let Some((address, patience)) = arguments() else {
        let _ = writeln!(io::stderr(), "usage: socks5 ADDRESS:PORT [HALF_CLOSED_SECONDS]");
        return ExitCode::from(2);
    };
    let Err(error) = run(address, patience) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "socks5: cannot listen on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
