//! A process of the built binary, or of an example that is a server, which is ended with the guard that stands for it.

use super::{LIMIT, LOOK_INTERVAL, eventually};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What the first line on standard output begins with.
const LISTENING: &str = "Listening on ";

/// How a server is to be started.
pub struct ServerBuilder {
    binary: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    shell: Option<String>,
    stdout: Stdio,
    stderr: Stdio,
}

impl ServerBuilder {
    /// A server of this binary, with nothing but what is said from here on.
    pub fn of(binary: impl Into<PathBuf>) -> ServerBuilder {
        ServerBuilder {
            binary: binary.into(),
            args: Vec::new(),
            env: Vec::new(),
            shell: None,
            stdout: Stdio::piped(),
            stderr: Stdio::piped(),
        }
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts the binary from a shell that first does this, such as `ulimit -n 64` or `exec <&- >&-`. The shell becomes
    /// the server, so the process is the same.
    pub fn after(mut self, shell: &str) -> Self {
        self.shell = Some(format!("{shell}; exec \"$0\" \"$@\""));
        self
    }

    /// Gives it this standard output instead of one whose lines are kept.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = stdout.into();
        self
    }

    /// Gives it this standard error instead of one whose lines are kept.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = stderr.into();
        self
    }

    /// Starts the binary, without waiting for anything.
    pub fn spawn(self) -> Server {
        let mut command = match &self.shell {
            Some(shell) => {
                let mut sh = Command::new("sh");
                sh.arg("-c").arg(shell).arg(self.binary);
                sh
            }
            None => Command::new(self.binary),
        };
        command.args(self.args).stdin(Stdio::null()).stdout(self.stdout).stderr(self.stderr);
        // Whoever runs the tests may itself be a service, which is not ours to speak for.
        command.env_remove("NOTIFY_SOCKET").envs(self.env);
        let mut child = command.spawn().expect("the built binary can be started");
        let stdout = child.stdout.take().map(Lines::read_from).unwrap_or_default();
        let stderr = child.stderr.take().map(Lines::read_from).unwrap_or_default();
        Server { child, stdout, stderr }
    }
}

/// A running server. It is killed when this is dropped.
pub struct Server {
    child: Child,
    /// What it has printed on standard output.
    pub stdout: Lines,
    /// What it has printed on standard error.
    pub stderr: Lines,
}

impl Server {
    /// A server with nothing but what is said from here on: the binary listens on its default port.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::of(env!("CARGO_BIN_EXE_fdtask"))
    }

    /// A server that listens on a free port of the loopback, once it does.
    #[track_caller]
    pub fn start(args: &[&str]) -> Server {
        let server = Server::builder().args(["--listen", "127.0.0.1:0"]).args(args).spawn();
        server.address();
        server
    }

    /// The address of its first `Listening on ADDR:PORT`, once it has printed that.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.addresses(1)[0]
    }

    /// The addresses of its first `count` lines `Listening on ADDR:PORT`, once it has printed them.
    #[track_caller]
    pub fn addresses(&self, count: usize) -> Vec<SocketAddr> {
        let addresses = |lines: &[String]| -> Vec<SocketAddr> {
            let addresses = lines.iter().filter_map(|line| line.strip_prefix(LISTENING));
            addresses.map(|address| address.parse().expect("an address and a port")).collect()
        };
        let lines = self.stdout.wait_until("it listens", LIMIT, |lines| addresses(lines).len() >= count);
        addresses(&lines)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server is there to be signalled");
    }

    /// Stops it (`SIGSTOP`), and waits until it has stopped.
    #[track_caller]
    pub fn pause(&self) {
        eventually("the server is stopped", LIMIT, || {
            // Again, because whoever has stopped the tests and lets them go on does the same to the server.
            self.signal(Signal::STOP);
            self.state() == 'T'
        });
    }

    /// Lets it go on after [`pause`](Server::pause).
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Lets a stopped server go on until it sends something to `client`, and no further: the kernel stops it in that very call.
    /// So what it has done before can be counted.
    #[track_caller]
    #[cfg(target_os = "linux")]
    pub fn go_on_until_it_sends_to(&self, client: &TcpStream) {
        /// What signal is sent to the owner when something has come, in place of `SIGIO`.
        const F_SETSIG: libc::c_int = 10;
        let set = |what: libc::c_int, value: libc::c_int| {
            // SAFETY: no pointer is passed.
            let result = unsafe { libc::fcntl(client.as_raw_fd(), what, value) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        };
        set(libc::F_SETOWN, self.pid().as_raw_nonzero().get());
        set(F_SETSIG, libc::SIGSTOP);
        set(libc::F_SETFL, libc::O_ASYNC);
        self.go_on();
        // Nobody is to sleep in receiving meanwhile: then there is no signal.
        let has_come = || rustix::io::ioctl_fionread(client).is_ok_and(|len| len > 0);
        eventually("the server sends something, and is stopped", LIMIT, || has_come() && self.state() == 'T');
        set(libc::F_SETFL, 0);
    }

    /// What the kernel says that it does: `R`uns, `S`leeps, is s`T`opped.
    pub fn state(&self) -> char {
        let stat = self.proc("stat");
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        after_name.chars().next().unwrap_or('?')
    }

    /// A file of its directory in `/proc`.
    #[track_caller]
    pub fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
    }

    /// How many descriptors it has open.
    #[track_caller]
    pub fn open_descriptors(&self) -> usize {
        self.descriptors().len()
    }

    /// How many sockets it has open: its listeners and its connections, without what the poller may make for itself.
    #[track_caller]
    pub fn open_sockets(&self) -> usize {
        let is_socket = |file: &&PathBuf| file.to_string_lossy().starts_with("socket:");
        self.descriptors().iter().filter(is_socket).count()
    }

    /// What its descriptors are, as `/proc` shows them.
    #[track_caller]
    fn descriptors(&self) -> Vec<PathBuf> {
        let path = format!("/proc/{}/fd", self.child.id());
        let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        // One that is closed meanwhile cannot be read any more.
        entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
    }

    /// Changes its soft limit of open descriptors while it runs: to so many, or as many as the system allows.
    pub fn limit_descriptors(&self, soft: u64) {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: Some(maximum.map_or(soft, |maximum| soft.min(maximum))), maximum };
        prlimit(Some(self.pid()), Resource::Nofile, limit).expect("the limit of a child can be changed");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end, and then for the end of its output.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(begin.elapsed() < limit, "the server has not ended within {limit:?}\n{}", self.output());
            thread::sleep(LOOK_INTERVAL);
        };
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        status
    }

    /// Kills it (`SIGKILL`), and waits until it is gone.
    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn output(&self) -> String {
        format!("stdout: {:#?}\nstderr: {:#?}", self.stdout.all(), self.stderr.all())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("The server of this test had printed the following.\n{}", self.output());
        }
    }
}

/// The lines that come out of a pipe, kept by a thread that reads it.
#[derive(Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    read: Mutex<Reading>,
    changed: Condvar,
}

#[derive(Default)]
struct Reading {
    lines: Vec<String>,
    /// Whether more may come.
    is_open: bool,
}

impl Lines {
    /// Reads `pipe` from now on.
    pub fn read_from(pipe: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let shared = Arc::clone(&lines.0);
        shared.update(|reading| reading.is_open = true);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                shared.update(|reading| reading.lines.push(text));
                line.clear();
            }
            shared.update(|reading| reading.is_open = false);
        });
        lines
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.0.read.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// How many lines so far are as `predicate` says.
    pub fn count(&self, predicate: impl Fn(&str) -> bool) -> usize {
        self.all().iter().filter(|line| predicate(line)).count()
    }

    /// Waits for a line, which may have come already, and returns it.
    ///
    /// # Panics
    /// When it does not come within `limit`.
    #[track_caller]
    pub fn wait_for_line(&self, limit: Duration, predicate: impl Fn(&str) -> bool) -> String {
        let lines = self.wait_until("a line comes", limit, |lines| lines.iter().any(|line| predicate(line)));
        lines.into_iter().find(|line| predicate(line)).expect("it has just been seen")
    }

    /// Waits until the lines so far are as `condition` says, and returns them.
    ///
    /// # Panics
    /// When they are not within `limit`.
    #[track_caller]
    pub fn wait_until(&self, what: &str, limit: Duration, condition: impl Fn(&[String]) -> bool) -> Vec<String> {
        let lines = self.wait(limit, |reading| condition(&reading.lines) || !reading.is_open);
        assert!(condition(&lines), "not within {limit:?}: {what}; the lines so far: {lines:#?}");
        lines
    }

    /// Waits until the other end of the pipe is closed. (Gives up without a word after [`LIMIT`]: a process that was
    /// started by the server could hold it open.)
    fn wait_for_end(&self) {
        self.wait(LIMIT, |reading| !reading.is_open);
    }

    fn wait(&self, limit: Duration, until: impl Fn(&Reading) -> bool) -> Vec<String> {
        let begin = Instant::now();
        let mut reading = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        while !until(&reading) {
            let Some(left) = limit.checked_sub(begin.elapsed()) else { break };
            let result = self.0.changed.wait_timeout(reading, left);
            reading = result.unwrap_or_else(PoisonError::into_inner).0;
        }
        reading.lines.clone()
    }
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.read.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}
