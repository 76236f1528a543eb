//! Sockets, and the tasks that use them: [`Acceptor`] and [`Echo`] are the seed's `tcp_server` and `echo_handler`.
//!
//! The scheduler knows nothing of sockets. It keeps one rule for this module: a connection's place in its [`Limit`] is given back
//! only when it is closed.
//!
//! # Sockets that are not TCP
//! A [`Stream`] is of any kind of connected stream socket, a [`Listener`] of TCP alone. What else listens is waited for like any
//! descriptor, and accepted from by the standard library. A Unix socket, say, for whoever may administer the program:
//! ```
//! use fdtask::future::{readable, send_all, sleep, task};
//! use fdtask::net::{DESCRIPTORS_RETRY, Stream};
//! use fdtask::Handle;
//! use std::io::{self, ErrorKind::WouldBlock};
//! use std::os::unix::net::UnixListener;
//!
//! async fn accept(scheduler: Handle, listener: UnixListener) -> io::Result<()> {
//!     listener.set_nonblocking(true)?;
//!     let arrival = scheduler.adopt(listener.try_clone()?);
//!     loop {
//!         readable(&arrival).await?;
//!         match listener.accept().and_then(|(socket, _)| Stream::new(&scheduler, socket)) {
//!             Ok(stream) => scheduler.spawn(task(async move { send_all(&stream, b"hello\n").await })),
//!             Err(error) if error.kind() == WouldBlock => {}
//!             // Most likely no descriptor is left, and whoever wants to connect is still there.
//!             Err(_) => sleep(&scheduler, DESCRIPTORS_RETRY).await,
//!         }
//!     }
//! }
//! # let path = std::env::temp_dir().join(format!("fdtask-doc-{}", std::process::id()));
//! # let listener = UnixListener::bind(&path)?;
//! # let client = std::os::unix::net::UnixStream::connect(&path)?;
//! # std::fs::remove_file(&path)?;
//! # let mut scheduler = fdtask::Scheduler::new();
//! # let client = Stream::new(&scheduler.handle(), client)?;
//! # scheduler.spawn_service(task(accept(scheduler.handle(), listener)));
//! # let hello = fdtask::future::spawn(&scheduler.handle(), async move {
//! #     fdtask::future::recv_exact(&client, &mut [0; 6]).await
//! # });
//! # scheduler.run();
//! # assert!(matches!(hello.try_join(), Ok(Ok(Ok(())))));
//! # io::Result::Ok(())
//! ```
//! Such a task is a [service](crate::Scheduler::spawn_service) if a drain is not to wait for it; `examples/control_port` has
//! more.
//!
//! # Datagrams
//! These are sent and received by the standard library. The kernel keeps a few hundred and drops what comes then, so receive
//! several at a time where they come in bursts. No error is the end of such a socket: one that is connected says
//! [`ConnectionRefused`](std::io::ErrorKind::ConnectionRefused) when nobody was there for what it has sent, and then receives as
//! before.
//! ```
//! use fdtask::Handle;
//! use fdtask::future::readable;
//! use fdtask::net::Futile;
//! use std::io;
//! use std::net::UdpSocket;
//!
//! async fn answer(scheduler: Handle, socket: UdpSocket) -> io::Result<()> {
//!     socket.set_nonblocking(true)?;
//!     let arrival = scheduler.adopt(socket.try_clone()?);
//!     let (mut futile, mut data) = (Futile::default(), [0; 1500]);
//!     loop {
//!         readable(&arrival).await?;
//!         for _ in 0..32 {
//!             match socket.recv_from(&mut data) {
//!                 Ok((len, peer)) => {
//!                     futile.reset();
//!                     // One for which there is no room is lost, as it may be anywhere on its way.
//!                     _ = socket.send_to(&data[..len], peer);
//!                 }
//!                 // `WouldBlock` after those that were there, or what the network says of one that was sent.
//!                 Err(_) => {
//!                     futile.pause(&arrival).await;
//!                     break;
//!                 }
//!             }
//!         }
//!     }
//! }
//! # let socket = UdpSocket::bind("127.0.0.1:0")?;
//! # let address = socket.local_addr()?;
//! # let mut scheduler = fdtask::Scheduler::new();
//! # let handle = scheduler.handle();
//! # scheduler.spawn_service(fdtask::future::task(answer(scheduler.handle(), socket)));
//! # scheduler.spawn(fdtask::future::task(async move {
//! #     let client = UdpSocket::bind("127.0.0.1:0")?;
//! #     client.send_to(b"hello", address)?;
//! #     fdtask::future::readable_fd(&handle, &client).await?;
//! #     assert_eq!(client.recv_from(&mut [0; 9])?, (5, address));
//! #     Ok(())
//! # }));
//! # scheduler.run();
//! # io::Result::Ok(())
//! ```

mod acceptor;
mod echo;
mod idle;
mod limit;
mod lines;
mod listener;
mod lookout;
mod memory;
mod refusal;
mod stream;

pub use crate::futile::{FUTILE_PAUSE, FUTILE_RESUMES_MAX, Futile, try_again};
pub use crate::sys::raise_descriptor_limit;
pub use acceptor::{ACCEPTS_PER_RESUME_MAX, Acceptor};
pub use echo::{CHUNKS_PER_RESUME_MAX, DRAIN_BYTES_MAX, DRAIN_GRACE, ECHO_PREFIX, Echo, RECV_CHUNK_BYTES};
pub use limit::Limit;
pub use lines::Lines;
pub use listener::Listener;
pub use refusal::DESCRIPTORS_RETRY;
pub use stream::Stream;

pub(crate) use idle::Idle;
pub(crate) use memory::accept_one_more;
pub(crate) use refusal::{Pauses, Refusal};
