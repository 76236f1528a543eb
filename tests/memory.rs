//! Out of memory (`ENOMEM`): those who are connected are served, those who wait stay in the kernel's queue, and nobody's memory
//! is the end of the server, which in Rust a failed allocation is.

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{
    Client, Echo, LIMIT, Server, ServerBuilder, Signal, assert_idle, eventually, example, need_descriptors,
    over_echoes, words,
};
use faults::{Heard, heard, listening_address, served};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, prlimit};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// How much more memory a server may take than it has: the daemon keeps some 256 kB of it for who is connected, and the rest is
/// taken by some hundred clients.
const ROOM_BYTES: u64 = 300 * 1024;

/// More clients than that.
const CLIENTS_MAX: usize = 5_000;

/// How many clients come at a time.
const CROWD: usize = 50;

fn limit_memory(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.pid()), Resource::As, limit).expect("the limit of a child can be changed");
}

/// How much address space it has in use.
fn size_bytes(server: &Server) -> u64 {
    let status = server.proc("status");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    size.and_then(|size| size.parse::<u64>().ok()).expect("a process knows its size") * 1024
}

fn is_report(line: &str) -> bool {
    line.contains("cannot accept") && line.contains(&words(Errno::NOMEM.raw_os_error()))
}

/// Leaves the server some memory, and lets clients come until it says that it has none for another. All have asked one question,
/// and those who are accepted have their answer.
#[track_caller]
fn crowd_out(server: &Server) -> (Vec<Client>, Vec<Client>) {
    limit_memory(server, Some(size_bytes(server) + ROOM_BYTES));
    let (mut answered, mut waiting) = (Vec::new(), Vec::new());
    while waiting.is_empty() {
        assert!(answered.len() < CLIENTS_MAX, "{CLIENTS_MAX} clients fit into {ROOM_BYTES} bytes");
        for _ in 0..CROWD {
            let mut client = Client::connect(server.address());
            client.send(b"Me, too");
            waiting.push(client);
        }
        eventually("all are answered, or it says why not", LIMIT, || {
            // Before the clients are looked at: whoever was accepted until then has been answered.
            let is_full = server.stderr.count(is_report) > 0;
            let (with, without) = waiting.drain(..).partition(|client| heard(client) == Heard::Something);
            answered.extend::<Vec<_>>(with);
            waiting = without;
            waiting.is_empty() || is_full
        });
    }
    for client in &mut answered {
        client.expect_answer(b"Me, too");
    }
    (answered, waiting)
}

over_echoes! {
    without_threads: out_of_memory_the_connected_are_served_and_the_waiting_stay_queued;
}

fn out_of_memory_the_connected_are_served_and_the_waiting_stay_queued(echo: Echo) {
    need_descriptors(CLIENTS_MAX as u64 + 100);
    let server = echo.start(&[]);
    let address = server.address();
    let mut first = served(address, 1).remove(0);
    let (mut answered, waiting) = crowd_out(&server);
    assert_idle(&server, "it is out of memory");
    first.ask(b"Still here");
    for client in &mut answered {
        client.ask(b"And me");
    }
    for client in &waiting {
        assert_eq!(heard(client), Heard::Nothing);
    }
    // The limit is lifted, and everybody who waited gets the answer.
    limit_memory(&server, None);
    for mut client in waiting {
        client.expect_answer(b"Me, too");
        client.ask(b"Thanks");
    }
}

#[test]
fn out_of_memory_lines_of_a_log_that_nobody_reads_are_dropped() {
    // The lines of fewer connections than this fill a pipe and the daemon's queue.
    const CONNECTIONS: usize = 2_500;
    let (_reader, stdout) = io::pipe().expect("a pipe can be made");
    let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).stdout(stdout).spawn();
    let address = listening_address(&mut server);
    let mut first = served(address, 1).remove(0);
    let open = server.open_sockets();
    // Those who have gone leave memory for those who come.
    drop(served(address, 4));
    eventually("they are gone", LIMIT, || server.open_sockets() == open);
    limit_memory(&server, Some(size_bytes(&server)));
    for _ in 0..CONNECTIONS {
        Client::connect(address).ask(b"Log me");
    }
    first.ask(b"Still here");
}

#[test]
fn out_of_memory_who_asks_for_the_task_table_is_told_so_and_nobody_is_cut_off() {
    // The memory for their table is more than what an allocator may have kept.
    const CLIENTS: usize = 2_000;
    need_descriptors(CLIENTS as u64 + 100);
    for workers in ["1", "2"] {
        let server = Server::start(&["--workers", workers]);
        let mut clients = served(server.address(), CLIENTS);
        limit_memory(&server, Some(size_bytes(&server)));
        let told = |line: &str| line == "(no memory is left for the task table)";
        server.signal(Signal::USR1);
        eventually("it says that there is no table", LIMIT, || server.stderr.count(told) > 0);
        for client in &mut clients {
            client.ask(b"Still here");
        }
        limit_memory(&server, None);
        server.signal(Signal::USR1);
        eventually("the table comes", LIMIT, || server.stderr.count(|line| line.contains("  echo ")) == CLIENTS);
    }
}

#[test]
#[ignore = "moves some hundred megabytes"]
fn out_of_memory_who_does_not_read_the_answers_may_be_let_go_and_nobody_else() {
    // Whose answers' rests together are more than what an allocator may have kept.
    const CLIENTS: usize = 400;
    need_descriptors(CLIENTS as u64 + 100);
    let server = Server::start(&[]);
    let address = server.address();
    let mut first = served(address, 1).remove(0);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect_with_small_buffers(address)).collect();
    for client in &mut clients {
        client.ask(b"Hello");
        client.stream.set_nonblocking(true).expect("a socket can be made non-blocking");
    }
    limit_memory(&server, Some(size_bytes(&server)));
    let is_let_go = |line: &str| line.contains("echo ") && line.contains(&words(Errno::NOMEM.raw_os_error()));
    eventually("one of them is let go for want of memory", LIMIT, || {
        for client in &mut clients {
            let _ = client.stream.write(&[b'x'; 8_000]);
        }
        server.stderr.count(is_let_go) > 0
    });
    first.ask(b"Still here");
}

/// What a thread's stack takes.
const STACK_BYTES: u64 = 2 << 20;

/// Has a proxy look up a name, while it may take no more than `spare` bytes, and connect to that port. Returns the code of its
/// reply, 0 if it has done so, and the connection.
#[track_caller]
fn look_up(proxy: &mut Server, port: u16, spare: Option<u64>) -> (u8, TcpStream) {
    let mut client = TcpStream::connect(proxy.address()).expect("somebody listens");
    client.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    client.write_all(b"\x05\x01\x00").expect("the proxy receives");
    client.read_exact(&mut [0; 2]).expect("a method");
    limit_memory(proxy, spare.map(|spare| size_bytes(proxy) + spare));
    let request = [b"\x05\x01\x00\x03\x09localhost", &port.to_be_bytes()[..]].concat();
    client.write_all(&request).expect("the proxy receives");
    let mut reply = [0; 10];
    let heard = client.read_exact(&mut reply);
    assert!(proxy.is_running(), "with {spare:?} bytes it has ended: {:?}", proxy.stderr.all());
    heard.expect("a reply");
    limit_memory(proxy, None);
    (reply[1], client)
}

#[test]
fn a_thread_for_which_there_is_memory_but_not_for_what_it_begins_with_is_not_begun() {
    for spare in (0..16).map(|pages| pages * 8 * 1024) {
        let mut proxy = ServerBuilder::of(example("socks5")).args(["127.0.0.1:0"]).spawn();
        let (code, _client) = look_up(&mut proxy, 7, Some(STACK_BYTES + spare));
        assert_ne!(code, 0, "{spare} bytes beside a stack");
    }
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_thread_that_takes_over_the_stack_of_one_that_has_ended_is_begun_though_there_is_no_memory_for_another() {
    let target = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = target.local_addr().expect("a bound socket has an address").port();
    let mut proxy = ServerBuilder::of(example("socks5")).args(["127.0.0.1:0"]).spawn();
    for spare in [None, Some(STACK_BYTES - STACK_BYTES / 8), Some(STACK_BYTES + STACK_BYTES / 8)] {
        let (code, _client) = look_up(&mut proxy, port, spare);
        assert_eq!(code, 0, "{spare:?} bytes");
        let is_alone = || proxy.proc("status").lines().any(|line| line == "Threads:\t1");
        eventually("the thread has ended", LIMIT, is_alone);
    }
}
