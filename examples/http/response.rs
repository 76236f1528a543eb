//! What a response looks like, whatever it answers, and how it is sent.

use fdtask::channel::{Sender, channel};
use fdtask::future::{self, next_turn, send_all_while_taken};
use fdtask::{Handle, net::Stream};
use httpdate::fmt_http_date;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Take};
use std::time::{Duration, SystemTime};

/// How much of a file is read, and sent, at a time.
const CHUNK_BYTES: u64 = 64 * 1024;
/// How many chunks all clients together are sent in one turn, or two: the others wait for a later one. So a turn is short however
/// many there are, and whoever has just come is accepted, and gets the first chunk of an answer, which waits for nobody.
const CHUNKS_PER_TURN_MAX: usize = 16;
/// A client that takes nothing for so long, or a quarter more, is let go.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// A status line without the version: `404 Not Found`.
pub type Status = &'static str;

/// What has room for so many chunks, and is emptied once in a turn.
pub fn chunks_per_turn(scheduler: &Handle) -> Sender<()> {
    let (chunks, turn) = channel(scheduler, CHUNKS_PER_TURN_MAX);
    scheduler.spawn_service(future::task(async move {
        while turn.recv().await.is_some() {
            while turn.try_recv().is_ok() {}
            next_turn().await;
        }
        Ok(())
    }));
    chunks
}

/// What is answered.
#[derive(Default)]
pub struct Response {
    pub status: Status,
    pub headers: String,
    pub text: String,
    /// What is left to be sent of the file.
    pub file: Option<Take<File>>,
    /// Nothing follows on this connection.
    pub is_last: bool,
}

impl Response {
    pub fn refusal(status: Status) -> Response {
        let text = format!("{status}\n");
        // Asked for only by who has used another method, and true in any case.
        let headers = format!("Allow: GET, HEAD\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", text.len());
        Response { status, headers, text, is_last: true, ..Response::default() }
    }

    /// Sends the response, and what of the file is to be sent.
    pub async fn send(&mut self, client: &Stream, chunks: &Sender<()>) -> io::Result<()> {
        let mut chunk = self.head().into_bytes();
        loop {
            if let Some(file) = &mut self.file {
                let (begin, due) = (chunk.len(), file.limit().min(CHUNK_BYTES) as usize);
                // Left to itself, it would become twice as large; and each client that receives slowly has one.
                chunk.reserve_exact(due);
                // `read_to_end` would read it in four pieces, each of which may have to wait for a disk, and all clients with it.
                chunk.resize(begin + due, 0);
                file.read_exact(&mut chunk[begin..]).map_err(|error| match error.kind() {
                    ErrorKind::UnexpectedEof => io::Error::other("the file has become shorter than was promised"),
                    _ => error,
                })?;
            }
            send_all_while_taken(client, &chunk, PROGRESS_TIMEOUT).await?;
            if self.file.as_ref().is_none_or(|file| file.limit() == 0) {
                return Ok(());
            }
            chunk.clear();
            next_turn().await;
            chunks.send(()).await?;
        }
    }

    /// Everything before the file.
    fn head(&self) -> String {
        let Response { status, headers, text, .. } = self;
        let date = fmt_http_date(SystemTime::now());
        let connection = if self.is_last { "Connection: close\r\n" } else { "" };
        format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{headers}{connection}\r\n{text}")
    }
}
