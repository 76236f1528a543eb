//! How to run something that blocks: a worker thread, and a server that goes on meanwhile.
//!
//! ```text
//! terminal 1: cargo run --example blocking_work
//! terminal 2: telnet localhost 25000
//! ```
//! Type a number in terminal 2: the answer is how many primes there are up to it. `30000000` takes some seconds of hard work,
//! and while it runs the server goes on: it accepts others, and answers at once whatever they type that is no number. A second
//! number waits its turn, as there is one worker; so may some more, and who comes behind them is told so. `quit` ends your
//! connection.
//!
//! One scheduler is one thread, so work that takes long, or a call that sleeps in the kernel, belongs to another thread.
//! Jobs go to it by an ordinary `std::sync::mpsc` channel, each with a promise that the worker keeps; the scheduler's side
//! awaits what was promised. The channel is bounded: a job outlives the client that has brought it and left, so a thousand such
//! would keep everybody else waiting for minutes. For something rare, [`future::blocking`] makes a thread for it.

use fdtask::future::{self, Promise, linger, send_all};
use fdtask::net::{Acceptor, Lines, Listener, Stream};
use fdtask::{Diagnostics, Scheduler, reason};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::IntErrorKind;
use std::process::ExitCode;
use std::sync::mpsc::{self, TrySendError};
use std::thread;
use std::time::Duration;

/// The longest line that a client may send, with its end.
const LINE_BYTES_MAX: usize = 64;

/// How long a client may take to close the connection when it has been told the end.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest number that is worked on.
const LIMIT_MAX: usize = 50_000_000;

/// What `telnet` asks when Ctrl-C is typed; it shows nothing any more until it is answered (RFC 860).
const DO_TIMING_MARK: [u8; 3] = *b"\xff\xfd\x06";
const WONT_TIMING_MARK: [u8; 3] = *b"\xff\xfc\x06";

/// How many jobs may wait for the worker.
const JOBS_MAX: usize = 32;

/// A number to work on, and whom to tell.
type Job = (usize, Promise<Option<usize>>);

/// The worker: does one job after the other, until nobody can send it another.
fn work(jobs: &mpsc::Receiver<Job>) {
    for (limit, promise) in jobs {
        promise.keep(count_primes(limit));
    }
}

/// `None` if there is no memory for it. A `vec!` would end the program then, and all its clients with it.
fn count_primes(limit: usize) -> Option<usize> {
    let mut is_composite = Vec::new();
    is_composite.try_reserve_exact(limit + 1).ok()?;
    is_composite.resize(limit + 1, false);
    let primes = (2..=limit).filter(|&number| {
        let is_prime = !is_composite[number];
        if is_prime {
            // Where a `usize` has 32 bits, it has no room for many a square, which is beyond the limit.
            (number.saturating_mul(number)..=limit).step_by(number).for_each(|multiple| is_composite[multiple] = true);
        }
        is_prime
    });
    Some(primes.count())
}

async fn serve(client: Stream, jobs: mpsc::SyncSender<Job>) -> io::Result<()> {
    let mut lines = Lines::new(LINE_BYTES_MAX);
    while let Some(line) = lines.recv(&client).await? {
        if line.windows(3).any(|bytes| bytes == DO_TIMING_MARK) {
            send_all(&client, &WONT_TIMING_MARK).await?;
        }
        let text = String::from_utf8_lossy(&line);
        let is_too_long = line.len() == LINE_BYTES_MAX && !text.ends_with('\n');
        let answer = match text.trim() {
            _ if is_too_long => "that line is too long\n".to_owned(),
            "quit" => break,
            text => match text.parse::<usize>() {
                Ok(limit) if limit <= LIMIT_MAX => {
                    let (promise, promised) = future::promise();
                    match jobs.try_send((limit, promise)) {
                        Ok(()) => match promised.await? {
                            Some(count) => format!("{count} primes up to {limit}\n"),
                            None => "there is no memory for that now\n".to_owned(),
                        },
                        Err(TrySendError::Full(_)) => format!("{JOBS_MAX} others are waiting: try again later\n"),
                        Err(error) => return Err(io::Error::other(error)),
                    }
                }
                Err(error) if *error.kind() != IntErrorKind::PosOverflow => "please type a number\n".to_owned(),
                _ => format!("that is too much: {LIMIT_MAX} at most\n"),
            },
        };
        send_all(&client, answer.as_bytes()).await?;
        if is_too_long {
            break;
        }
        // Many lines may have come at once, and there may be room for all the answers. Whoever sends them is not alone here.
        future::next_turn().await;
    }
    linger(&client, LINGER_TIMEOUT).await
}

fn run(address: SocketAddr) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    scheduler.observe(Diagnostics::to_stderr(&handle, "blocking_work")?);
    let listener = Listener::bind(address)?;
    // A server whose standard output nobody reads serves all the same.
    let _ = writeln!(io::stdout(), "Listening on {}", listener.address());
    let (jobs, jobs_to_do) = mpsc::sync_channel(JOBS_MAX);
    thread::spawn(move || work(&jobs_to_do));
    scheduler.spawn(Acceptor::new(&handle, listener, move |client, peer| {
        future::task(serve(client, jobs.clone())).named(format!("primes {peer}"))
    }));
    scheduler.run();
    Err(io::Error::other("the listener is broken"))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|text| text.to_str()?.parse().ok()).collect();
    let address: Option<SocketAddr> = match arguments[..] {
        [] => Some((Ipv4Addr::UNSPECIFIED, 25000).into()),
        [address] => address,
        _ => None,
    };
    let Some(address) = address else {
        let _ = writeln!(io::stderr(), "usage: blocking_work [ADDRESS:PORT]");
        return ExitCode::from(2);
    };
    let Err(error) = run(address) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "blocking_work: cannot listen on {address}: {}", reason(&error));
    ExitCode::FAILURE
}
