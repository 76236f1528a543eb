//! A log that takes nothing, and calls that no error (row 10 of the faults). A file system that is a program (FUSE) may do so:
//! `write` returns 0 then. To write again at once, over and over, would be a loop that never sleeps.

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/strace.rs"]
mod strace;

use common::{LIMIT, Server, assert_idle};
use faults::served;
use rustix::process::Signal;
use strace::Strace;

#[test]
#[ignore = "needs strace"]
fn a_log_that_takes_nothing_costs_lines_and_no_load() {
    let server = Server::start(&[]);
    let address = server.address();
    // The tracer says that nothing was written, and does not make the call.
    let strace = Strace::attach(&server, "write", "write:retval=0");
    let clients = served(address, 3);
    strace.wait_until_injected();
    assert_idle(&server, "its log takes nothing");
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
