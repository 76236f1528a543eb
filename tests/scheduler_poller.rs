//! What the scheduler asks of its poller. Almost every wait is the one before it over again, and a poller goes on watching
//! until it is told otherwise, so such a wait must not cost it anything.

mod scripted;

use fdtask::net::{Acceptor, Echo, Limit, Listener};
use fdtask::poller::{Happening, Patience, Poll, Poller, Sim, SimScript, Waiters, default_poller};
use fdtask::{Context, Handle, Scheduler, Side, Task, Wait, task_fn};
use scripted::ms;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Instant;

const SIDES: [Side; 2] = [Side::Recv, Side::Send];

/// A [`Sim`] that notes what it is asked beside `wait` and `now`.
struct Noting {
    sim: Sim,
    asked: Rc<RefCell<Vec<&'static str>>>,
    /// Every number names another file each time that it is asked.
    is_changing: bool,
}

impl Noting {
    fn note(&self, what: &'static str) {
        self.asked.borrow_mut().push(what);
    }
}

impl Poller for Noting {
    fn now(&self) -> Instant {
        self.sim.now()
    }

    fn identity(&self, fd: RawFd) -> io::Result<(u64, u64)> {
        self.note("identity");
        if self.is_changing { Ok((self.asked.borrow().len() as u64, 0)) } else { self.sim.identity(fd) }
    }

    fn watch(&mut self, fd: RawFd, side: Side, owned: bool) {
        self.note(if owned { "watch owned" } else { "watch" });
        self.sim.watch(fd, side, owned);
    }

    fn unwatch(&mut self, fd: RawFd, side: Side) {
        self.note("unwatch");
        self.sim.unwatch(fd, side);
    }

    fn forget(&mut self, fd: RawFd) {
        self.note("forget");
        self.sim.forget(fd);
    }

    fn wait(&mut self, patience: Patience, waiters: &mut Waiters) -> io::Result<()> {
        self.sim.wait(patience, waiters)
    }
}

/// A scheduler, and what it has asked of its poller.
struct World {
    scheduler: Scheduler,
    script: SimScript,
    asked: Rc<RefCell<Vec<&'static str>>>,
}

impl World {
    /// With one task, which has had its first resume.
    fn with(resume: impl FnMut(&mut Context<'_>) -> Wait + 'static) -> World {
        let (sim, script) = Sim::new();
        let asked = Rc::default();
        let mut scheduler =
            Scheduler::with_poller(Box::new(Noting { sim, asked: Rc::clone(&asked), is_changing: false }));
        scheduler.spawn(task_fn("busy, so that nobody sleeps", |_| Ok(Wait::Turn)));
        let mut world = World { scheduler, script, asked };
        world.begin(resume);
        world
    }

    fn begin(&mut self, mut resume: impl FnMut(&mut Context<'_>) -> Wait + 'static) {
        self.scheduler.spawn(task_fn("task", move |cx| Ok(resume(cx))));
        self.scheduler.turn();
    }

    /// What is asked for one message.
    fn message(&mut self, fd: RawFd, side: Side) -> Vec<&'static str> {
        self.asked.take();
        self.script.now(Happening::Ready(fd, side));
        self.scheduler.turn();
        self.script.now(Happening::NotReady(fd, side));
        self.scheduler.turn();
        self.asked.take()
    }
}

#[test]
fn a_wait_that_is_said_again_asks_nothing_of_the_poller() {
    for side in SIDES {
        let mut world = World::with(move |_| side.of(7));
        for _ in 0..3 {
            assert_eq!(world.message(7, side), [""; 0], "{side:?}");
        }
    }
}

#[test]
fn a_wait_that_once_had_a_deadline_beside_it_is_as_cheap_as_any_other_soon_after() {
    for side in SIDES {
        let mut resumes = 0;
        let mut world = World::with(move |cx| {
            resumes += 1;
            if resumes == 2 {
                cx.or(Wait::Until(cx.now() + ms(1_000_000)));
            }
            side.of(7)
        });
        for _ in 0..2 {
            let asked = world.message(7, side);
            assert!(!asked.contains(&"unwatch"), "{side:?}: {asked:?}");
        }
        for _ in 0..3 {
            assert_eq!(world.message(7, side), [""; 0], "{side:?}");
        }
    }
}

#[test]
fn a_wait_with_a_deadline_beside_it_is_not_withdrawn_to_be_said_again() {
    for side in SIDES {
        let mut world = World::with(move |cx| {
            cx.or(Wait::Until(cx.now() + ms(1_000_000)));
            side.of(7)
        });
        for _ in 0..3 {
            let asked = world.message(7, side);
            assert!(!asked.contains(&"unwatch"), "{side:?}: {asked:?}");
        }
    }
}

#[test]
fn which_file_a_number_names_is_asked_when_a_task_first_waits_for_it_and_of_an_owned_one_never() {
    let mut world = World::with(|_| Wait::Recv(7));
    assert_eq!(world.asked.take(), ["identity", "watch"]);
    let file = File::open("/dev/null").expect("every Unix has it");
    let fd = file.as_raw_fd();
    let descriptor = world.scheduler.adopt(file);
    let mut is_sender = false;
    world.begin(move |cx| {
        cx.or(Wait::Until(cx.now() + ms(1_000_000)));
        is_sender = !is_sender;
        if is_sender { Wait::Send(fd) } else { Wait::Recv(fd) }
    });
    assert_eq!(world.asked.take(), ["watch owned"]);
    for side in [Side::Send, Side::Recv, Side::Send] {
        let asked = world.message(fd, side);
        assert!(!asked.contains(&"identity"), "{asked:?}");
    }
    drop(descriptor);
}

/// A poller that notes how many connections count when it is told to forget one of them, and whether that is open still.
struct Counting {
    poll: Poll,
    limit: Limit,
    forgotten: Rc<RefCell<Vec<(usize, bool)>>>,
}

impl Poller for Counting {
    fn now(&self) -> Instant {
        self.poll.now()
    }

    fn identity(&self, fd: RawFd) -> io::Result<(u64, u64)> {
        self.poll.identity(fd)
    }

    fn watch(&mut self, fd: RawFd, side: Side, owned: bool) {
        self.poll.watch(fd, side, owned);
    }

    fn unwatch(&mut self, fd: RawFd, side: Side) {
        self.poll.unwatch(fd, side);
    }

    fn forget(&mut self, fd: RawFd) {
        self.forgotten.borrow_mut().push((self.limit.open(), self.poll.identity(fd).is_ok()));
        self.poll.forget(fd);
    }

    fn wait(&mut self, patience: Patience, waiters: &mut Waiters) -> io::Result<()> {
        self.poll.wait(patience, waiters)
    }
}

#[test]
fn a_connection_is_forgotten_then_closed_and_then_counts_no_more() {
    // Rows 7 and 16 of the faults: another thread may be given the number as soon as it is closed. Row 31: an acceptor on another
    // thread, which shares the limit, must not open one too many meanwhile.
    let limit = Limit::new(3);
    let forgotten = Rc::default();
    let poller = Counting { poll: Poll::new(), limit: limit.clone(), forgotten: Rc::clone(&forgotten) };
    let mut scheduler = Scheduler::with_poller(Box::new(poller));
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = listener.address();
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, Echo::new).with_limit(Some(limit.clone())));
    let client = TcpStream::connect(address).expect("it listens");
    scheduler.spawn(task_fn("busy, so that nobody sleeps", |_| Ok(Wait::Turn)));
    while limit.open() == 0 {
        scheduler.turn();
    }
    drop(client);
    while limit.open() == 1 {
        scheduler.turn();
    }
    assert_eq!(*forgotten.borrow(), [(1, true)]);
}

#[test]
fn a_connection_that_outlives_its_first_task_counts_until_it_is_closed() {
    let limit = Limit::new(1);
    let mut scheduler = Scheduler::new();
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let _clients = [(); 2].map(|()| TcpStream::connect(listener.address()).expect("it listens"));
    let streams = Rc::new(RefCell::new(Vec::new()));
    let handed_on = Rc::clone(&streams);
    let handler = move |stream, _| {
        handed_on.borrow_mut().push(stream);
        task_fn("ends at once", |_| Ok(Wait::Done))
    };
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, handler).with_limit(Some(limit.clone())));
    scheduler.spawn(task_fn("busy, so that nobody sleeps", |_| Ok(Wait::Turn)));
    for _ in 0..20 {
        scheduler.turn();
    }
    assert_eq!((streams.borrow().len(), limit.open()), (1, 1), "the other client waits in the queue");
    streams.take();
    while streams.borrow().is_empty() {
        scheduler.turn();
    }
    assert_eq!((streams.borrow().len(), limit.open()), (1, 1));
}

#[test]
fn who_waits_for_both_sides_is_not_in_its_own_way_when_another_thread_changes_the_number() {
    let (sim, _script) = Sim::new();
    let poller = Noting { sim, asked: Rc::default(), is_changing: true };
    let mut scheduler = Scheduler::with_poller(Box::new(poller));
    scheduler.spawn(task_fn("both", |cx| {
        cx.or(Wait::Send(7));
        Ok(Wait::Recv(7))
    }));
    scheduler.turn();
    let table: Vec<String> = scheduler.tasks().into_iter().map(|info| info.state).collect();
    assert_eq!(table, ["recv fd 7 or send fd 7"]);
}

#[test]
fn tasks_that_are_all_new_run_before_the_poller_is_asked_but_not_their_successors() {
    // One that spawns the next, until the last stops; each notes how often the poller has been asked.
    fn generation(script: SimScript, handle: Handle, asked: Rc<RefCell<Vec<usize>>>) -> impl Task + 'static {
        task_fn("generation", move |cx| {
            asked.borrow_mut().push(script.waits());
            match asked.borrow().len() {
                6 => handle.stop(),
                _ => drop(cx.spawn(generation(script.clone(), handle.clone(), Rc::clone(&asked)))),
            }
            Ok(Wait::Done)
        })
    }
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    let asked = Rc::default();
    scheduler.spawn(generation(script.clone(), scheduler.handle(), Rc::clone(&asked)));
    scheduler.run();
    assert_eq!(*asked.borrow(), [0, 1, 1, 2, 2, 3], "in the first turn, then once for every two generations");
    assert_eq!(script.waits(), 3, "a run that is stopped, and has just polled, ends without another poll");
}

#[test]
fn a_poll_that_a_stop_leaves_out_keeps_nobody_from_a_descriptor_who_is_woken_in_every_turn() {
    // Right before a stop, or between two runs of which only the other one lets the receiver run.
    for between_runs in [false, true] {
        let mut world = scripted::World::new();
        let receiver = world.spawn("receiver", |_, _| Ok(Wait::Recv(7)));
        let stopper = world.spawn("stopper", move |cx, n| {
            (n > 0).then(|| cx.stop());
            (!between_runs).then(|| cx.wake(receiver));
            Ok(Wait::Wake)
        });
        world.script.now(Happening::Ready(7, Side::Recv));
        for run in 0..20 {
            let is_long = run % 2 == 0 || !between_runs;
            (!is_long).then(|| world.scheduler.handle().wake(receiver));
            world.spawn("waker", move |cx, _| {
                if is_long {
                    cx.wake(receiver);
                    cx.wake(stopper);
                } else {
                    cx.stop();
                }
                Ok(Wait::Done)
            });
            world.scheduler.run();
        }
        let heard = world.trace.take().iter().filter(|line| *line == "receiver: recv fd 7").count();
        assert!(heard > 5, "{heard} times, woken between runs: {between_runs}");
    }
}

#[test]
fn a_new_task_beside_one_that_is_ready_again_runs_when_the_poller_has_been_asked() {
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    let asked = Rc::new(Cell::new(None));
    let seen = Rc::clone(&asked);
    let mut resumes = 0;
    let parent = task_fn("parent", move |cx| {
        resumes += 1;
        if resumes > 1 {
            return Ok(Wait::Done);
        }
        let (script, seen) = (script.clone(), Rc::clone(&seen));
        cx.spawn(task_fn("child", move |_| {
            seen.set(Some(script.waits()));
            Ok(Wait::Done)
        }));
        Ok(Wait::Turn)
    });
    // In the second turn, because the first one always ends with a poll.
    let handle = scheduler.handle();
    let mut parent = Some(parent);
    scheduler.spawn(task_fn("grandparent", move |_| {
        parent.take().into_iter().for_each(|parent| handle.spawn(parent));
        Ok(Wait::Done)
    }));
    scheduler.run();
    assert_eq!(asked.get(), Some(2));
}

#[test]
fn a_poller_that_watches_nothing_sleeps_until_its_instant() {
    for mut poller in [Box::new(Poll::new()) as Box<dyn Poller>, default_poller()] {
        let until = poller.now() + ms(20);
        let mut waits = 0;
        while poller.now() < until {
            poller.wait(Patience::Until(until), &mut Waiters::default()).expect("it can poll");
            waits += 1;
        }
        // A signal may cut a wait short; whoever does not sleep asks some thousand times.
        assert!(waits <= 3, "{waits} waits");
    }
}
