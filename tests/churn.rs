//! Connections that come and end in every way there is leave nothing behind: the server ends with the descriptors, the tasks
//! and the memory that it had.

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, LIMIT, Server, Signal, eventually, while_steady};
use faults::{Bystander, warm_up};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How many connections the long test makes, unless the environment says otherwise.
const CONNECTIONS: usize = 100_000;

/// The variable that says otherwise.
const CONNECTIONS_VARIABLE: &str = "FDTASK_CHURN_CONNECTIONS";

/// A client with which nothing moves for so many seconds is let go.
const IDLE_TIMEOUT: &str = "0.3";

/// A machine that stands still for so long may make whoever is to speak, or to listen, as silent as those who are let go.
const STEADY: Duration = Duration::from_millis(50);

/// A timeout that is not over before the test is: what is kept of a connection's deadline stays for as long.
const LONG_IDLE_TIMEOUT: &str = "600";

/// How many are open at the same time while the server is stopped.
const BACKLOG: usize = 120;

/// How connections are made and ended, round after round.
#[derive(Clone, Copy)]
struct Plan {
    connections: usize,
    /// How many of a round end in each of the quick ways.
    each: usize,
    /// How many of a round are left to the idle timeout.
    idle: usize,
    idle_timeout: &'static str,
}

/// How much more memory the server may use in the end: what an allocator keeps for itself, and no more. If each of
/// 100,000 connections left 8 bytes behind it would be more than this.
const MEMORY_SLACK_BYTES: u64 = 512 * 1024;

/// The addresses that clients connect to, one after the other, so that the ports of those who closed first (`TIME_WAIT`)
/// never run out: the whole of 127.0.0.0/8 is the loopback.
struct Addresses {
    port: u16,
    next: u32,
}

impl Addresses {
    fn of(server: &Server) -> Addresses {
        Addresses { port: server.address().port(), next: 0 }
    }

    fn next(&mut self) -> SocketAddr {
        self.next += 1;
        let [high, low] = [self.next / 200 % 200, self.next % 200].map(|number| number as u8);
        SocketAddr::from((Ipv4Addr::new(127, 0, high, low + 1), self.port))
    }

    #[track_caller]
    fn connect(&mut self) -> Client {
        Client::connect(self.next())
    }
}

/// What a server has.
#[derive(Debug)]
struct Possessions {
    descriptors: usize,
    tasks: Vec<String>,
    resident_bytes: u64,
}

/// What the server has now, by the kernel's account and by its own.
#[track_caller]
fn possessions(server: &Server) -> Possessions {
    let is_header = |line: &String| line.contains("WAITS FOR");
    let headers = |lines: &[String]| lines.iter().filter(|line| is_header(line)).count();
    let before = headers(&server.stderr.all());
    // A table is complete when the next one has begun.
    for count in [before + 1, before + 2] {
        server.signal(Signal::USR1);
        server.stderr.wait_until("the task table", LIMIT, |lines| headers(lines) >= count);
    }
    let lines = server.stderr.all();
    let table = lines.split(is_header).nth(before + 1).unwrap_or_default();
    // How often each was resumed, and for how long it has waited, differs from table to table.
    let kinds = ["signals", "acceptor", "log to", "echo", "(this task)"];
    let kind = |row: &String| {
        let known = kinds.iter().find(|kind| row.contains(**kind));
        known.map_or_else(|| row.clone(), |&kind| kind.to_owned())
    };
    let mut tasks: Vec<String> = table.iter().map(kind).collect();
    tasks.sort();
    let usage = server.usage();
    Possessions { descriptors: server.open_descriptors(), tasks, resident_bytes: usage.resident_bytes }
}

/// Lets connections end in every way. Returns how many there were.
#[track_caller]
fn round(server: &Server, addresses: &mut Addresses, plan: Plan) -> usize {
    let before = server.open_descriptors();
    let mut idle: Vec<Client> = (0..plan.idle).map(|_| addresses.connect()).collect();
    for (number, client) in idle.iter_mut().enumerate() {
        // Some were served before they fell silent.
        if number % 2 == 0 {
            client.ask(b"one thing");
        }
    }
    for number in 0..plan.each {
        // It never says anything.
        drop(addresses.connect());
        addresses.connect().reset();
        // It is served, and goes: in order, by a reset, after a half-close.
        let mut client = addresses.connect();
        client.ask(b"hello");
        drop(client);
        let mut client = addresses.connect();
        client.ask(b"hello");
        client.reset();
        let mut client = addresses.connect();
        client.send(&[b'x'; 1_500]);
        client.half_close();
        assert!(client.read_to_end().is_ok_and(|answers| answers.len() > 1_500));
        // It goes in the middle: with an answer unread, and with more unsent than anybody has received.
        let mut client = addresses.connect();
        client.send(b"I do not want to know");
        drop(client);
        let mut client = addresses.connect();
        client.stream.set_nonblocking(true).expect("a socket can be made non-blocking");
        if number == 0 {
            while client.stream.write(&[b'x'; 16_384]).is_ok() {}
        }
        client.reset();
    }
    // These come and go while the server is stopped: it finds them in its queue when they are long gone.
    server.pause();
    let backlog: Vec<Client> = (0..BACKLOG).map(|_| addresses.connect()).collect();
    for (number, mut client) in backlog.into_iter().enumerate() {
        match number % 4 {
            0 => client.reset(),
            1 => client.half_close(),
            2 => client.send(b"Is anybody there?"),
            _ => drop(client),
        }
    }
    server.go_on();
    for mut client in idle {
        client.expect_end();
    }
    // Whoever is served now has come behind all of them: none is in the queue any more, where it would not be seen.
    addresses.connect().ask(b"Is anybody before me?");
    eventually("all of the round are gone", LIMIT, || server.open_descriptors() <= before);
    plan.idle + 7 * plan.each + BACKLOG + 1
}

/// Makes connections as planned, and compares what the server has before and after.
#[track_caller]
fn churn(plan: Plan, report: impl Fn(usize, &Possessions)) {
    let args = ["--listen", "0.0.0.0:0", "--quiet", "--idle-timeout", plan.idle_timeout];
    let server = Server::builder().args(args).spawn();
    let mut addresses = Addresses::of(&server);
    warm_up(&server, addresses.next());
    // The first rounds make the vectors as long as they will ever be, and the allocator acquainted with its work.
    let mut made = round(&server, &mut addresses, plan) + round(&server, &mut addresses, plan);
    let before = possessions(&server);
    let bystander = Bystander::start(addresses.next());
    let mut last_report = Instant::now();
    while made < plan.connections {
        made += round(&server, &mut addresses, plan);
        if last_report.elapsed() > Duration::from_secs(5) {
            report(made, &possessions(&server));
            last_report = Instant::now();
        }
    }
    assert!(bystander.finish() > 0, "a bystander does not notice");
    eventually("the bystander is gone, too", LIMIT, || server.open_descriptors() <= before.descriptors);
    let after = possessions(&server);
    report(made, &after);
    assert_eq!(after.descriptors, before.descriptors, "after {made} connections");
    assert_eq!(after.tasks, before.tasks, "after {made} connections");
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
    assert!(grown < MEMORY_SLACK_BYTES, "{grown} bytes more after {made} connections");
    let errors = server.stderr.count(|line| line.starts_with("fdtask: "));
    assert_eq!(errors, 0, "{:?}", server.stderr.all());
}

#[test]
fn some_thousand_connections_ended_in_every_way_leave_nothing_behind() {
    while_steady(STEADY, || {
        churn(Plan { connections: 2_000, each: 40, idle: 10, idle_timeout: IDLE_TIMEOUT }, |_, _| ());
    });
}

#[test]
#[ignore = "takes about half a minute; FDTASK_CHURN_CONNECTIONS says how many connections"]
fn a_hundred_thousand_connections_ended_in_every_way_leave_nothing_behind() {
    let connections = std::env::var(CONNECTIONS_VARIABLE).ok().and_then(|text| text.parse().ok());
    let connections = connections.unwrap_or(CONNECTIONS);
    while_steady(STEADY, || churn(Plan { connections, each: 400, idle: 10, idle_timeout: IDLE_TIMEOUT }, print));
}

#[test]
#[ignore = "takes some ten seconds"]
fn deadlines_of_connections_that_have_ended_leave_nothing_behind() {
    churn(Plan { connections: 50_000, each: 400, idle: 0, idle_timeout: LONG_IDLE_TIMEOUT }, print);
}

fn print(made: usize, possessions: &Possessions) {
    let Possessions { descriptors, tasks, resident_bytes } = possessions;
    let (tasks, kib) = (tasks.len(), resident_bytes / 1024);
    println!("{made} connections: {descriptors} descriptors, {tasks} tasks, {kib} KiB");
}
