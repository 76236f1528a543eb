//! From a generator to a state machine to `async`: one server, three spellings.
//!
//! # The generator
//! This crate began as an exercise of 55 lines of Python, which these pages call the *seed*. Its server is a generator, a
//! function that can stop at a `yield` and be continued there later:
//! ```python
//! def echo_handler(client, address):
//!     while True:
//!         yield 'recv', client
//!         data = client.recv(1000)
//!         if not data:
//!             break
//!         yield 'send', client
//!         client.send(b'GOT:' + data)
//! ```
//! It looks as if it were alone in the world. Each `yield` hands two things to the scheduler: what the task waits for, and,
//! hidden in the generator object, *where it is*: the line, and the locals `client` and `data`. The scheduler files the object
//! under the socket, calls `select`, and when the socket is ready it calls `task.send(None)`: the generator goes on behind
//! its `yield` as if nothing had happened. So a generator is a *task*, and to continue it is to *resume* it. (The other half
//! of the seed, its `run()` and its `tcp_server`, are the [loop](crate#the-loop) and [`Acceptor`](crate::net::Acceptor).)
//!
//! # The state machine
//! Rust has no generators to spare us the bookkeeping, so the first spelling keeps by hand what Python's generator kept
//! by itself. The locals that live across a `yield` become fields. The place in the code, the *state*, becomes a field, too:
//! here it is whether there is something unsent. And `yield` becomes `return`: what is returned is the [`Wait`](crate::Wait),
//! and `resume` begins at its top each time.
//! ```
//! use fdtask::net::Stream;
//! use fdtask::{Context, Task, Wait};
//! use std::io::{self, ErrorKind::WouldBlock};
//! use std::os::fd::AsRawFd;
//!
//! struct Echo {
//!     client: Stream,
//!     unsent: Vec<u8>, // What `data` was; empty at the first `yield`.
//! }
//!
//! impl Task for Echo {
//!     fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
//!         // The descriptor: the number that the system knows the socket by.
//!         let fd = self.client.as_raw_fd();
//!         if self.unsent.is_empty() {
//!             let mut data = [0; 1000];
//!             match self.client.recv(&mut data) {
//!                 Ok(0) => return Ok(Wait::Done),
//!                 Ok(len) => self.unsent = [b"GOT:", &data[..len]].concat(),
//!                 Err(e) if e.kind() == WouldBlock => return Ok(Wait::Recv(fd)),
//!                 Err(e) => return Err(e),
//!             }
//!         }
//!         match self.client.send(&self.unsent) {
//!             Ok(sent) => _ = self.unsent.drain(..sent),
//!             Err(e) if e.kind() == WouldBlock => {}
//!             Err(e) => return Err(e),
//!         }
//!         Ok(if self.unsent.is_empty() { Wait::Recv(fd) } else { Wait::Send(fd) })
//!     }
//! }
//! ```
//! Three things differ from the seed. The seed believed that a socket which `select` calls ready must have something to receive.
//! That is only a hint; the call itself tells, and `WouldBlock` means "nothing there", so the task waits. (A new task meets this,
//! too: it is resumed once before it has waited for anything.) The seed took for granted that `send` sends everything; a client
//! that does not read proves it wrong, and what could not be sent has to be kept. And the seed waited before each `send`,
//! although there is almost always room. A wait costs a turn of the scheduler, so here it is asked for only when `send` has left
//! something. [`net::Echo`](crate::net::Echo) is this task, with everything else that a server in the world needs.
//!
//! # The future
//! An `async` block is a state machine that the compiler writes: it finds the locals that live across an `await`, makes
//! fields of them, and numbers the places. The result is called a *future*. What remains is the generator again:
//! ```
//! use fdtask::future::{readable, send_all};
//! use fdtask::net::Stream;
//! use std::io::{self, ErrorKind::WouldBlock};
//!
//! async fn echo(client: Stream) -> io::Result<()> {
//!     let mut data = [0; 1000];
//!     loop {
//!         readable(&client).await?;
//!         match client.recv(&mut data) {
//!             Ok(0) => return Ok(()),
//!             Ok(len) => {
//!                 let answer = [b"GOT:", &data[..len]].concat();
//!                 send_all(&client, &answer).await?;
//!             }
//!             Err(e) if e.kind() == WouldBlock => {}
//!             Err(e) => return Err(e),
//!         }
//!     }
//! }
//! ```
//! [`recv`](crate::future::recv) is the wait and the receiving in one: `let len = recv(&client, &mut data).await?`.
//!
//! Either of the two becomes a server when an acceptor makes one for each client:
//! ```
//! use fdtask::net::{Acceptor, Listener};
//! use fdtask::{Scheduler, future};
//! # use fdtask::net::Stream;
//! # async fn echo(client: Stream) -> std::io::Result<()> { Ok(()) }
//!
//! let mut scheduler = Scheduler::new();
//! # let listener = Listener::bind("127.0.0.1:0".parse().unwrap())?;
//! # #[cfg(any())]
//! let listener = Listener::bind("0.0.0.0:25000".parse().unwrap())?;
//! // By hand: |client, _address| Echo { client, unsent: Vec::new() }
//! let handler = |client, _address| future::task(echo(client));
//! scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, handler));
//! # scheduler.handle().stop();
//! scheduler.run();
//! # std::io::Result::Ok(())
//! ```
//! # The same five lines
//! | the generator | the state machine | the future |
//! |---|---|---|
//! | `yield 'recv', client` | `return Ok(Wait::Recv(fd))` | `readable(&client).await?` |
//! | `data = client.recv(1000)` | `self.client.recv(&mut data)` | `client.recv(&mut data)` |
//! | `if not data: break` | `return Ok(Wait::Done)` | `return Ok(())` |
//! | `yield 'send', client` | `return Ok(Wait::Send(fd))` | `writable(&client).await?`, inside `send_all` |
//! | `client.send(b'GOT:' + data)` | `self.client.send(&self.unsent)` | `send_all(&client, …).await?` |
//!
//! # What is under `await`
//! Nothing but what was there before. A future has one method, which is called `poll` and has nothing to do with `poll(2)`: it
//! runs the block until it can go no further, and answers `Pending` then, or `Ready` when it has ended. That is `resume`, but
//! for one thing: `Pending` does not say what for.
//!
//! So [`task`](crate::future::task) is an adapter: a [`Task`](crate::Task) whose `resume` polls a future once. A future that
//! answers `Pending` leaves a note for the adapter, which says what for. `readable(&client)` is a future of two states. Polled
//! first, it notes `Recv(fd)` and answers `Pending`. That travels up through every `await` to the adapter, which returns the note
//! to the scheduler, as any task returns its wait. Resumed with `Recv(fd)` as the reason, the adapter polls again; `readable`
//! sees that its wait is over, and the code behind the `await` goes on. If there are two notes (because of a
//! [`race`](crate::future::race()), or of the `select!` of the crate `futures-util`), the adapter gives both to the scheduler
//! ([`Context::or`](crate::Context::or)).
//!
//! The [`Waker`](std::task::Waker), which every other runtime begins with, comes last here. It has a task resumed, and only
//! somebody else than the scheduler needs one, such as a channel of another crate, or another thread. It sends a message by way
//! of [`Remote`](crate::Remote); while the task is being polled, a flag is enough.
//!
//! # Which one
//! - A *state machine* where each byte and instruction counts, or where the states are the point of the code: they stand
//!   there by name, and can be looked at in the task table.
//! - An *`async fn`* where the order of the lines is the point, as in a dialogue of several steps, and wherever
//!   [`timeout`](crate::future::timeout) or `select!` takes the place of three more states.
//! - *Threads* where few are enough, or where the work computes for long or blocks: see [`blocking`](crate::future::blocking).
//!
//! The same echo is in the repository in all three (`src/net/echo.rs`, `examples/echo_async.rs`, `examples/echo_threads.rs`),
//! under one test suite.
