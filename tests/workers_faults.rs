//! The faults once more, with several workers in one process: what one of them suffers must not stall, flood or outlive the
//! others.

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/strace.rs"]
mod strace;

use common::{Client, LIMIT, Lines, Server, Signal, assert_idle, eventually};
use faults::{Bystander, Heard, count_heard, expect_a_line_a_second, listening_address, served, terminal};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use strace::Strace;

const WORKERS: usize = 3;

/// So many clients that each worker surely has some: the kernel spreads them by a hash.
const CROWD: usize = 60;

fn start(args: &[&str]) -> Server {
    Server::start(&[&["--workers", "3"], args].concat())
}

/// The numbers of the server's threads.
fn threads(server: &Server) -> Vec<i32> {
    let directory = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[test]
fn a_poll_that_is_refused_pauses_every_worker_and_is_said_once_a_second() {
    let server = start(&[]);
    let mut clients = served(server.address(), CROWD);
    let begin = Instant::now();
    server.limit_descriptors(0);
    for client in &mut clients {
        client.send(b"Anybody?");
    }
    expect_a_line_a_second(&server, begin, "cannot poll");
    server.limit_descriptors(1_000);
    for client in &mut clients {
        client.expect_answer(b"Anybody?");
    }
}

#[test]
fn workers_that_cannot_poll_are_told_to_drain_and_to_stop_all_the_same() {
    // The last lines of who pauses must be written in what is left of a tenth of a second, which a busy machine may not leave.
    const TRIES: usize = 5;
    let says_whom_it_has_cut_off = || {
        let mut server = start(&["--drain-timeout", "600"]);
        let mut clients = served(server.address(), CROWD);
        // A poll that sleeps already is refused when it begins anew.
        server.pause();
        server.limit_descriptors(0);
        server.go_on();
        server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot poll"));
        server.signal(Signal::TERM);
        for client in &mut clients {
            client.expect_end();
        }
        assert!(server.is_running(), "clients that do not end their side hold it up");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
        server.stdout.count(|line| line.starts_with("Connection closed")) == CROWD
    };
    assert!((0..TRIES).any(|_| says_whom_it_has_cut_off()));
}

#[test]
fn a_pipe_that_nobody_reads_stalls_no_worker_and_each_line_is_accounted_for() {
    // Enough to fill the queue of each worker's log.
    const CONNECTIONS: usize = 5_000;
    const LINES_EACH: usize = 3;
    let (reader, writer) = small_pipe();
    let args = ["--listen", "127.0.0.1:0", "--workers", "3"];
    let mut server = Server::builder().args(args).stdout(writer).spawn();
    let address = listening_address(&mut server);
    drop(served(address, CROWD));
    let bystander = Bystander::start(address);
    for _ in 0..CONNECTIONS {
        drop(Client::connect(address));
    }
    assert!(bystander.finish() > 0, "a bystander does not notice");
    let mut quiet = None;
    eventually("all of them are gone", LIMIT, || {
        let open = server.open_sockets();
        let is_quiet = quiet.replace(open) == Some(open);
        if !is_quiet {
            std::thread::sleep(Duration::from_millis(50));
        }
        is_quiet
    });
    assert_idle(&server, "nobody reads the log");
    let expected = 1 + LINES_EACH * (CROWD + 1 + CONNECTIONS);
    let lines = Lines::read_from(reader);
    lines.wait_until("each line is written or counted", LIMIT, |lines| {
        let notices = lines.iter().filter(|line| line.contains("dropped"));
        let dropped: Vec<usize> =
            notices.filter_map(|line| line.trim_start_matches('(').split(' ').next()?.parse().ok()).collect();
        let accounted = lines.len() - dropped.len() + dropped.iter().sum::<usize>();
        assert!(accounted <= expected, "{accounted} of {expected}");
        accounted == expected && !dropped.is_empty()
    });
}

#[test]
fn a_pipe_that_cannot_be_opened_again_stalls_no_worker() {
    // All workers, and standard error, too, write to the same description, whose flags are not the daemon's to change. See
    // the test of the same name in `log.rs`.
    let (mut reader, writer) = small_pipe();
    rustix::fs::fchmod(&writer, rustix::fs::Mode::empty()).expect("a pipe has a mode");
    let errors = writer.try_clone().expect("a descriptor can be cloned");
    let args = ["--listen", "127.0.0.1:0", "--workers", "3"];
    let server = Server::builder().args(args).after(faults::WITHOUT_OVERRIDE).stdout(writer).stderr(errors);
    let mut server = server.spawn();
    let address = listening_address(&mut server);
    rustix::io::ioctl_fionbio(&reader, true).expect("a pipe can be made non-blocking");
    let mut clients = served(address, CROWD);
    for _ in 0..20 {
        while std::io::Read::read(&mut reader, &mut [0; 4096]).is_ok() {}
        server.pause();
        let mut more: Vec<Client> = (0..8).map(|_| Client::connect(address)).collect();
        server.signal(Signal::USR1);
        server.go_on();
        for client in &mut more {
            client.ask(b"Is the log in your way?");
        }
        for client in &mut clients {
            client.ask(b"Is the log in your way?");
        }
    }
}

#[test]
fn a_terminal_that_cannot_be_opened_again_stalls_no_worker() {
    // All workers wait for room, for which one line is enough, and hear of it at the same moment.
    let (ours, theirs) = terminal();
    rustix::fs::fchmod(&theirs, rustix::fs::Mode::empty()).expect("a terminal has a mode");
    let args = ["--listen", "127.0.0.1:0", "--workers", "3"];
    let mut server = Server::builder().args(args).after(faults::WITHOUT_OVERRIDE).stdout(theirs).spawn();
    let address = listening_address(&mut server);
    rustix::io::ioctl_fionbio(&ours, true).expect("a terminal can be made non-blocking");
    let mut clients = served(address, 30);
    for _ in 0..300 {
        drop(Client::connect(address));
    }
    for _ in 0..120 {
        // There is room for some 4 KiB at a time, which these lines fill again.
        for _ in 0..80 {
            drop(Client::connect(address));
        }
        let mut read = 0;
        eventually("so much of the log has come", LIMIT, || {
            read += rustix::io::read(&ours, &mut [0; 512]).unwrap_or(0);
            read >= 4096
        });
        for client in &mut clients {
            client.ask(b"Is the log in your way?");
        }
    }
}

#[test]
fn the_lines_of_several_workers_stay_whole_on_a_terminal_that_cannot_be_opened_again() {
    const ROUNDS: usize = 100;
    let (ours, theirs) = terminal();
    rustix::fs::fchmod(&theirs, rustix::fs::Mode::empty()).expect("a terminal has a mode");
    let args = ["--listen", "127.0.0.1:0", "--workers", "3"];
    let mut server = Server::builder().args(args).after(faults::WITHOUT_OVERRIDE).stdout(theirs).spawn();
    let lines = Lines::read_from(std::fs::File::from(ours));
    let address = listening_address(&mut server);
    for round in 1..=ROUNDS {
        // All of them have something to say at the same moment, and no more than there is room for.
        server.pause();
        let clients: Vec<Client> = (0..12).map(|_| Client::connect(address)).collect();
        drop(clients);
        server.go_on();
        lines.wait_until("everything is said", LIMIT, |lines| lines.len() > 36 * round);
    }
    let is_whole = |line: &String| {
        matches!(line.trim_end(), "Connection closed" | "Task done")
            || line.trim_end().rsplit_once(' ').is_some_and(|(what, address)| {
                matches!(what, "Listening on" | "Connection from") && address.parse::<SocketAddr>().is_ok()
            })
    };
    assert_eq!(lines.all().into_iter().find(|line| !is_whole(line)), None);
}

fn small_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a pipe can be made smaller");
    (reader, writer)
}

#[test]
fn a_signal_is_seen_at_once_every_time_by_every_worker() {
    for cycle in 0..60 {
        let mut server = start(&["--drain-timeout", "600"]);
        let mut clients = served(server.address(), cycle % 4 * 3);
        server.signal(if cycle % 2 == 0 { Signal::TERM } else { Signal::INT });
        for client in &mut clients {
            client.expect_end();
        }
        drop(clients);
        let status = server.wait_exit(LIMIT);
        assert_eq!(status.code(), Some(0), "cycle {cycle}: {status:?}");
    }
}

#[test]
#[ignore = "needs strace"]
fn a_broken_listener_of_one_worker_ends_the_daemon_with_an_error() {
    let mut server = start(&["--drain-timeout", "600"]);
    let mut clients = served(server.address(), CROWD);
    let others: Vec<i32> =
        threads(&server).into_iter().filter(|thread| *thread != server.pid().as_raw_nonzero().get()).collect();
    assert_eq!(others.len(), WORKERS - 1, "a thread for each worker: {others:?}");
    let strace = Strace::attach_to(others[0], "accept4", "accept4:error=EBADF:when=1");
    let mut newcomers = Vec::new();
    eventually("the kernel has given that worker a client", LIMIT, || {
        // From then on nobody can connect any more.
        newcomers.extend(Client::try_connect(server.address(), LIMIT));
        strace.injected() > 0
    });
    server.stderr.wait_for_line(LIMIT, |line| line.contains("acceptor"));
    for client in &mut clients {
        client.expect_end();
    }
    drop((clients, newcomers));
    let status = server.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(1), "{:?}", server.stderr.all());
}

#[test]
#[ignore = "needs strace"]
fn a_worker_that_cannot_accept_does_not_keep_the_others_from_serving() {
    let server = start(&[]);
    drop(served(server.address(), CROWD));
    let own = server.pid().as_raw_nonzero().get();
    let other = threads(&server).into_iter().find(|thread| *thread != own).expect("there is more than one thread");
    let strace = Strace::attach_to(other, "accept4", "accept4:error=ENOMEM");
    let mut clients: Vec<Client> = (0..CROWD).map(|_| Client::connect(server.address())).collect();
    for client in &mut clients {
        client.send(b"Me, too");
    }
    strace.wait_until_injected();
    // Those whom the kernel has given to the others are served, the rest wait.
    eventually("the others serve", LIMIT, || {
        let answered = count_heard(&clients, Heard::Something);
        answered > 0 && answered + count_heard(&clients, Heard::Nothing) == CROWD
    });
    strace.detach(&server);
    for client in &mut clients {
        client.expect_answer(b"Me, too");
    }
}

/// A server that begins to listen on this address, but is held up in it as `inject` says.
fn held_up(address: SocketAddr, inject: &str) -> (Server, Strace) {
    let args = ["--workers", "3", "--listen", &address.to_string()];
    let server = Server::builder().args(args).after("kill -STOP $$").spawn();
    eventually("the shell has stopped", LIMIT, || server.state() == 'T');
    let strace = Strace::attach(&server, "bind,listen", inject);
    server.go_on();
    (server, strace)
}

#[test]
#[ignore = "needs strace"]
fn whoever_connects_while_the_workers_begin_to_listen_is_served() {
    // Clients come from 127.0.0.1, so that none that uses this port by chance is connected to itself.
    let free = TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let _held_up = held_up(free, "listen:delay_exit=200000");
    let mut early = Vec::new();
    eventually("somebody listens", LIMIT, || {
        early.extend(Client::try_connect(free, LIMIT));
        !early.is_empty()
    });
    early[0].ask(b"Am I too early?");
}

#[test]
#[ignore = "needs strace"]
fn whoever_connects_before_a_signal_to_end_is_served_though_the_workers_only_begin_to_listen() {
    let free = TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (mut server, _held_up) = held_up(free, "listen:delay_exit=200000");
    let mut early = Vec::new();
    eventually("somebody listens", LIMIT, || {
        early.extend(Client::try_connect(free, LIMIT));
        !early.is_empty()
    });
    early[0].send(b"Am I too early?");
    server.signal(Signal::TERM);
    early[0].expect_answer(b"Am I too early?");
    early[0].expect_end();
    drop(early);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
}

#[test]
#[ignore = "needs strace"]
fn a_daemon_that_begins_while_the_workers_of_another_do_does_not_get_their_port() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (server, strace) = held_up(free, "bind:delay_enter=300000");
    eventually("the first listener listens", LIMIT, || strace.calls().iter().any(|call| call.starts_with("listen(")));
    let mut second = Server::builder().args(["--workers", "3", "--listen", &free.to_string()]).spawn();
    assert_eq!(second.wait_exit(LIMIT).code(), Some(1));
    assert_eq!(server.address(), free);
}

#[test]
fn a_storm_of_signals_for_the_task_tables_is_one_request_at_a_time_to_each_worker() {
    let mut server = start(&["--quiet"]);
    let mut clients = served(server.address(), 20);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        server.signal(Signal::USR1);
    }
    for client in &mut clients {
        client.ask(b"Who is there?");
    }
    // A request is a task of the worker's, so the tables would show how many there are.
    let lines = server.stderr.wait_until("a table comes", LIMIT, |lines| !lines.is_empty());
    let tables = lines.split(|line| line.starts_with("Worker "));
    let most = tables.map(|table| table.iter().filter(|line| line.contains("call from another thread")).count()).max();
    assert!(most.is_some_and(|most| most <= 1), "{most:?} requests at once");
    server.signal(Signal::TERM);
    drop(clients);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
}
