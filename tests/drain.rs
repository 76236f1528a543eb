//! SIGTERM and SIGINT: the server stops accepting, serves what the kernel had queued for it, answers what it has received,
//! ends each stream in order, and exits 0, at the latest when its patience is over.

mod common;
#[path = "common/drains.rs"]
mod drains;
#[path = "common/faults.rs"]
mod faults;

use common::{
    Client, Echo, LIMIT, Server, Signal, answers_to, assert_idle, eventually, over_echoes, payload, payload_of,
    uninterrupted, while_steady,
};
use drains::{ENDING, PATIENT, expect_clean_exit};
use faults::{Heard, client_that_never_reads, heard, served, unreceived_bytes};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Who has not asked yet when a drain begins has half a second to do so, which a machine that stands still takes from him.
const STEADY: Duration = Duration::from_millis(100);

over_echoes! {
    without_threads:
        with_no_clients_it_exits_0_at_once
        what_the_kernel_had_queued_when_the_signal_came_is_served
        a_client_that_has_just_connected_and_not_yet_asked_gets_its_answer
        a_client_that_has_not_yet_asked_gets_its_answer_though_a_look_at_its_idle_timeout_is_due_when_the_drain_begins
        a_client_that_has_connected_and_never_asks_is_told_the_end_all_the_same
        every_reply_for_what_was_received_comes_before_the_end_of_the_stream
        what_a_slow_reader_has_asked_for_is_sent_to_the_last_byte
        clients_that_never_stop_sending_get_their_answers_and_the_end_and_no_reset
        a_silent_client_is_told_the_end_and_waited_for_at_no_cost
        once_it_has_served_its_queue_nobody_else_can_connect
        a_client_in_the_middle_of_a_reset_does_not_disturb_the_drain_of_the_others
        a_client_that_half_closes_during_the_drain_is_waited_for_no_longer;
}

fn with_no_clients_it_exits_0_at_once(echo: Echo) {
    for signal in ENDING {
        let server = echo.start(&PATIENT);
        server.signal(signal);
        expect_clean_exit(server);
    }
}

fn what_the_kernel_had_queued_when_the_signal_came_is_served(echo: Echo) {
    for signal in ENDING {
        let server = echo.start(&PATIENT);
        let mut old = served(server.address(), 5);
        server.pause();
        let mut queued: Vec<Client> = (0..200).map(|_| Client::connect(server.address())).collect();
        for (number, client) in queued.iter_mut().enumerate() {
            client.send(format!("queued {number}").as_bytes());
        }
        for client in &mut old {
            client.send(b"one more");
        }
        server.signal(signal);
        server.go_on();
        for client in &mut old {
            client.expect_answer(b"one more");
        }
        for (number, client) in queued.iter_mut().enumerate() {
            client.expect_answer(format!("queued {number}").as_bytes());
        }
        for mut client in old.into_iter().chain(queued) {
            client.expect_end();
        }
        expect_clean_exit(server);
    }
}

fn a_client_that_has_just_connected_and_not_yet_asked_gets_its_answer(echo: Echo) {
    while_steady(STEADY, || {
        // It cannot know that it should not ask any more, and its question is on its way. Half of these have been accepted,
        // the others are in the kernel's queue.
        let server = echo.start(&PATIENT);
        let baseline = server.open_sockets();
        let mut fresh: Vec<Client> = (0..10).map(|_| Client::connect(server.address())).collect();
        eventually("the first of them are accepted", LIMIT, || server.open_sockets() == baseline + 10);
        server.pause();
        fresh.extend((0..10).map(|_| Client::connect(server.address())));
        server.signal(Signal::TERM);
        server.go_on();
        eventually("it drains", LIMIT, || Client::try_connect(server.address(), LIMIT).is_err());
        expect_one_answer_each(fresh);
        expect_clean_exit(server);
    });
}

fn a_client_that_has_not_yet_asked_gets_its_answer_though_a_look_at_its_idle_timeout_is_due_when_the_drain_begins(
    echo: Echo,
) {
    while_steady(STEADY, || {
        const IDLE_TIMEOUT: Duration = Duration::from_secs(8);
        let server = echo.start(&[&PATIENT[..], &["--idle-timeout", "8"]].concat());
        let baseline = server.open_sockets();
        let fresh: Vec<Client> = (0..10).map(|_| Client::connect(server.address())).collect();
        eventually("all are accepted", LIMIT, || server.open_sockets() == baseline + 10);
        server.pause();
        // The daemon looks for the first time when a sixteenth of the timeout is over.
        thread::sleep(IDLE_TIMEOUT / 15);
        server.signal(Signal::TERM);
        server.go_on();
        eventually("it drains", LIMIT, || Client::try_connect(server.address(), LIMIT).is_err());
        expect_one_answer_each(fresh);
        expect_clean_exit(server);
    });
}

/// Each of these clients asks now, and is answered and then told the end.
#[track_caller]
fn expect_one_answer_each(mut clients: Vec<Client>) {
    for client in &mut clients {
        client.send(b"Is this a bad moment?");
    }
    for mut client in clients {
        client.expect_answer(b"Is this a bad moment?");
        client.expect_end();
    }
}

fn a_client_that_has_connected_and_never_asks_is_told_the_end_all_the_same(echo: Echo) {
    let server = echo.start(&PATIENT);
    let baseline = server.open_sockets();
    let mut silent: Vec<Client> = (0..10).map(|_| Client::connect(server.address())).collect();
    eventually("they are accepted", LIMIT, || server.open_sockets() == baseline + 10);
    server.signal(Signal::TERM);
    for client in &mut silent {
        client.expect_end();
    }
    drop(silent);
    expect_clean_exit(server);
}

fn every_reply_for_what_was_received_comes_before_the_end_of_the_stream(echo: Echo) {
    // Several chunks for each, as much as a receive window surely takes.
    const BYTES: usize = 24_500;
    let server = echo.start(&PATIENT);
    let mut clients = served(server.address(), 20);
    server.pause();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&payload(BYTES, number as u64));
    }
    server.signal(Signal::TERM);
    server.go_on();
    for (number, client) in clients.iter_mut().enumerate() {
        let answers = client.read_to_end().expect("the stream ends in order, without a reset");
        assert!(answers == answers_to(&payload(BYTES, number as u64)), "{} bytes of answers", answers.len());
    }
    // Nobody has closed a connection yet: the server has ended its side, and still reads.
    for client in &mut clients {
        client.send(b"too late, and no harm");
    }
    drop(clients);
    expect_clean_exit(server);
}

fn what_a_slow_reader_has_asked_for_is_sent_to_the_last_byte(echo: Echo) {
    let server = echo.start(&PATIENT);
    let block = payload(100_000, 1);
    let (mut client, sent) = client_that_never_reads(server.address(), &block);
    server.pause();
    let received = sent - unreceived_bytes(&server, &client);
    server.signal(Signal::TERM);
    server.go_on();
    eventually("it drains", LIMIT, || Client::try_connect(server.address(), LIMIT).is_err());
    let mut answers = Vec::new();
    let mut piece = [0; 700];
    loop {
        match uninterrupted(|| client.stream.read(&mut piece)).expect("the stream ends in order, without a reset") {
            0 => break,
            len => answers.extend_from_slice(&piece[..len]),
        }
    }
    let answered = payload_of(&answers);
    assert!(answered.len() >= received, "{} bytes answered, but {received} received", answered.len());
    assert!(answered.iter().eq(block.iter().cycle().take(answered.len())), "the answers are those to what was sent");
    drop(client);
    expect_clean_exit(server);
}

fn clients_that_never_stop_sending_get_their_answers_and_the_end_and_no_reset(echo: Echo) {
    // Several of them, so that the server is the slowest and finds none of their queues empty.
    const CLIENTS: u64 = 4;
    let server = echo.start(&PATIENT);
    let begun = Barrier::new(CLIENTS as usize + 1);
    let ended = Barrier::new(CLIENTS as usize);
    thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let (server, begun, ended) = (&server, &begun, &ended);
            scope.spawn(move || flood(server, seed, begun, ended));
        }
        begun.wait();
        server.signal(Signal::TERM);
    });
    expect_clean_exit(server);
}

/// Sends without end, and reads what comes back until the server ends that. Says when it has begun, and goes on sending until
/// all who flood have seen the end.
fn flood(server: &Server, seed: u64, begun: &Barrier, ended: &Barrier) {
    let block = payload(1 << 20, seed);
    let mut client = Client::connect(server.address());
    let mut writer = client.stream.try_clone().expect("a socket can be cloned");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for piece in block.chunks(64 * 1024).cycle() {
                if stop.load(Ordering::Relaxed) || writer.write_all(piece).is_err() {
                    break;
                }
            }
        });
        let mut answers = vec![0; 500_000];
        let read = client.stream.read_exact(&mut answers);
        begun.wait();
        let read = read.and_then(|()| read_to_end_within(FLOOD_LIMIT, &mut client, &mut answers));
        ended.wait();
        stop.store(true, Ordering::Relaxed);
        // Nothing reads what the writer may still wait to write.
        let _ = client.stream.shutdown(Shutdown::Both);
        read.expect("the stream ends in order, without a reset");
        let answered = payload_of(&answers);
        let sent = block.iter().cycle();
        assert!(answered.iter().zip(sent).all(|(one, other)| one == other), "every answer is there, in order");
    });
}

/// How long a client that floods the server may be answered once the drain has begun.
const FLOOD_LIMIT: Duration = Duration::from_secs(5);

/// Reads until the server ends the stream, which goes on meanwhile.
fn read_to_end_within(limit: Duration, client: &mut Client, bytes: &mut Vec<u8>) -> io::Result<()> {
    let begin = Instant::now();
    let mut piece = vec![0; 64 * 1024];
    while begin.elapsed() < limit {
        match uninterrupted(|| client.stream.read(&mut piece))? {
            0 => return Ok(()),
            len => bytes.extend_from_slice(&piece[..len]),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn a_silent_client_is_told_the_end_and_waited_for_at_no_cost(echo: Echo) {
    let server = echo.start(&PATIENT);
    let mut clients = served(server.address(), 50);
    server.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_end();
    }
    assert_idle(&server, "it waits for its clients to end");
    drop(clients);
    expect_clean_exit(server);
}

fn once_it_has_served_its_queue_nobody_else_can_connect(echo: Echo) {
    let server = echo.start(&PATIENT);
    let mut clients = served(server.address(), 1);
    server.signal(Signal::TERM);
    clients[0].expect_end();
    eventually("connecting is refused", LIMIT, || {
        let attempt = Client::try_connect(server.address(), LIMIT);
        attempt.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
    drop(clients);
    expect_clean_exit(server);
}

fn a_client_in_the_middle_of_a_reset_does_not_disturb_the_drain_of_the_others(echo: Echo) {
    let server = echo.start(&PATIENT);
    let mut clients = served(server.address(), 10);
    let resetting = served(server.address(), 10);
    server.pause();
    for client in &mut clients {
        client.send(b"last words");
    }
    for mut client in resetting {
        client.send(b"whatever");
        client.reset();
    }
    // These are in the accept queue when they are reset.
    (0..10).map(|_| Client::connect(server.address())).for_each(Client::reset);
    server.signal(Signal::TERM);
    server.go_on();
    for mut client in clients {
        client.expect_answer(b"last words");
        client.expect_end();
    }
    expect_clean_exit(server);
}

fn a_client_that_half_closes_during_the_drain_is_waited_for_no_longer(echo: Echo) {
    let server = echo.start(&PATIENT);
    let mut clients = served(server.address(), 3);
    server.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_end();
        assert_eq!(heard(client), Heard::End);
        client.half_close();
    }
    expect_clean_exit(server);
}
