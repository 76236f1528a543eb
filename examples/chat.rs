//! A chat room for `nc` and `telnet`.
//!
//! ```text
//! terminal 1: cargo run --example chat -- 127.0.0.1:25000
//! terminal 2: nc localhost 25000
//! terminal 3: telnet localhost 25000
//! ```
//! Terminals 2 and 3 are asked for a name. From then on, what one of them types appears in the other behind the name, and
//! each is told when somebody comes or leaves. Ctrl-D leaves `nc`; Ctrl-], then `quit`, leaves `telnet`.
//!
//! Each client has two tasks, which share its connection: one receives its lines, the other sends it those of the others, which wait
//! in a queue. The queue is bounded. A client that does not read (stop terminal 2 with Ctrl-Z, and type on in terminal 3) fills
//! its own queue and then misses lines, and is told how many when it is back; nobody waits for it, and it costs no more
//! memory than its queue.

use fdtask::channel::{Receiver, Sender, channel};
use fdtask::future::{self, send_all};
use fdtask::net::{Acceptor, Limit, Lines, Listener, Stream};
use fdtask::{Diagnostics, Handle, Scheduler, reason};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::{io, time::Duration};

/// How many lines wait for a client that does not read.
const QUEUE_LINES: usize = 64;
/// A longer line is said in pieces.
const LINE_BYTES_MAX: usize = 1000;
const NAME_CHARS_MAX: usize = 20;
const CLIENTS_MAX: usize = 1000;
/// How long a client that has left may take to read what is left in its queue.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is here, by name.
type Room = Rc<RefCell<BTreeMap<String, Outbox>>>;

/// The lines for one client.
struct Outbox {
    lines: Sender<Rc<str>>,
    missed: usize,
}

impl Outbox {
    fn post(&mut self, line: &Rc<str>) {
        if self.missed > 0 {
            let notice = format!("* You have missed {} lines.\n", self.missed);
            if self.lines.try_send(notice.into()).is_ok() {
                self.missed = 0;
            }
        }
        if self.missed > 0 || self.lines.try_send(Rc::clone(line)).is_err() {
            self.missed += 1;
        }
    }
}

/// A client that has a name. When it is dropped, however that comes about, it has left.
struct Guest {
    name: String,
    room: Room,
}

impl Guest {
    fn tell_others(&self, line: &str) {
        let line: Rc<str> = format!("{line}\n").into();
        for (_, outbox) in self.room.borrow_mut().iter_mut().filter(|(name, _)| **name != self.name) {
            outbox.post(&line);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.tell_others(&format!("* {} has left.", self.name));
        self.room.borrow_mut().remove(&self.name);
    }
}

/// What a client says next, fit to be shown on a terminal. One line per turn: who reads keeps up with who types fast.
async fn hear(input: &mut Lines, stream: &Stream) -> io::Result<Option<String>> {
    future::next_turn().await;
    let harmless = |line: Vec<u8>| String::from_utf8_lossy(&line).trim().replace(char::is_control, "?");
    Ok(input.recv(stream).await?.map(harmless))
}

/// Receives what a client says.
async fn serve(scheduler: Handle, stream: Rc<Stream>, room: Room) -> io::Result<()> {
    let (lines, queue) = channel(&scheduler, QUEUE_LINES);
    // Dropping this cancels that task, so it does not outlive this one.
    let sending = future::spawn(&scheduler, deliver(Rc::clone(&stream), queue));
    let mut input = Lines::new(LINE_BYTES_MAX);
    // A queue that is full already takes no answer either.
    let answer = |text: String| lines.try_send(text.into()).unwrap_or(());
    answer("* Your name?\n".to_owned());
    while let Some(name) = hear(&mut input, &stream).await? {
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            answer(format!("* A name has 1 to {NAME_CHARS_MAX} letters. Your name?\n"));
        } else if room.borrow().contains_key(&name) {
            answer(format!("* {name} is somebody else. Your name?\n"));
        } else {
            let others = room.borrow().keys().cloned().collect::<Vec<_>>().join(", ");
            answer(format!("* Hello, {name}. Here are: {}.\n", if others.is_empty() { "you alone" } else { &others }));
            room.borrow_mut().insert(name.clone(), Outbox { lines: lines.clone(), missed: 0 });
            let guest = Guest { name, room: Rc::clone(&room) };
            guest.tell_others(&format!("* {} is here.", guest.name));
            while let Some(line) = hear(&mut input, &stream).await? {
                if !line.is_empty() {
                    guest.tell_others(&format!("{}: {line}", guest.name));
                }
            }
        }
    }
    drop(lines);
    future::timeout(&scheduler, FAREWELL_TIMEOUT, sending).await??
}

/// Sends a client what the others say.
async fn deliver(stream: Rc<Stream>, queue: Receiver<Rc<str>>) -> io::Result<()> {
    while let Some(line) = queue.recv().await {
        send_all(&stream, line.as_bytes()).await?;
    }
    Ok(())
}

fn run(address: SocketAddr) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    scheduler.observe(Diagnostics::to_stderr(&scheduler.handle(), "chat")?);
    let listener = Listener::bind(address)?;
    println!("Listening on {}", listener.address());
    let (handle, room) = (scheduler.handle(), Room::default());
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
        eprintln!("usage: chat ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let Err(error) = run(address) else { return ExitCode::SUCCESS };
    eprintln!("chat: cannot listen on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
