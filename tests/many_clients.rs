//! Many clients at once: nothing is crossed, nobody is forgotten, and those who are silent cost nothing (row 24 of the faults and
//! the idle promise).

mod common;

use common::{Client, Echo, LIMIT, Server, assert_idle, eventually, need_descriptors, over_echoes};

/// Connects `count` clients, one after the other.
fn connect(server: &Server, count: usize) -> Vec<Client> {
    let address = server.address();
    (0..count).map(|_| Client::connect(address)).collect()
}

over_echoes! {
    all_three:
        a_server_without_clients_does_nothing;
    without_threads:
        nine_hundred_clients_at_once_get_their_own_answers_in_each_of_five_rounds
        fifteen_hundred_clients_are_served_and_leave_nothing_behind
        #[ignore = "needs 10,100 descriptors"]
        ten_thousand_clients_are_served_and_leave_nothing_behind
        #[ignore = "needs 19,100 descriptors"]
        nineteen_thousand_clients_are_served_and_leave_nothing_behind
        two_thousand_silent_clients_cause_no_wakeups;
}

fn nine_hundred_clients_at_once_get_their_own_answers_in_each_of_five_rounds(echo: Echo) {
    need_descriptors(2_000);
    answer_each_in_five_rounds(echo, 900);
}

// No more than a system surely allows threads.
#[test]
fn three_hundred_clients_at_once_get_their_own_answers_from_three_hundred_threads() {
    answer_each_in_five_rounds(Echo::Threads, 300);
}

fn answer_each_in_five_rounds(echo: Echo, count: usize) {
    let server = echo.start(&[]);
    let mut clients = connect(&server, count);
    for round in 0..5 {
        // Texts of different lengths, so that an answer to somebody else is one of the wrong length as well.
        let text = |number: usize| format!("client {number} round {round} {}", "x".repeat((number * 7 + round) % 900));
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(text(number).as_bytes());
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.expect_answer(text(number).as_bytes());
        }
    }
    for client in &mut clients {
        client.half_close();
        client.expect_end();
    }
}

fn fifteen_hundred_clients_are_served_and_leave_nothing_behind(echo: Echo) {
    need_descriptors(4_000);
    serve_and_let_go(echo, 1_500);
}

fn ten_thousand_clients_are_served_and_leave_nothing_behind(echo: Echo) {
    need_descriptors(10_100);
    serve_and_let_go(echo, 10_000);
}

fn nineteen_thousand_clients_are_served_and_leave_nothing_behind(echo: Echo) {
    need_descriptors(19_100);
    serve_and_let_go(echo, 19_000);
}

fn serve_and_let_go(echo: Echo, count: usize) {
    let server = echo.start(&[]);
    let mut first = Client::connect(server.address());
    first.ask(b"first");
    let baseline = server.open_sockets();
    let mut clients = connect(&server, count);
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(format!("client {number}").as_bytes());
    }
    // The last may be served while the first are long silent.
    for (number, client) in clients.iter_mut().enumerate().step_by(97) {
        client.ask(format!("client {number} again").as_bytes());
    }
    assert!(server.open_sockets() >= baseline + count);
    drop(clients);
    eventually("each client's descriptor is closed", LIMIT, || server.open_sockets() == baseline);
    first.ask(b"last");
}

fn two_thousand_silent_clients_cause_no_wakeups(echo: Echo) {
    need_descriptors(8_500);
    be_silent(&echo.start(&[]));
}

#[test]
fn two_thousand_silent_clients_cause_no_wakeups_with_plain_poll_either() {
    need_descriptors(8_500);
    be_silent(&Server::start(&["--quiet", "--poller", "poll"]));
}

fn be_silent(server: &Server) {
    let mut clients = connect(server, 2_000);
    for client in &mut clients {
        client.ask(b"here");
    }
    assert_idle(server, "2,000 clients are silent");
    let resident_bytes = server.usage().resident_bytes;
    assert!(resident_bytes < 8 << 20, "{resident_bytes} bytes of memory for 2,000 silent clients");
    for client in clients.iter_mut().rev() {
        client.ask(b"still here");
    }
}

fn a_server_without_clients_does_nothing(echo: Echo) {
    let server = echo.start(&[]);
    assert_idle(&server, "nobody is there");
    Client::connect(server.address()).ask(b"now");
}
