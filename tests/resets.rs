//! Peers that go away without a word: they end their own connection and nothing else (rows 1, 2 and 19 of the faults).

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, Echo, LIMIT, Server, eventually, over_echoes, payload};
use faults::{assert_recovers_within, client_that_never_reads, timed};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

over_echoes! {
    all_three:
        five_hundred_resets_in_a_row_are_not_noticed_by_a_bystander
        a_client_that_resets_while_it_is_in_the_queue_is_passed_over
        a_client_that_closes_with_its_answers_unread_ends_its_own_task_alone
        a_client_that_resets_while_its_answer_waits_for_room_is_let_go;
}

fn five_hundred_resets_in_a_row_are_not_noticed_by_a_bystander(echo: Echo) {
    let mut server = echo.start(&[]);
    let mut bystander = Client::connect(server.address());
    bystander.ask(b"here");
    let baseline = server.open_sockets();
    let begin = Instant::now();
    for number in 0..500 {
        assert!(begin.elapsed() < 2 * LIMIT, "{number} resets have taken {:?}", begin.elapsed());
        let mut client = Client::connect(server.address());
        match number % 4 {
            // Before the server has seen it, perhaps.
            0 => {}
            // While it is served: the answer is on its way.
            1 => client.send(b"half a question"),
            2 => client.ask(b"a question"),
            // With more questions than answers.
            _ => client.send(&payload(20_000, number)),
        }
        client.reset();
        if number % 10 == 0 {
            bystander.ask(format!("reset {number}").as_bytes());
        }
    }
    bystander.ask(b"still here");
    eventually("what was reset is closed", LIMIT, || server.open_sockets() == baseline);
    assert!(server.is_running());
}

#[test]
fn a_reset_connection_is_one_line_on_stderr() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.address());
    let peer = client.local_address();
    client.ask(b"Hello");
    client.reset();
    server.stderr.wait_for_line(LIMIT, |line| line.contains(&peer.to_string()));
    // What comes afterwards is said afterwards; so if there is a second line about it, it is there by then.
    let mut next = Client::connect(server.address());
    let next_peer = next.local_address();
    next.ask(b"Hello");
    next.reset();
    server.stderr.wait_for_line(LIMIT, |line| line.contains(&next_peer.to_string()));
    let expected = [peer, next_peer].map(|peer| format!("fdtask: echo {peer}: Connection reset by peer"));
    assert_eq!(server.stderr.all(), expected);
}

/// Lets clients come and reset, which the server finds in its queue when it goes on. Returns who they were.
fn reset_in_the_queue(server: &Server) -> Vec<SocketAddr> {
    server.pause();
    let reset = |number| {
        let mut client = Client::connect(server.address());
        let peer = client.local_address();
        if number % 2 == 0 {
            client.send(b"too late");
        }
        client.reset();
        peer
    };
    (0..40).map(reset).collect()
}

fn a_client_that_resets_while_it_is_in_the_queue_is_passed_over(echo: Echo) {
    let mut server = echo.start(&[]);
    // What breaks the promise is a server that dies, or that takes the failure for one of the listener and backs off.
    let times = [(); 3].map(|()| {
        reset_in_the_queue(&server);
        let mut next = Client::connect(server.address());
        next.send(b"Hello");
        timed(|| {
            server.go_on();
            next.expect_answer(b"Hello");
        })
    });
    assert_recovers_within(Duration::from_millis(250), "serving the next client", &times);
    assert!(server.is_running());
    Client::connect(server.address()).ask(b"still here");
}

#[test]
fn a_client_that_resets_while_it_is_in_the_queue_is_logged_with_its_address() {
    let server = Server::start(&[]);
    let peers = reset_in_the_queue(&server);
    server.go_on();
    // The address is the one that accept itself gives: to ask for it later fails for a connection that is gone.
    for peer in peers {
        let expected = format!("Connection from {peer}");
        server.stdout.wait_for_line(LIMIT, |line| line == expected);
    }
}

fn a_client_that_closes_with_its_answers_unread_ends_its_own_task_alone(echo: Echo) {
    let mut server = echo.start(&[]);
    let mut bystander = Client::connect(server.address());
    bystander.ask(b"here");
    let baseline = server.open_sockets();
    for number in 0..50 {
        let mut client = Client::connect(server.address());
        client.send(&payload(50_000, number));
        // Some answers are there, and nobody will read them: closing is now a reset, and the server still sends.
        client.receive(1);
        drop(client);
        bystander.ask(b"and now?");
    }
    eventually("what was closed is closed", LIMIT, || server.open_sockets() == baseline);
    assert!(server.is_running());
    bystander.ask(b"still here");
}

fn a_client_that_resets_while_its_answer_waits_for_room_is_let_go(echo: Echo) {
    let server = echo.start(&[]);
    let mut bystander = Client::connect(server.address());
    bystander.ask(b"here");
    let baseline = server.open_sockets();
    let (client, _sent) = client_that_never_reads(server.address(), &payload(50_000, 1));
    eventually("it is accepted", LIMIT, || server.open_sockets() == baseline + 1);
    client.reset();
    eventually("what was reset is closed", LIMIT, || server.open_sockets() == baseline);
    bystander.ask(b"still here");
}
