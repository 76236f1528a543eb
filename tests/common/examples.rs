//! The built examples as processes, and the programs that talk to them.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::common::{self, LIMIT, Lines};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// The command that runs an example.
#[track_caller]
pub fn example(name: &str) -> Command {
    Command::new(common::example(name))
}

/// A process with its output kept, which is killed when this is dropped.
pub struct Program {
    pub child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Program {
    /// Starts `command`; its standard input is a pipe, unless it has been given another.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Program {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdout = Lines::read_from(child.stdout.take().expect("standard output is a pipe"));
        let stderr = Lines::read_from(child.stderr.take().expect("standard error is a pipe"));
        Program { child, stdout, stderr }
    }

    /// Starts an example that is a server, and waits until it listens.
    #[track_caller]
    pub fn example(name: &str, args: &[&str]) -> Program {
        let program = Program::spawn(example(name).args(args).stdin(Stdio::null()));
        program.stdout.wait_for_line(LIMIT, |line| line.starts_with("Listening on "));
        program
    }

    /// The address in its line `Listening on ADDR:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.address_behind("Listening on ")
    }

    /// The address in the line that begins so.
    pub fn address_behind(&self, start: &str) -> SocketAddr {
        let line = self.stdout.wait_for_line(LIMIT, |line| line.starts_with(start));
        line[start.len()..].parse().expect("an address and a port")
    }

    /// Types into its standard input.
    #[track_caller]
    pub fn type_in(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("standard input is a pipe");
        stdin.write_all(text.as_bytes()).expect("the program reads its standard input");
    }

    /// The most memory that it has ever occupied.
    pub fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// How many sockets it has open.
    pub fn open_sockets(&self) -> usize {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs");
        // One that is closed meanwhile cannot be read any more.
        let files = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        files.filter(|file| file.to_string_lossy().starts_with("socket:")).count()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(begin.elapsed() < limit, "not ended within {limit:?}: {:?}", self.stdout.all());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("A program of this test had printed {:#?} {:#?}", self.stdout.all(), self.stderr.all());
        }
    }
}

/// Runs `curl` with these arguments to its end, within a minute.
#[track_caller]
pub fn curl<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", ""]).args(args);
    command.output().unwrap_or_else(|error| panic!("cannot run curl: {error}"))
}

/// What `curl` with these arguments prints; it must succeed.
#[track_caller]
pub fn curl_text<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> String {
    let output = curl(args);
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Sends `bytes` to a TCP server, half-closes, and returns all that comes back.
#[track_caller]
pub fn converse(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).expect("the server receives");
    stream.shutdown(Shutdown::Write).expect("a connection can be half-closed");
    read_to_end(&mut stream)
}

/// A connection on which nothing waits longer than [`LIMIT`].
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("the server listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    stream.set_write_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    stream
}

/// All that comes until the other end closes, which must not be a reset.
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) => panic!("after {:?}: {error}", String::from_utf8_lossy(&bytes)),
    }
}

/// Floods the connection from `client` to `server`, and expects what goes in the other direction to come all the while.
#[track_caller]
pub fn expect_bytes_against_a_flood(mut client: TcpStream, mut server: TcpStream) {
    let mut sink = server.try_clone().expect("a descriptor can be duplicated");
    let mut source = client.try_clone().expect("a descriptor can be duplicated");
    let flood = thread::spawn(move || while source.write_all(&vec![1; 65_536]).is_ok() {});
    let drain = thread::spawn(move || while sink.read(&mut vec![0; 65_536]).is_ok_and(|len| len > 0) {});
    for round in 0..100_u8 {
        server.write_all(&[round]).expect("the proxy receives");
        let mut answer = [0];
        client.read_exact(&mut answer).expect("the other direction moves, too");
        assert_eq!(answer, [round]);
    }
    client.shutdown(Shutdown::Both).expect("a connection can be closed");
    flood.join().expect("the client had no trouble");
    drain.join().expect("the server had no trouble");
}

/// All that comes up to and including `end`.
#[track_caller]
pub fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let mut byte = [0];
        // Unlike `read`, this goes on after an interruption, which a machine that is stopped and continued is to a socket with a
        // timeout.
        match stream.read_exact(&mut byte) {
            Ok(()) => bytes.push(byte[0]),
            other => panic!("{other:?} instead of {end:?} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An address at which connections are refused, for as long as the socket lives: it has the port, and does not listen. (A port
/// that nobody has may be given to another test meanwhile.)
#[track_caller]
pub fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    (socket, address.expect("a bound socket has an address"))
}

/// A directory for the files of one test, which is removed with this.
pub struct Directory(PathBuf);

impl Directory {
    #[track_caller]
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fdtask-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the path is text").to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server written in Python, which prints `Listening on 127.0.0.1:PORT` first.
#[track_caller]
pub fn python(script: &str) -> Program {
    let program = Program::spawn(Command::new("python3").args(["-u", "-c", script]).stdin(Stdio::null()));
    program.stdout.wait_for_line(LIMIT, |line| line.starts_with("Listening on "));
    program
}

/// A web server that is Python's: `GET /N` answers N mebibytes of which no two are alike, `PUT` receives something, and both
/// print the SHA-1 of it.
pub const WEB_SERVER: &str = r"
import hashlib, http.server
block = b''.join(hashlib.sha512(i.to_bytes(8, 'big')).digest() for i in range(16384))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass
    def do_GET(self):
        count, digest = int(self.path[1:]), hashlib.sha1()
        self.send_response(200)
        self.send_header('Content-Length', str(count * len(block)))
        self.end_headers()
        for i in range(count):
            part = i.to_bytes(8, 'big') + block[8:]
            digest.update(part)
            self.wfile.write(part)
        print('sent', digest.hexdigest())
    def do_PUT(self):
        digest = hashlib.sha1()
        while size := int(self.rfile.readline(), 16):
            while size > 0:
                part = self.rfile.read(min(size, 65536))
                size -= len(part)
                digest.update(part)
            self.rfile.readline()
        self.rfile.readline()
        self.send_response(200)
        self.send_header('Content-Length', '40')
        self.end_headers()
        self.wfile.write(digest.hexdigest().encode())
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print('Listening on 127.0.0.1:%d' % server.server_address[1])
server.serve_forever()
";
