//! Child processes. Each is ended, with all that it has started, whatever way we leave.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::sys;

/// How often we look whether a child has ended: rarely enough to be no load.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A server that has not said where it listens by then never will.
const START_MAX: Duration = Duration::from_secs(20);
/// A child that closes its standard output is about to end, if it is not gone after this.
const ENDING_MAX: Duration = Duration::from_secs(2);

/// A child that ends when this value does.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before the wait, as long as the number is its own.
        sys::end_group(self.pid());
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts `command` on `cores`.
    pub fn start(mut command: Command, cores: &[usize]) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        sys::contain(&mut command, cores);
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let stdout = child.stdout.take().context("the child has no stdout")?;
        Ok(Running { child, lines: first_line(stdout) })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line it prints.
    pub fn first_line(&mut self, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            ensure!(!sys::interrupted(), "interrupted");
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => return Ok(line),
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("it printed nothing for {limit:?}"),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.without_a_line()),
            }
        }
    }

    /// Why no line will come: its standard output has ended, and so has it, or it lives on without one.
    fn without_a_line(&mut self) -> anyhow::Error {
        let end = Instant::now() + ENDING_MAX;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return anyhow!("it ended without a line ({status})"),
                Ok(None) if Instant::now() < end => thread::sleep(LOOK_EVERY),
                Ok(None) => return anyhow!("it closed its standard output without a line"),
                Err(error) => return error.into(),
            }
        }
    }

    /// Where a server says that it listens.
    pub fn address(&mut self) -> Result<SocketAddr> {
        let line = self.first_line(START_MAX)?;
        let address = line.strip_prefix("Listening on ").and_then(|address| address.trim_end().parse().ok());
        address.with_context(|| format!("not `Listening on ADDR:PORT`: {line:?}"))
    }
}

/// Hands over the first line and swallows the rest, so that a talkative child is not stopped by a full pipe.
fn first_line(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        if matches!(stdout.read_line(&mut line), Ok(length) if length > 0) {
            let _ = sender.send(line);
        }
        let _ = io::copy(&mut stdout, &mut io::sink());
    });
    receiver
}

/// Runs a command of the build to its end.
pub fn succeed(mut command: Command) -> Result<()> {
    sys::contain(&mut command, &[]);
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if sys::interrupted() {
            sys::end_group(child.id());
            child.wait()?;
            bail!("interrupted");
        }
        thread::sleep(LOOK_EVERY);
    };
    ensure!(status.success(), "{:?} failed ({status})", command.get_program());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Running::start(command, &[]).unwrap()
    }

    #[test]
    fn a_server_ends_with_the_wrapper_that_started_it() {
        let mut wrapper = shell("sleep 1000 & echo started; wait");
        assert_eq!(wrapper.first_line(START_MAX).unwrap(), "started\n");
        let lines = std::mem::replace(&mut wrapper.lines, mpsc::channel().1);
        drop(wrapper);
        // Nobody has the other end of the pipe any more.
        assert_eq!(lines.recv_timeout(START_MAX), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_child_without_a_line_is_an_error_whether_it_ends_or_lives_on() {
        let error = shell("exit 3").first_line(START_MAX).unwrap_err();
        assert_eq!(error.to_string(), "it ended without a line (exit status: 3)");
        let error = shell("exec sleep 1000 >&-").first_line(START_MAX).unwrap_err();
        assert_eq!(error.to_string(), "it closed its standard output without a line");
    }
}
