//! A way into a scheduler from other threads.
//!
//! A scheduler belongs to one thread, and so does everything in it. What comes from another thread comes as a *message*: it is
//! put into a queue behind a mutex, and a bell is rung that tells the scheduler to look. The bell is a descriptor. It is heard
//! by a service task that any user of this crate could have written: it waits to receive from the bell, takes the queue, and
//! carries out the messages.
//!
//! A bell that has been rung is not rung again until it has been heard, so a million messages cost no more system calls than the
//! scheduler takes looks at them. None is lost: queue and bell change under the same lock, and a bell that has been rung ends a
//! poll that begins later, as well as one that sleeps already.

use crate::context::Context;
use crate::descriptor::Descriptor;
use crate::handle::Handle;
use crate::panics::{catch, lock};
use crate::scheduler::Scheduler;
use crate::sys;
use crate::task::{Task, TaskId, Wait, task_fn};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A way to talk to a scheduler from any thread: [`Handle`] for those that are elsewhere.
///
/// What is said takes effect soon after the scheduler's next poll, in the order in which one thread says it. Saying it to a
/// scheduler that is gone has no effect; a closure for [`call`](Remote::call) is then dropped.
///
/// It does not keep the scheduler running: [`run`](Scheduler::run) returns when no task is left but services, whatever another
/// thread may be about to say. What is to wait for other threads is a task that [waits](Wait::Wake).
///
/// # How to run something that blocks
/// On a thread of its own, which says when it is done. This task does not hold up any other while a name is looked up:
/// ```
/// use fdtask::{Scheduler, future};
/// use std::net::ToSocketAddrs;
///
/// let mut scheduler = Scheduler::new();
/// scheduler.spawn(future::task(async move {
///     let addresses = future::blocking(|| ("localhost", 80).to_socket_addrs().map(Vec::from_iter)).await??;
///     assert!(addresses.iter().all(|address| address.port() == 80));
///     Ok(())
/// }));
/// scheduler.run();
/// # std::io::Result::Ok(())
/// ```
///
/// # How another thread says many things
/// One result is a [promise](crate::future::promise()). More than one go through something that the two threads share, and a task
/// that is woken looks at it. Nothing bounds how many messages wait for the scheduler, so a thread that may be faster than the
/// task puts what it has to say into a queue in which it has to wait for room:
/// ```
/// use fdtask::{Scheduler, Wait, task_fn};
/// use std::sync::mpsc::{TryRecvError, sync_channel};
/// use std::thread;
///
/// let mut scheduler = Scheduler::new();
/// let remote = scheduler.remote()?;
/// let (sender, news) = sync_channel(10);
/// let task = scheduler.spawn(task_fn("progress", move |_| {
///     Ok(match news.try_recv() {
///         Ok(percent) => {
///             println!("{percent}%");
///             Wait::Turn
///         }
///         Err(TryRecvError::Empty) => Wait::Wake,
///         Err(TryRecvError::Disconnected) => Wait::Done,
///     })
/// }));
/// thread::spawn(move || {
///     for percent in [0, 50, 100] {
///         if sender.send(percent).is_err() {
///             return; // The task is gone.
///         }
///         remote.wake(task);
///     }
///     drop(sender);
///     remote.wake(task); // The end is something to look at, too.
/// });
/// scheduler.run();
/// # std::io::Result::Ok(())
/// ```
/// A future does so with its waker, which works from any thread, or with a channel of another crate, such as `async-channel`.
#[derive(Clone)]
pub struct Remote(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    messages: Vec<Message>,
    /// The end that is rung; the service waits on the other one. Before there is a service, messages are kept for it.
    bell: Option<OwnedFd>,
    /// It has been rung, and not heard yet.
    has_rung: bool,
    /// The scheduler is gone.
    is_closed: bool,
}

enum Message {
    Wake(TaskId),
    Cancel(TaskId),
    Drain(Instant),
    Stop,
    Call(Box<dyn FnOnce(&mut Context<'_>) + Send>),
}

impl Message {
    /// Does on the scheduler's thread what another one has said.
    fn carry_out(self, cx: &mut Context<'_>) {
        match self {
            Message::Wake(task) => cx.wake(task),
            Message::Cancel(task) => cx.cancel(task),
            Message::Drain(by) => cx.drain(by),
            Message::Stop => cx.stop(),
            Message::Call(call) => call(cx),
        }
    }
}

impl Remote {
    /// [`Handle::wake`].
    pub fn wake(&self, task: TaskId) {
        self.post(Message::Wake(task));
    }

    /// [`Handle::cancel`].
    pub fn cancel(&self, task: TaskId) {
        self.post(Message::Cancel(task));
    }

    /// [`Handle::drain`].
    pub fn drain(&self, by: Instant) {
        self.post(Message::Drain(by));
    }

    /// [`Handle::stop`].
    pub fn stop(&self) {
        self.post(Message::Stop);
    }

    /// Calls `what` on the scheduler's thread, in a task of its own: if it panics, that ends nothing else. There it may use
    /// what no other thread may: a [`Handle`], the [task table](Context::tasks). It may [spawn](Context::spawn) tasks, which need
    /// not be [`Send`] if they are made there. It cannot bring along what is the scheduler's, such as a
    /// [channel](mod@crate::channel)'s end, which must not leave the thread.
    ///
    /// With a [promise](crate::future::promise()), a task of one scheduler has another one work for it:
    /// ```
    /// use fdtask::{Scheduler, future};
    /// use std::sync::mpsc;
    /// use std::thread;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let thread = thread::spawn(move || {
    ///     let mut other = Scheduler::new();
    ///     let handle = other.handle();
    ///     tell.send(other.remote()?).unwrap();
    ///     // As long as it is not told to drain, there may be work.
    ///     other.spawn(future::task(async move {
    ///         future::draining(&handle).await;
    ///         Ok(())
    ///     }));
    ///     other.run();
    ///     std::io::Result::Ok(())
    /// });
    /// let other = told.recv().unwrap();
    /// let mut scheduler = Scheduler::new();
    /// let handle = scheduler.handle();
    /// scheduler.spawn(future::task(async move {
    ///     let (promise, sum) = future::promise();
    ///     other.call(move |cx| {
    ///         cx.spawn(future::task(async move {
    ///             promise.keep((1..=10).sum::<u32>());
    ///             Ok(())
    ///         }));
    ///     });
    ///     assert_eq!(sum.await?, 55); // An error if that task panics, or if its scheduler is gone.
    ///     other.drain(handle.now());
    ///     Ok(())
    /// }));
    /// scheduler.run();
    /// thread.join().unwrap()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn call(&self, what: impl FnOnce(&mut Context<'_>) + Send + 'static) {
        self.post(Message::Call(Box::new(what)));
    }

    /// Whether the scheduler is gone.
    pub fn is_closed(&self) -> bool {
        lock(&self.0).is_closed
    }

    pub(crate) fn unconnected() -> Remote {
        Remote(Arc::default())
    }

    fn post(&self, message: Message) {
        let mut queue = lock(&self.0);
        if queue.is_closed {
            // What a message holds may do anything when it is dropped, such as saying something here.
            drop(queue);
            drop(message);
            return;
        }
        // A task that is woken over and over while the scheduler is busy is woken once.
        let last = queue.messages.last();
        if !matches!((&message, last), (Message::Wake(task), Some(Message::Wake(last))) if task == last) {
            queue.messages.push(message);
        }
        if !queue.has_rung
            && let Some(bell) = &queue.bell
        {
            // It has been heard since it was last rung, so there is room. Should the system refuse all the same, the messages
            // stay in the queue, and the next one that is posted rings for all.
            queue.has_rung = sys::ring(bell).is_ok();
        }
    }

    /// The scheduler is gone: nothing that has been said, or will be, has an effect any more.
    pub(crate) fn close(&self) {
        let mut queue = lock(&self.0);
        queue.is_closed = true;
        queue.bell = None;
        let messages = std::mem::take(&mut queue.messages);
        drop(queue);
        // What a message holds may do anything when it is dropped, such as saying something here, or panic.
        for message in messages {
            let _ = catch(|| drop(message));
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// The service that receives the messages.
struct Receiver {
    remote: Remote,
    listener: Descriptor,
}

impl Receiver {
    /// Takes the messages that are there. The bell is silenced under the same lock, so it has been rung exactly when there are
    /// messages, but for those that were there before it: they are taken when this is resumed for the first time.
    fn take(&self) -> io::Result<Vec<Message>> {
        let mut queue = lock(&self.remote.0);
        if queue.has_rung {
            match sys::silence(self.listener.as_fd()) {
                Ok(()) => queue.has_rung = false,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut queue.messages))
    }
}

impl Task for Receiver {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let mut has_called = false;
        for message in self.take()? {
            has_called |= matches!(message, Message::Call(_));
            if !has_called {
                message.carry_out(cx);
                continue;
            }
            // A call is a task of the next turn, so whatever is said behind it is one, too.
            let mut message = Some(message);
            cx.spawn(task_fn("call from another thread", move |cx| {
                if let Some(message) = message.take() {
                    message.carry_out(cx);
                }
                Ok(Wait::Done)
            }));
        }
        Ok(Wait::Recv(self.listener.as_raw_fd()))
    }

    fn name(&self) -> Cow<'_, str> {
        "messages from other threads".into()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let scheduler = self.listener.scheduler();
        if scheduler.is_closed() {
            return self.remote.close();
        }
        let mut queue = lock(&self.remote.0);
        queue.has_rung = false;
        queue.bell = None;
        drop(queue);
        // The service has been cancelled, by somebody who cancels every task there is, say. The scheduler goes on, and must not
        // be deaf, so there will be another service. It may need the very descriptors that this one is about to give back. If
        // none is left all the same, the next one who has to be heard tries again.
        let handle = scheduler.clone();
        scheduler.0.do_after_closing(move || drop(handle.remote()));
    }
}

impl Handle {
    /// A way to talk to the scheduler from other threads. The first one needs two descriptors and a service task; all
    /// others are clones of it.
    ///
    /// # Errors
    /// What the system says: such as that no descriptor is left.
    pub fn remote(&self) -> io::Result<Remote> {
        let remote = self.0.remote.get_or_init(Remote::unconnected);
        let mut queue = lock(&remote.0);
        if queue.bell.is_none() && !queue.is_closed {
            let (bell, listener) = sys::bell()?;
            queue.bell = Some(bell);
            // A scheduler that is gone drops the task at once, and to drop the task takes the lock.
            drop(queue);
            self.spawn_service(Receiver { remote: remote.clone(), listener: self.adopt_urgent(listener) });
        }
        Ok(remote.clone())
    }
}

impl Scheduler {
    /// [`Handle::remote`].
    ///
    /// # Errors
    /// What the system says: such as that no descriptor is left.
    pub fn remote(&self) -> io::Result<Remote> {
        self.handle().remote()
    }
}

impl Context<'_> {
    /// [`Handle::remote`].
    ///
    /// # Errors
    /// What the system says: such as that no descriptor is left.
    pub fn remote(&self) -> io::Result<Remote> {
        self.handle().remote()
    }
}
