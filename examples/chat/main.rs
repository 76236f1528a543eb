//! A chat room for `nc` and `telnet`.
//!
//! ```text
//! terminal 1: cargo run --example chat -- 127.0.0.1:25000
//! terminal 2: nc localhost 25000
//! terminal 3: telnet localhost 25000
//! ```
//! Terminals 2 and 3 are asked for a name. From then on, what one of them types appears in the other behind the name, and
//! each is told when somebody comes or leaves. Ctrl-C leaves `nc`; Ctrl-], then `quit`, leaves `telnet`.
//!
//! Each client has two tasks, which share its connection: one receives its lines (this file), the other sends it those of the
//! others (`room.rs`), which wait in a queue. The queue is bounded. A client that does not read fills its own queue and then
//! misses lines, and is told how many as soon as it has read those before; nobody waits for it, and it costs little more memory
//! than its queue. To see it, stop terminal 2 with Ctrl-Z, and let `(echo bob; base64 -w 900 /dev/zero) | nc localhost 25000` run
//! for some seconds, because the kernel has room for megabytes before; then `fg` in terminal 2.

mod room;

use fdtask::future;
use fdtask::net::{Acceptor, Limit, Lines, Listener, Stream};
use fdtask::{Diagnostics, Handle, Scheduler, reason};
use room::{Guest, Outbox, Room};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// A longer line is said in pieces.
const LINE_BYTES_MAX: usize = 1000;
const NAME_CHARS_MAX: usize = 20;
const CLIENTS_MAX: usize = 1000;
/// How long a client that has left may take to read what is left in its queue.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// What `telnet` asks when Ctrl-C is typed; it shows nothing any more until it is answered (RFC 860).
const DO_TIMING_MARK: [u8; 3] = *b"\xff\xfd\x06";
const WONT_TIMING_MARK: [u8; 3] = *b"\xff\xfc\x06";

/// What a client types.
struct Typed {
    lines: Lines,
    /// The beginning of a letter at the end of a piece: it comes with the next.
    cut: Vec<u8>,
    room: Rc<Room>,
    scheduler: Handle,
}

impl Typed {
    /// The next line, fit to be shown on a terminal. One per turn: who reads keeps up with who types fast. Whatever comes of it,
    /// or of the end, may be told to the others at once.
    async fn next(&mut self, stream: &Stream, outbox: &Outbox) -> io::Result<Option<String>> {
        future::next_turn().await;
        let received = self.lines.recv(stream).await;
        self.room.floor(&self.scheduler).await;
        let Some(mut piece) = received? else { return Ok(None) };
        if piece.windows(3).any(|bytes| bytes == DO_TIMING_MARK) {
            outbox.post(&WONT_TIMING_MARK.into());
        }
        let is_cut = piece.len() == LINE_BYTES_MAX;
        piece.splice(..0, self.cut.drain(..));
        if is_cut && let Some(last) = piece.utf8_chunks().last() {
            self.cut = piece.split_off(piece.len() - last.invalid().len());
        }
        Ok(Some(String::from_utf8_lossy(&piece).trim_end_matches(['\r', '\n']).replace(is_hidden, "?")))
    }
}

/// Whether a terminal would show nothing here, and do something: move, or turn around what others say. (A joiner and a non-joiner
/// do no more to their neighbours than Persian needs, and many an emoji.)
fn is_hidden(letter: char) -> bool {
    let does_format = |letter| {
        matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
    };
    letter.is_control() || does_format(letter)
}

/// Whether this is visible, and cannot be taken for a notice. (Four letters of Korean only fill a place where there is none, and
/// two hieroglyphs are blanks.)
fn is_name(text: &str) -> bool {
    let is_filler = |letter| "\u{115f}\u{1160}\u{3164}\u{ffa0}\u{13441}\u{13442}".contains(letter);
    (1..=NAME_CHARS_MAX).contains(&text.chars().count())
        && text.chars().all(|letter| letter.is_alphanumeric() && !is_filler(letter) || "-_.".contains(letter))
}

/// Receives what a client says.
async fn serve(scheduler: Handle, stream: Rc<Stream>, room: Rc<Room>) -> io::Result<()> {
    let (outbox, sending) = Outbox::new(&scheduler, Rc::clone(&stream));
    // Dropping this cancels that task, so it does not outlive this one.
    let sending = future::spawn(&scheduler, sending);
    let lines = Lines::new(LINE_BYTES_MAX);
    let mut typed = Typed { lines, cut: Vec::new(), room: Rc::clone(&room), scheduler: scheduler.clone() };
    let answer = |text: String| outbox.post(&text.into_bytes().into());
    answer("* Your name?\n".to_owned());
    while let Some(name) = typed.next(&stream, &outbox).await? {
        let name = name.trim().to_owned();
        if !is_name(&name) {
            answer(format!("* A name is 1 to {NAME_CHARS_MAX} letters, digits, or of '-_.'. Your name?\n"));
        } else if room.guests.borrow().contains_key(&name) {
            answer(format!("* {name} is somebody else. Your name?\n"));
        } else {
            let others = room.guests.borrow().keys().cloned().collect::<Vec<_>>().join(", ");
            answer(format!("* Hello, {name}. Here are: {}.\n", if others.is_empty() { "you alone" } else { &others }));
            let guest = Guest::enter(&room, name, outbox.clone());
            while let Some(line) = typed.next(&stream, &outbox).await? {
                if !line.trim().is_empty() {
                    guest.say(&line);
                }
            }
        }
    }
    drop(outbox);
    future::timeout(&scheduler, FAREWELL_TIMEOUT, sending).await??
}

fn run(address: SocketAddr) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    scheduler.observe(Diagnostics::to_stderr(&scheduler.handle(), "chat")?);
    let listener = Listener::bind(address)?;
    // A server whose standard output nobody reads serves all the same.
    let _ = writeln!(io::stdout(), "Listening on {}", listener.address());
    let (handle, room) = (scheduler.handle(), Rc::new(Room::default()));
    let acceptor = Acceptor::new(&scheduler.handle(), listener, move |client, peer| {
        future::task(serve(handle.clone(), Rc::new(client), Rc::clone(&room))).named(format!("chat {peer}"))
    });
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(CLIENTS_MAX))));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|text| text.to_str()?.parse().ok()).collect();
    let [Some(address)] = arguments[..] else {
        let _ = writeln!(io::stderr(), "usage: chat ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let Err(error) = run(address) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "chat: cannot listen on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
