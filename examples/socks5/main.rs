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
//! This file is what a client asks for and is answered, `relay.rs` moves the bytes afterwards. When one end has reset its
//! connection, what it had said before still arrives, unless the other end takes nothing of it for some seconds.
//!
//! Whoever can connect to the proxy can use it: do not let it listen where strangers come by.

mod relay;

use fdtask::future::{self, linger, next_turn, recv_exact, send_all, timeout};
use fdtask::net::{Acceptor, Limit, Listener, Stream, raise_descriptor_limit};
use fdtask::{Diagnostics, Handle, Scheduler, reason};
use relay::relay;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// Fewer, if the system does not allow two descriptors for each of them beside those that the proxy itself needs. The second is
/// what the look-up of a name takes, and then the connection to the target.
const CLIENTS_MAX: usize = 256;
const OWN_DESCRIPTORS: usize = 16;
/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address of the target may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that was told the end may take to close the connection.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// What whoever does not speak SOCKS5 is told. Most of them are browsers that take this for an HTTP proxy.
const NOT_SOCKS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nThis is a SOCKS5 proxy.\n";

/// What RFC 1928 calls a reply; 0 is the good one. (It has room for an address that CONNECT does not need.)
fn reply(code: u8) -> Vec<u8> {
    vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

async fn serve(scheduler: Handle, client: Rc<Stream>) -> io::Result<()> {
    let server = match timeout(&scheduler, REQUEST_TIMEOUT, request(&client)).await?? {
        Ok((host, port)) => connect(&scheduler, host, port).await,
        Err(refusal) => Err(refusal),
    };
    let outcome = match server {
        Ok(server) => relay(&scheduler, Rc::clone(&client), Rc::new(server)).await,
        Err(refusal) => send_all(&client, &refusal).await,
    };
    // A way that has been cancelled is gone by then, and waits for the client no more.
    next_turn().await;
    linger(&client, LINGER_TIMEOUT).await.and(outcome)
}

/// Which host and port the client wants to talk to; or what it is answered instead.
async fn request(client: &Stream) -> io::Result<Result<(String, u16), Vec<u8>>> {
    let [version, count] = receive(client).await?;
    if version != 5 {
        return Ok(Err(NOT_SOCKS.to_vec()));
    }
    let mut methods = vec![0; count.into()];
    recv_exact(client, &mut methods).await?;
    if !methods.contains(&0) {
        // 0 is "no authentication", and there is no other here.
        return Ok(Err(vec![5, 0xff]));
    }
    send_all(client, &[5, 0]).await?;
    let [version, command, _, address_type] = receive(client).await?;
    let host = match (version, command, address_type) {
        (5, 1, 1) => Ipv4Addr::from(receive::<4>(client).await?).to_string(),
        (5, 1, 4) => Ipv6Addr::from(receive::<16>(client).await?).to_string(),
        (5, 1, 3) => {
            let [len] = receive(client).await?;
            let mut name = vec![0; len.into()];
            recv_exact(client, &mut name).await?;
            // What is not text is not the name of anything, and will not be found.
            String::from_utf8_lossy(&name).into_owned()
        }
        (5, 1, _) => return Ok(Err(reply(8))),
        (5, _, _) => return Ok(Err(reply(7))),
        _ => return Ok(Err(reply(1))),
    };
    Ok(Ok((host, u16::from_be_bytes(receive(client).await?))))
}

/// Receives so many bytes, and not one more: what follows may be for the server.
async fn receive<const LEN: usize>(client: &Stream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    recv_exact(client, &mut bytes).await?;
    Ok(bytes)
}

/// Connects to the first address of the host that answers.
async fn connect(scheduler: &Handle, host: String, port: u16) -> Result<Stream, Vec<u8>> {
    let look_up = future::blocking(move || -> io::Result<Vec<SocketAddr>> {
        // If no descriptor is left, the system says of any name that there is no such host.
        drop(File::open("/dev/null")?);
        Ok((host.as_str(), port).to_socket_addrs().map_or(Vec::new(), Vec::from_iter))
    });
    let Ok(Ok(addresses)) = look_up.await else { return Err(reply(1)) };
    let mut refused = reply(4);
    for address in addresses {
        let connecting = timeout(scheduler, CONNECT_TIMEOUT, future::connect(scheduler, address));
        refused = match connecting.await.unwrap_or_else(|late| Err(late.into())) {
            Ok(server) => return Ok(server),
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable => reply(3),
            Err(error) if matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::TimedOut) => reply(4),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => reply(5),
            Err(_) => reply(1),
        }
    }
    Err(refused)
}

fn run(address: SocketAddr) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    scheduler.observe(Diagnostics::to_stderr(&scheduler.handle(), "socks5")?);
    let listener = Listener::bind(address)?;
    let room = raise_descriptor_limit(OWN_DESCRIPTORS + 2 * CLIENTS_MAX)?.saturating_sub(OWN_DESCRIPTORS) / 2;
    let _ = writeln!(io::stdout(), "Listening on {}", listener.address());
    let handle = scheduler.handle();
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        future::task(serve(handle.clone(), Rc::new(client))).named(format!("socks5 {peer}"))
    });
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(room.clamp(1, CLIENTS_MAX)))));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|text| text.to_str()?.parse().ok()).collect();
    let [Some(address)] = arguments[..] else {
        let _ = writeln!(io::stderr(), "usage: socks5 ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let Err(error) = run(address) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "socks5: cannot listen on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
