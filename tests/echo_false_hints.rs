//! The echo when readiness was only a hint.

mod common;
#[path = "common/strace.rs"]
mod strace;

use common::{Client, Echo as AnEcho, Server, over_echoes};
use fdtask::net::{Echo, Stream};
use fdtask::poller::{Happening, Sim};
use fdtask::{Scheduler, Side, Wait, task_fn};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use strace::Strace;

#[test]
fn who_has_asked_before_a_drain_is_answered_and_let_go_at_once() {
    let (sim, _script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
    far.set_nonblocking(true).expect("a socket can be non-blocking");
    far.write_all(b"What I have connected for").expect("it listens");
    let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    scheduler.spawn(Echo::new(stream, "127.0.0.1:1".parse().expect("an address")));
    scheduler.spawn(task_fn("awake", |_| Ok(Wait::Turn)));
    scheduler.handle().drain(scheduler.handle().now() + Duration::from_secs(60));
    for _ in 0..5 {
        scheduler.turn();
    }
    let mut answer = [0; 64];
    let len = far.read(&mut answer).expect("it has answered");
    assert_eq!(&answer[..len], b"GOT:What I have connected for");
    assert_eq!(far.read(&mut answer).expect("the end of the stream"), 0);
}

#[test]
fn who_has_only_just_connected_keeps_the_grace_of_a_drain_though_there_was_a_false_alarm() {
    // The socket is real, and what is said of it is scripted.
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
    far.set_nonblocking(true).expect("a socket can be non-blocking");
    let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    let fd = stream.as_raw_fd();
    scheduler.spawn(Echo::new(stream, "127.0.0.1:1".parse().expect("an address")));
    // It is always ready, so nobody sleeps, and no time passes.
    scheduler.spawn(task_fn("awake", |_| Ok(Wait::Turn)));
    let handle = scheduler.handle();
    let mut turns = |count| {
        for _ in 0..count {
            scheduler.turn();
        }
    };
    turns(2);
    handle.drain(handle.now() + Duration::from_secs(60));
    turns(3);
    script.now(Happening::Ready(fd, Side::Recv));
    turns(2);
    script.now(Happening::NotReady(fd, Side::Recv));
    turns(2);
    far.write_all(b"What I have connected for").expect("it still listens");
    script.now(Happening::Ready(fd, Side::Recv));
    turns(3);
    let mut answer = [0; 64];
    let len = far.read(&mut answer).expect("it has answered");
    assert_eq!(&answer[..len], b"GOT:What I have connected for");
    // No time has passed: once it has been answered, it is given none any more.
    assert_eq!(far.read(&mut answer).expect("the end of the stream"), 0);
}

over_echoes! {
    without_threads:
        #[ignore = "needs strace"]
        nobody_pauses_because_of_a_false_alarm_now_and_then;
}

fn nobody_pauses_because_of_a_false_alarm_now_and_then(echo: AnEcho) {
    for args in [&[][..], &["--idle-timeout", "60"]] {
        let server = echo.start(args);
        let mut client = Client::connect(server.address());
        client.ask(b"before");
        expect_no_pause(&server, "recvfrom", || client.ask(b"Is it ready?"));
    }
}

#[test]
#[ignore = "needs strace"]
fn no_acceptor_pauses_because_of_a_false_alarm_now_and_then() {
    let server = Server::start(&[]);
    expect_no_pause(&server, "accept4", || Client::connect(server.address()).ask(b"Is anybody there?"));
}

/// Does this over and over while every other call has been made for nothing.
#[track_caller]
fn expect_no_pause(server: &Server, call: &str, mut ask: impl FnMut()) {
    let strace = Strace::attach(server, call, &format!("{call}:error=EAGAIN:when=2+2"));
    let begin = Instant::now();
    for _ in 0..200 {
        ask();
    }
    let answered = begin.elapsed();
    strace.wait_until_injected();
    // A pause takes 100 ms.
    assert!(answered < Duration::from_secs(5), "{answered:?} for 200 answers");
}
