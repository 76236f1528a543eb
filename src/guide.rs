//! From a generator to a state machine to `async`: one server, three spellings.
//!
//! # The generator
//! This crate began as an exercise of 55 lines of Python. Its server is a generator:
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
//! its `yield` as if nothing had happened.
//!
//! # The state machine
//! Rust has no generators to spare us the bookkeeping, so the first spelling keeps by hand what Python's generator kept
//! by itself. The locals that live across a `yield` become fields. The place in the code becomes a field, too: here it
//! is whether there is something unsent. And `yield` becomes `return`.
//! ```
//! use fdtask::net::Stream;
//! use fdtask::{Context, Task, Wait};
//! use std::{io, os::fd::AsRawFd};
//!
//! struct Echo {
//!     client: Stream,
//!     unsent: Vec<u8>, // What `data` was; empty at the first `yield`.
//! }
//!
//! impl Task for Echo {
//!     fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
//!         if cx.why() == Wait::Turn {
//!             return Ok(Wait::Recv(self.client.as_raw_fd())); // The task is new.
//!         }
//!         if self.unsent.is_empty() {
//!             let mut data = [0; 1000];
//!             let len = self.client.recv(&mut data)?;
//!             if len == 0 {
//!                 return Ok(Wait::Done);
//!             }
//!             self.unsent = [b"GOT:", &data[..len]].concat();
//!         }
//!         let sent = self.client.send(&self.unsent)?;
//!         self.unsent.drain(..sent);
//!         let fd = self.client.as_raw_fd();
//!         Ok(if self.unsent.is_empty() { Wait::Recv(fd) } else { Wait::Send(fd) })
//!     }
//! }
//! ```
//! Two lines are not the seed's. It took for granted that `send` sends everything; a client that does not read proves it
//! wrong, and what could not be sent has to be kept. And it waited before each `send`, although there is room almost
//! always; here a wait costs a turn of the scheduler, so it is asked for only when `send` has said that there is none.
//! [`net::Echo`](crate::net::Echo) is this with everything that a server in the world needs.
//!
//! # The future
//! An `async` block is a state machine that the compiler writes: it finds the locals that live across an `await`, makes
//! fields of them, and numbers the places. What remains is the generator again:
//! ```
//! use fdtask::future::{readable, send_all};
//! use fdtask::net::Stream;
//! use std::io;
//!
//! async fn echo(client: Stream) -> io::Result<()> {
//!     let mut data = [0; 1000];
//!     loop {
//!         readable(&client).await?;
//!         let len = client.recv(&mut data)?;
//!         if len == 0 {
//!             return Ok(());
//!         }
//!         send_all(&client, &[b"GOT:", &data[..len]].concat()).await?;
//!     }
//! }
//! ```
//! # The same five lines
//! | the generator | the state machine | the future |
//! |---|---|---|
//! | `yield 'recv', client` | `return Ok(Wait::Recv(fd))` | `readable(&client).await?` |
//! | `data = client.recv(1000)` | `self.client.recv(&mut data)?` | `client.recv(&mut data)?` |
//! | `if not data: break` | `return Ok(Wait::Done)` | `return Ok(())` |
//! | `yield 'send', client` | `return Ok(Wait::Send(fd))` | `writable(&client).await?`, inside `send_all` |
//! | `client.send(b'GOT:' + data)` | `self.client.send(&self.unsent)?` | `send_all(&client, …)` |
//!
//! # What is under `await`
//! Nothing but what was there before. [`task`](crate::future::task) makes a [`Task`](crate::Task) of a future, whose `resume`
//! polls it once. `readable(&client)` is a future of two states. Polled first, it writes `Recv(fd)` on a list that its
//! task keeps, and answers `Pending`; that travels up through every `await` to the adapter, which returns the wait on the
//! list to the scheduler, like any task. Resumed with `Recv(fd)` as the reason, the adapter ticks it off on the list and
//! polls again; `readable` sees the tick, and the code behind the `await` goes on. With two waits on the list, because of a
//! `select!`, say, the adapter gives both to the scheduler ([`Context::or`](crate::Context::or)).
//!
//! The [`Waker`](std::task::Waker), which every other runtime begins with, comes last here: only who is *not* the scheduler
//! needs one, such as a channel, or another thread. It sends a message by way of [`Remote`](crate::Remote), unless the task
//! is being polled right now, when a flag is enough.
//!
//! # Which one
//! - A *state machine* where each byte and instruction counts, or where the states are the point of the code: they stand
//!   there by name, and can be looked at in the task table.
//! - An *`async fn`* where the order of the lines is the point, as in a dialogue of several steps, and wherever
//!   [`timeout`](crate::future::timeout) or `select!` says what would else be three states more.
//! - *Threads* where there are few of them, or the work is work: see [`blocking`](crate::future::blocking).
//!
//! The same echo is in the repository in all three (`src/net/echo.rs`, `examples/echo_async.rs`, `examples/echo_threads.rs`),
//! under one test suite.
