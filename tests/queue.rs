//! Connections that wait in the kernel's queue, and the port they come to (rows 12 and 34 of the faults).

mod common;

use common::{Client, Echo, LIMIT, Server, need_descriptors, over_echoes, words};
use fdtask::net::Listener;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::time::{Duration, Instant};

over_echoes! {
    all_three:
        a_server_that_is_stopped_and_continued_has_lost_nothing
        a_server_that_was_killed_is_restarted_at_once_on_the_same_port;
    without_threads:
        a_thousand_connects_to_a_stopped_server_are_all_served_promptly;
}

/// How many connections the system lets a queue hold.
fn longest_queue() -> usize {
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    somaxconn.trim().parse().unwrap_or(128)
}

fn a_thousand_connects_to_a_stopped_server_are_all_served_promptly(echo: Echo) {
    need_descriptors(2_500);
    let count = longest_queue().min(1_000);
    let server = echo.start(&[]);
    let address = server.address();
    server.pause();
    let begin = Instant::now();
    // A connect that finds the queue full is tried again by the kernel after 1 s, then 2 s, 4 s…: with a shorter queue than
    // the system allows this loop cannot end in time, however fast the machine is.
    let mut clients: Vec<Client> = (0..count)
        .map(|number| {
            let left = Duration::from_secs(10).saturating_sub(begin.elapsed()).max(Duration::from_millis(1));
            Client::try_connect(address, left).unwrap_or_else(|error| panic!("client {number}: {error}"))
        })
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("client {number}").as_bytes());
    }
    server.go_on();
    for (number, client) in clients.iter_mut().enumerate() {
        client.expect_answer(format!("client {number}").as_bytes());
    }
}

fn a_server_that_is_stopped_and_continued_has_lost_nothing(echo: Echo) {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    for round in 0..20 {
        // Continued while it sleeps in poll, which the kernel may answer with EINTR; and with something to do.
        server.pause();
        if round % 2 == 0 {
            client.send(b"Hello");
        }
        server.go_on();
        if round % 2 == 1 {
            client.send(b"Hello");
        }
        client.expect_answer(b"Hello");
    }
    assert!(server.stderr.all().is_empty(), "{:?}", server.stderr.all());
}

fn a_server_that_was_killed_is_restarted_at_once_on_the_same_port(echo: Echo) {
    let mut server = echo.start(&[]);
    let address = server.address();
    let mut client = Client::connect(address);
    client.ask(b"Hello");
    // The server's end goes first, so it is the one that the kernel remembers, with the port that the next one wants. The
    // client's end stays open, so that the port is surely not free meanwhile.
    server.kill();
    let next = echo.listening_on(&address.to_string()).spawn();
    assert_eq!(next.address(), address);
    Client::connect(address).ask(b"World");
    drop(client);
}

#[test]
fn a_taken_port_is_one_line_on_stderr_and_exit_1() {
    let server = Server::start(&[]);
    let address = server.address();
    let mut second = Server::builder().args(["--listen", &address.to_string()]).spawn();
    assert_eq!(second.wait_exit(LIMIT).code(), Some(1));
    let remedy = "end whoever listens there, or choose another port with --listen";
    let line = format!("fdtask: cannot listen on {address}: {}; {remedy}", words(libc::EADDRINUSE));
    assert_eq!(second.stderr.all(), [line]);
    assert!(second.stdout.all().is_empty(), "{:?}", second.stdout.all());
    // The first one has not noticed.
    Client::connect(address).ask(b"Hello");
}

#[test]
fn a_listener_shares_its_address_with_nobody_but_those_that_were_asked_for_with_it() {
    let any = "127.0.0.1:0".parse().expect("an address");
    for count in 0..3 {
        let listeners = Listener::bind_shared(any, count).expect("a free port");
        assert_eq!(listeners.len(), count);
        if count == 1 {
            let other = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            other.set_reuse_port(true).expect("Linux has it");
            let taken = other.bind(&listeners[0].address().into()).expect_err("it is taken");
            assert_eq!(taken.raw_os_error(), Some(libc::EADDRINUSE));
        }
    }
}
