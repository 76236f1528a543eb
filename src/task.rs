//! What a task is: something that is resumed, runs until it can go no further, and says what it waits for.
//!
//! In the seed a task is a generator and a wait is `yield 'recv', sock`. Here a task is a [`Task`], a wait is a [`Wait`], and
//! what the generator's frame kept between two `yield`s is the task's own fields: a state machine, written by hand.

use crate::context::Context;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::RawFd;
use std::time::Instant;

/// Something that makes progress when it is resumed, and otherwise waits.
///
/// # The contract
/// - **The first resume comes unasked**, with [`Wait::Turn`] as the reason. Nothing is known to be ready yet; to try is right,
///   and the call finds out.
/// - **Do not block.** One thread runs every task. Use non-blocking descriptors; when a call answers
///   [`WouldBlock`](io::ErrorKind::WouldBlock), return the wait for that descriptor. (`println!` blocks, too, if nobody reads
///   what it prints; a [`Log`](crate::Log) does not.)
/// - **Readiness is a hint.** Being resumed for [`Wait::Recv`] means that receiving is worth trying, not that it will
///   succeed.
/// - **Do a bounded amount of work per resume**, such as one message; say [`Wait::Turn`] to go on after everybody else. Wait
///   for a descriptor only when a call has answered `WouldBlock`, or when everything that was received is dealt with: the
///   poller knows nothing of bytes that the task holds already.
/// - **Ending is a value**: [`Wait::Done`]. An `Err` ends this task and no other, and so does a panic (which ends the program if
///   that is compiled with `panic = "abort"`). The task is then dropped, and with it every descriptor that it owns.
///
/// # Examples
/// A countdown, which gives way to the others after each number:
/// ```
/// use fdtask::{Context, Scheduler, Task, Wait};
/// use std::io;
///
/// struct Countdown(u32);
///
/// impl Task for Countdown {
///     fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
///         if self.0 == 0 {
///             return Ok(Wait::Done);
///         }
///         println!("T-minus {}", self.0);
///         self.0 -= 1;
///         Ok(Wait::Turn)
///     }
/// }
///
/// let mut scheduler = Scheduler::new();
/// scheduler.spawn(Countdown(3));
/// scheduler.spawn(Countdown(2));
/// scheduler.run();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    label = "this is not a task",
    note = "an `async` block becomes a task by `fdtask::future::task(…)`, a closure by `fdtask::task_fn(name, …)`"
)]
#[must_use = "a task does nothing until it is spawned"]
pub trait Task {
    /// Runs until the task can go no further, and returns what it waits for.
    ///
    /// # Errors
    /// An error ends the task; the [`Observer`](crate::Observer) is told which.
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait>;

    /// Is called instead of [`resume`](Task::resume) when what the task last asked for cannot be waited for: see
    /// [`WaitError`].
    ///
    /// # Errors
    /// As from `resume`. The default is to end with `error`: a task that went on as if nothing had happened might act on a
    /// descriptor that is not its own.
    fn wait_failed(&mut self, cx: &mut Context<'_>, error: WaitError) -> io::Result<Wait> {
        let _ = cx;
        Err(error.into())
    }

    /// Is called once on every task when a drain begins (see [`Context::drain`]). A task that is spawned later can ask
    /// [`Context::is_draining`].
    ///
    /// Return true to be resumed in the next turn, and so finish what was begun. The reason is then [`Wait::Turn`], unless the
    /// task was ready for another already. Return false, the default, to go on waiting; the drain's deadline then ends the task,
    /// if nothing else does before, and unless it is a [service](Context::spawn_service).
    fn drain(&mut self) -> bool {
        false
    }

    /// What a person calls this task, in logs and in the task table: `echo 127.0.0.1:40312`. The default is the name of
    /// the type. Asked for only when somebody looks.
    fn name(&self) -> Cow<'_, str> {
        let path = std::any::type_name::<Self>();
        let generics = path.find('<').unwrap_or(path.len());
        let start = path[..generics].rfind("::").map_or(0, |colons| colons + 2);
        Cow::Borrowed(&path[start..])
    }

    /// How far the task is in what it waits for, for the task table: `12 of 64 sent`. Empty by default. Asked for only
    /// when somebody looks.
    fn progress(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
}

/// Where one type of task is asked for, and there are several, a `Box<dyn Task>` is the one type.
impl<T: Task + ?Sized> Task for Box<T> {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        (**self).resume(cx)
    }

    fn wait_failed(&mut self, cx: &mut Context<'_>, error: WaitError) -> io::Result<Wait> {
        (**self).wait_failed(cx, error)
    }

    fn drain(&mut self) -> bool {
        (**self).drain()
    }

    fn name(&self) -> Cow<'_, str> {
        (**self).name()
    }

    fn progress(&self) -> Cow<'_, str> {
        (**self).progress()
    }
}

/// What a task waits for: the reason that it hands back when it can go no further.
///
/// A number may only be *waited on*; whatever acts on a descriptor takes the descriptor itself. One descriptor may have
/// one task that waits to receive and one that waits to send at a time.
// `repr` gives it a tag of its own. Without, the compiler hides the tag inside the instant, and reading it takes several
// instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[must_use = "a wait has no effect unless `resume` returns it, or it is said with `Context::or`"]
pub enum Wait {
    /// Resume me when this descriptor can be received from: the seed's `yield 'recv', sock`. A listener can be received
    /// from when a connection is in its queue. A hang-up or an error resumes, too: the call that follows finds out.
    Recv(RawFd),
    /// Resume me when this descriptor can be sent to: the seed's `yield 'send', sock`. A socket that connects can be sent to
    /// when the attempt has ended. A hang-up or an error resumes, too.
    Send(RawFd),
    /// Resume me at this instant, or soon after it, and never before.
    Until(Instant),
    /// Resume me in the next turn: after everything else that is ready, and after a look at the descriptors.
    Turn,
    /// Resume me when somebody says so: another task, or whatever holds a [`Handle`](crate::Handle) or a
    /// [`Remote`](crate::Remote) and knows my [`TaskId`].
    Wake,
    /// Do not resume me again: I have ended.
    Done,
}

impl Wait {
    /// The descriptor and the side of it that this wait is for, if it is for one.
    pub(crate) fn descriptor(self) -> Option<(RawFd, Side)> {
        match self {
            Wait::Recv(fd) => Some((fd, Side::Recv)),
            Wait::Send(fd) => Some((fd, Side::Send)),
            Wait::Until(_) | Wait::Turn | Wait::Wake | Wait::Done => None,
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Recv(fd) => write!(f, "recv fd {fd}"),
            Wait::Send(fd) => write!(f, "send fd {fd}"),
            Wait::Until(_) => f.write_str("until"),
            Wait::Turn => f.write_str("ready"),
            Wait::Wake => f.write_str("wake"),
            Wait::Done => f.write_str("done"),
        }
    }
}

/// The two sides of a descriptor that can be waited on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Receiving, reading, accepting.
    Recv,
    /// Sending, writing, connecting.
    Send,
}

impl Side {
    /// The wait for this side of `fd`.
    #[inline]
    pub fn of(self, fd: RawFd) -> Wait {
        match self {
            Side::Recv => Wait::Recv(fd),
            Side::Send => Wait::Send(fd),
        }
    }
}

/// Why something cannot be waited for. Handed to [`Task::wait_failed`]. As an [`io::Error`] it is of the kind
/// [`ResourceBusy`](io::ErrorKind::ResourceBusy) or [`NotFound`](io::ErrorKind::NotFound), and
/// [`get_ref`](io::Error::get_ref) returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// Another task already waits for this side of this descriptor, and goes on doing so. To have two tasks act on one
    /// side, let one of them do it for both.
    Busy(Wait),
    /// The number is not, or no longer, the descriptor that was meant: it is negative, was not open, or was closed (and
    /// perhaps given to another file) while the task waited.
    Closed(Wait),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::Busy(wait) => write!(f, "cannot wait to {wait}: another task already does"),
            WaitError::Closed(wait) => write!(f, "cannot wait to {wait}: the descriptor is closed"),
        }
    }
}

impl std::error::Error for WaitError {}

impl From<WaitError> for io::Error {
    fn from(error: WaitError) -> io::Error {
        let kind = match error {
            WaitError::Busy(_) => io::ErrorKind::ResourceBusy,
            WaitError::Closed(_) => io::ErrorKind::NotFound,
        };
        io::Error::new(kind, error)
    }
}

/// How a task ended.
#[derive(Debug)]
pub enum End {
    /// It returned [`Wait::Done`].
    Done,
    /// It returned this error.
    Failed(io::Error),
    /// It panicked with this message.
    Panicked(String),
    /// It was cancelled, or the scheduler was dropped.
    Cancelled,
}

/// Names one task of one scheduler, also after the task has ended. To another scheduler it means nothing, or some other task.
/// It is shown as a number that counts the tasks spawned.
// The number of the slot and the serial number are in one word, because futures compare it for each message.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId(NonZeroU64);

impl TaskId {
    pub(crate) fn new(slot: u32, serial: NonZeroU32) -> TaskId {
        TaskId(NonZeroU64::from(serial) | u64::from(slot) << 32)
    }

    /// Both of its numbers in one word. The highest bit of that is free, because there are never so many slots.
    pub(crate) fn number(self) -> u64 {
        self.0.get()
    }

    /// The task of this [number](TaskId::number).
    pub(crate) fn of_number(number: u64) -> Option<TaskId> {
        NonZeroU64::new(number).map(TaskId)
    }

    /// The number of the task's slot.
    pub(crate) fn slot(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    /// Which of all tasks ever spawned it is; tells it from those that had its slot before.
    pub(crate) fn serial(self) -> NonZeroU32 {
        NonZeroU32::new(self.0.get() as u32).unwrap_or(NonZeroU32::MIN)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serial().fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.serial())
    }
}

/// Makes a task of a closure, which is its `resume`.
///
/// ```
/// use fdtask::{Scheduler, Wait, task_fn};
/// use std::time::Duration;
///
/// let mut ticks = 0;
/// let mut scheduler = Scheduler::new();
/// scheduler.spawn(task_fn("ticker", move |cx| {
///     ticks += 1;
///     Ok(if ticks > 3 { Wait::Done } else { Wait::Until(cx.now() + Duration::from_millis(10)) })
/// }));
/// scheduler.run();
/// ```
pub fn task_fn<F>(name: &'static str, resume: F) -> impl Task
where
    F: FnMut(&mut Context<'_>) -> io::Result<Wait>,
{
    struct TaskFn<F>(&'static str, F);

    impl<F: FnMut(&mut Context<'_>) -> io::Result<Wait>> Task for TaskFn<F> {
        fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
            (self.1)(cx)
        }

        fn name(&self) -> Cow<'_, str> {
            Cow::Borrowed(self.0)
        }
    }

    TaskFn(name, resume)
}
