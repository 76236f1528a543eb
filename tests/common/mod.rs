//! What the integration tests share: a server of the built binary, its clients, and what the server costs.
//!
//! Nothing in here sleeps for luck. Whatever is waited for has a limit ([`LIMIT`] unless the test says otherwise), and
//! when the limit passes the test fails with what the server has printed so far.
//!
//! ```text
//! let server = Server::start(&["--idle-timeout", "1"]);
//! let mut client = Client::connect(server.address());
//! client.ask(b"Hello");
//! ```

#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses its own part of this module")]

mod client;
mod echoes;
mod frames;
mod server;
mod steady;
mod usage;

pub use client::{Client, send_until_stuck};
pub(crate) use echoes::over_echoes;
pub use echoes::{Echo, example};
pub use frames::{answers_to, payload, payload_of};
pub use rustix::process::Signal;
pub use server::{Lines, Server, ServerBuilder};
pub use steady::{uninterrupted, while_steady};
pub use usage::{Usage, assert_idle, usage_during};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that takes milliseconds on an idle machine. Generous, because the machine may be busy with
/// something else; only a test that fails ever waits so long.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How often a condition is looked at that nothing announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Waits until `condition` holds. Returns how long that took.
///
/// # Panics
/// When it does not hold within `limit`; `what` says what was waited for.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(LOOK_INTERVAL);
    }
    begin.elapsed()
}

/// At a limit of one client: how long it takes, each time that the client inside leaves, until the one that waits is served; so
/// many times, the shortest first.
#[track_caller]
pub fn times_until_the_next_is_served(server: &Server, count: usize) -> Vec<Duration> {
    let mut inside = Client::connect(server.address());
    inside.ask(b"first");
    let mut times = Vec::new();
    for _ in 0..count {
        let mut waiting = Client::connect(server.address());
        waiting.send(b"Hello");
        let begin = Instant::now();
        drop(inside);
        waiting.expect_answer(b"Hello");
        times.push(begin.elapsed());
        inside = waiting;
    }
    times.sort();
    times
}

/// What the C library says of an error: each has words of its own.
pub fn words(code: i32) -> String {
    fdtask::reason(&std::io::Error::from_raw_os_error(code))
}

/// Makes sure that this process, and each server that it starts from now on, may open `count` descriptors.
///
/// # Panics
/// When the system does not let it.
#[track_caller]
pub fn need_descriptors(count: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    assert!(maximum.is_none_or(|maximum| maximum >= count), "needs {count} descriptors; ulimit -Hn says {maximum:?}");
    // All that there are: another test of this process may need more.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .expect("the soft limit can be raised to the hard");
}
