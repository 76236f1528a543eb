//! What the fault tests share beside `common`: where a server listens that cannot say so, clients that wait to be served,
//! and how recovery times are judged.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::common::{Client, LIMIT, Server, eventually};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use socket2::{Domain, Socket, Type};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The state of a listening socket in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";

/// What the shell does so that the daemon cannot open by name what it has no permission for, though it may be root's.
pub const WITHOUT_OVERRIDE: &str =
    "if [ \"$(id -u)\" = 0 ]; then exec setpriv --bounding-set=-dac_override,-dac_read_search \"$0\" \"$@\"; fi";

/// A pseudo-terminal: the side of whoever sits at it, and the side of the program.
pub fn terminal() -> (OwnedFd, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("there are terminals");
    grantpt(&ours).expect("a terminal of our own can be used");
    unlockpt(&ours).expect("a terminal of our own can be used");
    let path = ptsname(&ours, Vec::new()).expect("a terminal has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(path, flags, Mode::empty()).expect("a terminal can be opened");
    (ours, File::from(theirs))
}

/// Where a server listens whose standard output is not ours to read: on the IPv4 port that the kernel knows.
#[track_caller]
pub fn listening_address(server: &mut Server) -> SocketAddr {
    let mut port = None;
    eventually("the server listens", LIMIT, || {
        assert!(server.is_running(), "the server has ended instead of listening");
        port = listening_port(server);
        port.is_some()
    });
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or_default()))
}

fn listening_port(server: &Server) -> Option<u16> {
    let own: Vec<String> = descriptors(server).into_iter().filter_map(|(_, file)| socket_inode(&file)).collect();
    let table = File::open(format!("/proc/{}/net/tcp", server.pid().as_raw_nonzero())).ok()?;
    for line in BufReader::new(table).lines().skip(1) {
        // The columns of proc_net_tcp(5): number, local address, remote address, state, …, and the tenth is the inode.
        let line = line.ok()?;
        let columns: Vec<&str> = line.split_whitespace().collect();
        // Those that listen come first. The others may be very many, with the tests' own connections among them.
        if columns.get(3) != Some(&TCP_LISTEN) {
            return None;
        }
        if own.iter().any(|inode| columns.get(9) == Some(&&**inode)) {
            let port = columns.get(1)?.rsplit(':').next()?;
            return u16::from_str_radix(port, 16).ok();
        }
    }
    None
}

fn socket_inode(file: &str) -> Option<String> {
    Some(file.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// The numbers of the server's open descriptors, and what the kernel calls the files behind them.
pub fn descriptors(server: &Server) -> Vec<(u32, String)> {
    let directory = format!("/proc/{}/fd", server.pid().as_raw_nonzero());
    let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
    let describe = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        // A descriptor may be closed while we look.
        let file = fs::read_link(entry.path()).ok()?;
        Some((number, file.to_string_lossy().into_owned()))
    };
    entries.filter_map(describe).collect()
}

/// How many sockets the server has open: its listeners, and one for each connection.
pub fn open_sockets(server: &Server) -> usize {
    descriptors(server).iter().filter(|(_, file)| file.starts_with("socket:")).count()
}

/// Lets a client come, ask often, and go, so that what the server makes on demand for itself is made.
#[track_caller]
pub fn warm_up(server: &Server, address: SocketAddr) {
    let before = open_sockets(server);
    let mut client = Client::connect(address);
    for _ in 0..200 {
        client.ask(b"Are you awake?");
    }
    drop(client);
    eventually("the first client is gone", LIMIT, || open_sockets(server) <= before);
}

/// Limits the server's descriptors so that it can open `room` more. The limit is one of *numbers*, of which the server may
/// have inherited high ones.
#[track_caller]
pub fn leave_room_for(server: &Server, room: usize) {
    let used: Vec<u32> = descriptors(server).into_iter().map(|(number, _)| number).collect();
    let mut free = (0..).filter(|number| !used.contains(number));
    let limit = free.nth(room).expect("numbers do not end");
    server.limit_descriptors(limit.into());
}

/// How many descriptors with a number below `limit` the server has open.
pub fn descriptors_below(server: &Server, limit: u32) -> usize {
    descriptors(server).iter().filter(|(number, _)| *number < limit).count()
}

/// Clients that have each been answered once.
#[track_caller]
pub fn served(address: SocketAddr, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.ask(b"Are you there?");
    }
    clients
}

/// A client with a small window that has sent `block` over and over until nobody takes any more, because it reads nothing.
/// Returns it and how many bytes it has sent.
#[track_caller]
pub fn client_that_never_reads(address: SocketAddr, block: &[u8]) -> (Client, usize) {
    /// So long nothing is taken before it counts as stuck.
    const STUCK: Duration = Duration::from_millis(60);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket can be made");
    // The window is agreed upon while connecting, so the size must be set before.
    socket.set_recv_buffer_size(1).expect("a buffer can be made smaller");
    socket.connect_timeout(&address.into(), LIMIT).expect("a client can connect");
    let mut client = Client { stream: socket.into() };
    client.stream.set_read_timeout(Some(LIMIT)).expect("a timeout can be set");
    client.stream.set_nonblocking(true).expect("a socket can be made non-blocking");
    let mut sent = 0;
    let mut last_progress = Instant::now();
    while last_progress.elapsed() < STUCK {
        let rest = &block[sent % block.len()..];
        match client.stream.write(rest) {
            Ok(written) => {
                sent += written;
                last_progress = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("cannot send: {error}"),
        }
    }
    client.stream.set_nonblocking(false).expect("a socket can be made blocking");
    (client, sent)
}

/// How many bytes that the client has sent are still in its own kernel's queue, not yet received by the server's.
#[track_caller]
pub fn unreceived_bytes(server: &Server, client: &Client) -> usize {
    const ESTABLISHED: &str = "01";
    let port = format!(":{:04X}", client.local_address().port());
    let peer = client.stream.peer_addr().expect("a connected socket has a peer");
    let peer = format!(":{:04X}", peer.port());
    let table = server.proc("net/tcp");
    let own = |line: &str| {
        // The columns of proc_net_tcp(5): number, local address, remote address, state, queues as `SEND:RECEIVE`.
        let columns: Vec<&str> = line.split_whitespace().collect();
        // Others may use the same port at their end, and what has ended is listed for a while, too.
        let is_own = columns[1].ends_with(&port) && columns[2].ends_with(&peer) && columns[3] == ESTABLISHED;
        let queues = columns.get(4).filter(|_| is_own)?;
        usize::from_str_radix(queues.split(':').next()?, 16).ok()
    };
    table.lines().skip(1).find_map(own).expect("the client's connection is in the kernel's table")
}

/// What has come to a client that is not read from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: the connection stands and waits.
    Nothing,
    /// An answer, or a part of one.
    Something,
    /// The orderly end of the stream.
    End,
    /// A reset, or another error.
    Error,
}

/// What a client has heard, without waiting and without taking it.
#[track_caller]
pub fn heard(client: &Client) -> Heard {
    client.stream.set_nonblocking(true).expect("a socket can be made non-blocking");
    let peeked = client.stream.peek(&mut [0]);
    client.stream.set_nonblocking(false).expect("a socket can be made blocking");
    match peeked {
        Ok(0) => Heard::End,
        Ok(_) => Heard::Something,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
        Err(_) => Heard::Error,
    }
}

/// How many of the clients have heard `what`.
pub fn count_heard(clients: &[Client], what: Heard) -> usize {
    clients.iter().filter(|client| heard(client) == what).count()
}

/// Takes one of the clients that have something to read out of `clients`, waiting for it if need be. Returns it and how
/// long that took.
#[track_caller]
pub fn take_answered(clients: &mut Vec<Client>) -> (Client, Duration) {
    let mut index = None;
    let took = eventually("one of those who wait is served", LIMIT, || {
        index = clients.iter().position(|client| heard(client) == Heard::Something);
        index.is_some()
    });
    (clients.swap_remove(index.unwrap_or_default()), took)
}

/// Judges the times that the same recovery took in several runs, on a machine that may be busy with something else: the
/// best of them must keep the bar, because nothing but the server's own pause makes *every* run long; none of them
/// may come near the limit that stands for "never".
#[track_caller]
pub fn assert_recovers_within(bar: Duration, what: &str, times: &[Duration]) {
    let best = times.iter().min().expect("at least one run");
    assert!(*best <= bar, "{what} takes {best:?} at best, more than {bar:?}: {times:?}");
    let worst = times.iter().max().expect("at least one run");
    assert!(*worst <= LIMIT / 4, "{what} took {worst:?} once: {times:?}");
}

/// Sends ever the same question and reads the answers on one connection, in a thread of its own, until it is told to
/// stop: a client who must not notice what is done to others.
pub struct Bystander {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<u64>>>,
}

impl Bystander {
    /// Connects, and begins.
    #[track_caller]
    pub fn start(address: SocketAddr) -> Bystander {
        let mut client = Client::connect(address);
        client.ask(b"first");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                let text = format!("round {rounds}");
                client.stream.write_all(text.as_bytes())?;
                let mut answer = vec![0; 4 + text.len()];
                client.stream.read_exact(&mut answer)?;
                if answer != format!("GOT:{text}").into_bytes() {
                    return Err(io::Error::other(format!("answered {answer:?} to {text}")));
                }
                rounds += 1;
                thread::sleep(Duration::from_millis(1));
            }
            Ok(rounds)
        });
        Bystander { stop, thread: Some(thread) }
    }

    /// Ends it. Returns how many questions were answered.
    ///
    /// # Panics
    /// When anything went wrong on its connection.
    #[track_caller]
    pub fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let result = self.thread.take().map(|thread| thread.join().expect("the bystander's thread ends"));
        match result {
            Some(Ok(rounds)) => rounds,
            Some(Err(error)) => panic!("the bystander noticed: {error}"),
            None => 0,
        }
    }
}

/// How long `action` takes.
pub fn timed(action: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    action();
    begin.elapsed()
}

/// Expects that `what` is said once a second at most, by all workers together, while they have every reason to say it.
#[track_caller]
pub fn expect_a_line_a_second(server: &Server, begin: Instant, what: &str) {
    let said = |lines: &[String]| lines.iter().filter(|line| line.contains(what)).count();
    server.stderr.wait_until("it is said again", LIMIT, |lines| said(lines) >= 3);
    let seconds = begin.elapsed().as_secs() as usize;
    let lines = said(&server.stderr.all());
    assert!(lines <= seconds + 1, "{lines} lines in {seconds} s: {:?}", server.stderr.all());
}
