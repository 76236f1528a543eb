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
//! thread of its own, which wakes the task that waits for it ([`future::blocking`]), and everybody else is served meanwhile. There
//! are as many threads as look-ups at a time, at most one for each of [`CLIENTS_MAX`].
//!
//! Whoever can connect to the proxy can use it: do not let it listen where strangers come by.

use fdtask::channel::channel;
use fdtask::future::{self, readable, recv, send_all, timeout};
use fdtask::net::{Acceptor, Limit, Listener, Stream};
use fdtask::{Handle, Scheduler, reason};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const CLIENTS_MAX: usize = 256;
/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address of the target may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that was refused may take to read that.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How much is received at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// What whoever does not speak SOCKS5 is told. Most of them are browsers that take this for an HTTP proxy.
const NOT_SOCKS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nThis is a SOCKS5 proxy.\n";

/// What a client is answered instead of being connected.
type Refusal = Vec<u8>;

/// What RFC 1928 calls a reply. (It has room for the address of our end, which no client needs to know for CONNECT.)
fn reply(code: u8) -> Vec<u8> {
    vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

fn refusal(error: &io::Error) -> Refusal {
    reply(match error.kind() {
        ErrorKind::NetworkUnreachable => 3,
        ErrorKind::HostUnreachable | ErrorKind::TimedOut => 4,
        ErrorKind::ConnectionRefused => 5,
        _ => 1,
    })
}

async fn serve(scheduler: Handle, client: Stream) -> io::Result<()> {
    let request = timeout(&scheduler, REQUEST_TIMEOUT, request(&client)).await??;
    let server = match request {
        Ok((host, port)) => connect(&scheduler, host, port).await,
        Err(refusal) => Err(refusal),
    };
    match server {
        Ok(server) => {
            send_all(&client, &reply(0)).await?;
            relay(&scheduler, Rc::new(client), Rc::new(server)).await
        }
        Err(refusal) => {
            send_all(&client, &refusal).await?;
            client.shutdown_send()?;
            // To close with something unread would be a reset, which destroys the answer on its way.
            let rest = async {
                while recv(&client, &mut [0; 256]).await? > 0 {}
                io::Result::Ok(())
            };
            timeout(&scheduler, LINGER_TIMEOUT, rest).await?
        }
    }
}

/// Which host and port the client wants to talk to.
async fn request(client: &Stream) -> io::Result<Result<(String, u16), Refusal>> {
    let [version, count] = receive(client).await?;
    if version != 5 {
        return Ok(Err(NOT_SOCKS.to_vec()));
    }
    let mut methods = [0; 255];
    receive_into(client, &mut methods[..count.into()]).await?;
    if !methods[..count.into()].contains(&0) {
        // 0 is "no authentication", and there is no other here.
        return Ok(Err(vec![5, 0xff]));
    }
    send_all(client, &[5, 0]).await?;
    let [version, command, _, address_type] = receive(client).await?;
    let host = match address_type {
        1 => Ipv4Addr::from(receive::<4>(client).await?).to_string(),
        4 => Ipv6Addr::from(receive::<16>(client).await?).to_string(),
        3 => {
            let [len] = receive(client).await?;
            let mut name = vec![0; len.into()];
            receive_into(client, &mut name).await?;
            // What is not text is not the name of anything, and will not be found.
            String::from_utf8_lossy(&name).into_owned()
        }
        _ => return Ok(Err(reply(8))),
    };
    let port = u16::from_be_bytes(receive(client).await?);
    Ok(match (version, command) {
        (5, 1) => Ok((host, port)),
        (5, _) => Err(reply(7)),
        _ => Err(reply(1)),
    })
}

async fn receive<const LEN: usize>(client: &Stream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    receive_into(client, &mut bytes).await?;
    Ok(bytes)
}

/// Receives as much as there is room for, and not a byte more: what follows is for the server.
async fn receive_into(client: &Stream, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match recv(client, bytes).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            received => bytes = &mut bytes[received..],
        }
    }
    Ok(())
}

/// Connects to the first address of the host that answers.
async fn connect(scheduler: &Handle, host: String, port: u16) -> Result<Stream, Refusal> {
    let look_up = future::blocking(move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    let Ok(Ok(addresses)) = look_up.await else { return Err(reply(4)) };
    let mut refused = reply(4);
    for address in addresses {
        match timeout(scheduler, CONNECT_TIMEOUT, future::connect(scheduler, address)).await {
            Ok(Ok(server)) => return Ok(server),
            Ok(Err(error)) => refused = refusal(&error),
            Err(_) => refused = reply(4),
        }
    }
    Err(refused)
}

/// Moves what each sends to the other, until both have ended or one has failed. Each direction is a task, so that one that is
/// always busy does not keep the other waiting; both are cancelled when this one ends.
async fn relay(scheduler: &Handle, client: Rc<Stream>, server: Rc<Stream>) -> io::Result<()> {
    let (ended, results) = channel(scheduler, 2);
    let both_ways = [(Rc::clone(&client), Rc::clone(&server)), (server, client)];
    let tasks = both_ways.map(|(from, to)| {
        let ended = ended.clone();
        future::spawn(scheduler, async move { ended.send(copy(from, to).await).await })
    });
    for _ in &tasks {
        results.recv().await.transpose()?;
    }
    Ok(())
}

async fn copy(from: Rc<Stream>, to: Rc<Stream>) -> io::Result<()> {
    loop {
        readable(&*from).await?;
        match forward(&from, &to) {
            Ok(Some(unsent)) => send_all(&to, &unsent).await?,
            Ok(None) => return to.shutdown_send(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Moves one chunk, and returns what there was no room for; `None` at the end. (A buffer in here belongs to no task.)
fn forward(from: &Stream, to: &Stream) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0; CHUNK_BYTES];
    let received = from.recv(&mut buffer)?;
    if received == 0 {
        return Ok(None);
    }
    let sent = match to.send(&buffer[..received]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        sent => sent?,
    };
    Ok(Some(buffer[sent..received].to_vec()))
}

fn arguments() -> Option<SocketAddr> {
    let mut addresses = std::env::args_os().skip(1).map(|text| text.to_str()?.parse().ok());
    let address = addresses.next()??;
    addresses.next().is_none().then_some(address)
}

fn main() -> ExitCode {
    let Some(address) = arguments() else {
        eprintln!("usage: socks5 ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let listener = match Listener::bind(address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("socks5: cannot listen on {address}: {}", reason(&error));
            return ExitCode::FAILURE;
        }
    };
    println!("Listening on {}", listener.address());
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        future::task(serve(handle.clone(), client)).named(format!("socks5 {peer}"))
    });
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(CLIENTS_MAX))));
    scheduler.run();
    ExitCode::FAILURE
}
