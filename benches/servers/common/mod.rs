//! What the Rust peers share: the behaviour that must be the same for all of them, and nothing of their loops.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// What every answer begins with.
pub const PREFIX: &[u8] = b"GOT:";
/// How many bytes of a message are received at a time.
pub const RECV_BYTES_MAX: usize = 1000;
/// Room for one answer.
pub const REPLY_BYTES_MAX: usize = PREFIX.len() + RECV_BYTES_MAX;
/// How many connections the kernel may hold for us until we accept them.
const BACKLOG: i32 = 4096;

/// A buffer that already begins with the prefix: what is received goes behind it, and the whole is sent as it lies there.
pub fn reply_buffer() -> [u8; REPLY_BYTES_MAX] {
    let mut buffer = [0; REPLY_BYTES_MAX];
    buffer[..PREFIX.len()].copy_from_slice(PREFIX);
    buffer
}

/// Reads the command line: `--version` prints the library's version and ends, anything else is the address to listen on.
/// Says where it listens, which is the one line a server prints.
pub fn listen(library: &str) -> io::Result<TcpListener> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    if argument == "--version" {
        println!("{library} {}", locked_version(library));
        std::process::exit(0);
    }
    let address: SocketAddr = argument.parse().map_err(io::Error::other)?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it from the listener. The runner decides about it, for all servers.
    socket.set_tcp_nodelay(std::env::var_os("ECHO_TCP_NODELAY").is_some())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    println!("Listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    Ok(listener)
}

/// The version of `library` that this package was locked to, which is the one it was built with.
fn locked_version(library: &str) -> &'static str {
    let wanted = format!("name = \"{library}\"");
    let mut lines = include_str!("../../Cargo.lock").lines();
    lines.by_ref().find(|line| *line == wanted);
    lines.next().and_then(|line| line.split('"').nth(1)).unwrap_or("of unknown version")
}
