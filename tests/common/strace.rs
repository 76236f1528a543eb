//! Failing system calls: `strace -e inject=…` attached to a running server, for as long as the guard lives.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::common::{LIMIT, Lines, Server};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};

/// A tracer that makes calls of one server fail. Dropping it ends the tracer, and with that the failures.
pub struct Strace {
    child: Child,
    /// What it prints: how it goes, and a line for each call that it traces.
    lines: Lines,
}

impl Strace {
    /// Attaches to `server`, traces the calls in `trace` (`accept4,poll`), and tampers with one of them as `inject` says:
    /// `accept4:error=EMFILE:when=3+3`.
    ///
    /// # Panics
    /// When there is no `strace`, or it may not attach (it may to a process of the same user, unless the system has been
    /// told otherwise in `kernel.yama.ptrace_scope`).
    #[track_caller]
    pub fn attach(server: &Server, trace: &str, inject: &str) -> Strace {
        Strace::attach_to(server.pid().as_raw_nonzero().get(), trace, inject)
    }

    /// The same for one thread of a server that has several.
    #[track_caller]
    pub fn attach_to(thread: i32, trace: &str, inject: &str) -> Strace {
        Strace::run(&["-p", &thread.to_string()], trace, inject)
    }

    /// The same for all threads of a process, also those that come later, and only for calls that name the file `path`. A line
    /// `Process ID attached` announces each thread.
    #[track_caller]
    pub fn attach_to_all(process: u32, path: &str, trace: &str, inject: &str) -> Strace {
        Strace::run(&["-f", "-p", &process.to_string(), "-P", path], trace, inject)
    }

    #[track_caller]
    fn run(whom: &[&str], trace: &str, inject: &str) -> Strace {
        let mut child = Command::new("strace")
            .args(whom)
            .args(["-e", &format!("trace={trace}")])
            .args(["-e", &format!("inject={inject}")])
            .args(["-e", "signal=SIGSTOP"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this test needs strace");
        let stderr = child.stderr.take().expect("its standard error is a pipe");
        let strace = Strace { child, lines: Lines::read_from(stderr) };
        strace.lines.wait_for_line(LIMIT, |line| line.contains("attached"));
        strace
    }

    /// The calls so far, as strace prints them.
    pub fn calls(&self) -> Vec<String> {
        self.lines.all().into_iter().filter(|line| line.contains('(') && line.contains('=')).collect()
    }

    /// The thread whose tracing began as the `number`th, counted from 0.
    #[track_caller]
    pub fn wait_for_thread(&self, number: usize) -> u32 {
        let is_attached = |line: &String| line.ends_with(" attached");
        let count = |lines: &[String]| lines.iter().filter(|line| is_attached(line)).count();
        let lines = self.lines.wait_until("another thread is traced", LIMIT, |lines| count(lines) > number);
        let line = lines.iter().filter(|line| is_attached(line)).nth(number);
        line.and_then(|line| line.split(' ').find_map(|word| word.parse().ok())).expect("a number of a thread")
    }

    /// How many calls it has made fail so far.
    pub fn injected(&self) -> usize {
        self.lines.count(|line| line.contains("(INJECTED)"))
    }

    /// Waits until it has made a call fail.
    #[track_caller]
    pub fn wait_until_injected(&self) {
        self.lines.wait_for_line(LIMIT, |line| line.contains("(INJECTED)"));
    }

    /// Lets the server go on untampered.
    ///
    /// The server is stopped for that moment, which it never is in the middle of a call: a tracer that detaches between
    /// the beginning and the end of a call that it makes fail leaves behind an error (ENOSYS) that is nobody's.
    #[track_caller]
    pub fn detach(mut self, server: &Server) {
        server.signal(Signal::STOP);
        self.lines.wait_for_line(LIMIT, |line| line.contains("stopped by SIGSTOP"));
        self.end();
        server.signal(Signal::CONT);
    }

    fn end(&mut self) {
        // It may have ended already, with the server; then the number may be somebody else's.
        if matches!(self.child.try_wait(), Ok(None)) {
            // On SIGTERM it detaches and ends.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
    }
}
