//! `fdtask` is the smallest honest I/O task runtime for Unix: tasks that say which descriptor they wait for, one scheduler
//! on one thread, and `poll(2)`.
//!
//! A *task* is a generator in spirit. Each time it is *resumed* it runs until it can go no further, and hands back the
//! reason, its *wait*: "resume me when this descriptor can be received from", "… can be sent to", "… at this instant".
//! The scheduler keeps the tasks that are *ready* in a deque and the others in wait maps (from the descriptor to the task), and
//! calls `poll(2)` when nothing is ready. There is no hidden thread, no macro, no allocation per message, and one dependency,
//! `libc`.
//!
//! New here? The [`guide`] goes from a Python generator to a task written by hand, and from there to `async`, by way of one
//! server.
//!
//! # The loop
//! ```text
//!         spawn                     fired / deadline passed
//!           │      ┌───────────────────────────────────────────┐
//!           ▼      ▼                                           │
//!       ready: deque ──resume()──► Wait::Recv(fd) ─► recv_wait │
//!           ▲                      Wait::Send(fd) ─► send_wait ├─ poll(2)
//!           │                      Wait::Until(t) ─► timers    │
//!           └── Wait::Turn ◄──     Wait::Wake     ─► asleep ───┘
//!                                  Done / Err / panic ─► ended
//! ```
//! 1. Run one *turn*: resume each task that was in the deque when the turn began, once. What they spawn or wake runs
//!    in the next turn.
//! 2. File each by the reason it gave.
//! 3. Poll: sleep until a descriptor *fires* (it is ready, or its other end has hung up) or the next *deadline* if nothing is
//!    ready; look without sleeping if something is. (If only new tasks are ready, the poll may be left out, so that they can
//!    first say what they wait for; but never twice in a row, nor in the first turn of a run.)
//! 4. Move the owners of what fired, and of deadlines that have passed, to the deque. Stop when no place holds a task
//!    that can ever be resumed.
//!
//! The same numbers stand in `scheduler.rs` and `filing.rs`. A task that waits for descriptors is in the wait maps, `recv_wait`
//! and `send_wait`; one that waits for an instant is in `timers`. Any other is *asleep*, until somebody wakes it by its
//! [`TaskId`], and needs no list.
//!
//! # A server
//! The seed of this crate is a Python exercise of 55 lines: generators as tasks, and an echo server. Its
//! `tasks.append(tcp_server(('', 25000), echo_handler)); run()` is here
//! ```
//! use fdtask::Scheduler;
//! use fdtask::net::{Acceptor, Echo, Listener};
//!
//! fn main() -> std::io::Result<()> {
//!     let mut scheduler = Scheduler::new();
//! #   let listener = Listener::bind("127.0.0.1:0".parse().unwrap())?;
//! #   #[cfg(any())]
//!     let listener = Listener::bind("0.0.0.0:25000".parse().unwrap())?;
//!     scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, Echo::new));
//! #   scheduler.handle().stop();
//!     scheduler.run();
//!     Ok(())
//! }
//! ```
//! [`Task`] says how to write a task of your own, [`Context`] what it may ask for while it runs, [`Handle`] what may be said to
//! the scheduler from elsewhere on its thread, [`Remote`] from other threads; [`net::Stream`] and [`net::Lines`] are what
//! protocols begin with. [`Diagnostics`] makes errors visible: the library itself prints nothing, so without an
//! [`Observer`] a task that fails does so in silence.
//!
//! # Misuse is an error, not a mystery
//! - A second task that waits for the same side of a descriptor is told [`WaitError::Busy`]; the first goes on waiting.
//! - A wait for a number that is negative or closed ends with [`WaitError::Closed`]. (If another thread closes it while the
//!   scheduler sleeps, that does not end the sleep.)
//! - So does a wait for a number that was closed and given to another file, but not at once: only when another task waits for
//!   that number for the first time, or the scheduler adopts it. Until then the old waiter is resumed when the new file is ready.
//!   (Eventfds, timerfds and the like cannot be told from each other, nor can TCP sockets on other systems than Linux. With these
//!   it looks as if the number still named the old file, so the second task that waits for it is told [`WaitError::Busy`].)
//! - A task that fails or panics ends alone; the [`Observer`] is told.
//! - A descriptor that the scheduler has [adopted](Handle::adopt) is closed in the right order, by one function.
//!
//! # Layout
//! ```text
//! task.rs         Task, Wait, TaskId: what a task is, and what it says
//! context.rs      what a task may ask and say while it is resumed
//! state.rs        what the scheduler knows
//! scheduler.rs    spawn, turn, run: the loop, step by step
//! filing.rs       where a waiting task is written down, and how that is undone
//! settle.rs       what tasks have said: cancel, wake, close, drain
//! reason.rs       what a task waits for, or is resumed for, in one word
//! slots.rs        the table of live tasks
//! waiters.rs      ready, recv_wait, send_wait: where the tasks are
//! ready.rs        the ready deque
//! wait_map.rs     descriptor → task
//! timers.rs       deadlines
//! handle.rs       what may be said to a scheduler
//! descriptor.rs   descriptors that the scheduler closes
//! observer.rs     who is told what happens
//! diagnostics.rs  an observer that writes what goes wrong
//! panics.rs       panics, caught and put into words
//! table.rs        the task table, for whoever asks
//! remote.rs       a way into a scheduler from other threads
//! channel.rs      a queue of values between tasks
//! notify.rs       waking all tasks that wait for something to happen
//! future/         an `async` block as a task; what it can await
//! guide.rs        from the seed's generator to `async`
//! log.rs          a log that never stalls
//! futile.rs       a pause for a task whose descriptor keeps firing, and is never ready
//! signals.rs      signals as something to receive
//! poller/         the contract; the array; failures; poll; parked; sim
//! net/            sockets, Acceptor, Echo
//! sys/            all unsafe code, and almost every system call
//! ```
//! The core, to be read in one sitting, is `task.rs`, `scheduler.rs` and `poller/poll.rs`; then `filing.rs` and `wait_map.rs`.
//! The echo daemon is `main.rs` and `daemon/`, and uses nothing that is not public.

#![deny(unsafe_code)]

pub mod channel;
mod context;
mod descriptor;
mod diagnostics;
mod filing;
mod futile;
pub mod future;
pub mod guide;
mod handle;
mod log;
#[cfg(test)]
mod model_test;
pub mod net;
mod notify;
mod observer;
mod panics;
pub mod poller;
#[cfg(test)]
#[path = "../tests/common/random.rs"]
mod random;
mod ready;
mod reason;
mod remote;
mod scheduler;
mod settle;
mod signals;
mod slots;
mod state;
mod sys;
mod table;
mod task;
mod timers;
mod wait_map;
mod waiters;

pub use context::Context;
pub use descriptor::Descriptor;
pub use diagnostics::Diagnostics;
pub use handle::Handle;
pub use log::{LOG_QUEUE_BYTES, Log, LogWriter};
pub use notify::{Notified, Notify};
pub use observer::{Observer, reason};
pub use remote::Remote;
pub use scheduler::Scheduler;
pub use signals::{Signal, Signals};
pub use state::SCRATCH_BYTES;
pub use table::{TaskInfo, TaskTable};
pub use task::{End, Side, Task, TaskId, Wait, WaitError, task_fn};

/// The README's code, compiled by the tests.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

/// What has no effect unless something more is done with it is warned of, so that it is not forgotten: a wait, a task, signals,
/// the task that writes a log.
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fn resume(changed: &fdtask::Notify, cx: &mut fdtask::Context<'_>) {
///     changed.wait(cx);
/// }
/// ```
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fdtask::task_fn("idle", |_| Ok(fdtask::Wait::Wake));
/// ```
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fdtask::future::task(async { Ok(()) });
/// ```
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fn receive(scheduler: &fdtask::Handle) -> std::io::Result<()> {
///     fdtask::Signals::new(scheduler, &[fdtask::Signal::Terminate])?;
///     Ok(())
/// }
/// ```
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fn log(scheduler: fdtask::Handle, fd: std::os::fd::OwnedFd) {
///     fdtask::Log::new(scheduler, "log", fd);
/// }
/// ```
/// With a name for each of them, so that nothing is unused, all of this compiles.
/// ```
/// #![deny(unused_must_use)]
/// fn resume(changed: &fdtask::Notify, cx: &mut fdtask::Context<'_>) {
///     let _wait = changed.wait(cx);
/// }
/// let _task = fdtask::task_fn("idle", |_| Ok(fdtask::Wait::Wake));
/// let _task = fdtask::future::task(async { Ok(()) });
/// fn receive(scheduler: &fdtask::Handle) -> std::io::Result<()> {
///     let _signals = fdtask::Signals::new(scheduler, &[fdtask::Signal::Terminate])?;
///     Ok(())
/// }
/// fn log(scheduler: fdtask::Handle, fd: std::os::fd::OwnedFd) {
///     let _log = fdtask::Log::new(scheduler, "log", fd);
/// }
/// ```
#[cfg(doctest)]
struct Unused;
