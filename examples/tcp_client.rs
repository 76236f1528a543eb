//! An `nc` of our own: standard input goes to a server, and what the server sends goes to standard output.
//!
//! ```text
//! terminal 1: cargo run
//! terminal 2: cargo run --example tcp_client -- localhost 25000
//! ```
//! Type `Hello` in terminal 2, and `GOT:Hello` comes back. Ctrl-D ends your side; the server then sends what is left, ends
//! its own side, and the program ends. `tcp_client HOST PORT <FILE >ANSWER` does the same without a person.
//!
//! Two tasks share the socket: one waits to send to it, the other to receive from it. Each ends its direction alone, so
//! either end may stop sending first and go on receiving (like `nc`, this one sends until its input ends, even when the
//! server has said its last word). If the server takes no more, what it said is still received; then the error is shown.
//!
//! Standard input and output may be a terminal, a pipe or a file, and are shared with whoever started the program: to make
//! them non-blocking would change them for the shell, too. So a task waits until `poll` says that its descriptor is ready and
//! then makes *one* call. That does not block on a file, or on a pipe, which takes [`CHUNK_BYTES`] if it has room. On a terminal
//! it may: while one is stopped (Ctrl-S), the other direction may have to wait, too.

use fdtask::{Context, Scheduler, Task, Wait, reason};
use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::rc::Rc;

/// How much is moved at a time: what a pipe that is ready takes without blocking (`PIPE_BUF`, which is 512 at least).
const CHUNK_BYTES: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// What has gone wrong, and where: what came last, for a reset that sending was told is no error to receiving any more.
type Failure = (&'static str, io::Error);

/// Moves everything from one descriptor to another.
struct Copy<R, W> {
    name: &'static str,
    from: R,
    to: W,
    /// What has been read and not been written yet. While there is any, nothing more is read.
    unwritten: Vec<u8>,
    /// What to do with `to` when `from` has ended, or nothing more can be written.
    end: fn(&W) -> io::Result<()>,
    /// Whether `to` answers. If it takes no more, it may have said why, and the other direction goes on.
    is_answered: bool,
    failure: Rc<Cell<Option<Failure>>>,
}

impl<R: Read + AsRawFd, W: Write + AsRawFd> Copy<R, W> {
    /// Makes one call, on the descriptor that is ready.
    fn advance(&mut self, why: Wait) -> io::Result<Wait> {
        match why {
            Wait::Recv(_) => {
                let mut buffer = [0; CHUNK_BYTES];
                let len = self.from.read(&mut buffer)?;
                if len == 0 {
                    return Ok((self.end)(&self.to).map_or_else(|error| self.fail(error), |()| Wait::Done));
                }
                self.unwritten.extend_from_slice(&buffer[..len]);
            }
            Wait::Send(_) => match self.to.write(&self.unwritten)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                len => drop(self.unwritten.drain(..len)),
            },
            // The task is new.
            _ => {}
        }
        Ok(self.next())
    }

    fn fail(&self, error: io::Error) -> Wait {
        self.failure.set(Some((self.name, error)));
        Wait::Done
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
                let _ = (self.end)(&self.to);
                if !(self.is_answered && matches!(cx.why(), Wait::Send(_))) {
                    // The other direction is of no use any more.
                    cx.stop();
                }
                Ok(self.fail(error))
            }
            wait => wait,
        }
    }

    fn name(&self) -> Cow<'_, str> {
        self.name.into()
    }
}

/// Talks to the server until both directions have ended. Returns what has gone wrong, if anything.
fn talk(host: &str, port: u16) -> io::Result<Option<Failure>> {
    // Nothing else is going on yet, so looking up the name and connecting, to the first address that answers, may block.
    let socket = TcpStream::connect((host, port))?;
    socket.set_nonblocking(true)?;
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let failure = Rc::new(Cell::new(None));
    let mut scheduler = Scheduler::new();
    scheduler.spawn(Copy {
        name: "sending",
        from: stdin,
        to: socket.try_clone()?,
        unwritten: Vec::new(),
        end: |socket| socket.shutdown(Shutdown::Write),
        is_answered: true,
        failure: Rc::clone(&failure),
    });
    scheduler.spawn(Copy {
        name: "receiving",
        from: socket,
        to: stdout,
        unwritten: Vec::new(),
        end: |_| Ok(()),
        is_answered: false,
        failure: Rc::clone(&failure),
    });
    scheduler.run();
    Ok(failure.take())
}

fn arguments() -> Option<(String, u16)> {
    let mut arguments = std::env::args_os().skip(1).map(|text| text.into_string().ok());
    let both = (arguments.next()??, arguments.next()??.parse().ok()?);
    arguments.next().is_none().then_some(both)
}

fn main() -> ExitCode {
    let Some((host, port)) = arguments() else {
        let _ = writeln!(io::stderr(), "usage: tcp_client HOST PORT");
        return ExitCode::from(2);
    };
    let _ = match talk(&host, port) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some((name, error))) => writeln!(io::stderr(), "tcp_client: {name}: {}", reason(&error)),
        Err(error) => writeln!(io::stderr(), "tcp_client: cannot reach {host:?} port {port}: {}", reason(&error)),
    };
    ExitCode::FAILURE
}
