//! A queue between the tasks of one scheduler.
//!
//! It is bounded: a sender that is faster than the receiver has to wait, and so slows down whatever *it* gets its work from. A
//! queue that only grows hides an overload until there is no memory left.

use crate::context::Context;
use crate::handle::Handle;
use crate::notify::Notify;
use crate::task::Wait;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;

/// Makes a queue with room for `capacity` values, at least one: many may send, one receives. Hand-written tasks *try*, and
/// return the [`wait`](Receiver::wait) when it is not possible now; futures await [`recv`](Receiver::recv) and
/// [`send`](Sender::send).
///
/// ```
/// use fdtask::channel::{TryRecvError, channel};
/// use fdtask::{Scheduler, Wait, future, task_fn};
///
/// let mut scheduler = Scheduler::new();
/// let (sender, receiver) = channel(&scheduler.handle(), 2);
///
/// scheduler.spawn(future::task(async move {
///     for number in 1..=10 {
///         sender.send(number).await?;
///     }
///     Ok(())
/// }));
///
/// let mut sum = 0;
/// scheduler.spawn(task_fn("adder", move |cx| {
///     loop {
///         match receiver.try_recv() {
///             Ok(number) => sum += number,
///             Err(TryRecvError::Empty) => return Ok(receiver.wait(cx)),
///             Err(TryRecvError::Closed) => break,
///         }
///     }
///     assert_eq!(sum, 55);
///     Ok(Wait::Done)
/// }));
/// scheduler.run();
/// ```
pub fn channel<T>(scheduler: &Handle, capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        queue: RefCell::new(Queue { values: VecDeque::new(), senders: 1, has_receiver: true }),
        capacity: capacity.max(1),
        filled: Notify::new(scheduler),
        emptied: Notify::new(scheduler),
        emptied_again: Notify::new(scheduler),
    });
    (Sender::new(&shared), Receiver(shared))
}

struct Shared<T> {
    queue: RefCell<Queue<T>>,
    capacity: usize,
    /// There is something to receive, or there never will be.
    filled: Notify,
    /// There is room, or there never will be: for whoever has come since there was room last, …
    emptied: Notify,
    /// … and for those who were woken then and came too late. They go before the others: a sender that never pauses waits again
    /// before they have even looked, and would be the first each time.
    emptied_again: Notify,
}

impl<T> Shared<T> {
    fn notify_emptied(&self) {
        self.emptied_again.notify();
        self.emptied.notify();
    }
}

struct Queue<T> {
    values: VecDeque<T>,
    senders: usize,
    has_receiver: bool,
}

/// The end of a channel that values are sent to. It can be cloned; when the last clone is dropped, the receiver gets what
/// is left, and then the end.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
    /// Has waited for room since it last sent a value.
    has_waited: Cell<bool>,
}

impl<T> Sender<T> {
    fn new(shared: &Rc<Shared<T>>) -> Sender<T> {
        Sender { shared: Rc::clone(shared), has_waited: Cell::new(false) }
    }

    /// Sends a value, if there is room.
    ///
    /// # Errors
    /// There is no room now, or nobody receives any more. The value is given back.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut queue = self.shared.queue.borrow_mut();
        if !queue.has_receiver {
            return Err(TrySendError::Closed(value));
        }
        if queue.values.len() == self.shared.capacity {
            return Err(TrySendError::Full(value));
        }
        queue.values.push_back(value);
        drop(queue);
        self.has_waited.set(false);
        self.shared.filled.notify();
        Ok(())
    }

    /// The wait for room, for a hand-written task to return. All who wait are woken; the first that comes has it, and the others
    /// go before whoever comes after them. So tasks that never pause between two values take turns.
    pub fn wait(&self, cx: &Context<'_>) -> Wait {
        self.emptied().wait(cx)
    }

    /// What is to be waited for if there is no room.
    fn emptied(&self) -> &Notify {
        if self.has_waited.replace(true) { &self.shared.emptied_again } else { &self.shared.emptied }
    }

    /// Sends a value as soon as there is room. If it is dropped before, the value is dropped, unsent.
    ///
    /// Those who send at once in one task take turns only if whatever awaits them polls them as they are woken, as
    /// `FuturesUnordered` does. A `join!` polls them in the same order each time, so the first leaves no room for the others if
    /// it never pauses: give each a task of its own.
    ///
    /// # Errors
    /// Nobody receives any more. The value is given back.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut value = value;
        loop {
            match self.try_send(value) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(value)) => return Err(SendError(value)),
                Err(TrySendError::Full(unsent)) => value = unsent,
            }
            self.emptied().notified().await;
        }
    }

    /// Whether nobody receives any more.
    pub fn is_closed(&self) -> bool {
        !self.shared.queue.borrow().has_receiver
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.queue.borrow_mut().senders += 1;
        Sender::new(&self.shared)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.borrow_mut();
        queue.senders -= 1;
        if queue.senders == 0 {
            drop(queue);
            self.shared.filled.notify();
        }
    }
}

/// The end of a channel that values are received from. When it is dropped, what is in the queue is dropped, too.
///
/// It cannot be cloned, but tasks may share it by an [`Rc`]: each value then goes to one of them. In this way a fixed number of
/// tasks can work through one queue, such as a queue of addresses to connect to. All who wait are woken for each value.
pub struct Receiver<T>(Rc<Shared<T>>);

impl<T> Receiver<T> {
    /// Receives the next value, if there is one.
    ///
    /// # Errors
    /// There is none now, or nobody can send one any more.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut queue = self.0.queue.borrow_mut();
        let Some(value) = queue.values.pop_front() else {
            return Err(if queue.senders == 0 { TryRecvError::Closed } else { TryRecvError::Empty });
        };
        drop(queue);
        self.0.notify_emptied();
        Ok(value)
    }

    /// The wait for a value, or for the end, for a hand-written task to return.
    pub fn wait(&self, cx: &Context<'_>) -> Wait {
        self.0.filled.wait(cx)
    }

    /// Receives the next value as soon as there is one; `None` is the end: nobody can send any more. If it is dropped before
    /// it has ended, nothing has been received.
    pub async fn recv(&self) -> Option<T> {
        loop {
            match self.try_recv() {
                Ok(value) => return Some(value),
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) => self.0.filled.notified().await,
            }
        }
    }

    /// How many values are in the queue.
    pub fn len(&self) -> usize {
        self.0.queue.borrow().values.len()
    }

    /// Whether nothing is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.borrow_mut();
        queue.has_receiver = false;
        let values = std::mem::take(&mut queue.values);
        drop(queue);
        // First, as a value may panic when it is dropped.
        self.0.notify_emptied();
        drop(values);
    }
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is nothing now: [wait](Receiver::wait) for it.
    Empty,
    /// There will never be anything: all senders are gone.
    Closed,
}

/// Why a value was not sent. It holds the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room now: [wait](Sender::wait) for it.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

/// Nobody receives any more. It holds the value that was not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty => "the channel is empty",
            TryRecvError::Closed => "the channel is closed: all senders are gone",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "the channel is full",
            TrySendError::Closed(_) => "the channel is closed: the receiver is gone",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel is closed: the receiver is gone")
    }
}

// The value need not be printable for the error to be.
impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl std::error::Error for TryRecvError {}
impl<T> std::error::Error for TrySendError<T> {}
impl<T> std::error::Error for SendError<T> {}

impl<T> From<SendError<T>> for io::Error {
    fn from(error: SendError<T>) -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, error.to_string())
    }
}
