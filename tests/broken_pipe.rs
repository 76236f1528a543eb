//! Sending to a peer that is gone is an error and never a signal (row 19 of the faults), even where `SIGPIPE` still kills.
//!
//! Rust's runtime ignores `SIGPIPE` when a program starts, which hides what the library itself does about it. So the signal
//! is put back into force here, in a test process of its own.

use fdtask::net::Stream;
use fdtask::{Log, Scheduler, future};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[test]
fn sending_to_a_peer_that_is_gone_is_an_error_and_not_a_signal() {
    // SAFETY: the default action is no code of ours, and nothing else in this process relies on how SIGPIPE is handled.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (told, heard) = mpsc::channel();
    let mut scheduler = Scheduler::new();
    let stream = Stream::new(&scheduler.handle(), socket_without_peer()).expect("a socket can be non-blocking");
    scheduler.spawn(future::task(async move {
        let _ = told.send(stream.send(b"is anybody there?").map(drop));
        let _ = told.send(future::send_all(&stream, b"and now?").await);
        Ok(())
    }));
    scheduler.run();

    let outcomes: Vec<io::Result<()>> = heard.try_iter().collect();
    assert_eq!(outcomes.len(), 2);
    for sent in outcomes {
        assert_eq!(sent.expect_err("nobody is there").kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_log_whose_socket_has_no_reader_any_more_is_not_waited_for() {
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", socket_without_peer().into());
    scheduler.spawn_service(writer);
    log.line("is anybody there?");
    let patience = Duration::from_secs(20);
    scheduler.spawn(log.flush(patience));
    let begin = Instant::now();
    scheduler.run();
    assert!(begin.elapsed() < patience, "what nobody will ever read is waited for");
    assert_eq!(log.dropped_lines(), 1);
}

fn socket_without_peer() -> UnixStream {
    let (ours, _peer) = UnixStream::pair().expect("a pair of sockets");
    ours
}
