//! The echo when readiness was only a hint.

mod common;
#[path = "common/strace.rs"]
mod strace;

use common::{Client, Echo as AnEcho, over_echoes};
use fdtask::net::{Echo, Stream};
use fdtask::poller::{Happening, Sim};
use fdtask::{Scheduler, Side, Wait, task_fn};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use strace::Strace;

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
}

over_echoes! {
    without_threads:
        #[ignore = "needs strace"]
        nobody_pauses_because_of_a_false_alarm_now_and_then;
}

fn nobody_pauses_because_of_a_false_alarm_now_and_then(echo: AnEcho) {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    client.ask(b"before");
    let strace = Strace::attach(&server, "recvfrom", "recvfrom:error=EAGAIN:when=2+2");
    let begin = Instant::now();
    for _ in 0..200 {
        client.ask(b"Is it ready?");
    }
    let answered = begin.elapsed();
    strace.wait_until_injected();
    // A pause takes 100 ms.
    assert!(answered < Duration::from_secs(5), "{answered:?} for 200 answers");
}
