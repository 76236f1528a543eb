//! A log that takes nothing, and calls that no error (row 10 of the faults). A file system that is a program (FUSE) may do so:
//! `write` returns 0 then. To write again at once, over and over, would be a loop that never sleeps. And a pipe for which the
//! system has no call that never sleeps: it takes all, if it is asked first whether it has room.

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/strace.rs"]
mod strace;

use common::{LIMIT, Lines, Server};
use faults::{WITHOUT_OVERRIDE, served};
use rustix::process::Signal;
use std::thread;
use std::time::{Duration, Instant};
use strace::Strace;

/// More than it takes to try again a few times. A loop that never sleeps makes thousands.
const CALLS_PER_SECOND_MAX: u128 = 50;

#[test]
#[ignore = "needs strace"]
fn a_log_that_takes_nothing_costs_lines_and_no_load() {
    let server = Server::start(&[]);
    let address = server.address();
    // The tracer says that nothing was written, and does not make the call.
    let strace = Strace::attach(&server, "write,poll", "write:retval=0");
    let clients = served(address, 3);
    strace.wait_until_injected();
    // Not its wake-ups: whoever traces it wakes it, too, twice for each call.
    let (before, begin) = (strace.calls().len(), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let calls = strace.calls().len() - before;
    let time = begin.elapsed();
    assert!(calls as u128 <= time.as_millis() * CALLS_PER_SECOND_MAX / 1000, "{calls} calls in {time:?}");
    drop(clients);
    served(address, 3);
    strace.detach(&server);
    server.stdout.wait_for_line(LIMIT, |line| line.contains("dropped"));
    served(address, 1);
}

#[test]
#[ignore = "needs strace"]
fn a_log_that_takes_nothing_does_not_keep_the_daemon_from_ending() {
    let mut server = Server::start(&[]);
    let strace = Strace::attach(&server, "write", "write:retval=0");
    drop(served(server.address(), 3));
    strace.wait_until_injected();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "{:?}", server.stderr.all());
}

#[test]
#[ignore = "needs strace"]
fn a_shared_pipe_is_written_to_though_the_call_that_never_sleeps_is_refused() {
    for error in ["EOPNOTSUPP", "ENOSYS", "EINVAL", "EPERM"] {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        rustix::fs::fchmod(&writer, rustix::fs::Mode::empty()).expect("a pipe has a mode");
        let server = Server::builder().args(["--listen", "127.0.0.1:0"]).after(WITHOUT_OVERRIDE).stdout(writer).spawn();
        let log = Lines::read_from(reader);
        let line = log.wait_for_line(LIMIT, |line| line.contains("Listening on "));
        let address = line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address");
        let strace = Strace::attach(&server, "pwritev2", &format!("pwritev2:error={error}"));
        let _clients = served(address, 3);
        strace.wait_until_injected();
        log.wait_until("each is logged", LIMIT, |lines| {
            lines.iter().filter(|line| line.starts_with("Connection from")).count() == 3
        });
        assert_eq!(server.stderr.all(), [""; 0], "{error}");
    }
}
