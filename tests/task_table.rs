//! The task table that `SIGUSR1` prints: who is there, what each waits for, aligned.

mod common;

use common::{Client, LIMIT, Server, Signal, eventually, payload};
use std::net::SocketAddr;

/// The tasks that the daemon has without any client: two logs, the one that receives signals, and the acceptor.
const OWN_TASKS: usize = 4;

/// One line of the table.
#[derive(Debug)]
struct Row {
    id: u64,
    by: Option<u64>,
    resumes: u64,
    since_seconds: f64,
    name: String,
    state: String,
}

/// Asks the server for its table of `count` tasks, and expects that its columns are aligned.
#[track_caller]
fn table(server: &Server, count: usize) -> Vec<Row> {
    let before = server.stderr.all().len();
    server.signal(Signal::USR1);
    let lines = server.stderr.wait_until("the table comes", LIMIT, |lines| lines.len() > before + count);
    let header = &lines[before];
    let names = ["ID", "BY", "RESUMES", "SINCE", "TASK", "WAITS FOR"];
    let starts = names.map(|name| header.find(name).unwrap_or_else(|| panic!("no column {name}: {header}")));
    let ends: Vec<usize> = names.iter().zip(starts).map(|(name, start)| start + name.len()).collect();
    let row = |line: &String| {
        assert!(line.is_ascii(), "{line}");
        // Numbers end where their header ends, text begins where its header begins.
        let cell = |from: usize, to: usize| line[from..to].trim();
        assert!(ends[..4].iter().all(|end| line[*end..].starts_with("  ")), "{header}\n{line}");
        assert!(starts[4..].iter().all(|start| line[..*start].ends_with("  ")), "{header}\n{line}");
        let number = |from, to| cell(from, to).parse::<u64>().ok();
        Row {
            id: number(0, ends[0]).expect("an id"),
            by: number(ends[0], ends[1]),
            resumes: number(ends[1], ends[2]).expect("a count"),
            since_seconds: cell(ends[2], ends[3]).strip_suffix(" s").and_then(|s| s.parse().ok()).expect("seconds"),
            name: cell(starts[4], starts[5]).to_owned(),
            state: line[starts[5]..].to_owned(),
        }
    };
    lines[before + 1..].iter().map(row).collect()
}

#[track_caller]
fn find<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name} in {rows:#?}"))
}

/// The row of the connection whose client has this address.
#[track_caller]
fn echo(rows: &[Row], peer: SocketAddr) -> &Row {
    find(rows, &format!("echo {peer}"))
}

/// The descriptor in `recv fd 7`, which must be a socket that the server has open.
#[track_caller]
fn socket_in(server: &Server, state: &str, before: &str, behind: &str) -> u32 {
    let fd = state.strip_prefix(before).and_then(|state| state.strip_suffix(behind)).and_then(|fd| fd.parse().ok());
    let fd: u32 = fd.unwrap_or_else(|| panic!("not {before}N{behind}: {state}"));
    let target = std::fs::read_link(format!("/proc/{}/fd/{fd}", server.pid().as_raw_nonzero()));
    assert!(
        target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:")),
        "{fd} is no socket of the server"
    );
    fd
}

#[test]
fn sigusr1_prints_a_row_for_every_task() {
    let server = Server::start(&["--quiet"]);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(server.address())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        // Two more each: whether the first resume of all finds the first question there already depends on who is faster.
        for _ in 0..=2 * number {
            client.ask(b"Hello");
        }
    }
    let rows = table(&server, OWN_TASKS + 3);
    assert_eq!(rows.len(), OWN_TASKS + 3, "{rows:#?}");
    assert!(rows.is_sorted_by_key(|row| row.id), "{rows:#?}");
    let acceptor = find(&rows, &format!("acceptor {}", server.address()));
    for own in [acceptor, find(&rows, "log to stdout"), find(&rows, "log to stderr")] {
        assert_eq!(own.by, None, "{own:?}");
    }
    let mut fds = vec![socket_in(&server, &acceptor.state, "recv fd ", "")];
    let mut resumes = 0;
    for client in &clients {
        let row = echo(&rows, client.local_address());
        assert_eq!(row.by, Some(acceptor.id), "{row:?}");
        assert!(
            row.resumes > resumes,
            "the second asked more often than the first, the third more often still: {rows:#?}"
        );
        assert!(row.since_seconds < LIMIT.as_secs_f64(), "{row:?}");
        resumes = row.resumes;
        fds.push(socket_in(&server, &row.state, "recv fd ", ""));
    }
    fds.sort_unstable();
    fds.dedup();
    assert_eq!(fds.len(), 4, "each waits for a descriptor of its own: {rows:#?}");

    let with_clients = server.open_sockets();
    for client in &mut clients {
        client.half_close();
        client.expect_end();
    }
    eventually("they are gone", LIMIT, || server.open_sockets() + 3 == with_clients);
    let rows = table(&server, OWN_TASKS);
    assert_eq!(rows.len(), OWN_TASKS, "{rows:#?}");
    assert!(!rows.iter().any(|row| row.name.starts_with("echo")), "{rows:#?}");
    assert_eq!(server.stdout.all().len(), 1, "the table is on standard error alone");
}

#[test]
fn a_client_that_does_not_read_is_shown_with_what_it_has_been_sent() {
    let server = Server::start(&["--quiet"]);
    let mut client = Client::connect_with_small_buffers(server.address());
    client.send_until_stuck(&payload(12_000_000, 6));
    let rows = table(&server, OWN_TASKS + 1);
    let state = &echo(&rows, client.local_address()).state;
    let (wait, progress) = state.split_once(", ").unwrap_or_else(|| panic!("no progress: {state}"));
    socket_in(&server, wait, "send fd ", "");
    let numbers = progress.strip_suffix(" sent").and_then(|progress| progress.split_once(" of "));
    let (sent, of) = numbers.unwrap_or_else(|| panic!("not like 12 of 64 sent: {progress}"));
    let (sent, of): (usize, usize) = (sent.parse().expect("a count"), of.parse().expect("a count"));
    assert!(sent < of && of <= 1004, "{progress}");
}

#[test]
fn a_deadline_is_shown_as_the_seconds_that_are_left() {
    let server = Server::start(&["--quiet", "--idle-timeout", "1000"]);
    let mut client = Client::connect(server.address());
    client.ask(b"Hello");
    let rows = table(&server, OWN_TASKS + 1);
    let state = &echo(&rows, client.local_address()).state;
    let (wait, deadline) = state.split_once(" or until +").unwrap_or_else(|| panic!("no deadline: {state}"));
    socket_in(&server, wait, "recv fd ", "");
    let seconds: f64 = deadline.strip_suffix(" s").and_then(|left| left.parse().ok()).expect("seconds");
    // The client's part of the timeout is looked at in parts, so as not to miss that it takes what it was sent.
    assert!((50.0..=1000.0).contains(&seconds), "{state}");
}

#[test]
fn an_acceptor_that_waits_for_room_says_so_and_at_which_limit() {
    // One task more of its own: the limit may be shared with other threads, so it receives their messages.
    const OWN: usize = OWN_TASKS + 1;
    let server = Server::start(&["--max-connections", "2"]);
    let name = format!("acceptor {}", server.address());
    let mut first = Client::connect(server.address());
    first.ask(b"first");
    let rows = table(&server, OWN + 1);
    socket_in(&server, &find(&rows, &name).state, "recv fd ", "");
    let mut second = Client::connect(server.address());
    second.ask(b"second");
    let mut third = Client::connect(server.address());
    third.send(b"third");
    eventually("the acceptor has seen the third", LIMIT, || {
        find(&table(&server, OWN + 2), &name).state == "wake, at the limit of 2"
    });
    let with_two = server.open_sockets();
    drop((first, second));
    third.expect_answer(b"third");
    eventually("the two are gone", LIMIT, || server.open_sockets() < with_two);
    third.ask(b"Is there room again?");
    let rows = table(&server, OWN + 1);
    socket_in(&server, &find(&rows, &name).state, "recv fd ", "");
}

#[test]
fn asking_for_the_table_often_disturbs_nobody() {
    let server = Server::start(&["--quiet"]);
    let mut client = Client::connect(server.address());
    client.ask(b"Hello");
    for _ in 0..50 {
        client.send(b"Hello");
        let rows = table(&server, OWN_TASKS + 1);
        echo(&rows, client.local_address());
        client.expect_answer(b"Hello");
    }
}
