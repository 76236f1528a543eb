//! A scheduler on a real poller, with real sockets, a busy neighbour so that turns pass while the others are idle, and a crowd of
//! silent ones, because a poller that parks does not where there are few.

use super::{Scripted, Trace, shared};
use fdtask::poller::{self, Poll, Poller};
use fdtask::{Context, Descriptor, Scheduler, TaskId, Wait, task_fn};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than anything here takes, however busy the machine is.
pub const LIMIT: Duration = Duration::from_secs(20);

/// For how many turns a descriptor is idle before something happens to it; the last is long enough to be parked.
pub const IDLE_TURNS: [usize; 4] = [0, 1, 40, 300];

/// More silent neighbours than are few to any poller.
pub const CROWD: usize = 10;

/// The tests here reuse numbers: the system hands out the lowest that is free, so nobody else may open or close any.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The scheduler, what its tasks have been resumed for, and how many turns have passed.
pub struct Live {
    pub scheduler: Scheduler,
    pub trace: Trace,
    turns: Rc<Cell<usize>>,
    _crowd: Vec<UnixStream>,
}

/// Gives the scheduler's tasks neighbours that never hear anything; returns the peers, to be kept.
pub fn crowd(scheduler: &mut Scheduler) -> Vec<UnixStream> {
    let mut silent = || {
        let (near, far) = pair();
        let near = scheduler.adopt(near);
        scheduler.spawn_service(task_fn("silent", move |_| Ok(Wait::Recv(near.as_raw_fd()))));
        far
    };
    (0..CROWD).map(|_| silent()).collect()
}

impl Live {
    pub fn new(poller: Box<dyn Poller>) -> Live {
        let mut scheduler = Scheduler::with_poller(poller);
        let crowd = crowd(&mut scheduler);
        let turns = shared(0);
        let counter = turns.clone();
        scheduler.spawn_service(task_fn("busy", move |_| {
            counter.set(counter.get() + 1);
            Ok(Wait::Turn)
        }));
        Live { scheduler, trace: Trace::default(), turns, _crowd: crowd }
    }

    pub fn spawn(
        &mut self,
        name: &'static str,
        resume: impl FnMut(&mut Context<'_>, usize) -> io::Result<Wait> + 'static,
    ) -> TaskId {
        self.scheduler.spawn(Scripted::new(name, &self.trace, resume))
    }

    /// A task that waits for a number which it does not own, and for nothing else.
    pub fn spawn_raw_waiter(&mut self, name: &'static str, wait: Wait) {
        self.spawn(name, move |_, _| Ok(wait));
    }

    /// A task that sends back what its socket receives.
    pub fn spawn_echo(&mut self, name: &'static str, socket: Socket) {
        self.spawn(name, move |_, n| {
            let mut buffer = [0; 64];
            match if n == 0 { Ok(0) } else { socket.receive(&mut buffer) } {
                Ok(0) if n > 0 => return Ok(Wait::Done),
                Ok(received) => _ = socket.send(&buffer[..received])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            Ok(Wait::Recv(socket.number()))
        });
    }

    pub fn idle(&mut self, turns: usize) {
        let end = self.turns.get() + turns;
        while self.turns.get() < end {
            self.scheduler.turn();
        }
    }

    pub fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + LIMIT;
        while !is_so() {
            assert!(Instant::now() < end, "not within {LIMIT:?}: {what}: {:?}", self.trace.take());
            self.scheduler.turn();
        }
    }

    /// Sends through a peer and asserts that just that comes back.
    pub fn assert_echoes(&mut self, mut peer: &UnixStream, bytes: &[u8]) {
        peer.write_all(bytes).expect("room");
        let mut received = Vec::new();
        self.until("the echo", || {
            let mut buffer = [0; 64];
            if let Ok(count) = peer.read(&mut buffer) {
                received.extend_from_slice(&buffer[..count]);
            }
            received.len() >= bytes.len()
        });
        assert_eq!(received, bytes, "not a byte more, and not one of somebody else's");
    }
}

/// A socket that is closed by its owner, or by way of the scheduler.
pub enum Socket {
    Raw(OwnedFd),
    Owned(Descriptor),
}

impl Socket {
    pub fn new(scheduler: &Scheduler, socket: UnixStream, owned: bool) -> Socket {
        if owned { Socket::Owned(scheduler.adopt(socket)) } else { Socket::Raw(socket.into()) }
    }

    pub fn number(&self) -> RawFd {
        match self {
            Socket::Raw(fd) => fd.as_raw_fd(),
            Socket::Owned(fd) => fd.as_raw_fd(),
        }
    }

    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(match self {
            Socket::Raw(fd) => rustix::io::read(fd.as_fd(), buffer)?,
            Socket::Owned(fd) => rustix::io::read(fd.as_fd(), buffer)?,
        })
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(match self {
            Socket::Raw(fd) => rustix::io::write(fd.as_fd(), bytes)?,
            Socket::Owned(fd) => rustix::io::write(fd.as_fd(), bytes)?,
        })
    }
}

pub fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    near.set_nonblocking(true).expect("a socket can be non-blocking");
    far.set_nonblocking(true).expect("a socket can be non-blocking");
    (near, far)
}

pub fn count(lines: &[String], line: &str) -> usize {
    lines.iter().filter(|one| *one == line).count()
}

/// Runs a test over plain `poll(2)` and over the poller that is the default here.
pub fn over_every_poller(test: impl Fn(&dyn Fn() -> Live)) {
    let _alone = alone();
    test(&|| Live::new(Box::new(Poll::new())));
    test(&|| Live::new(poller::default_poller()));
}
