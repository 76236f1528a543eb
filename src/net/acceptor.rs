//! The seed's `tcp_server(address, handler)`: a task that makes tasks of connections.

use super::lookout::Lookout;
use super::{Futile, Limit, Listener, Refusal, Stream, accept_one_more};
use crate::context::Context;
use crate::descriptor::Descriptor;
use crate::handle::Handle;
use crate::observer::reason;
use crate::sys;
use crate::task::{Task, Wait};
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How many connections one resume accepts at most, so that a storm of them does not keep everybody else waiting.
pub const ACCEPTS_PER_RESUME_MAX: u32 = 32;

/// After so many bursts in a row that have not come to the end of the queue, a burst becomes twice as large.
const FULL_BURSTS_MAX: u32 = 4;

/// How often an acceptor in trouble says so, at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A task that accepts connections and spawns the task that `handler` makes of each.
///
/// What a client or the network can do wrong between connecting and being accepted is passed over. Out of descriptors or
/// memory, it leaves the waiting clients in the kernel's queue and looks again soon, then less and less often, but at least
/// every [`DESCRIPTORS_RETRY`](super::DESCRIPTORS_RETRY): it, or another one that shares its [`Limit`]. A listener that is broken
/// ends it with the error. When a drain begins it accepts what is already in the queue, and then it ends, even if it was spawned
/// as a service. (A port that answers while the rest drains, such as one for metrics, is a service that awaits
/// [`Incoming::accept`](crate::future::Incoming::accept), and spawns services.)
#[must_use = "nothing is accepted until this is spawned"]
pub struct Acceptor<H> {
    listener: Descriptor,
    address: SocketAddr,
    handler: H,
    limit: Option<Limit>,
    /// How many connections the next resume accepts at most. This follows, slowly, how many there usually are: asking the kernel
    /// for one more than there are costs as much as accepting one, and asking the poller costs less.
    burst: u32,
    full_bursts: u32,
    futile: Futile,
    /// While it is out of descriptors.
    lookout: Option<Lookout>,
    next_report: Option<Instant>,
}

impl<H, T> Acceptor<H>
where
    H: FnMut(Stream, SocketAddr) -> T,
    T: Task + 'static,
{
    /// Accepts from `listener`, and spawns what `handler` makes of the connection and its peer's address. `scheduler` is
    /// the one on which the acceptor will be spawned. A `handler` that makes tasks of several types returns a `Box<dyn Task>`.
    /// One that panics ends the acceptor, because it is a part of it: what may fail belongs in the task.
    pub fn new(scheduler: &Handle, listener: Listener, handler: H) -> Acceptor<H> {
        let address = listener.address();
        Acceptor {
            listener: scheduler.adopt(listener),
            address,
            handler,
            limit: None,
            burst: 1,
            full_bursts: 0,
            futile: Futile::default(),
            lookout: None,
            next_report: None,
        }
    }

    /// Accepts only while the limit has room. The clients beyond it wait in the kernel's queue.
    pub fn with_limit(self, limit: Option<Limit>) -> Acceptor<H> {
        Acceptor { limit, ..self }
    }

    /// What to wait for after a connection could not be accepted, if there is any sense in going on.
    fn not_accepted(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Result<Wait> {
        let lookout = self.lookout.take();
        match Refusal::of(&error) {
            Refusal::Broken => Err(error),
            // Accept says that no descriptor is left even when nobody waits.
            _ if cx.is_draining() && sys::is_queue_empty(self.listener.as_fd()) => Ok(Wait::Done),
            Refusal::Shortage => {
                self.report(cx, &error);
                if !cx.is_draining() && sys::is_queue_empty(self.listener.as_fd()) {
                    return Ok(Wait::Recv(self.listener.as_raw_fd()));
                }
                let rotation = self.limit.as_ref().map(Limit::rotation);
                let lookout = self.lookout.insert(lookout.unwrap_or_else(|| Lookout::new(cx, rotation)));
                Ok(Wait::Until(lookout.next(cx)))
            }
            // If it comes every time, nobody is served: so it is paused for, and reported.
            Refusal::Passing => {
                let next = self.futile.wait(cx, Wait::Turn);
                if next != Wait::Turn {
                    self.report(cx, &error);
                }
                Ok(next)
            }
        }
    }

    /// Says what is the matter, once a second at most.
    fn report(&mut self, cx: &mut Context<'_>, error: &io::Error) {
        if self.next_report.is_none_or(|at| at <= cx.now()) {
            self.next_report = Some(cx.now() + REPORT_INTERVAL);
            let (address, reason) = (self.address, reason(error));
            let is_own_limit = error.raw_os_error() == Some(libc::EMFILE);
            let remedy = if is_own_limit { "; a higher 'ulimit -n' lets in more" } else { "" };
            cx.report(&format!("cannot accept on {address}: {reason}; clients wait, retrying{remedy}"));
        }
    }
}

impl<H, T> Task for Acceptor<H>
where
    H: FnMut(Stream, SocketAddr) -> T,
    T: Task + 'static,
{
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let wait = Wait::Recv(self.listener.as_raw_fd());
        if cx.timed_out() && !cx.is_draining() && self.lookout.is_none() {
            // After a pause the poller tells whether anybody waits at all.
            return Ok(wait);
        }
        // No more than there is room for. Otherwise an acceptor that has just taken the last place would ask for another, and so
        // be the first on the list for the next place, every time, before any other acceptor.
        let burst = self.limit.as_ref().map_or(self.burst, |limit| self.burst.min(limit.room().max(1)));
        for accepted in 0..burst {
            let permit = match &self.limit {
                // The limit may be shared with other threads, so it wakes this task by a `Remote`.
                Some(limit) => match cx.remote().map(|remote| limit.permit(&remote, cx.id())) {
                    Ok(Some(permit)) => Some(permit),
                    Ok(None) => {
                        self.lookout = None;
                        return Ok(Wait::Wake);
                    }
                    Err(error) => return self.not_accepted(cx, error),
                },
                None => None,
            };
            // A task that has ended has left its memory to the next one.
            let outcome = if cx.core.slots.has_free() {
                sys::accept(self.listener.as_fd())
            } else {
                accept_one_more(&self.listener)
            };
            match outcome {
                Ok((socket, peer)) => {
                    self.futile.reset();
                    self.lookout = None;
                    let stream = Stream::on(&cx.handle(), socket, permit);
                    cx.spawn((self.handler)(stream, peer));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.lookout = None;
                    self.burst = accepted.max(1);
                    self.full_bursts = 0;
                    return Ok(match accepted {
                        _ if cx.is_draining() => Wait::Done,
                        0 => self.futile.wait(cx, wait),
                        _ => wait,
                    });
                }
                Err(error) => return self.not_accepted(cx, error),
            }
        }
        self.full_bursts += 1;
        if self.full_bursts == FULL_BURSTS_MAX {
            self.full_bursts = 0;
            self.burst = (self.burst * 2).min(ACCEPTS_PER_RESUME_MAX);
        }
        // While it drains it must go on until the queue is empty; otherwise the poller says when there are more.
        Ok(if cx.is_draining() { Wait::Turn } else { wait })
    }

    fn drain(&mut self) -> bool {
        true
    }

    fn name(&self) -> Cow<'_, str> {
        format!("acceptor {}", self.address).into()
    }

    fn progress(&self) -> Cow<'_, str> {
        match &self.limit {
            Some(limit) if limit.room() == 0 => format!("at the limit of {}", limit.max()).into(),
            _ => "".into(),
        }
    }
}
