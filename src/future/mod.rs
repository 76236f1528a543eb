//! Tasks that the compiler writes: an `async` block is a state machine, and [`task`] makes a [`Task`] of it.
//!
//! `readable(&socket).await` is the seed's `yield 'recv', sock`: the block stops there, hands its wait to the scheduler,
//! and goes on when that is what it is resumed for. There is no executor here beside the scheduler, and no second queue:
//! to resume such a task is to poll its future once, and what the future waits for is the wait that the task returns.
//! Hand-written tasks and futures stand in one ready deque, and cannot be told from each other.
//!
//! ```
//! use fdtask::future::{self, readable};
//! use fdtask::net::{Acceptor, Listener, Stream};
//! use fdtask::Scheduler;
//! use std::io;
//!
//! async fn echo(client: Stream) -> io::Result<()> {
//!     let mut data = [0; 1000];
//!     loop {
//!         let len = future::recv(&client, &mut data).await?;
//!         if len == 0 {
//!             return Ok(());
//!         }
//!         future::send_all(&client, &data[..len]).await?;
//!     }
//! }
//!
//! let mut scheduler = Scheduler::new();
//! let listener = Listener::bind("127.0.0.1:0".parse().unwrap())?;
//! scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, |client, _| future::task(echo(client))));
//! # scheduler.handle().stop();
//! scheduler.run();
//! # io::Result::Ok(())
//! ```
//!
//! # What can be awaited
//! - A descriptor: [`readable`], [`writable`]; around them [`recv`], [`recv_exact`], [`recv_more`], [`send_all`],
//!   [`send_all_while_taken`], [`copy`], [`connect`], [`linger`], [`Lines::recv`](crate::net::Lines::recv),
//!   [`Incoming::accept`], [`next_signal`]. Each of these fails with a [`WaitError`] if another task waits for the same side of
//!   the same descriptor.
//! - Time: [`sleep`], [`sleep_until`], [`timeout`], [`next_turn`]; the beginning of a drain: [`draining`],
//!   [`Readiness::until_drain`].
//! - The first of two: [`race()`].
//! - Other tasks: [`JoinHandle`], [`Notify`](crate::Notify), [`channel`](crate::channel).
//! - Another thread: [`blocking`], [`promise()`].
//! - Whatever else wakes the [`Waker`] that it is polled with, from whichever thread: combinators such as
//!   those of `futures-util`, channels such as `async-channel`'s. Crates that need their *own* runtime (`tokio`'s sockets,
//!   say) do not run here, as they do not run anywhere else.
//!
//! # Waiting for several things in one task
//! A combinator such as `select!` or `join!` polls several futures in one task, and the task then waits for all of them: the
//! first that fires resumes it. Each resume withdraws the task's waits and files them anew, so a resume costs the more, the more
//! waits there are: to serve a thousand sockets, [`spawn`] a thousand tasks.
//!
//! # Ending
//! A future is dropped as soon as its task ends or is cancelled, and with it everything that it owns, wherever it
//! stopped. A scheduler that is dropped drops all of them. The futures of this module withdraw their wait when they are
//! dropped, so the one that lost a `select!` leaves nothing behind. One that receives loses nothing, either: what it
//! has not returned, the next one receives. Only what goes on piece by piece may have done some of it: [`recv_exact`],
//! [`send_all`], [`send_all_while_taken`], [`copy`], [`linger`].

mod alarm;
mod join;
mod list;
mod promise;
mod race;
mod readiness;
mod socket;
mod stream;
mod time;
mod waits;

pub use join::{JoinError, JoinHandle, spawn};
pub use promise::{Promise, Promised, blocking, promise};
pub use race::race;
pub use readiness::{Readiness, ReadinessUntilDrain};
pub use socket::{Incoming, Source, connect, next_signal, readable, readable_fd, writable, writable_fd};
pub(crate) use stream::recv_with;
pub use stream::{copy, linger, recv, recv_exact, recv_more, send_all, send_all_while_taken};
pub use time::{TimedOut, Until, draining, next_turn, sleep, sleep_until, timeout};
pub(crate) use waits::Futures;

use crate::context::Context;
use crate::net::DESCRIPTORS_RETRY;
use crate::remote::Remote;
use crate::task::{Task, Wait, WaitError};
use alarm::Alarm;
use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Poll, Waker};
use waits::{Mark, Waits};

/// Makes a task of a future. An `Err` ends the task with that error, as it does from [`Task::resume`].
///
/// ```
/// use fdtask::{Scheduler, future};
/// use std::time::Duration;
///
/// let mut scheduler = Scheduler::new();
/// let handle = scheduler.handle();
/// scheduler.spawn(future::task(async move {
///     for _ in 0..3 {
///         future::sleep(&handle, Duration::from_millis(10)).await;
///     }
///     Ok(())
/// }));
/// scheduler.run();
/// ```
pub fn task<F>(future: F) -> FutureTask<F>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    FutureTask { future: Box::pin(future), name: None, polled: None }
}

/// A task that is a future. Made by [`task`].
#[must_use = "a task does nothing until it is spawned"]
pub struct FutureTask<F> {
    future: Pin<Box<F>>,
    name: Option<Cow<'static, str>>,
    /// Absent until the first resume.
    polled: Option<Polled>,
}

/// What the task has beside its future, once it has polled that. (`waits.rs` tells how a wait travels from a future to the
/// scheduler, and back.)
struct Polled {
    /// What the future waits for. While the future is polled, this is in the scheduler's mailbox.
    waits: Waits,
    alarm: Arc<Alarm>,
    /// What the future is polled with; the alarm is behind it.
    waker: Waker,
    /// The usual case is that the task waits for one descriptor, and that fires. This is the task's entry in the ready deque
    /// then: resumed by it, the task need not find out why. [`NO_ENTRY`] while it waits for more, or somebody holds a waker.
    usual_entry: u32,
}

/// Is never in the ready deque: there is no slot of such a number.
const NO_ENTRY: u32 = u32::MAX;

/// How many references to the alarm there are while nobody else holds a waker: the two fields of [`Polled`].
const OWN_ALARMS: usize = 2;

impl<F> FutureTask<F> {
    /// Gives the task a name, for logs and for the task table. Without it, it is called as its `async fn` is.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> FutureTask<F> {
        self.name = Some(name.into());
        self
    }
}

impl Polled {
    fn new(cx: &Context<'_>) -> Polled {
        let remote = cx.core.mailbox.remote.get_or_init(Remote::unconnected);
        let alarm = Arc::new(Alarm::new(cx.id(), remote.clone()));
        let waker = Waker::from(Arc::clone(&alarm));
        Polled { waits: Waits::new(cx.id()), alarm, waker, usual_entry: NO_ENTRY }
    }

    /// A poll begins that may be for any reason: fulfils the waits that it is for. A waker that is woken by this is no reason to
    /// poll again afterwards: what it stands for is polled now.
    #[cold]
    fn begin<'a>(polled: &'a mut Option<Polled>, cx: &mut Context<'_>) -> &'a mut Polled {
        let polled = polled.get_or_insert_with(|| Polled::new(cx));
        if !polled.waits.is_of(cx.id()) {
            // Another task has begun the future, and then given it to this one. From now on this one is woken, and what it waits
            // for is asked for anew.
            *polled = Polled::new(cx);
        }
        polled.alarm.begin_poll();
        if polled.waits.fulfil(cx) {
            polled.alarm.begin_poll();
        }
        cx.core.mailbox.futures.lend(&mut polled.waits);
        // Until `end_unusual` finds that the task does not wait for its direct wait alone.
        polled.usual_entry = cx.slot();
        polled
    }

    /// What the task waits for after its future has been polled: what to return from `resume`.
    #[expect(clippy::inline_always, reason = "measured: a call costs more than what is called")]
    #[inline(always)]
    fn end(&mut self, cx: &mut Context<'_>, direct: Mark, is_unusual: bool) -> io::Result<Wait> {
        self.waits.direct = direct;
        let alarm: &Alarm = &self.alarm;
        // If somebody still holds a waker, they may wake the task after this poll, and that takes a message. If the last one is
        // gone, dropped by another thread perhaps, whatever it did came before, and the fence makes that visible.
        let has_wakers = Arc::strong_count(&self.alarm) > OWN_ALARMS;
        fence(Ordering::Acquire);
        match direct.wait() {
            Some(wait) if !is_unusual && !has_wakers && !alarm.was_woken() => Ok(wait),
            _ => self.end_unusual(cx, has_wakers),
        }
    }

    /// [`end`](Polled::end), if there may be more to say than the direct wait.
    #[cold]
    #[inline(never)]
    #[expect(clippy::unnecessary_wraps, reason = "what `resume` returns is written where its caller wants it")]
    fn end_unusual(&mut self, cx: &mut Context<'_>, has_wakers: bool) -> io::Result<Wait> {
        cx.core.mailbox.futures.give_back(&mut self.waits);
        if !self.waits.is_of(cx.id()) {
            // The future was begun by another task, in this same slot, and the wakers it gave out would wake that one: begin
            // anew.
            return Ok(Wait::Turn);
        }
        let was_woken = if has_wakers { self.alarm.end_poll() } else { self.alarm.was_woken() };
        if has_wakers || was_woken || self.waits.has_list() {
            self.usual_entry = NO_ENTRY;
        }
        let wait = self.waits.say(cx);
        if was_woken {
            let Some(wait) = wait else { return Ok(Wait::Turn) };
            // A turn would come before anybody has looked whether the other waits are fulfilled, over and over if the future
            // keeps waking itself. A deadline that is over is looked at after them.
            cx.or(Wait::Until(cx.now()));
            return Ok(wait);
        }
        // The scheduler has to hear whoever holds a waker, on whichever thread. If it cannot, for want of a descriptor, the task
        // looks by itself.
        if has_wakers && cx.remote().is_err() {
            cx.or(Wait::Until(cx.now() + DESCRIPTORS_RETRY));
        }
        Ok(wait.unwrap_or(Wait::Wake))
    }
}

impl<F> Task for FutureTask<F>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    /// Polls the future once.
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let (polled, direct) = match &mut self.polled {
            // The direct wait is fulfilled, which the mark of the task says.
            Some(polled) if polled.usual_entry == cx.entry => {
                let task = polled.waits.task;
                (polled, task)
            }
            polled => {
                let polled = Polled::begin(polled, cx);
                let direct = polled.waits.direct;
                (polled, direct)
            }
        };
        let mailbox = &*cx.core.mailbox;
        let mut context = std::task::Context::from_waker(&polled.waker);
        mailbox.futures.enter(polled.waits.task, &context, direct);
        let poll = self.future.as_mut().poll(&mut context);
        match poll {
            Poll::Pending => {
                let direct = mailbox.futures.leave();
                let is_unusual = mailbox.futures.is_unusual();
                polled.end(cx, direct, is_unusual)
            }
            Poll::Ready(result) => {
                mailbox.futures.leave();
                mailbox.futures.give_back(&mut polled.waits);
                result.map(|()| Wait::Done)
            }
        }
    }

    /// The reason why it is resumed is the error, which the future that waited is given.
    fn wait_failed(&mut self, cx: &mut Context<'_>, _error: WaitError) -> io::Result<Wait> {
        self.resume(cx)
    }

    /// A future that wants to know awaits [`draining`]; the others find nothing changed, and wait again.
    fn drain(&mut self) -> bool {
        true
    }

    fn name(&self) -> Cow<'_, str> {
        match &self.name {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Borrowed(function_name(std::any::type_name::<F>())),
        }
    }
}

/// The function whose body a future is: `echo` of `program::net::echo<u8>::{{closure}}`, the last name outside all brackets.
fn function_name(path: &'static str) -> &'static str {
    let path = path.trim_end_matches("::{{closure}}");
    let (mut depth, mut name, mut before) = (0, 0..0, ' ');
    for (at, c) in path.char_indices() {
        match c {
            '<' => depth += 1,
            // Not the head of an arrow.
            '>' if before != '-' => depth -= 1,
            ':' if depth == 0 => name.start = at + 1,
            _ if depth == 0 => name.end = at + c.len_utf8(),
            _ => {}
        }
        before = c;
    }
    &path[name]
}

#[cfg(test)]
mod tests {
    use super::function_name;

    #[test]
    fn a_function_is_called_as_it_is_written_wherever_it_belongs() {
        let cases = [
            ("program::echo::{{closure}}", "echo"),
            ("program::net::echo<alloc::vec::Vec<u8>>::{{closure}}", "echo"),
            ("program::net::echo<(u8, program::Generic<u8>)>::{{closure}}::{{closure}}", "echo"),
            ("program::net::echo<alloc::boxed::Box<dyn program::Handler(u8) -> u8>>::{{closure}}", "echo"),
            ("program::net::echo<fn(u8) -> program::Answer>::{{closure}}", "echo"),
            ("<program::Plain as program::Serve>::serve::{{closure}}", "serve"),
            ("program::Generic<T>::handle<u8>::{{closure}}", "handle"),
            ("program::Generic<alloc::string::String>::handle::{{closure}}", "handle"),
            ("echo", "echo"),
        ];
        for (path, name) in cases {
            assert_eq!(function_name(path), name, "{path}");
        }
    }
}
