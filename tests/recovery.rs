//! Measures how long the server takes to be back after a fault, and prints the worst of many runs: the table of the README's
//! section about reliability.
//!
//! ```text
//! cargo test --release --test recovery daemon -- --ignored --nocapture
//! ```

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/strace.rs"]
mod strace;

use common::{Client, Echo, LIMIT, Lines, Server, Signal, eventually, over_echoes};
use faults::{client_that_never_reads, leave_room_for, listening_address, served, take_answered, timed, warm_up};
use fdtask::net::DESCRIPTORS_RETRY;
use std::net::SocketAddr;
use std::time::Duration;
use strace::Strace;

/// How many runs each recovery has, unless the environment says otherwise.
const RUNS: usize = 20;

/// The variable that says otherwise.
const RUNS_VARIABLE: &str = "FDTASK_RECOVERY_RUNS";

/// What is measured: the row of the fault, what happens, the bar, and one run, of the daemon or of whichever echo.
type Recovery = (&'static str, &'static str, Duration, Run);

enum Run {
    Daemon(fn() -> Duration),
    Echo(fn(Echo) -> Duration),
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const RECOVERIES: [Recovery; 15] = [
    (
        "2",
        "500 clients reset while in the accept queue, until the next client is served",
        ms(250),
        Run::Echo(resets_in_the_queue),
    ),
    ("3", "out of descriptors: a client leaves, until the next one is served", ms(250), Run::Daemon(a_slot_by_leaving)),
    (
        "3",
        "out of descriptors: the limit is raised, until the next client is served",
        ms(250),
        Run::Daemon(a_slot_by_raising),
    ),
    ("9", "half-close, until the end of the stream", ms(100), Run::Echo(half_close)),
    (
        "10",
        "a log that nobody read is read, until it has told how many lines are missing",
        ms(1_000),
        Run::Daemon(log_is_read),
    ),
    ("12", "1,000 connects while stopped, until all are served", ms(1_000), Run::Echo(queue_of_a_thousand)),
    ("13", "SIGTERM without clients, until it has ended", ms(100), Run::Echo(end_without_clients)),
    (
        "13",
        "SIGTERM with 200 clients in the queue, until it has answered them all and ended",
        ms(1_000),
        Run::Echo(end_with_a_queue),
    ),
    ("13", "a second signal while clients hold it up, until it has ended", ms(100), Run::Echo(second_signal)),
    (
        "14",
        "accept4 fails with ENOMEM all the time, then no more, until those who waited are served",
        ms(250),
        Run::Echo(accept_fails),
    ),
    (
        "15",
        "poll is refused all the time, then no more, until everybody is served",
        ms(1_000),
        Run::Daemon(poll_is_refused),
    ),
    ("22", "stopped and continued, until a client is answered", ms(100), Run::Echo(stop_and_continue)),
    ("30", "an idle timeout of 300 ms is over, until the client is let go", ms(400), Run::Echo(idle_timeout)),
    (
        "31",
        "at the connection limit: a client leaves, until the next one is served",
        ms(250),
        Run::Daemon(a_slot_of_the_limit),
    ),
    (
        "34",
        "killed (SIGKILL) and started again on the same port, until a client is served",
        ms(250),
        Run::Echo(kill_and_restart),
    ),
];

over_echoes! {
    without_threads:
        #[ignore = "measures instead of testing; prints a table"]
        recovery_times_are_printed_as_the_worst_of_many_runs;
}

fn recovery_times_are_printed_as_the_worst_of_many_runs(echo: Echo) {
    let runs = std::env::var(RUNS_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(RUNS);
    let mut slow = Vec::new();
    println!("{echo:?}");
    println!("| row | what happens, and what is waited for | bar | worst of {runs} | median |");
    println!("|---|---|---|---|---|");
    for (row, what, bar, run) in RECOVERIES {
        let mut times: Vec<Duration> = match run {
            Run::Echo(run) => (0..runs).map(|_| run(echo)).collect(),
            Run::Daemon(run) if echo == Echo::Daemon => (0..runs).map(|_| run()).collect(),
            Run::Daemon(_) => continue,
        };
        times.sort();
        let (worst, median) = (times[runs - 1], times[runs / 2]);
        println!("| {row} | {what} | {} ms | {} | {} |", bar.as_millis(), text(worst), text(median));
        if median > bar {
            slow.push(what);
        }
    }
    assert!(slow.is_empty(), "the bar was missed more often than not: {slow:#?}");
}

fn text(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

fn asked(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(b"Me, too");
    client
}

fn resets_in_the_queue(echo: Echo) -> Duration {
    let server = echo.start(&[]);
    server.pause();
    for _ in 0..500 {
        Client::connect(server.address()).reset();
    }
    let mut next = asked(server.address());
    timed(|| {
        server.go_on();
        next.expect_answer(b"Me, too");
    })
}

/// A server that is out of descriptors, those who are connected, and one who waits.
fn full_server() -> (Server, Vec<Client>, Vec<Client>) {
    let server = Server::start(&[]);
    warm_up(&server, server.address());
    leave_room_for(&server, 5);
    let clients = served(server.address(), 5);
    let waiting = vec![asked(server.address())];
    server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot accept"));
    be_amid_the_longest_pause();
    (server, clients, waiting)
}

/// Once accepting has failed: lets the pauses between two tries become as long as they get, which they are a little more than one
/// of these later, and then hits one at any point of it.
fn be_amid_the_longest_pause() {
    std::thread::sleep(2 * DESCRIPTORS_RETRY + arbitrary_pause());
}

/// Between 0 and 200 ms, another each time.
fn arbitrary_pause() -> Duration {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    ms(COUNT.fetch_add(1, Ordering::Relaxed) * 37 % 200)
}

fn a_slot_by_leaving() -> Duration {
    let (_server, mut clients, mut waiting) = full_server();
    drop(clients.pop());
    take_answered(&mut waiting).1
}

fn a_slot_by_raising() -> Duration {
    let (server, _clients, mut waiting) = full_server();
    leave_room_for(&server, 1);
    take_answered(&mut waiting).1
}

fn half_close(echo: Echo) -> Duration {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    client.send(&[b'x'; 3_500]);
    client.half_close();
    timed(|| {
        client.read_to_end().expect("the stream ends in order");
    })
}

fn log_is_read() -> Duration {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a pipe can be made smaller");
    let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).stdout(writer).spawn();
    let address = listening_address(&mut server);
    for _ in 0..1_500 {
        drop(Client::connect(address));
    }
    served(address, 1);
    timed(|| {
        Lines::read_from(reader).wait_for_line(LIMIT, |line| line.contains("dropped"));
    })
}

fn queue_of_a_thousand(echo: Echo) -> Duration {
    let server = echo.start(&[]);
    server.pause();
    let mut clients: Vec<Client> = (0..1_000).map(|_| asked(server.address())).collect();
    timed(|| {
        server.go_on();
        for client in &mut clients {
            client.expect_answer(b"Me, too");
        }
    })
}

fn end_without_clients(echo: Echo) -> Duration {
    let mut server = echo.start(&[]);
    timed(|| {
        server.signal(Signal::TERM);
        server.wait_exit(LIMIT);
    })
}

fn end_with_a_queue(echo: Echo) -> Duration {
    let mut server = echo.start(&[]);
    server.pause();
    let mut clients: Vec<Client> = (0..200).map(|_| asked(server.address())).collect();
    server.signal(Signal::TERM);
    timed(|| {
        server.go_on();
        for mut client in clients.drain(..) {
            client.expect_answer(b"Me, too");
            client.expect_end();
        }
        server.wait_exit(LIMIT);
    })
}

fn second_signal(echo: Echo) -> Duration {
    let mut server = echo.start(&["--drain-timeout", "600"]);
    let mut clients = served(server.address(), 200);
    let _stuck = client_that_never_reads(server.address(), &[b'x'; 10_000]);
    server.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_end();
    }
    timed(|| {
        server.signal(Signal::TERM);
        server.wait_exit(LIMIT);
    })
}

fn accept_fails(echo: Echo) -> Duration {
    let server = echo.start(&[]);
    let strace = Strace::attach(&server, "accept4", "accept4:error=ENOMEM");
    let mut waiting = asked(server.address());
    strace.wait_until_injected();
    be_amid_the_longest_pause();
    // Detaching is not part of the recovery, but of the measurement.
    strace.detach(&server);
    timed(|| waiting.expect_answer(b"Me, too"))
}

fn poll_is_refused() -> Duration {
    let server = Server::start(&[]);
    let mut clients = served(server.address(), 20);
    server.limit_descriptors(0);
    for client in &mut clients {
        client.send(b"Me, too");
    }
    server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot poll"));
    std::thread::sleep(arbitrary_pause());
    timed(|| {
        server.limit_descriptors(1_000);
        for client in &mut clients {
            client.expect_answer(b"Me, too");
        }
    })
}

fn stop_and_continue(echo: Echo) -> Duration {
    let server = echo.start(&[]);
    let mut clients = served(server.address(), 1);
    server.pause();
    clients[0].send(b"Me, too");
    timed(|| {
        server.go_on();
        clients[0].expect_answer(b"Me, too");
    })
}

fn idle_timeout(echo: Echo) -> Duration {
    let server = echo.start(&["--idle-timeout", "0.3"]);
    let mut clients = served(server.address(), 1);
    timed(|| clients[0].expect_end())
}

fn a_slot_of_the_limit() -> Duration {
    let server = Server::start(&["--max-connections", "5"]);
    let mut clients = served(server.address(), 5);
    let mut waiting = vec![asked(server.address())];
    drop(clients.pop());
    take_answered(&mut waiting).1
}

fn kill_and_restart(echo: Echo) -> Duration {
    let mut server = echo.start(&[]);
    let address = server.address();
    let _clients = served(address, 20);
    timed(|| {
        server.kill();
        let server = echo.listening_on(&address.to_string()).spawn();
        server.address();
        let mut client = Client::connect(address);
        eventually("a client is served", LIMIT, || {
            client.ask(b"Me, too");
            true
        });
    })
}
