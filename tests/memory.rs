//! Out of memory (`ENOMEM`): those who are connected are served, those who wait stay in the kernel's queue, and nobody's memory is
//! the end of the server, which in Rust a failed allocation is.

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, Echo, LIMIT, Server, assert_idle, eventually, need_descriptors, over_echoes, words};
use faults::{Heard, heard, served};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, prlimit};
use std::io::Write;

/// How much more memory a server may take than it has. Some hundred clients take so much.
const ROOM_KB: u64 = 300;

/// More clients than that.
const CLIENTS_MAX: usize = 5_000;

/// How many clients come at a time.
const CROWD: usize = 50;

fn limit_memory(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.pid()), Resource::As, limit).expect("the limit of a child can be changed");
}

fn is_report(line: &str) -> bool {
    line.contains("cannot accept") && line.contains(&words(Errno::NOMEM.raw_os_error()))
}

/// Leaves the server some memory, and lets clients come until it says that it has none for another. All have asked one question,
/// and those who are accepted have their answer.
#[track_caller]
fn crowd_out(server: &Server, connect: impl Fn() -> Client) -> (Vec<Client>, Vec<Client>) {
    let status = server.proc("status");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    let size: u64 = size.and_then(|size| size.parse().ok()).expect("a process knows its size");
    limit_memory(server, Some((size + ROOM_KB) * 1024));
    let (mut answered, mut waiting) = (Vec::new(), Vec::new());
    while waiting.is_empty() {
        assert!(answered.len() < CLIENTS_MAX, "{CLIENTS_MAX} clients fit into {ROOM_KB} kB");
        for _ in 0..CROWD {
            let mut client = connect();
            client.send(b"Me, too");
            waiting.push(client);
        }
        eventually("all are answered, or it says why not", LIMIT, || {
            let (with, without) = waiting.drain(..).partition(|client| heard(client) == Heard::Something);
            answered.extend::<Vec<_>>(with);
            waiting = without;
            waiting.is_empty() || server.stderr.count(is_report) > 0
        });
    }
    for client in &mut answered {
        client.expect_answer(b"Me, too");
    }
    (answered, waiting)
}

over_echoes! {
    without_threads:
        out_of_memory_the_connected_are_served_and_the_waiting_stay_queued;
}

fn out_of_memory_the_connected_are_served_and_the_waiting_stay_queued(echo: Echo) {
    need_descriptors(CLIENTS_MAX as u64 + 100);
    let server = echo.start(&[]);
    let address = server.address();
    let mut first = served(address, 1).remove(0);
    let (mut answered, waiting) = crowd_out(&server, || Client::connect(address));
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
#[ignore = "moves some hundred megabytes"]
fn out_of_memory_who_does_not_read_the_answers_may_be_let_go_and_nobody_else() {
    need_descriptors(CLIENTS_MAX as u64 + 100);
    let server = Server::start(&[]);
    let address = server.address();
    let mut first = served(address, 1).remove(0);
    let (mut clients, _waiting) = crowd_out(&server, || Client::connect_with_small_buffers(address));
    for client in &clients {
        client.stream.set_nonblocking(true).expect("a socket can be made non-blocking");
    }
    // For each that is stuck the server keeps the rest of an answer.
    let is_let_go = |line: &str| line.contains("echo ") && line.contains(&words(Errno::NOMEM.raw_os_error()));
    eventually("one of them is let go for want of memory", LIMIT * 3, || {
        for client in &mut clients {
            while client.stream.write(&[b'x'; 8_000]).is_ok() {}
        }
        server.stderr.count(is_let_go) > 0
    });
    first.ask(b"Still here");
}
