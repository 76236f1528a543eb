//! What may be said to a scheduler while one of its tasks runs.
//!
//! A task runs in the middle of the scheduler's work, so what it says (wake that one, cancel this one, close that
//! descriptor) is put into a *mailbox*, and the scheduler empties the mailbox as soon as the task has handed back its
//! wait. So each rule about the order of these things has one home, `settle.rs`: *unregister, then close*, say, and *cancel,
//! then drop*.

use crate::descriptor::{Descriptor, FdSet};
use crate::future::Futures;
use crate::reason::Reason;
use crate::remote::Remote;
use crate::task::{Task, TaskId};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Instant;

/// How much memory is lent to whoever receives without a [`Context`](crate::Context): futures, above all.
pub(crate) const LENT_BYTES: usize = 32 * 1024;

// Notes: what the scheduler has to look at after a resume.

/// Something is in the mailbox.
pub(crate) const MAIL: u8 = 1;

/// The wait that the task that runs now will return cannot just be renewed: the task has said more with
/// [`Context::or`](crate::Context::or) than a deadline, or an observer wants to hear what it waits for.
pub(crate) const SPECIAL: u8 = 2;

/// The task that runs now has said a deadline for the wait that it is about to return.
pub(crate) const UNTIL: u8 = 4;

/// What has been said and not yet carried out.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// Any of [`MAIL`], [`SPECIAL`] and [`UNTIL`]. After most resumes this is 0, and nothing else here is looked at.
    pub(crate) notes: Cell<u8>,
    /// The scheduler is being dropped, and takes no new tasks.
    pub(crate) ending: Cell<bool>,
    /// The scheduler is gone; nobody will empty the mailbox again.
    pub(crate) orphaned: Cell<bool>,
    /// The descriptors whose closing the scheduler owns.
    pub(crate) owned: RefCell<FdSet>,
    /// Those of them by which signals come, and messages from other threads: see [`Handle::adopt_urgent`].
    pub(crate) urgent: RefCell<Vec<RawFd>>,
    /// The deadline of the drain that has been asked for and is not over, if there is one.
    pub(crate) drain_by: Cell<Option<Instant>>,
    /// The time, as it was when this turn began. `None` only while the scheduler is being made.
    pub(crate) now: Cell<Option<Instant>>,
    pub(crate) stopped: Cell<bool>,
    pub(crate) adopted: Tray<RawFd>,
    pub(crate) closing: Tray<OwnedFd>,
    /// What is to be done only when everything in `closing` is closed.
    pub(crate) after_closing: Tray<Box<dyn FnOnce()>>,
    pub(crate) woken: Tray<TaskId>,
    pub(crate) given_up: Tray<GivenUp>,
    pub(crate) cancelled: Tray<TaskId>,
    pub(crate) spawned: Tray<Spawned>,
    /// The way into this scheduler from other threads, made when somebody first needs it.
    pub(crate) remote: OnceCell<Remote>,
    /// What futures leave here for the tasks that poll them.
    pub(crate) futures: Futures,
    /// What [`Mailbox::lend`] lends; empty before it is first asked for, and while it is lent.
    lent: Cell<Vec<u8>>,
}

/// Mail of one kind, in the order in which it came. Nothing stays borrowed when a piece has been taken out, so carrying it out
/// may add more.
pub(crate) struct Tray<T>(RefCell<VecDeque<T>>);

impl<T> Default for Tray<T> {
    fn default() -> Tray<T> {
        Tray(RefCell::default())
    }
}

impl<T> Tray<T> {
    pub(crate) fn put(&self, what: T) {
        self.0.borrow_mut().push_back(what);
    }

    pub(crate) fn next(&self) -> Option<T> {
        self.0.borrow_mut().pop_front()
    }
}

/// A task that is to be spawned.
pub(crate) struct Spawned {
    pub(crate) task: Box<dyn Task>,
    pub(crate) is_service: bool,
    pub(crate) by: Option<TaskId>,
    /// Is told the id of the task as soon as there is one.
    pub(crate) tell_id: Option<TellId>,
}

/// A wait of a future's, for which a task is filed, and which is out of reach because the task does not run: the future was
/// dropped, or polled by another task.
pub(crate) struct GivenUp {
    pub(crate) task: TaskId,
    pub(crate) what: Reason,
    /// It was the task's direct wait: the task is to be told when it next runs.
    pub(crate) is_direct: bool,
    /// Another task has polled it, and waits through it from now on.
    pub(crate) is_taken_over: bool,
}

pub(crate) type TellId = Box<dyn FnOnce(TaskId)>;

impl Mailbox {
    /// Puts something in, unless nobody will ever take it out.
    pub(crate) fn post(&self, what: impl FnOnce(&Mailbox)) {
        if !self.orphaned.get() {
            what(self);
            self.note(MAIL);
        }
    }

    pub(crate) fn note(&self, what: u8) {
        self.notes.set(self.notes.get() | what);
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(Instant::now)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain_by.get().is_some()
    }

    /// Lends memory to receive into to whoever has no [`Context`](crate::Context) that would lend its own. It is zeroed once, and
    /// not for each message. If there is none, that is `ENOMEM`, as the kernel says of its own.
    pub(crate) fn lend<T>(&self, borrow: impl FnOnce(&mut [u8]) -> io::Result<T>) -> io::Result<T> {
        let mut lent = self.lent.take();
        if lent.is_empty() {
            lent.try_reserve_exact(LENT_BYTES).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
            lent.resize(LENT_BYTES, 0);
        }
        let result = borrow(&mut lent);
        self.lent.set(lent);
        result
    }

    /// Takes `what` off the notes; returns whether any of it was there.
    pub(crate) fn forget(&self, what: u8) -> bool {
        let notes = self.notes.get();
        self.notes.set(notes & !what);
        notes & what != 0
    }

    /// Does `what` when the descriptors that are dropped now have been closed. A scheduler that is gone only drops it.
    pub(crate) fn do_after_closing(&self, what: impl FnOnce() + 'static) {
        self.post(|mailbox| mailbox.after_closing.put(Box::new(what)));
    }

    /// See [`GivenUp`].
    pub(crate) fn give_up(&self, given_up: GivenUp) {
        self.post(|mailbox| mailbox.given_up.put(given_up));
    }

    pub(crate) fn spawn(&self, task: Box<dyn Task>, is_service: bool, tell_id: Option<TellId>) {
        // A scheduler that is gone would never take it out, and the task may hold the mailbox that holds the task: a leak.
        if !self.ending.get() {
            let spawned = Spawned { task, is_service, by: self.futures.running(), tell_id };
            self.post(|mailbox| mailbox.spawned.put(spawned));
        }
    }
}

/// A way to talk to a scheduler from its own thread: from its tasks, from its observer, from what they share.
///
/// Whatever is said takes effect as soon as the task that runs now has returned, or at the next turn if none does. Saying
/// it to a task that has ended, or to a scheduler that is gone, has no effect.
///
/// It stays on its thread (it is not `Send`); from another one a [`Remote`] says the same, which
/// [`remote`](Handle::remote) makes. What only a [`Context`](crate::Context) can do, such as to list the tasks, is a small
/// task to spawn, which may send what it finds out by a [channel](mod@crate::channel):
/// ```
/// use fdtask::{Scheduler, TaskTable, Wait, future, task_fn};
///
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task(async move {
///     handle.spawn(task_fn("table", |cx| {
///         eprint!("{}", TaskTable(&cx.tasks()));
///         Ok(Wait::Done)
///     }));
///     Ok(())
/// }));
/// scheduler.run();
/// ```
#[derive(Clone)]
pub struct Handle(pub(crate) Rc<Mailbox>);

impl Handle {
    /// Resumes a task that waits, whatever it waits for, in the next turn. The reason is [`Wait::Wake`](crate::Wait::Wake), or
    /// what it waits for, if that has come before. A task that is ready anyway is resumed once, not twice; a task that wakes
    /// itself is resumed in the next turn.
    pub fn wake(&self, task: TaskId) {
        self.0.post(|mailbox| mailbox.woken.put(task));
    }

    /// Ends a task: what it waits for is withdrawn, then it is dropped, and what it owned is closed. A task may cancel
    /// itself: a wait that it returns from that `resume` is ignored; [`Wait::Done`](crate::Wait::Done) or an error ends it as
    /// usual.
    pub fn cancel(&self, task: TaskId) {
        self.0.post(|mailbox| mailbox.cancelled.put(task));
    }

    /// Makes a task; it runs in the next turn. For a scheduler that [is closed](Handle::is_closed), the task is dropped there and
    /// then. The task has no [`TaskId`] yet, as it has from [`Context::spawn`](crate::Context::spawn); whoever waits for its end
    /// says [`future::spawn`](crate::future::spawn).
    pub fn spawn(&self, task: impl Task + 'static) {
        self.0.spawn(Box::new(task), false, None);
    }

    /// Makes a task that does not keep the scheduler running: `run` returns when only services are left.
    pub fn spawn_service(&self, task: impl Task + 'static) {
        self.0.spawn(Box::new(task), true, None);
    }

    /// Whether the scheduler is gone, or is being dropped with all its tasks: nothing that is spawned will ever run. A `Drop`
    /// that spawns a successor has to ask, or it is called for the successor, and so on without end.
    pub fn is_closed(&self) -> bool {
        self.0.ending.get()
    }

    /// The time, as it was when this turn began, by the scheduler's clock. While no turn is taken it is out of date: it is then
    /// the time at which the scheduler was made, last began to run, polled, or left a poll out. Before
    /// [`run`](crate::Scheduler::run), count from [`Instant::now`].
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// Begins to drain: every task is told (see [`Task::drain`]), and `run` returns when all have
    /// ended, at the latest at `by`; whoever is left then is cancelled. Saying it again can only make the
    /// deadline earlier. Whoever has been told has a turn to do something about it, even if `by` is over by then. Services are
    /// told, too, and have that turn even if no other task is left; they are not waited for any longer than that, and not
    /// cancelled.
    pub fn drain(&self, by: Instant) {
        self.0.post(|mailbox| {
            let sooner = mailbox.drain_by.get().map_or(by, |before| before.min(by));
            mailbox.drain_by.set(Some(sooner));
        });
    }

    /// Makes `run` return before another task is resumed. The tasks stay as they are: `run` may be called again.
    pub fn stop(&self) {
        self.0.post(|mailbox| mailbox.stopped.set(true));
    }

    /// Makes the scheduler the one that closes `fd`: see [`Descriptor`]. It does not make it non-blocking: do that first,
    /// unless it is. The standard library cannot do that to the output of a child, say. Then read once each time that it is
    /// ready, which does not block either, and have a new task wait before it reads. (A future need not adopt it: it may await
    /// [`readable_fd`](crate::future::readable_fd) of a `ChildStdout`, say, and read from that.)
    pub fn adopt(&self, fd: impl Into<OwnedFd>) -> Descriptor {
        Descriptor::new(fd.into(), Rc::clone(&self.0))
    }

    /// [`adopt`](Handle::adopt) for what has to be heard even while [nobody can poll](crate::Observer::poll_failed), and can be
    /// tried without sleeping in it.
    pub(crate) fn adopt_urgent(&self, fd: OwnedFd) -> Descriptor {
        self.0.post(|mailbox| mailbox.urgent.borrow_mut().push(fd.as_raw_fd()));
        self.adopt(fd)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
