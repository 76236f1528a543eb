//! The descriptors of several workers: how they are made, and what happens when none is left (rows 3 and 13 of the faults).

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, LIMIT, Server, Signal, assert_idle, need_descriptors};
use faults::{
    Heard, assert_recovers_within, count_heard, descriptors, descriptors_below, expect_a_line_a_second, leave_room_for,
    served, take_answered, timed,
};
use std::time::{Duration, Instant};

/// So many clients that each worker surely has some: the kernel spreads them by a hash.
const CROWD: usize = 60;

/// How soon there is service again once there are descriptors.
const RECOVERY: Duration = Duration::from_millis(250);

/// A server without any descriptor left, its clients, and those who wait for one at each listener of each worker. With so many
/// workers it would wake 30 times a second if each of them looked for itself, five times a second.
fn full_server(args: &[&str]) -> (Server, Vec<Client>, Vec<Client>) {
    need_descriptors(1_000);
    let server = Server::builder().args(["-w", "6", "-l", "127.0.0.1:0", "-l", "127.0.0.1:0"]).args(args).spawn();
    let addresses = server.addresses(2);
    let mut clients = served(server.address(), CROWD);
    // Workers that accept at the same moment may pass over a number. The limit is one of numbers, and each client that leaves
    // is to make room under it.
    while has_gap(&server) {
        clients.extend(served(server.address(), 1));
    }
    leave_room_for(&server, 0);
    let mut queue: Vec<Client> = addresses.iter().cycle().take(2 * CROWD).map(|at| Client::connect(*at)).collect();
    for client in &mut queue {
        client.send(b"Me, too");
    }
    (server, clients, queue)
}

/// Whether a number is free under that of a socket.
fn has_gap(server: &Server) -> bool {
    let descriptors = descriptors(server);
    let highest = descriptors.iter().filter(|(_, file)| file.starts_with("socket:")).map(|(number, _)| *number).max();
    highest.is_some_and(|highest| descriptors_below(server, highest) < highest as usize)
}

#[test]
fn out_of_descriptors_all_workers_and_listeners_together_are_idle_and_log_one_line_a_second() {
    let begin = Instant::now();
    let (server, mut clients, mut queue) = full_server(&[]);
    expect_a_line_a_second(&server, begin, "cannot accept");
    assert_idle(&server, "all of its workers are out of descriptors");
    for client in &mut clients {
        client.ask(b"Still here");
    }
    assert_eq!(count_heard(&queue, Heard::Nothing), queue.len(), "nobody in the queue is served, ended or reset");
    server.limit_descriptors(1_000);
    for client in &mut queue {
        client.expect_answer(b"Me, too");
    }
}

#[test]
fn what_the_daemon_has_open_sleeps_in_no_call_and_is_inherited_by_no_child() {
    // Flags of open(2), as fdinfo shows them.
    const NONBLOCK: u32 = 0o4_000;
    const CLOEXEC: u32 = 0o2_000_000;
    let server = Server::start(&["-w", "2"]);
    let _clients = served(server.address(), CROWD);
    let open = descriptors(&server);
    for kind in ["socket:", "anon_inode:[eventfd]", "anon_inode:[signalfd]", "anon_inode:[eventpoll]"] {
        let of_kind: Vec<_> = open.iter().filter(|(_, file)| file.starts_with(kind)).collect();
        assert!(!of_kind.is_empty(), "{kind} {open:?}");
        for (number, file) in of_kind {
            let info = server.proc(&format!("fdinfo/{number}"));
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("fdinfo has flags");
            let flags = u32::from_str_radix(flags.trim(), 8).expect("the flags are octal");
            assert_ne!(flags & CLOEXEC, 0, "{file}: {info}");
            // (Nobody sleeps in an epoll instance: it is only looked at.)
            assert!(flags & NONBLOCK != 0 || kind.contains("eventpoll"), "{file}: {info}");
        }
    }
}

#[test]
fn all_workers_accept_within_250_ms_of_there_being_descriptors_again() {
    let times = (0..3).map(|_| recovery(&[], None)).collect::<Vec<_>>();
    assert_recovers_within(RECOVERY, "accepting from all queues", &times);
}

#[test]
fn all_workers_that_drain_accept_within_250_ms_of_there_being_descriptors_again() {
    let times = (0..3).map(|_| recovery(&["--drain-timeout", "600"], Some(Signal::TERM))).collect::<Vec<_>>();
    assert_recovers_within(RECOVERY, "accepting from all queues", &times);
}

#[test]
fn a_client_is_accepted_within_250_ms_of_another_leaving_whichever_workers_have_them() {
    let (server, mut clients, mut queue) = full_server(&[]);
    wait_until_looks_are_seldom(&server);
    let mut times = Vec::new();
    for _ in 0..21 {
        drop(clients.pop());
        let (client, took) = take_answered(&mut queue);
        times.push(took);
        clients.insert(0, client);
    }
    times.sort();
    // The middle one, because on a busy machine some may be late for other reasons.
    assert!(times[10] <= RECOVERY, "{times:?}");
}

/// Waits until all acceptors have looked in vain for so long that they look no more often than they have to.
fn wait_until_looks_are_seldom(server: &Server) {
    let said = |lines: &[String]| lines.iter().filter(|line| line.contains("cannot accept")).count();
    server.stderr.wait_until("it is said again, after a second", LIMIT, |lines| said(lines) >= 2);
}

/// How long it takes after the limit has been raised until all who waited are served; before that comes the
/// signal.
fn recovery(args: &[&str], signal: Option<Signal>) -> Duration {
    let (server, mut clients, mut queue) = full_server(args);
    wait_until_looks_are_seldom(&server);
    if let Some(signal) = signal {
        server.signal(signal);
        clients.iter_mut().for_each(Client::expect_end);
    }
    timed(|| {
        server.limit_descriptors(1_000);
        for client in &mut queue {
            client.expect_answer(b"Me, too");
        }
    })
}
