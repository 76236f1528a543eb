//! Clients that are let go, and clients that wait to be let in (rows 30 and 31 of the faults).

mod common;

use common::{
    Client, Echo, LIMIT, Server, Signal, assert_idle, eventually, over_echoes, payload, payload_of,
    times_until_the_next_is_served, uninterrupted, usage_during, while_steady,
};
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

/// The idle timeout of the clients that are to be kept, and how it is written on the command line: longer than a busy
/// machine keeps one of its processes waiting.
const TIMEOUT: Duration = Duration::from_millis(1500);
const TIMEOUT_SECONDS: &str = "1.5";

/// A machine that stands still for so long may make a client late that is to be kept.
const STEADY: Duration = Duration::from_millis(200);

over_echoes! {
    without_threads:
        a_silent_client_is_let_go_after_the_idle_timeout_and_not_before
        a_client_that_says_something_now_and_then_is_kept
        a_client_that_sends_and_never_reads_is_let_go
        a_client_that_reads_slowly_is_kept_although_what_it_reads_makes_no_room_to_send
        a_client_that_takes_its_answers_late_is_kept_from_then_on
        a_client_that_has_taken_all_its_answers_late_and_is_silent_is_let_go
        a_silent_client_holds_up_a_drain_no_longer_than_the_idle_timeout
        a_client_that_goes_on_sending_is_not_idle_in_a_drain_either;
}

fn a_silent_client_is_let_go_after_the_idle_timeout_and_not_before(echo: Echo) {
    let server = echo.start(&["--idle-timeout", "0.5"]);
    let baseline = server.open_sockets();
    let begin = Instant::now();
    let mut never_spoke = Client::connect(server.address());
    let mut spoke_once = Client::connect(server.address());
    let spoken = Instant::now();
    spoke_once.ask(b"Hello");
    never_spoke.expect_end();
    let after = begin.elapsed();
    spoke_once.expect_end();
    let after_answer = spoken.elapsed();
    // Counted from before the connect, and from before the question. The server's clock stands still during a turn, so it may
    // count from a little earlier.
    assert!(after >= Duration::from_millis(500), "let go after {after:?}");
    assert!(after_answer >= Duration::from_millis(400), "let go {after_answer:?} after the question");
    assert!(after_answer < Duration::from_secs(5), "let go only {after_answer:?} after the question");
    eventually("both are closed", LIMIT, || server.open_sockets() == baseline);
}

#[test]
fn a_client_that_is_let_go_is_logged_like_one_that_went() {
    let server = Server::start(&["--idle-timeout", "0.1"]);
    Client::connect(server.address()).expect_end();
    server.stdout.wait_for_line(LIMIT, |line| line == "Task done");
    assert_eq!(server.stdout.count(|line| line == "Connection closed"), 1, "{:?}", server.stdout.all());
}

#[test]
fn clients_that_fall_silent_one_after_the_other_do_not_wake_the_server_one_by_one() {
    const CLIENTS: usize = 150;
    const WINDOW: Duration = Duration::from_secs(3);
    // In the window it looks at each of them for the first time.
    let server = Server::start(&["--idle-timeout", "32"]);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.address());
        client.ask(b"My last words");
        clients.push(client);
        thread::sleep(Duration::from_millis(4));
    }
    let usage = usage_during(&server, WINDOW);
    assert!(usage.wakeups < 20 * WINDOW.as_secs(), "{} wake-ups in {WINDOW:?}", usage.wakeups);
}

fn a_client_that_says_something_now_and_then_is_kept(echo: Echo) {
    while_steady(STEADY, || {
        let server = echo.start(&["--idle-timeout", TIMEOUT_SECONDS]);
        let mut client = Client::connect(server.address());
        let begin = Instant::now();
        while begin.elapsed() < TIMEOUT * 5 / 2 {
            client.ask(b"still here");
            thread::sleep(TIMEOUT / 10);
        }
    });
}

fn a_client_that_sends_and_never_reads_is_let_go(echo: Echo) {
    let server = echo.start(&["--idle-timeout", TIMEOUT_SECONDS]);
    let mut client = Client::connect_with_small_buffers(server.address());
    client.ask(b"here");
    let with_client = server.open_sockets();
    // Stands still when every buffer is full, and fails when the server has closed the connection.
    let sender = thread::spawn(move || client.stream.write_all(&payload(24_000_000, 30)));
    eventually("it is let go", LIMIT, || server.open_sockets() < with_client);
    let sent = sender.join().expect("the sender does not panic");
    assert!(sent.is_err(), "everything fit into the buffers; send more");
}

fn a_client_that_reads_slowly_is_kept_although_what_it_reads_makes_no_room_to_send(echo: Echo) {
    while_steady(STEADY, || {
        let server = echo.start(&["--idle-timeout", TIMEOUT_SECONDS]);
        let mut client = Client::connect_with_small_buffers(server.address());
        let mut sender = Client { stream: client.stream.try_clone().expect("a descriptor can be duplicated") };
        let bytes = payload(12_000_000, 31);
        let answers = thread::scope(|scope| {
            scope.spawn(|| {
                sender.send(&bytes);
                sender.half_close();
            });
            // A send queue of some megabytes must be read down by a third before the kernel says that there is room in it,
            // which takes several timeouts at this pace: 100,000 bytes a second. All the while the client takes what it is sent.
            let begin = Instant::now();
            let mut answers = Vec::new();
            while begin.elapsed() < TIMEOUT * 7 / 2 {
                // A machine that makes it late does not make it slower.
                let due = begin.elapsed().as_millis() as usize * 100;
                answers.extend(client.receive(due - answers.len()));
                thread::sleep(Duration::from_millis(50));
            }
            answers.extend(client.read_to_end().expect("the stream ends in order"));
            answers
        });
        assert!(payload_of(&answers) == bytes, "of twelve million bytes not all came back");
    });
}

fn a_client_that_takes_its_answers_late_is_kept_from_then_on(echo: Echo) {
    while_steady(STEADY, || {
        let server = echo.start(&["--idle-timeout", TIMEOUT_SECONDS]);
        let mut client = Client::connect_with_small_buffers(server.address());
        // More than the client's buffers hold, and less than the server's: all is sent at once, and waits in the send queue.
        let mut bytes = vec![b'.'; 300_000];
        bytes.push(b'\n');
        client.send(&bytes);
        let begin = Instant::now();
        thread::sleep(TIMEOUT * 3 / 5);
        let mut answers = Vec::new();
        let mut buffer = vec![0; 65_536];
        while !answers.ends_with(b"\n") {
            let len = uninterrupted(|| client.stream.read(&mut buffer)).expect("the answers come");
            assert!(len > 0, "the stream ended within the timeout");
            answers.extend_from_slice(&buffer[..len]);
        }
        assert!(begin.elapsed() < TIMEOUT, "this machine is too busy to tell");
        assert!(payload_of(&answers) == bytes, "of 300,001 bytes not all came back");
        // The last progress was a moment ago: it was the client that took the last of its answers.
        thread::sleep(TIMEOUT * 3 / 5);
        client.ask(b"still here");
    });
}

fn a_client_that_has_taken_all_its_answers_late_and_is_silent_is_let_go(echo: Echo) {
    while_steady(STEADY, || {
        let server = echo.start(&["--idle-timeout", TIMEOUT_SECONDS]);
        let mut client = Client::connect_with_small_buffers(server.address());
        let mut sender = Client { stream: client.stream.try_clone().expect("a descriptor can be duplicated") };
        let bytes = payload(12_000_000, 32);
        let answers = thread::scope(|scope| {
            scope.spawn(|| sender.send(&bytes));
            // Meanwhile there is no room for an answer any more.
            thread::sleep(TIMEOUT / 3);
            client.read_to_end().expect("the stream ends in order")
        });
        assert!(payload_of(&answers) == bytes, "of twelve million bytes not all came back");
    });
}

fn a_silent_client_holds_up_a_drain_no_longer_than_the_idle_timeout(echo: Echo) {
    let mut server = echo.start(&["--idle-timeout", "0.5", "--drain-timeout", "1000"]);
    let mut client = Client::connect(server.address());
    client.ask(b"Hello");
    server.signal(Signal::TERM);
    client.expect_end();
    // It does not end its side of the stream, and is not waited for until the drain's own deadline.
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
}

fn a_client_that_goes_on_sending_is_not_idle_in_a_drain_either(echo: Echo) {
    while_steady(STEADY, || {
        let mut server = echo.start(&["--idle-timeout", TIMEOUT_SECONDS, "--drain-timeout", "1000"]);
        let mut client = Client::connect(server.address());
        client.ask(b"Hello");
        server.signal(Signal::TERM);
        client.expect_end();
        let begin = Instant::now();
        while begin.elapsed() < TIMEOUT * 2 {
            client.send(b"and another thing");
            thread::sleep(TIMEOUT / 10);
        }
        assert!(server.is_running(), "it has not waited for the end of what the client says");
        // Now it is silent.
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
    });
}

#[test]
fn a_client_beyond_the_limit_waits_in_the_queue_and_costs_nothing() {
    let server = Server::start(&["--max-connections", "2"]);
    let mut first = Client::connect(server.address());
    first.ask(b"first");
    let mut second = Client::connect(server.address());
    second.ask(b"second");
    let mut third = Client::connect(server.address());
    third.send(b"third");
    // The listener is ready all the while: to poll it would be to spin.
    assert_idle(&server, "a client waits for a slot");
    assert!(!third.hears_something(Duration::from_millis(1)), "served beyond the limit");
    assert_eq!(server.stdout.count(|line| line.starts_with("Connection from")), 2);
    first.ask(b"first again");
    drop(second);
    third.expect_answer(b"third");
    first.ask(b"still first");
}

#[test]
fn the_next_client_is_served_within_250_ms_of_a_slot_coming_free() {
    let server = Server::start(&["--quiet", "--max-connections", "1"]);
    let times = times_until_the_next_is_served(&server, 5);
    // The middle one of several, because on a busy machine one of them may be late for other reasons.
    assert!(times[2] < Duration::from_millis(250), "{times:?}");
}

#[test]
fn the_limit_counts_the_clients_of_all_listeners_together() {
    let server = Server::builder().args(["-l", "127.0.0.1:0", "-l", "127.0.0.1:0", "--max-connections", "1"]).spawn();
    let addresses = server.addresses(2);
    for turn in 0..4 {
        let mut inside = Client::connect(addresses[turn % 2]);
        inside.ask(b"inside");
        let mut outside = Client::connect(addresses[(turn + 1) % 2]);
        outside.send(b"outside");
        assert!(!outside.hears_something(Duration::from_millis(50)), "served beyond the limit");
        // A reset frees the slot as well as an orderly end does.
        if turn < 2 {
            inside.reset();
        } else {
            drop(inside);
        }
        outside.expect_answer(b"outside");
        outside.half_close();
        outside.expect_end();
    }
}

#[test]
fn a_queue_at_one_listener_does_not_keep_the_clients_of_another_waiting() {
    let server = Server::builder().args(["-l", "127.0.0.1:0", "-l", "127.0.0.1:0", "--max-connections", "1"]).spawn();
    let addresses = server.addresses(2);
    let connect = |address| {
        let mut client = Client::connect(address);
        client.send(b"Hello");
        client
    };
    let mut queue: Vec<Client> = (0..40).map(|_| connect(addresses[0])).collect();
    // After so many its acceptor would accept several at a time.
    for mut client in queue.drain(..20) {
        client.expect_answer(b"Hello");
    }
    let mut other = connect(addresses[1]);
    let mut served_before = 0;
    for mut client in queue {
        eventually("the next client is served", LIMIT, || {
            client.hears_something(Duration::from_millis(1)) || other.hears_something(Duration::from_millis(1))
        });
        if other.hears_something(Duration::from_millis(1)) {
            break;
        }
        client.expect_answer(b"Hello");
        served_before += 1;
    }
    assert!(served_before <= 5, "{served_before} have been served before the one of the other listener");
    other.expect_answer(b"Hello");
}

#[test]
fn a_hundred_clients_pass_through_three_slots() {
    let server = Server::start(&["--quiet", "--max-connections", "3"]);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.address())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("client {number}").as_bytes());
        client.half_close();
    }
    // Each one ends by itself and makes room for the next.
    for (number, client) in clients.iter_mut().enumerate() {
        client.expect_answer(format!("client {number}").as_bytes());
        client.expect_end();
    }
}
