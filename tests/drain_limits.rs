//! What can hold up the end of a server that drains, and for how long: silent clients and those that never read, until the
//! drain timeout or a second signal; those that wait for room, until it has served them; a storm of connects, not at all.

mod common;
#[path = "common/drains.rs"]
mod drains;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, Echo, LIMIT, Server, Signal, assert_idle, eventually, over_echoes, payload};
use drains::{ENDING, PATIENT, expect_clean_exit};
use faults::{
    Heard, assert_recovers_within, client_that_never_reads, count_heard, leave_room_for, served, timed, warm_up,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

over_echoes! {
    without_threads:
        a_silent_client_holds_it_up_no_longer_than_the_drain_timeout
        a_client_that_never_reads_holds_it_up_no_longer_than_the_drain_timeout
        a_second_signal_ends_it_at_once
        a_second_signal_ends_it_at_once_though_a_client_never_reads
        two_different_signals_that_arrive_together_are_two
        a_storm_of_connects_does_not_keep_it_from_ending;
}

fn a_silent_client_holds_it_up_no_longer_than_the_drain_timeout(echo: Echo) {
    for signal in ENDING {
        let mut server = echo.start(&["--drain-timeout", "0.5"]);
        let mut clients = served(server.address(), 1);
        let took = ended_by(&mut server, signal);
        clients[0].expect_end();
        assert!(took >= Duration::from_millis(500), "it waits for those who are left: {took:?}");
        assert!(took <= Duration::from_secs(5), "its patience is half a second: {took:?}");
    }
}

fn a_client_that_never_reads_holds_it_up_no_longer_than_the_drain_timeout(echo: Echo) {
    let mut server = echo.start(&["--drain-timeout", "0.5"]);
    let clients: Vec<Client> =
        (0..3).map(|_| client_that_never_reads(server.address(), &payload(10_000, 3)).0).collect();
    assert_idle(&server, "three clients never read");
    let took = ended_by(&mut server, Signal::TERM);
    assert!(took >= Duration::from_millis(500), "it waits for those who are left: {took:?}");
    assert!(took <= Duration::from_secs(5), "its patience is half a second: {took:?}");
    drop(clients);
}

#[test]
fn a_drain_that_takes_long_is_explained_once_and_one_that_does_not_is_no_news() {
    for workers in ["1", "2"] {
        let mut server = Server::start(&["--workers", workers, "--drain-timeout", "600"]);
        let clients = served(server.address(), 3);
        server.signal(Signal::TERM);
        let line = server.stderr.wait_for_line(LIMIT, |line| line.contains("waiting for clients"));
        assert!(line.starts_with("fdtask: ") && line.contains("to hang up, 59"), "{line}");
        // What is asked for meanwhile resumes who has said so.
        server.signal(Signal::USR1);
        server.stderr.wait_for_line(LIMIT, |line| line.contains("echo 127.0.0.1"));
        drop(clients);
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
        assert_eq!(server.stderr.count(|line| line.contains("waiting for clients")), 1);

        // On a machine that is busy enough any drain may take long.
        let is_quiet = (0..5).any(|_| {
            let mut server = Server::start(&["--workers", workers]);
            drop(served(server.address(), 3));
            server.signal(Signal::TERM);
            assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
            server.stderr.all().is_empty()
        });
        assert!(is_quiet);
    }
}

#[test]
fn nobody_is_told_to_wait_for_a_drain_whose_time_is_over() {
    // As long as it takes until a drain is explained.
    let mut server = Server::start(&["--drain-timeout", "1"]);
    let clients = served(server.address(), 3);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
    assert_eq!(server.stderr.all(), ["fdtask: cut off 3 clients, which had not hung up"]);
    drop(clients);
}

/// Sends the signal, and expects exit 0. Returns how long that took.
#[track_caller]
fn ended_by(server: &mut Server, signal: Signal) -> Duration {
    let mut code = None;
    let took = timed(|| {
        server.signal(signal);
        code = server.wait_exit(LIMIT).code();
    });
    assert_eq!(code, Some(0), "{:?}", server.stderr.all());
    took
}

/// The bar for exiting on a second signal.
const AT_ONCE: Duration = Duration::from_millis(100);

fn a_second_signal_ends_it_at_once(echo: Echo) {
    for first in ENDING {
        for second in ENDING {
            let times: Vec<Duration> = (0..3).map(|_| ended_by_a_second_signal(echo, first, second, |_| ())).collect();
            assert_recovers_within(AT_ONCE, &format!("exiting on {second:?} after {first:?}"), &times);
        }
    }
}

fn a_second_signal_ends_it_at_once_though_a_client_never_reads(echo: Echo) {
    let stuck = |server: &Server| client_that_never_reads(server.address(), &payload(10_000, 3));
    let times: Vec<Duration> =
        (0..3).map(|_| ended_by_a_second_signal(echo, Signal::TERM, Signal::TERM, stuck)).collect();
    assert_recovers_within(AT_ONCE, "exiting on a second signal", &times);
}

/// How long a server takes to exit on a second signal while silent clients, and those that `others` makes, hold it up.
#[track_caller]
fn ended_by_a_second_signal<T>(echo: Echo, first: Signal, second: Signal, others: impl Fn(&Server) -> T) -> Duration {
    let mut server = echo.start(&PATIENT);
    let mut clients = served(server.address(), 3);
    let _others = others(&server);
    server.signal(first);
    for client in &mut clients {
        client.expect_end();
    }
    let mut status = None;
    let took = timed(|| {
        server.signal(second);
        status = Some(server.wait_exit(LIMIT));
    });
    assert!(status.is_some_and(|status| status.code().is_some()), "it exits, it is not killed: {status:?}");
    took
}

fn two_different_signals_that_arrive_together_are_two(echo: Echo) {
    let mut server = echo.start(&PATIENT);
    let _clients = served(server.address(), 3);
    server.pause();
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    server.go_on();
    let status = server.wait_exit(LIMIT);
    assert!(status.code().is_some(), "it exits, it is not killed: {status:?}");
}

#[test]
fn clients_that_wait_for_the_connection_limit_are_served_before_it_ends() {
    let server = Server::start(&["--max-connections", "2", "--drain-timeout", "600"]);
    let mut clients = served(server.address(), 2);
    let mut queued: Vec<Client> = (0..5).map(|_| Client::connect(server.address())).collect();
    for client in &mut queued {
        client.send(b"my turn?");
    }
    server.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_end();
    }
    assert_eq!(count_heard(&queued, Heard::Nothing), 5, "there is no room for them yet");
    drop(clients);
    for mut client in queued {
        client.expect_answer(b"my turn?");
        client.expect_end();
    }
    expect_clean_exit(server);
}

#[test]
fn clients_that_wait_for_a_descriptor_are_served_before_it_ends() {
    let server = Server::start(&PATIENT);
    warm_up(&server, server.address());
    leave_room_for(&server, 3);
    let mut clients = served(server.address(), 3);
    let mut queued: Vec<Client> = (0..5).map(|_| Client::connect(server.address())).collect();
    for client in &mut queued {
        client.send(b"my turn?");
    }
    server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot accept"));
    server.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_end();
    }
    assert_idle(&server, "it drains and is out of descriptors");
    assert_eq!(count_heard(&queued, Heard::Nothing), 5, "there is no room for them yet");
    drop(clients);
    while !queued.is_empty() {
        let (mut client, _) = faults::take_answered(&mut queued);
        client.expect_answer(b"my turn?");
        client.expect_end();
    }
    expect_clean_exit(server);
}

fn a_storm_of_connects_does_not_keep_it_from_ending(echo: Echo) {
    let mut server = echo.start(&["--drain-timeout", "600"]);
    let address = server.address();
    let stop = AtomicBool::new(false);
    let connected = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && Client::try_connect(address, LIMIT).is_ok() {
                    connected.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("the storm rages", LIMIT, || connected.load(Ordering::Relaxed) > 500);
        server.signal(Signal::TERM);
        let begin = Instant::now();
        while server.is_running() && begin.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(2));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!server.is_running(), "it still drains");
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
}
