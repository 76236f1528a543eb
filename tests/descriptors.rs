//! Out of descriptors (`EMFILE`), and `poll` refused because the limit was lowered: those who are connected are served,
//! those who wait stay in the kernel's queue, the server pauses instead of spinning, and goes on by itself.

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, Echo, LIMIT, Server, Signal, assert_idle, eventually, over_echoes, usage_during, words};
use faults::{
    Heard, assert_recovers_within, count_heard, descriptors_below, heard, leave_room_for, served, take_answered,
    warm_up,
};
use std::thread;
use std::time::{Duration, Instant};

/// The bar for accepting again, once a descriptor has come free.
const RECOVERY: Duration = Duration::from_millis(250);

/// So often a recovery is tried.
const RUNS: usize = 5;

/// A server with room for as many clients as `room` says, all of whom are connected and served, and as many more as
/// `waiting` says in the kernel's queue. All have asked one question, those in the queue, too.
fn full_server(room: usize, waiting: usize) -> (Server, Vec<Client>, Vec<Client>) {
    let server = Server::start(&[]);
    let address = server.address();
    warm_up(&server, address);
    leave_room_for(&server, room);
    let open = server.open_descriptors();
    let clients = served(address, room);
    let queue = (0..waiting).map(|_| asked(&server)).collect();
    if waiting > 0 {
        wait_for_report(&server, 1);
    }
    assert_eq!(server.open_descriptors(), open + room, "every descriptor is in use");
    (server, clients, queue)
}

/// A client that has asked a question, which may have to wait for its answer.
#[track_caller]
fn asked(server: &Server) -> Client {
    let mut client = Client::connect(server.address());
    client.send(b"Me, too");
    client
}

fn is_report(line: &str) -> bool {
    line.contains("cannot accept")
}

#[track_caller]
fn wait_for_report(server: &Server, count: usize) {
    let enough = |lines: &[String]| lines.iter().filter(|line| is_report(line)).count() >= count;
    server.stderr.wait_until("it says that it cannot accept", LIMIT, enough);
}

#[test]
fn out_of_descriptors_the_connected_are_served_and_the_waiting_stay_queued() {
    let (server, mut clients, queue) = full_server(6, 30);
    for round in 0..20 {
        for client in &mut clients {
            client.ask(format!("round {round}").as_bytes());
        }
    }
    assert_eq!(count_heard(&queue, Heard::Nothing), queue.len(), "nobody in the queue is served, ended or reset");
    // Whoever comes now waits like the others.
    let late = asked(&server);
    assert_idle(&server, "it is out of descriptors");
    assert_eq!(heard(&late), Heard::Nothing);
    assert_eq!(count_heard(&queue, Heard::Nothing), queue.len(), "nobody in the queue is served, ended or reset");
    // The limit is lifted, and everybody who waited gets the answer.
    server.limit_descriptors(1_000);
    for mut client in queue.into_iter().chain([late]) {
        client.expect_answer(b"Me, too");
        client.ask(b"Thanks");
    }
    for client in &mut clients {
        client.ask(b"Still here");
    }
}

#[test]
fn out_of_descriptors_it_logs_one_line_a_second_at_most() {
    let begin = Instant::now();
    let (server, _clients, _queue) = full_server(4, 4);
    wait_for_report(&server, 3);
    let seconds = begin.elapsed().as_secs() as usize;
    let lines = server.stderr.all().len();
    assert!(lines <= seconds + 1, "{lines} lines in {seconds} s: {:?}", server.stderr.all());
}

#[test]
fn out_of_descriptors_the_echo_with_threads_logs_one_line_a_second_at_most() {
    let server = Echo::Threads.start(&[]);
    warm_up(&server, server.address());
    leave_room_for(&server, 0);
    let _waiting = asked(&server);
    let begin = Instant::now();
    server.stderr.wait_until("it says so again", LIMIT, |lines| lines.len() >= 3);
    let seconds = begin.elapsed().as_secs() as usize;
    let lines = server.stderr.all();
    assert!(lines.len() <= seconds + 2, "{} lines in {seconds} s: {lines:?}", lines.len());
    assert!(lines.iter().all(|line| line.contains("cannot serve another client")), "{lines:?}");
}

#[test]
fn a_client_is_accepted_as_soon_as_another_leaves_when_out_of_descriptors() {
    let (_server, mut clients, mut queue) = full_server(4, RUNS);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        drop(clients.remove(0));
        let (client, took) = take_answered(&mut queue);
        times.push(took);
        clients.push(client);
        assert_eq!(count_heard(&queue, Heard::Nothing), queue.len(), "one has left, one is accepted");
    }
    assert_recovers_within(RECOVERY, "accepting after a client has left", &times);
}

#[test]
fn clients_that_have_left_the_queue_do_not_keep_those_behind_them_waiting() {
    // With room for four at a time, 1,200 of them would take a minute if the server always paused for the 200 ms that it pauses
    // when nothing changes; and a good part of that if three workers paused together.
    const GONE: usize = 1_200;
    for workers in ["1", "3"] {
        let server = Server::start(&["--workers", workers]);
        warm_up(&server, server.address());
        leave_room_for(&server, 4);
        server.pause();
        (0..GONE).for_each(|_| drop(asked(&server)));
        // Enough for each worker to have one. Whoever has been answered leaves a place to the next.
        let mut queue: Vec<Client> = (0..20).map(|_| asked(&server)).collect();
        let took = faults::timed(|| {
            server.go_on();
            while !queue.is_empty() {
                take_answered(&mut queue);
            }
        });
        assert!(took < LIMIT / 4, "{took:?} with {workers} workers");
    }
}

#[test]
fn a_client_is_accepted_as_soon_as_the_limit_is_raised() {
    let (server, _clients, mut queue) = full_server(4, RUNS);
    let mut accepted = Vec::new();
    let mut times = Vec::new();
    for _ in 0..RUNS {
        leave_room_for(&server, 1);
        let (client, took) = take_answered(&mut queue);
        times.push(took);
        accepted.push(client);
        assert_eq!(count_heard(&queue, Heard::Nothing), queue.len(), "there was room for one more");
    }
    assert_recovers_within(RECOVERY, "accepting after the limit was raised", &times);
}

#[test]
fn out_of_descriptors_with_an_empty_queue_is_idle_and_serves_the_next_who_comes() {
    // accept4 asks for a descriptor before it looks at the queue, so EMFILE comes when nobody waits, too. An acceptor
    // that tries for more than it finds (12 is not a sum of its growing bursts) runs into that.
    const ROOM: usize = 12;
    let server = Server::start(&[]);
    warm_up(&server, server.address());
    leave_room_for(&server, ROOM);
    server.pause();
    let mut clients: Vec<Client> = (0..ROOM).map(|_| asked(&server)).collect();
    server.go_on();
    for client in &mut clients {
        client.expect_answer(b"Me, too");
    }
    assert_idle(&server, "it is out of descriptors and nobody waits");
    assert_idle(&server, "it is still out of descriptors and nobody waits");
    // It has tried once, and will not try again before somebody is there.
    assert_eq!(server.stderr.count(is_report), 1, "{:?}", server.stderr.all());

    let mut next = asked(&server);
    assert_idle(&server, "it is out of descriptors and one client waits");
    assert_eq!(heard(&next), Heard::Nothing);
    drop(clients.pop());
    next.expect_answer(b"Me, too");
}

#[test]
fn whoever_could_never_serve_anybody_does_not_begin() {
    // The acceptors that share a limit hear of each other by way of two descriptors, without which they would accept nobody.
    for descriptors in 7..10 {
        let args = ["--listen", "127.0.0.1:0", "--max-connections", "5"];
        let mut server = Server::builder().args(args).after(&format!("ulimit -n {descriptors}")).spawn();
        assert_eq!(server.wait_exit(LIMIT).code(), Some(1), "with {descriptors}");
        assert!(server.stderr.all().iter().any(|line| line.contains("cannot")), "{:?}", server.stderr.all());
    }
}

#[test]
fn started_with_a_limit_of_20_descriptors_it_serves_whom_it_can_and_then_the_others() {
    let server = Server::builder().args(["--listen", "127.0.0.1:0"]).after("ulimit -n 20").spawn();
    let mut queue: Vec<Client> = (0..24).map(|_| asked(&server)).collect();
    eventually("every descriptor is in use", LIMIT, || descriptors_below(&server, 20) == 20);
    assert_idle(&server, "20 descriptors are all in use");
    // Each client that leaves lets the next one in; all of them get their answer.
    let mut at_once = 0;
    while !queue.is_empty() {
        let answered = count_heard(&queue, Heard::Something);
        at_once = at_once.max(answered);
        let (mut client, _) = take_answered(&mut queue);
        client.expect_answer(b"Me, too");
        assert_eq!(count_heard(&queue, Heard::Error), 0, "nobody who waits is reset");
        assert_eq!(count_heard(&queue, Heard::End), 0, "nobody who waits is turned away");
    }
    assert!(at_once >= 6, "20 descriptors are room for more than {at_once} clients at a time");
}

#[test]
fn too_few_descriptors_to_start_are_one_clear_line_and_exit_1() {
    let mut refused = 0;
    for limit in 4..=16 {
        let after = format!("ulimit -n {limit}");
        let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).after(&after).spawn();
        let mut status = None;
        eventually("it listens or ends", LIMIT, || {
            if !server.is_running() {
                status = Some(server.wait_exit(LIMIT));
            }
            status.is_some() || server.stdout.count(|line| line.starts_with("Listening on")) == 1
        });
        let Some(status) = status else { continue };
        let lines = server.stderr.all();
        // Below a handful the system cannot even load the program, and says so itself.
        if status.code() == Some(127) {
            continue;
        }
        refused += 1;
        assert_eq!(status.code(), Some(1), "with {limit} descriptors: {lines:?}");
        assert_eq!(lines.len(), 1, "with {limit} descriptors: {lines:?}");
        assert!(lines[0].starts_with("fdtask: ") && lines[0].contains(&words(libc::EMFILE)), "{lines:?}");
        assert!(lines[0].ends_with("raise the limit with 'ulimit -n'"), "what to do is known: {lines:?}");
    }
    assert!(refused > 0, "with four descriptors it cannot do anything");
}

#[test]
fn a_connection_limit_above_the_descriptor_limit_is_said_at_the_start() {
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "1000"];
    let server = Server::builder().args(args).after("ulimit -n 100").spawn();
    let line = server.stderr.wait_for_line(LIMIT, |line| line.contains("1000") && line.contains("100"));
    assert!(line.starts_with("fdtask: "), "{line}");
    served(server.address(), 50);

    let server = Server::start(&["--max-connections", "10"]);
    served(server.address(), 10);
    assert_eq!(server.stderr.all(), [""; 0], "a limit that can be kept is nothing to talk about");

    // Five for the process, and for each worker five and its listener.
    for (descriptors, is_enough) in [(33, true), (32, false)] {
        let args = ["--listen", "127.0.0.1:0", "--workers", "3", "--max-connections", "10"];
        let server = Server::builder().args(args).after(&format!("ulimit -n {descriptors}")).spawn();
        served(server.address(), 3);
        // What has been said at the start stands before this.
        server.signal(Signal::USR1);
        let lines =
            server.stderr.wait_until("the tables come", LIMIT, |lines| lines.iter().any(|line| line.contains("TASK")));
        let is_said = lines.iter().any(|line| line.contains("--max-connections"));
        assert_eq!(is_said, !is_enough, "{descriptors} descriptors: {lines:?}");
    }
}

#[test]
fn a_descriptor_limit_lowered_under_what_is_polled_pauses_service_and_no_more() {
    const PAUSED: Duration = Duration::from_secs(1);
    let server = Server::start(&[]);
    let mut clients = served(server.address(), 20);
    let begin = Instant::now();
    let mut times = Vec::new();
    for round in 1..=3 {
        // However few entries the array has, they are more than none, and poll refuses it with EINVAL.
        server.limit_descriptors(0);
        for client in &mut clients {
            client.send(b"Anybody?");
        }
        let mut late = asked(&server);
        let before = server.usage().wakeups;
        let usage = usage_during(&server, PAUSED);
        // A pause of 10 to 100 ms is 10 to 100 tries a second; on a busy machine they are fewer, and never more.
        assert!(usage.wakeups <= 130, "{} wake-ups in {PAUSED:?} that poll fails", usage.wakeups);
        eventually("it tries again and again", LIMIT, || server.usage().wakeups >= before + 4);
        assert!(usage.cpu < PAUSED / 20, "{:?} of processor time in {PAUSED:?} that poll fails", usage.cpu);
        assert_eq!(count_heard(&clients, Heard::Error) + count_heard(&clients, Heard::End), 0, "nobody is let go");
        // One when it begins to fail each time, and one for each second that it goes on.
        let lines = server.stderr.count(|line| line.contains("poll"));
        let seconds = begin.elapsed().as_secs() as usize;
        assert!(lines <= round + seconds, "{lines} lines in {seconds} s: {:?}", server.stderr.all());

        server.limit_descriptors(1_000);
        times.push(faults::timed(|| {
            for client in &mut clients {
                client.expect_answer(b"Anybody?");
            }
            late.expect_answer(b"Me, too");
        }));
        drop(late);
    }
    server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot poll"));
    assert_recovers_within(Duration::from_secs(1), "serving after the limit was raised", &times);
}

/// Who is to end although polls are refused.
const SERVERS: [(Echo, &[&str]); 3] = [(Echo::Daemon, &[]), (Echo::Daemon, &["--workers", "3"]), (Echo::Async, &[])];

/// A server whose polls are refused from now on, whatever happens, with some clients of each worker.
fn refused_server(echo: Echo, args: &[&str]) -> (Server, Vec<Client>) {
    let server = echo.start(args);
    let mut clients = served(server.address(), 40);
    server.limit_descriptors(0);
    // Each worker finds out when it wants to sleep again.
    for client in &mut clients {
        client.send(b"Anybody?");
    }
    server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot poll"));
    (server, clients)
}

#[test]
fn a_signal_ends_a_server_whose_polls_are_refused() {
    for (echo, more) in SERVERS {
        let args = [&["--drain-timeout", "0.2"], more].concat();
        let (mut server, _clients) = refused_server(echo, &args);
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "{args:?}: {:?}", server.stderr.all());
    }
}

#[test]
fn a_second_signal_ends_a_server_whose_polls_are_refused_at_once() {
    for (echo, more) in SERVERS {
        let args = [&["--drain-timeout", "1000"], more].concat();
        let (mut server, _clients) = refused_server(echo, &args);
        server.signal(Signal::TERM);
        // Two different ones, which cannot count as one.
        server.signal(Signal::INT);
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "{args:?}: {:?}", server.stderr.all());
    }
}

#[test]
fn a_drain_while_polls_are_refused_does_not_forget_who_is_queued() {
    for workers in ["1", "3"] {
        let (server, _clients) = refused_server(Echo::Daemon, &["--drain-timeout", "600", "--workers", workers]);
        let mut late = asked(&server);
        server.signal(Signal::TERM);
        server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot accept"));
        assert!(!late.hears_something(Duration::from_millis(300)), "there is no descriptor for it yet");
        server.limit_descriptors(1_000);
        late.expect_answer(b"Me, too");
        late.expect_end();
    }
}

over_echoes! {
    without_threads:
        a_client_that_has_sent_something_while_polls_were_refused_is_not_idle;
}

fn a_client_that_has_sent_something_while_polls_were_refused_is_not_idle(echo: Echo) {
    let server = echo.start(&["--idle-timeout", "4"]);
    let mut clients = served(server.address(), 10);
    // Soon after something has moved the daemon looks at each client, and receives by the way; the next look is the last.
    thread::sleep(Duration::from_millis(500));
    server.limit_descriptors(0);
    clients[0].send(b"Anybody?");
    server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot poll"));
    for client in &mut clients[1..] {
        client.send(b"Anybody?");
    }
    // Longer than the timeout, and the quarter more that a client may be given.
    thread::sleep(Duration::from_millis(5_500));
    server.limit_descriptors(1_000);
    for client in &mut clients {
        client.expect_answer(b"Anybody?");
    }
}
