//! Readiness is a hint: what is awaited on a descriptor that is said to be ready, and is not, waits again, and pauses if that
//! goes on. The sockets are real, and what is said of them is scripted: so no time passes here but virtual time.

use fdtask::future::{Incoming, connect, copy, linger, recv, recv_more, send_all, task};
use fdtask::net::{FUTILE_PAUSE, Lines, Listener, Stream};
use fdtask::poller::{Happening, Sim, SimScript};
use fdtask::{Context, Scheduler, Side, Wait, task_fn};
use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// Whoever listens on this machine, and has room, has answered by then.
#[cfg(target_os = "linux")]
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// What is awaited, and how many bytes it has moved.
type Awaited = Pin<Box<dyn Future<Output = io::Result<usize>>>>;

/// What is awaited on a stream; the second stream is for what needs two.
struct Call {
    name: &'static str,
    side: Side,
    make: fn(Stream, Stream) -> Awaited,
}

/// Whatever waits for a stream in a loop of its own. Each moves one byte.
const CALLS: [Call; 6] = [
    Call {
        name: "recv",
        side: Side::Recv,
        make: |stream, _| Box::pin(async move { recv(&stream, &mut [0; 8]).await }),
    },
    Call {
        name: "recv_more",
        side: Side::Recv,
        make: |stream, _| Box::pin(async move { recv_more(&stream, &mut Vec::new()).await }),
    },
    Call {
        name: "Lines::recv",
        side: Side::Recv,
        make: |stream, _| Box::pin(async move { Ok(Lines::new(8).recv(&stream).await?.map_or(0, |line| line.len())) }),
    },
    Call {
        name: "copy",
        side: Side::Recv,
        make: |from, to| Box::pin(async move { Ok(copy(&from, &to).await? as usize) }),
    },
    Call {
        name: "linger",
        side: Side::Recv,
        make: |stream, _| Box::pin(async move { linger(&stream, Duration::from_secs(3600)).await.map(|()| 1) }),
    },
    Call {
        name: "send_all",
        side: Side::Send,
        make: |stream, _| Box::pin(async move { send_all(&stream, b"!").await.map(|()| 1) }),
    },
];

/// One call in a task of its own, and what has become of it.
struct World {
    scheduler: Scheduler,
    script: SimScript,
    outcome: Rc<RefCell<Option<io::Result<usize>>>>,
    fd: RawFd,
    side: Side,
}

impl World {
    fn new(fd: RawFd, side: Side, make: impl FnOnce(&Context<'_>) -> Awaited + 'static) -> World {
        let (sim, script) = Sim::new();
        let mut scheduler = Scheduler::with_poller(Box::new(sim));
        let outcome = Rc::new(RefCell::new(None));
        let (mut make, place) = (Some(make), Rc::clone(&outcome));
        scheduler.spawn(task_fn("start", move |cx| {
            if let Some(make) = make.take() {
                let (awaited, place) = (make(cx), Rc::clone(&place));
                cx.spawn(task(async move {
                    let result = awaited.await;
                    *place.borrow_mut() = Some(result);
                    Ok(())
                }));
            }
            Ok(Wait::Done)
        }));
        World { scheduler, script, outcome, fd, side }
    }

    /// `call` on a socket that has nothing to receive, nor room to send, and the other ends.
    fn of(call: &Call) -> (World, [UnixStream; 2]) {
        let ((near, far), (other, sink)) = (UnixStream::pair().expect("a pair"), UnixStream::pair().expect("a pair"));
        near.set_nonblocking(true).expect("non-blocking");
        if call.side == Side::Send {
            SockRef::from(&near).set_send_buffer_size(1).expect("as small as it gets");
            while (&near).write(&[0; 256]).is_ok() {}
        }
        let make = call.make;
        let world = World::new(near.as_raw_fd(), call.side, move |cx| {
            let stream = |socket| Stream::new(&cx.handle(), socket).expect("a socket can be non-blocking");
            make(stream(near), stream(other))
        });
        (world, [far, sink])
    }

    fn accepting(listener: Listener) -> World {
        World::new(listener.as_fd().as_raw_fd(), Side::Recv, |cx| {
            let incoming = Incoming::new(&cx.handle(), listener);
            Box::pin(async move { incoming.accept().await.map(|_| 1) })
        })
    }

    /// Adds a task that is always ready, so that nobody sleeps, and no time passes.
    fn keep_awake(&mut self) {
        self.scheduler.spawn(task_fn("busy", |_| Ok(Wait::Turn)));
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.scheduler.turn();
        }
    }

    /// Lets it be told that it is ready, for as long as a few turns take.
    fn tell_for(&mut self, turns: usize) {
        self.script.now(Happening::Ready(self.fd, self.side));
        self.turns(turns);
        self.script.now(Happening::NotReady(self.fd, self.side));
        self.turns(2);
    }

    /// A hint that is false is told a few times, and then one that is true, from when on `make_true` has been called.
    fn hears_the_truth_at_last(mut self, name: &str, make_true: impl FnOnce()) {
        self.keep_awake();
        self.turns(3);
        self.tell_for(3);
        assert!(self.outcome.borrow().is_none(), "{name} has ended: {:?}", self.outcome);
        assert_eq!(self.script.watched(), [(self.fd, self.side)], "{name} does not wait again");
        make_true();
        self.tell_for(6);
        let outcome = self.outcome.take();
        assert!(matches!(outcome, Some(Ok(1))), "{name}: {outcome:?}");
    }

    /// A hint that is false is told on and on.
    fn hears_a_lie_for_ever(mut self, name: &str) {
        self.script.now(Happening::Ready(self.fd, self.side));
        self.turns(100);
        assert!(self.outcome.borrow().is_none(), "{name} has ended: {:?}", self.outcome);
        let slept = self.script.elapsed();
        assert!(slept >= FUTILE_PAUSE * 20, "{name} spins: 100 turns in {slept:?}");
    }
}

#[test]
fn who_finds_nothing_on_a_stream_that_was_said_to_be_ready_waits_again() {
    for call in CALLS {
        let (world, [mut far, _sink]) = World::of(&call);
        world.hears_the_truth_at_last(call.name, || match call.side {
            Side::Recv => {
                far.write_all(b"!").expect("room");
                far.shutdown(Shutdown::Write).expect("it can be half-closed");
            }
            Side::Send => {
                far.set_nonblocking(true).expect("non-blocking");
                while far.read(&mut [0; 256]).is_ok() {}
            }
        });
    }
}

#[test]
fn who_never_finds_anything_on_a_stream_that_is_always_said_to_be_ready_pauses() {
    for call in CALLS {
        let (world, _others) = World::of(&call);
        world.hears_a_lie_for_ever(call.name);
    }
}

fn listener() -> Listener {
    Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port")
}

#[test]
fn who_accepts_nobody_although_somebody_was_announced_waits_for_the_next() {
    let listener = listener();
    let address = listener.address();
    let mut client = None;
    let connect = || client = Some(TcpStream::connect(address).expect("it listens"));
    World::accepting(listener).hears_the_truth_at_last("accept", connect);
}

#[test]
fn who_never_accepts_anybody_although_somebody_is_always_announced_pauses() {
    World::accepting(listener()).hears_a_lie_for_ever("accept");
}

#[test]
#[cfg(target_os = "linux")]
fn who_connects_is_not_connected_as_long_as_nobody_has_answered() {
    let listener = listener();
    let address = listener.address();
    // So short a queue is full soon; whoever comes then is not answered.
    rustix::net::listen(&listener, 0).expect("it listens");
    let _queued: Vec<_> = std::iter::from_fn(|| TcpStream::connect_timeout(&address, LONG_ENOUGH).ok()).collect();
    let mut world = World::new(-1, Side::Send, move |cx| {
        let handle = cx.handle();
        Box::pin(async move { connect(&handle, address).await.map(|_| 1) })
    });
    world.turns(2);
    world.fd = world.script.watched()[0].0;
    world.hears_a_lie_for_ever("connect");
}

#[test]
fn a_broken_listener_ends_who_accepts_with_its_error() {
    let listener = listener();
    // One that does not listen any more, as a socket: to accept is invalid.
    SockRef::from(&listener).shutdown(Shutdown::Both).expect("whoever listens can be told to stop");
    let mut world = World::accepting(listener);
    world.turns(3);
    world.tell_for(2);
    let outcome = world.outcome.take();
    let kind = outcome.map(|outcome| outcome.map_err(|error| error.kind()));
    assert_eq!(kind, Some(Err(io::ErrorKind::InvalidInput)));
}
