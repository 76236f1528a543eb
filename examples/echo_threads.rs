//! The echo server with a thread for each connection, and nothing of this crate: what there would be without it.
//!
//! ```text
//! terminal 1: cargo run --example echo_threads
//! terminal 2: nc localhost 25000
//! ```
//! What you type in terminal 2 comes back behind `GOT:`. Another address is given as the argument: `127.0.0.1:0`, say.
//!
//! It is the shortest of the three, and for a few connections there is nothing wrong with it. Each connection costs a
//! thread: a stack, a few more pages in the kernel, and a switch for each message.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How much is received, and answered, at a time.
const RECV_CHUNK_BYTES: usize = 1000;

/// What each answer begins with.
const PREFIX: &[u8] = b"GOT:";

/// How long to wait before trying again when there is no descriptor, or no thread, for another client.
const RETRY: Duration = Duration::from_millis(200);

/// How often that is said, at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How large a connection's stack is. Much less than the usual 2 MiB does.
const STACK_BYTES: usize = 64 * 1024;

/// `def echo_handler(client, address):`
fn echo(mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut buffer = [0; PREFIX.len() + RECV_CHUNK_BYTES];
    buffer[..PREFIX.len()].copy_from_slice(PREFIX);
    loop {
        let received = match client.read(&mut buffer[PREFIX.len()..]) {
            Ok(0) => return Ok(()),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        client.write_all(&buffer[..PREFIX.len() + received])?;
    }
}

/// `def tcp_server(address, handler):`
fn serve(listener: &TcpListener) {
    let mut next_report = Instant::now();
    loop {
        let result = listener.accept().and_then(|(client, _)| {
            // What becomes of one connection is nobody else's business.
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn(move || echo(client))
        });
        match result {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => {
                if next_report <= Instant::now() {
                    let _ = writeln!(io::stderr(), "echo_threads: cannot serve another client: {error}");
                    next_report = Instant::now() + REPORT_INTERVAL;
                }
                thread::sleep(RETRY);
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|text| text.to_str()?.parse().ok()).collect();
    let address: Option<SocketAddr> = match arguments[..] {
        [] => Some((Ipv4Addr::UNSPECIFIED, 25000).into()),
        [address] => address,
        _ => None,
    };
    let Some(address) = address else {
        let _ = writeln!(io::stderr(), "usage: echo_threads [ADDRESS:PORT]");
        return ExitCode::from(2);
    };
    let listener = TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    match listener {
        Ok((address, listener)) => {
            // A server whose standard output nobody reads serves all the same.
            let _ = writeln!(io::stdout(), "Listening on {address}");
            serve(&listener);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "echo_threads: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}
