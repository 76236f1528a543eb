//! How many connections may be open at a time.

use crate::context::Context;
use crate::handle::Handle;
use crate::sys;
use crate::task::{Task, TaskId, Wait, WaitError};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;

/// A number of connections that may be open at a time, shared by the acceptors that are given a clone of it. An acceptor that
/// finds no room waits, without polling its listener, until one of the connections is closed.
#[derive(Clone)]
pub struct Limit(Rc<Inner>);

struct Inner {
    max: usize,
    open: Cell<usize>,
    waiting: RefCell<Vec<(Handle, TaskId)>>,
}

/// One of the connections of a [`Limit`]; open until it is dropped.
pub(crate) struct Permit(Limit);

/// A connection's task, and its permit.
pub(crate) struct Permitted<T> {
    pub(crate) task: T,
    pub(crate) _permit: Permit,
}

impl<T: Task> Task for Permitted<T> {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.task.resume(cx)
    }

    fn wait_failed(&mut self, cx: &mut Context<'_>, error: WaitError) -> io::Result<Wait> {
        self.task.wait_failed(cx, error)
    }

    fn drain(&mut self) -> bool {
        self.task.drain()
    }

    fn name(&self) -> Cow<'_, str> {
        self.task.name()
    }

    fn progress(&self) -> Cow<'_, str> {
        self.task.progress()
    }
}

impl Limit {
    /// At most `max` connections at a time.
    pub fn new(max: usize) -> Limit {
        Limit(Rc::new(Inner { max, open: Cell::new(0), waiting: RefCell::default() }))
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.0.open.get()
    }

    /// Room for one more connection, if there is any; otherwise wakes the running task when there is.
    pub(crate) fn permit(&self, cx: &Context<'_>) -> Option<Permit> {
        if self.open() < self.0.max {
            self.0.open.set(self.open() + 1);
            return Some(Permit(self.clone()));
        }
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.iter().any(|(_, task)| *task == cx.id()) {
            waiting.push((cx.handle(), cx.id()));
        }
        None
    }
}

/// Makes sure that the process may have `wanted` descriptors open, by raising its own limit as far as the system allows;
/// returns what it may have then, which can be less, or more.
///
/// # Errors
/// What `getrlimit(2)` says.
pub fn raise_descriptor_limit(wanted: usize) -> io::Result<usize> {
    let limit = sys::raise_descriptor_limit(wanted as u64)?;
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

impl Drop for Permit {
    fn drop(&mut self) {
        let limit = &self.0.0;
        limit.open.set(limit.open.get() - 1);
        for (handle, task) in limit.waiting.borrow_mut().drain(..) {
            handle.wake(task);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({} of {})", self.0.open(), self.0.0.max)
    }
}
