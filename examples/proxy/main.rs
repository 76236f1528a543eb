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
//! says that it will send no more, the other is told so and can still answer (*half-close*), unless nothing moves for ten
//! minutes; a number of seconds behind the target is another time. When one takes no more, for it has reset the connection, what
//! it had said before still arrives, unless the other end takes nothing of it for some seconds. Clients beyond the limit wait in
//! the kernel's queue.
//!
//! Connecting is a dialogue of one step after the other, and is written as an `async fn`, in this file; moving bytes is a state
//! machine by hand, in `tunnel.rs` and, for one direction, `flow.rs`. The target is a number, because looking up a name may take
//! long; the example `socks5` shows how to do that.

mod flow;
mod tunnel;

use fdtask::future::{self, linger, timeout};
use fdtask::net::{Acceptor, Limit, Listener, Stream, raise_descriptor_limit};
use fdtask::{Diagnostics, Handle, Scheduler, channel, reason};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tunnel::Tunnel;

/// Fewer, if the system does not allow two descriptors for each of them beside those that the proxy itself needs.
const CLIENTS_MAX: usize = 4096;
const OWN_DESCRIPTORS: usize = 16;
/// How long the target may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that was told the end may take to close the connection.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing may move once one end will send no more, unless the last argument says otherwise.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(600);

/// Connects to the target, leaves the rest to a [`Tunnel`], and outlives it, so that the client, which is what the limit
/// counts, is let go last.
async fn forward(
    scheduler: Handle,
    client: Rc<Stream>,
    name: String,
    target: SocketAddr,
    patience: Duration,
) -> io::Result<()> {
    let connecting = timeout(&scheduler, CONNECT_TIMEOUT, future::connect(&scheduler, target));
    match connecting.await.unwrap_or_else(|late| Err(late.into())) {
        Ok(server) => {
            // Nothing is ever sent: when the tunnel ends, so does the channel.
            let (alive, tunnel) = channel::channel(&scheduler, 1);
            scheduler.spawn(Tunnel::new(name, (Rc::clone(&client), server), patience, alive));
            tunnel.recv().await;
        }
        // Whoever runs the proxy is told the reason now, by a task that fails with it.
        Err(error) => scheduler.spawn(future::task(async { Err(error) }).named(name)),
    }
    linger(&client, LINGER_TIMEOUT).await
}

/// Whether whoever connects to `target` comes to who listens on `address`: it is the same, or one of this machine's (which can be
/// bound to) where `address` stands for all of them.
fn is_same(address: SocketAddr, target: SocketAddr) -> bool {
    // `::ffff:127.0.0.1` is 127.0.0.1; and who connects to the address that stands for all comes to the loopback.
    let (here, there) = match target.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => (address.ip(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => (address.ip(), Ipv6Addr::LOCALHOST.into()),
        there => (address.ip(), there),
    };
    let is_covered = || here.is_unspecified() && here.is_ipv4() == there.is_ipv4();
    address.port() == target.port() && (here == there || is_covered() && UdpSocket::bind((there, 0)).is_ok())
}

fn serve(address: SocketAddr, target: SocketAddr, patience: Duration) -> io::Result<()> {
    if is_same(address, target) {
        // Its first client would be followed by itself, over and over.
        return Err(io::Error::other("it is the target's address, too"));
    }
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    scheduler.observe(Diagnostics::to_stderr(&handle, "proxy")?);
    let listener = Listener::bind(address)?;
    let room = raise_descriptor_limit(OWN_DESCRIPTORS + 2 * CLIENTS_MAX)?.saturating_sub(OWN_DESCRIPTORS) / 2;
    let _ = writeln!(io::stdout(), "Listening on {}", listener.address());
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        let name = format!("tunnel {peer} to {target}");
        future::task(forward(handle.clone(), Rc::new(client), name.clone(), target, patience)).named(name)
    });
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(room.clamp(1, CLIENTS_MAX)))));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn arguments() -> Option<(SocketAddr, SocketAddr, Duration)> {
    let mut arguments = std::env::args_os().skip(1).map(|text| text.into_string().ok());
    let (address, target) = (arguments.next()??.parse().ok()?, arguments.next()??.parse().ok()?);
    let patience = match arguments.next() {
        Some(seconds) => Duration::from_secs(seconds?.parse::<NonZeroU32>().ok()?.get().into()),
        None => HALF_CLOSED_TIMEOUT,
    };
    arguments.next().is_none().then_some((address, target, patience))
}

fn main() -> ExitCode {
    let Some((address, target, patience)) = arguments() else {
        let _ = writeln!(io::stderr(), "usage: proxy LISTEN_ADDRESS:PORT TARGET_ADDRESS:PORT [HALF_CLOSED_SECONDS]");
        return ExitCode::from(2);
    };
    let Err(error) = serve(address, target, patience) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "proxy: cannot listen on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
