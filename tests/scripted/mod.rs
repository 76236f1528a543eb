//! A scheduler in virtual time, tasks that do what a test says, and a trace of what happened. Used by the tests of the
//! scheduler.

#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod live;

use fdtask::poller::{Happening, Sim, SimScript};
use fdtask::{Context, End, Observer, Scheduler, Side, Task, TaskId, Wait, WaitError, task_fn};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// More turns than any test takes.
const TURNS_MAX: usize = 10_000;

/// More resumes than any task gets. One that is resumed over and over in a single turn would hang its test instead of failing
/// it, so it ends here.
const RESUMES_MAX: usize = 100_000;

/// A task that is left out of every trace and table.
const BUSY: &str = "busy, so that nobody sleeps";

/// What happened, a line each: `echo: recv fd 7` when a task was resumed for that, `echo! …` when it could not wait,
/// `echo drains`, `echo dropped`, `echo ended: done`.
#[derive(Clone, Default)]
pub struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub fn add(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    /// What has been added since this was last asked.
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A scheduler on a [`Sim`], whose observer writes into a trace.
pub struct World {
    pub scheduler: Scheduler,
    pub script: SimScript,
    pub trace: Trace,
}

impl World {
    pub fn new() -> World {
        let (sim, script) = Sim::new();
        let trace = Trace::default();
        let mut scheduler = Scheduler::with_poller(Box::new(sim));
        scheduler.observe(Scribe(trace.clone()));
        World { scheduler, script, trace }
    }

    /// Adds a task that does at each resume what `resume` says, which is told how often that has happened before.
    pub fn spawn(
        &mut self,
        name: &'static str,
        resume: impl FnMut(&mut Context<'_>, usize) -> io::Result<Wait> + 'static,
    ) -> TaskId {
        self.scheduler.spawn(Scripted::new(name, &self.trace, resume))
    }

    /// Adds a task that returns these waits one after the other, and is done then.
    pub fn spawn_waits(
        &mut self,
        name: &'static str,
        waits: impl IntoIterator<Item = Wait, IntoIter: 'static>,
    ) -> TaskId {
        self.scheduler.spawn(waits_in_turn(name, &self.trace, waits))
    }

    /// Adds a receiver and a sender of one descriptor that go on for ever, and lets them begin to wait.
    pub fn spawn_both_sides(&mut self, fd: RawFd) {
        self.spawn_waits("receiver", std::iter::repeat(Wait::Recv(fd)));
        self.spawn_waits("sender", std::iter::repeat(Wait::Send(fd)));
        self.turns(1);
        self.trace.take();
    }

    /// Adds a neighbour that goes on through whatever happens to the others, and is resumed by descriptor 99.
    pub fn spawn_neighbour(&mut self) {
        self.spawn_waits("neighbour", std::iter::repeat(Wait::Recv(99)));
        self.turns(1);
        self.trace.take();
    }

    /// Asserts that the neighbour is alone, well, and resumed as ever.
    pub fn assert_neighbour_is_well(&mut self) {
        assert_eq!(self.table(), ["neighbour: recv fd 99"]);
        self.trace.take();
        self.fire(99, Side::Recv);
        assert_eq!(self.trace.take(), ["neighbour: recv fd 99"]);
        assert_eq!(self.script.watched(), [(99, Side::Recv)]);
    }

    /// Takes so many turns.
    pub fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.scheduler.turn();
        }
    }

    /// [`Scheduler::run`], which must end.
    pub fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.scheduler.turn() {
                return;
            }
        }
        panic!("the scheduler does not end: {:?}", self.table());
    }

    /// Takes turns until the scheduler sleeps for ever or has nothing left to do.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.scheduler.turn() || self.script.is_asleep() {
                return;
            }
        }
        panic!("the scheduler spins: {:?}", self.trace.take());
    }

    /// Makes a side ready, and takes the turns that follow from it.
    pub fn fire(&mut self, fd: RawFd, side: Side) {
        self.script.now(Happening::Ready(fd, side));
        self.scheduler.turn();
        self.script.now(Happening::NotReady(fd, side));
        self.settle();
    }

    /// The tasks that are left, and what they wait for.
    pub fn table(&self) -> Vec<String> {
        let tasks = self.scheduler.tasks().into_iter().filter(|info| info.name != BUSY);
        tasks.map(|info| format!("{}: {}", info.name, info.state)).collect()
    }

    /// Asserts that nothing is left: no task and, once it has polled again, nothing that is watched.
    pub fn assert_empty(&mut self) {
        assert_eq!(self.table(), [""; 0]);
        self.turn_awake();
        assert_eq!(self.script.watched(), []);
    }

    /// Takes a turn that looks at the descriptors and does not sleep.
    pub fn turn_awake(&mut self) {
        let mut resumes = 0;
        let busy = self.scheduler.spawn(task_fn(BUSY, move |_| {
            resumes += 1;
            Ok(if resumes < RESUMES_MAX { Wait::Turn } else { Wait::Done })
        }));
        self.scheduler.turn();
        self.scheduler.handle().cancel(busy);
    }
}

/// Writes the ends of tasks into a trace.
struct Scribe(Trace);

impl Observer for Scribe {
    fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, task: &dyn Task, end: &End) {
        // A name may panic; that is a test of its own, and this observer's business.
        let name = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.name().into_owned()));
        let name = name.unwrap_or_else(|_| "?".to_owned());
        if name == BUSY {
            return;
        }
        self.0.add(match end {
            End::Done => format!("{name} ended: done"),
            End::Failed(error) => format!("{name} ended: {error}"),
            End::Panicked(message) => format!("{name} ended: panicked: {message}"),
            End::Cancelled => format!("{name} ended: cancelled"),
        });
    }

    fn drop_panicked(&mut self, _id: TaskId, message: &str) {
        self.0.add(format!("drop panicked: {message}"));
    }

    fn poll_failed(&mut self, error: &io::Error) {
        self.0.add(format!("poll failed: {}", error.kind()));
    }
}

type Failed = Box<dyn FnMut(&mut Context<'_>, WaitError) -> io::Result<Wait>>;

/// A task that does what a test says.
pub struct Scripted<F> {
    name: &'static str,
    trace: Trace,
    resume: F,
    resumes: usize,
    wait_failed: Option<Failed>,
    drain: Option<Box<dyn FnMut() -> bool>>,
    dropped: Option<Box<dyn FnMut()>>,
}

impl<F: FnMut(&mut Context<'_>, usize) -> io::Result<Wait>> Scripted<F> {
    pub fn new(name: &'static str, trace: &Trace, resume: F) -> Scripted<F> {
        Scripted { name, trace: trace.clone(), resume, resumes: 0, wait_failed: None, drain: None, dropped: None }
    }

    /// What it does when it cannot wait, instead of ending with the error.
    pub fn on_wait_failed(
        mut self,
        wait_failed: impl FnMut(&mut Context<'_>, WaitError) -> io::Result<Wait> + 'static,
    ) -> Scripted<F> {
        self.wait_failed = Some(Box::new(wait_failed));
        self
    }

    /// What it says when a drain begins.
    pub fn on_drain(mut self, drain: impl FnMut() -> bool + 'static) -> Scripted<F> {
        self.drain = Some(Box::new(drain));
        self
    }

    /// What it does when it is dropped.
    pub fn on_drop(mut self, dropped: impl FnMut() + 'static) -> Scripted<F> {
        self.dropped = Some(Box::new(dropped));
        self
    }
}

impl<F: FnMut(&mut Context<'_>, usize) -> io::Result<Wait>> Task for Scripted<F> {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.trace.add(format!("{}: {}", self.name, cx.why()));
        self.resumes += 1;
        assert!(self.resumes < RESUMES_MAX, "{} is resumed over and over", self.name);
        (self.resume)(cx, self.resumes - 1)
    }

    fn wait_failed(&mut self, cx: &mut Context<'_>, error: WaitError) -> io::Result<Wait> {
        self.trace.add(format!("{}! {error}", self.name));
        match &mut self.wait_failed {
            Some(wait_failed) => wait_failed(cx, error),
            None => Err(error.into()),
        }
    }

    fn drain(&mut self) -> bool {
        self.trace.add(format!("{} drains", self.name));
        self.drain.as_mut().is_some_and(|drain| drain())
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.name)
    }
}

impl<F> Drop for Scripted<F> {
    fn drop(&mut self) {
        self.trace.add(format!("{} dropped", self.name));
        if let Some(dropped) = &mut self.dropped {
            dropped();
        }
    }
}

/// A task that returns these waits one after the other, and is done then.
pub fn waits_in_turn(
    name: &'static str,
    trace: &Trace,
    waits: impl IntoIterator<Item = Wait, IntoIter: 'static>,
) -> impl Task + 'static {
    let mut waits = waits.into_iter();
    Scripted::new(name, trace, move |_, _| Ok(waits.next().unwrap_or(Wait::Done)))
}

/// Somewhere for one task to leave something for another.
pub fn shared<T: Copy>(value: T) -> Rc<Cell<T>> {
    Rc::new(Cell::new(value))
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What has been traced of one task since this was last asked.
pub fn lines_of(world: &World, name: &str) -> Vec<String> {
    let mut lines = world.trace.take();
    lines.retain(|line| line.starts_with(name));
    lines
}
