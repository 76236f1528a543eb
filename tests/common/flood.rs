//! A client that sends the same without pause.

use crate::common::LIMIT;
use crate::examples::connect;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// How much is sent before a flood has begun.
const AHEAD_BYTES: usize = 64 * 1024;

/// A flood, which ends when this is dropped.
pub struct Flood {
    socket: Arc<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Begins to send `line`, again and again, and to read what is answered if `is_reading`. Returns when more has been sent
    /// than a server takes at a time.
    #[track_caller]
    pub fn begin(address: SocketAddr, line: &str, is_reading: bool) -> Flood {
        let socket = Arc::new(connect(address));
        let (told, begun) = mpsc::channel();
        let (writer, lines) = (Arc::clone(&socket), line.repeat(AHEAD_BYTES.div_ceil(line.len())));
        let mut threads = vec![thread::spawn(move || {
            // To its end, which is the end of the connection, or that nobody has taken anything for too long.
            while (&*writer).write_all(lines.as_bytes()).is_ok() {
                let _ = told.send(());
            }
        })];
        if is_reading {
            let reader = Arc::clone(&socket);
            threads.push(thread::spawn(move || while (&*reader).read(&mut [0; 16384]).is_ok_and(|len| len > 0) {}));
        }
        begun.recv_timeout(LIMIT).expect("the kernel takes as much as this");
        Flood { socket, threads }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // If the server has closed the connection already, the threads know.
        let _ = self.socket.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
