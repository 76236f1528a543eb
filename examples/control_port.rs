//! The echo server with a control port, which shows what the server is doing to whoever runs it.
//!
//! ```text
//! terminal 1: cargo run --example control_port -- 127.0.0.1:25000 25001
//! terminal 2: nc localhost 25000
//! terminal 3: telnet localhost 25001
//! ```
//! Type `ps` in terminal 3: the table of live tasks has an `echo 127.0.0.1:…` for terminal 2, and `(this task)` for
//! the session that asks. `help` shows the other commands; whatever else you type is refused.
//!
//! The port is on the loopback only. A socket in the file system can be used by the same user only; `nc -U ./control` talks to
//! ```text
//! terminal 1: cargo run --example control_port -- 127.0.0.1:25000 ./control
//! ```

use fdtask::net::{Acceptor, Echo, Limit, Listener, Stream};
use fdtask::{Context, Scheduler, Task, TaskTable, Wait, reason, task_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, io, os::fd::AsRawFd};

/// How many sessions there may be at a time on the port.
const SESSIONS_MAX: usize = 16;
/// A session ends when there has been no command for so long, …
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// … and so long after its last words if the other end does not close it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a command may be.
const COMMAND_BYTES_MAX: usize = 256;
/// How long to wait before accepting again when that has failed: most likely there is no descriptor left.
const TROUBLE_PAUSE: Duration = Duration::from_millis(200);

const HELP: &str = "ps    shows the tasks\nhelp  shows this\nquit  ends this session\n";

/// Someone at the control port.
struct Session {
    stream: Stream,
    input: Vec<u8>,
    output: Vec<u8>,
    has_quit: bool,
    deadline: Option<Instant>,
}

impl Session {
    fn new(stream: Stream) -> Session {
        let output = b"Type 'help' for help.\n> ".to_vec();
        Session { stream, input: Vec::new(), output, has_quit: false, deadline: None }
    }

    /// Does one thing: sends what is left of an answer, or carries out one command, or receives.
    fn advance(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        if !self.output.is_empty() {
            let sent = self.stream.send(&self.output)?;
            self.output.drain(..sent);
            if self.output.is_empty() && self.has_quit {
                // And then read until the other end closes: to close first, with something unread, would be a reset, which
                // destroys the answer on its way.
                self.stream.shutdown_send()?;
            }
        } else if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let command: Vec<u8> = self.input.drain(..=end).collect();
            self.deadline = Some(cx.now() + COMMAND_TIMEOUT);
            self.answer(cx, command.trim_ascii());
        } else {
            match self.stream.recv(cx.scratch())? {
                0 if self.input.is_empty() => return Ok(Wait::Done),
                // The last command need not end with a newline.
                0 => self.input.push(b'\n'),
                _ if self.has_quit => {}
                received => self.input.extend_from_slice(&cx.scratch()[..received]),
            }
            if self.input.len() > COMMAND_BYTES_MAX && !self.input[..COMMAND_BYTES_MAX].contains(&b'\n') {
                self.quit(cx, &format!("A command has at most {COMMAND_BYTES_MAX} bytes. Good-bye.\n"));
            }
        }
        Ok(Wait::Turn)
    }

    fn answer(&mut self, cx: &Context<'_>, command: &[u8]) {
        let answer = match command {
            b"ps" => TaskTable(&cx.tasks()).to_string(),
            b"help" => HELP.to_owned(),
            b"quit" => return self.quit(cx, "Good-bye.\n"),
            b"" => String::new(),
            _ => format!("Sorry, '{}' is not a command; try 'help'.\n", command.escape_ascii()),
        };
        self.output = format!("{answer}> ").into_bytes();
    }

    fn quit(&mut self, cx: &Context<'_>, last_words: &str) {
        self.input.clear();
        self.output = last_words.as_bytes().to_vec();
        self.has_quit = true;
        self.deadline = Some(cx.now() + LINGER_TIMEOUT);
    }
}

impl Task for Session {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let deadline = *self.deadline.get_or_insert(cx.now() + COMMAND_TIMEOUT);
        if deadline <= cx.now() {
            return Ok(Wait::Done);
        }
        match self.advance(cx) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                cx.or(Wait::Until(deadline));
                let fd = self.stream.as_raw_fd();
                Ok(if self.output.is_empty() { Wait::Recv(fd) } else { Wait::Send(fd) })
            }
            wait => wait,
        }
    }
}

/// What [`Acceptor`] is for TCP: accepts from a Unix socket at `path`.
fn unix_acceptor(path: &str) -> io::Result<impl Task + use<>> {
    // A program that is gone may have left its socket there. (What is no socket refuses connections, too, and is not ours.)
    if fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(task_fn("unix acceptor", move |cx| {
        match listener.accept().and_then(|(socket, _)| socket.set_nonblocking(true).map(|()| socket)) {
            Ok(socket) => {
                let session = Session::new(Stream::new(cx, socket));
                cx.spawn(session);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(Wait::Until(cx.now() + TROUBLE_PAUSE)),
        }
        Ok(Wait::Recv(listener.as_raw_fd()))
    }))
}

fn serve(address: SocketAddr, control: &str) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let listener = Listener::bind(address)?;
    println!("Listening on {}", listener.address());
    scheduler.spawn(Acceptor::new(&handle, listener, Echo::new));
    if let Ok(port) = control.parse() {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, port).into())?;
        println!("Controlled on {}", listener.address());
        let acceptor = Acceptor::new(&handle, listener, |stream, _peer| Session::new(stream));
        scheduler.spawn(acceptor.with_limit(Some(Limit::new(SESSIONS_MAX))));
    } else {
        scheduler.spawn(unix_acceptor(control)?);
        println!("Controlled on {control}");
    }
    scheduler.run();
    Ok(())
}

fn arguments() -> Option<(SocketAddr, String)> {
    let mut arguments = std::env::args_os().skip(1).map(|text| text.into_string().ok());
    let (address, control) = (arguments.next()??.parse().ok()?, arguments.next()??);
    let is_usable = control.contains('/') || control.parse::<u16>().is_ok();
    (is_usable && arguments.next().is_none()).then_some((address, control))
}

fn main() -> ExitCode {
    let Some((address, control)) = arguments() else {
        eprintln!("usage: control_port ADDRESS:PORT CONTROL_PORT|./SOCKET");
        return ExitCode::from(2);
    };
    let Err(error) = serve(address, &control) else { return ExitCode::SUCCESS };
    eprintln!("control_port: cannot listen on {address} and {control}: {}", reason(&error));
    ExitCode::FAILURE
}
