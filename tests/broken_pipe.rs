//! Sending to a peer that is gone is an error and never a signal (FAULTS row 19), even where `SIGPIPE` still kills.
//!
//! Rust's runtime ignores `SIGPIPE` when a program starts, which hides what the library itself does about it. So the signal
//! is put back into force here, in a test process of its own.

use fdtask::net::Stream;
use fdtask::{Scheduler, Wait, task_fn};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

#[test]
fn sending_to_a_peer_that_is_gone_is_an_error_and_not_a_signal() {
    // SAFETY: the default action is no code of ours, and nothing else in this process relies on how SIGPIPE is handled.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (ours, peer) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a socket can be non-blocking");
    drop(peer);

    let (told, heard) = mpsc::channel();
    let mut ours = Some(ours);
    let mut scheduler = Scheduler::new();
    scheduler.spawn(task_fn("sender", move |cx| {
        let stream = ours.take().map(|ours| Stream::new(cx, ours));
        let _ = told.send(stream.map(|stream| stream.send(b"is anybody there?")));
        Ok(Wait::Done)
    }));
    scheduler.run();

    let sent = heard.try_recv().expect("the task has run").expect("the task has run once");
    assert_eq!(sent.expect_err("nobody is there").kind(), io::ErrorKind::BrokenPipe);
}
