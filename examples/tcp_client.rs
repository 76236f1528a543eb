//! An `nc` of our own: standard input goes to a server, and what the server sends goes to standard output.
//!
//! ```text
//! terminal 1: cargo run
//! terminal 2: cargo run --example tcp_client -- localhost 25000
//! ```
//! Type `Hello` in terminal 2, and `GOT:Hello` comes back. Ctrl-D ends your side; the server then sends what is left, ends
//! its own side, and the program ends. `tcp_client -- HOST PORT <FILE >ANSWER` does the same without a person.
//!
//! Two tasks share the socket: one waits to send to it, the other to receive from it. Each ends its direction alone, so
//! either end may stop sending first and go on receiving (like `nc`, this one sends until its input ends, even when the
//! server has said its last word).
//!
//! Standard input and output may be a terminal, a pipe or a file, and are shared with whoever started the program: to make
//! them non-blocking would change them for the shell, too. So a task waits until `poll` says that its descriptor is ready and
//! then makes *one* call, which does not block (a file is always ready; a pipe that has room takes [`CHUNK_BYTES`]).

use fdtask::{Context, Scheduler, Task, Wait, reason};
use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::rc::Rc;

/// How much is moved at a time: what a pipe that is ready takes without blocking (`PIPE_BUF` on Linux, 512 is the least that
/// there is).
const CHUNK_BYTES: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// Moves everything from one descriptor to another.
struct Copy<R, W> {
    name: &'static str,
    from: R,
    to: W,
    /// What has been read and not been written yet. While there is any, nothing more is read.
    unwritten: Vec<u8>,
    /// What to do with `to` when `from` has ended.
    end: fn(&W) -> io::Result<()>,
    has_failed: Rc<Cell<bool>>,
}

impl<R: Read + AsRawFd, W: Write + AsRawFd> Copy<R, W> {
    /// Makes one call, on the descriptor that is ready.
    fn advance(&mut self, why: Wait) -> io::Result<Wait> {
        match why {
            Wait::Recv(_) => {
                let mut buffer = [0; CHUNK_BYTES];
                let len = self.from.read(&mut buffer)?;
                if len == 0 {
                    (self.end)(&self.to)?;
                    return Ok(Wait::Done);
                }
                self.unwritten.extend_from_slice(&buffer[..len]);
            }
            Wait::Send(_) => {
                let len = self.to.write(&self.unwritten)?;
                self.unwritten.drain(..len);
            }
            // The task is new.
            _ => {}
        }
        Ok(self.next())
    }

    fn next(&self) -> Wait {
        if self.unwritten.is_empty() { Wait::Recv(self.from.as_raw_fd()) } else { Wait::Send(self.to.as_raw_fd()) }
    }
}

impl<R: Read + AsRawFd, W: Write + AsRawFd> Task for Copy<R, W> {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        match self.advance(cx.why()) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(self.next()),
            Err(error) => {
                eprintln!("tcp_client: {}: {}", self.name, reason(&error));
                self.has_failed.set(true);
                // The other direction is of no use any more.
                cx.stop();
                Err(error)
            }
            wait => wait,
        }
    }

    fn name(&self) -> Cow<'_, str> {
        self.name.into()
    }
}

/// Talks to the server until both directions have ended. Returns whether they did so in peace.
fn talk(host: &str, port: u16) -> io::Result<bool> {
    // Nothing else is going on yet, so looking up the name and connecting, to the first address that answers, may block.
    let socket = TcpStream::connect((host, port))?;
    socket.set_nonblocking(true)?;
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let has_failed = Rc::new(Cell::new(false));
    let mut scheduler = Scheduler::new();
    scheduler.spawn(Copy {
        name: "sending",
        from: stdin,
        to: socket.try_clone()?,
        unwritten: Vec::new(),
        end: |socket| socket.shutdown(Shutdown::Write),
        has_failed: Rc::clone(&has_failed),
    });
    scheduler.spawn(Copy {
        name: "receiving",
        from: socket,
        to: stdout,
        unwritten: Vec::new(),
        end: |_| Ok(()),
        has_failed: Rc::clone(&has_failed),
    });
    scheduler.run();
    Ok(!has_failed.get())
}

fn arguments() -> Option<(String, u16)> {
    let mut arguments = std::env::args_os().skip(1).map(|text| text.into_string().ok());
    let both = (arguments.next()??, arguments.next()??.parse().ok()?);
    arguments.next().is_none().then_some(both)
}

fn main() -> ExitCode {
    let Some((host, port)) = arguments() else {
        eprintln!("usage: tcp_client HOST PORT");
        return ExitCode::from(2);
    };
    match talk(&host, port) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tcp_client: cannot connect to {host} port {port}: {}", reason(&error));
            ExitCode::FAILURE
        }
    }
}
