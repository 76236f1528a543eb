//! A client of the echo server.

use super::LIMIT;
use super::frames::{CHUNK_BYTES_MAX, PREFIX};
use super::steady::uninterrupted;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// How long nothing must have moved before a sender counts as stuck.
const STUCK_AFTER: Duration = Duration::from_millis(300);

/// A TCP connection on which nothing waits longer than [`LIMIT`].
#[derive(Debug)]
pub struct Client {
    /// The connection itself, for what this type has no word for.
    pub stream: TcpStream,
}

impl Client {
    /// Connects to `address`.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        match Client::try_connect(address, LIMIT) {
            Ok(client) => client,
            Err(error) => panic!("cannot connect to {address}: {error}"),
        }
    }

    /// Connects to `address` within `limit`.
    pub fn try_connect(address: SocketAddr, limit: Duration) -> io::Result<Client> {
        Client::new(TcpStream::connect_timeout(&address, limit)?)
    }

    /// Connects to `address` with buffers of one loopback packet each: what the server sends and this client does not read
    /// soon stays with the server. (With less than a packet the kernel falls into retransmissions seconds apart.)
    #[track_caller]
    pub fn connect_with_small_buffers(address: SocketAddr) -> Client {
        let connect = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            // The window is agreed upon while connecting, so the size must be set before.
            socket.set_recv_buffer_size(65_536)?;
            socket.set_send_buffer_size(65_536)?;
            socket.connect_timeout(&address.into(), LIMIT)?;
            Client::new(socket.into())
        };
        connect().unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    fn new(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Client { stream })
    }

    /// The address of this end: what the server calls this client.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// Sends all of `bytes`.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            panic!("cannot send {} bytes: {error}", bytes.len());
        }
    }

    /// Sends what of `bytes` fits into all the buffers on the way while nothing is read, and returns how much that is.
    #[track_caller]
    pub fn send_until_stuck(&mut self, bytes: &[u8]) -> usize {
        send_until_stuck(&self.stream, bytes)
    }

    /// Sends all of `bytes` and half-closes, and meanwhile reads until the server ends the stream.
    #[track_caller]
    pub fn send_all_and_read_to_end(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sender = Client { stream: self.stream.try_clone().expect("a descriptor can be duplicated") };
        let result = thread::scope(|scope| {
            scope.spawn(move || {
                sender.send(bytes);
                sender.half_close();
            });
            self.read_to_end()
        });
        result.unwrap_or_else(|error| panic!("instead of the end of the stream came: {error}"))
    }

    /// Receives exactly `len` bytes.
    #[track_caller]
    pub fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if let Err(error) = self.stream.read_exact(&mut bytes) {
            panic!("cannot receive {len} bytes: {error}");
        }
        bytes
    }

    /// Receives the answer to `text`, which was sent at once after an answer and fits into a chunk.
    #[track_caller]
    pub fn expect_answer(&mut self, text: &[u8]) {
        assert!(text.len() <= CHUNK_BYTES_MAX, "the answer to {} bytes may come in pieces", text.len());
        let answer = self.receive(PREFIX.len() + text.len());
        let expected = [PREFIX, text].concat();
        assert!(
            answer == expected,
            "answered {:?} to {:?}",
            String::from_utf8_lossy(&answer),
            String::from_utf8_lossy(text)
        );
    }

    /// Sends `text` and receives the answer.
    #[track_caller]
    pub fn ask(&mut self, text: &[u8]) {
        self.send(text);
        self.expect_answer(text);
    }

    /// Says that nothing more will be sent (`SHUT_WR`).
    #[track_caller]
    pub fn half_close(&self) {
        if let Err(error) = self.stream.shutdown(Shutdown::Write) {
            panic!("cannot half-close: {error}");
        }
    }

    /// Reads until the server ends the stream. A reset is an error.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads until the server ends the stream, and expects that this was all.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.read_to_end() {
            Ok(rest) => assert!(rest.is_empty(), "before the end came {:?}", String::from_utf8_lossy(&rest)),
            Err(error) => panic!("instead of the end of the stream came: {error}"),
        }
    }

    /// Waits until something can be received, without receiving it. Whether something came within `limit`.
    pub fn hears_something(&self, limit: Duration) -> bool {
        self.stream.set_read_timeout(Some(limit)).expect("a limit that is not zero can be set");
        let heard = uninterrupted(|| self.stream.peek(&mut [0])).is_ok();
        self.stream.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        heard
    }

    /// Closes the connection with a reset instead of an orderly end.
    #[track_caller]
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
    }
}

/// Sends what of `bytes` fits into all the buffers on the way while nothing is read, and returns how much that is.
#[track_caller]
pub fn send_until_stuck(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(STUCK_AFTER)).expect("a limit that is not zero can be set");
    let mut sent = 0;
    while sent < bytes.len() {
        match uninterrupted(|| stream.write(&bytes[sent..])) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("cannot send more than {sent} of {} bytes: {error}", bytes.len()),
        }
    }
    stream.set_write_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    assert!(sent < bytes.len(), "all {sent} bytes fit into the buffers; send more");
    sent
}
