//! The scheduler: a ready deque, two wait maps, and one call that sleeps. The seed's `run()`.
//!
//! The steps are numbered as in the crate's documentation. No system call is made here, and no clock is read: both are the
//! poller's.

use crate::context::Context;
use crate::handle::{Descriptor, Handle, Mailbox};
use crate::observer::Observer;
use crate::panics::catch;
use crate::poller::{self, Fired, Patience, Poller};
use crate::slots::{Place, Reason, Slots};
use crate::task::{End, Side, Task, TaskId, Wait};
use crate::timers::{Epoch, NEVER, Nanos, Timers};
use crate::wait_map::WaitMap;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Instant;

/// How much memory [`Context::scratch`] lends.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Runs tasks, on the thread that calls [`run`](Scheduler::run).
pub struct Scheduler {
    pub(crate) core: Core,
    pub(crate) poller: Box<dyn Poller>,
    /// What fired in the last poll: watched until the next one, when whatever is not waited for again is unwatched.
    fired: Vec<Fired>,
    /// Counts the polls, so as to begin elsewhere in the list of what fired with each.
    polls: usize,
    /// How many sides fired in the last poll, and how many of these waits have been renewed since.
    fulfilled: usize,
    pub(crate) renewed: usize,
    /// Something has been unwatched since the last poll, and might be among what fired.
    pub(crate) has_unwatched: bool,
}

/// What a task can reach through its [`Context`]: everything but the poller.
pub(crate) struct Core {
    pub(crate) slots: Slots,
    /// The tasks that can run: the seed's `tasks`. A task that ended in here is skipped when its turn comes.
    pub(crate) ready: VecDeque<TaskId>,
    /// Which task waits to receive from a descriptor: the seed's `recv_wait`.
    pub(crate) recv_wait: WaitMap,
    /// Which task waits to send to a descriptor: the seed's `send_wait`.
    pub(crate) send_wait: WaitMap,
    pub(crate) timers: Timers,
    /// What the task that runs now waits for beside what it will return.
    pub(crate) or: Vec<Wait>,
    pub(crate) mailbox: Rc<Mailbox>,
    pub(crate) observer: Option<Box<dyn Observer>>,
    pub(crate) is_tracing: bool,
    pub(crate) scratch: Box<[u8]>,
    pub(crate) now: Instant,
    pub(crate) epoch: Epoch,
    /// `now`, as a count.
    pub(crate) clock: Nanos,
    /// A drain has begun, and ends at the latest at this instant.
    pub(crate) drain_by: Option<Instant>,
}

impl Core {
    pub(crate) fn spawn(&mut self, task: Box<dyn Task>, is_service: bool, by: Option<TaskId>) -> TaskId {
        let id = self.slots.insert(task, is_service, by, self.clock);
        self.ready.push_back(id);
        if let (Some(observer), Some(slot)) = (&mut self.observer, self.slots.get(id))
            && let Some(task) = &slot.task
        {
            let _ = catch(|| observer.spawned(id, by, task.as_ref()));
        }
        id
    }

    /// Tells the observer something, if there is one. It may ask a task for its name, and that may panic.
    pub(crate) fn tell(&mut self, what: impl FnOnce(&mut dyn Observer)) {
        if let Some(observer) = &mut self.observer {
            let _ = catch(|| what(observer.as_mut()));
        }
    }

    pub(crate) fn wait_map(&mut self, side: Side) -> &mut WaitMap {
        match side {
            Side::Recv => &mut self.recv_wait,
            Side::Send => &mut self.send_wait,
        }
    }
}

impl Scheduler {
    /// A scheduler without tasks, on the poller that suits this system.
    #[expect(clippy::new_without_default, reason = "a scheduler is made on purpose, not by default")]
    pub fn new() -> Scheduler {
        Scheduler::with_poller(poller::default_poller())
    }

    /// A scheduler without tasks, on a poller of the caller's choice.
    pub fn with_poller(poller: Box<dyn Poller>) -> Scheduler {
        let now = poller.now();
        let core = Core {
            slots: Slots::default(),
            ready: VecDeque::new(),
            recv_wait: WaitMap::default(),
            send_wait: WaitMap::default(),
            timers: Timers::default(),
            or: Vec::new(),
            mailbox: Rc::default(),
            observer: None,
            is_tracing: false,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            now,
            epoch: Epoch(now),
            clock: 0,
            drain_by: None,
        };
        core.mailbox.now.set(Some(now));
        Scheduler { core, poller, fired: Vec::new(), polls: 0, fulfilled: 0, renewed: 0, has_unwatched: false }
    }

    /// Tells `observer` what happens from now on, instead of the one before.
    pub fn observe(&mut self, observer: impl Observer + 'static) {
        self.core.is_tracing = observer.is_tracing();
        self.core.observer = Some(Box::new(observer));
    }

    /// Adds a task; it runs in the next turn. The seed's `tasks.append`.
    pub fn spawn(&mut self, task: impl Task + 'static) -> TaskId {
        self.core.spawn(Box::new(task), false, None)
    }

    /// Adds a task that does not keep the scheduler running: [`run`](Scheduler::run) returns when only services are left.
    pub fn spawn_service(&mut self, task: impl Task + 'static) -> TaskId {
        self.core.spawn(Box::new(task), true, None)
    }

    /// A way to talk to this scheduler while it runs.
    pub fn handle(&self) -> Handle {
        Handle(Rc::clone(&self.core.mailbox))
    }

    /// [`Handle::adopt`].
    pub fn adopt(&self, fd: impl Into<OwnedFd>) -> Descriptor {
        self.handle().adopt(fd)
    }

    /// Runs until no task is left but services, until nothing that is left can ever be resumed, or until
    /// [`stop`](Handle::stop) is said.
    pub fn run(&mut self) {
        while self.turn() {}
    }

    /// Takes one turn: resumes each task that was ready when it began, once, and then polls. Returns whether there is
    /// anything left to do.
    pub fn turn(&mut self) -> bool {
        self.settle();
        // 1. Run each task that was in the deque when the turn began, once. What they spawn or wake runs next turn.
        let ready = if self.core.mailbox.stopped.get() { 0 } else { self.core.ready.len() };
        for _ in 0..ready {
            let Some(id) = self.core.ready.pop_front() else { break };
            self.resume(id);
            if self.core.mailbox.pending.get() {
                self.settle();
                if self.core.mailbox.stopped.get() {
                    break;
                }
            }
        }
        if self.core.mailbox.stopped.replace(false) {
            return false;
        }
        if self.is_finished() {
            if self.core.drain_by.is_some() {
                // Whoever is left could wait for the drain's deadline, but for nothing else.
                self.cancel_all();
            }
            return false;
        }
        // 3. Sleep until something fires or the next deadline; if something is ready, only look.
        self.poll();
        // 4. Whoever waited for what fired, or for a deadline that has passed, is ready.
        self.wake_fired();
        self.wake_due();
        true
    }

    /// Resumes a task, and does with it what it says.
    fn resume(&mut self, id: TaskId) {
        let core = &mut self.core;
        let Some(slot) = core.slots.get_mut(id) else { return };
        let Some(mut task) = slot.task.take() else { return };
        let (why, deadline) = (slot.reason, slot.deadline);
        slot.resumes += 1;
        slot.deadline = NEVER;
        let mut cx = Context { core, id, why, deadline };
        if cx.core.is_tracing {
            let why = cx.why();
            cx.core.tell(|observer| observer.resumed(id, why));
        }
        let result = catch(|| if why.is_error() { fail_wait(task.as_mut(), &mut cx) } else { task.resume(&mut cx) });
        match result {
            Ok(Ok(Wait::Done)) => self.end(id, task, End::Done),
            Ok(Ok(wait)) => self.file(id, task, wait, why),
            Ok(Err(error)) => self.end(id, task, End::Failed(error)),
            Err(message) => self.end(id, task, End::Panicked(message)),
        }
    }

    /// What fired last time and is not waited for again is not watched any more.
    fn unwatch_unwaited(&mut self) {
        self.has_unwatched = false;
        let renewed = std::mem::take(&mut self.renewed);
        if std::mem::take(&mut self.fulfilled) == renewed {
            self.fired.clear();
            return;
        }
        for Fired { fd, recv, send, .. } in self.fired.drain(..) {
            if recv && self.core.recv_wait.get(fd).is_none() {
                self.poller.unwatch(fd, Side::Recv);
            }
            if send && self.core.send_wait.get(fd).is_none() {
                self.poller.unwatch(fd, Side::Send);
            }
        }
    }

    /// Step 3: sleep in the poller, as long as there is nothing else to do.
    fn poll(&mut self) {
        self.unwatch_unwaited();
        let core = &mut self.core;
        let drain_by = core.drain_by.map(|by| core.epoch.nanos(by));
        let patience = match core.timers.next().into_iter().chain(drain_by).min() {
            _ if !core.ready.is_empty() => Patience::Look,
            Some(at) => Patience::Until(core.epoch.instant(at)),
            None => Patience::Forever,
        };
        if let Err(error) = self.poller.wait(patience, &mut self.fired) {
            self.core.tell(|observer| observer.poll_failed(&error));
        }
        self.core.now = self.poller.now();
        self.core.mailbox.now.set(Some(self.core.now));
        self.core.clock = self.core.epoch.nanos(self.core.now);
    }

    fn wake_fired(&mut self) {
        let fired = std::mem::take(&mut self.fired);
        // A task that waits for several things is resumed for the first of them that is found here. Beginning elsewhere each
        // time, one that always fires does not keep the others from ever being it.
        self.polls = self.polls.wrapping_add(1);
        let sends_first = self.polls & 1 == 0;
        let (later, sooner) = fired.split_at(self.polls % fired.len().max(1));
        for &Fired { fd, recv, send, closed } in sooner.iter().chain(later) {
            self.fulfilled += usize::from(recv) + usize::from(send);
            if send && sends_first {
                self.wake_waiter(Side::Send, fd, closed);
            }
            if recv {
                self.wake_waiter(Side::Recv, fd, closed);
            }
            if send && !sends_first {
                self.wake_waiter(Side::Send, fd, closed);
            }
        }
        self.fired = fired;
    }

    #[inline]
    fn wake_waiter(&mut self, side: Side, fd: RawFd, closed: bool) {
        let core = &mut self.core;
        let Some(index) = core.wait_map(side).take(fd) else { return };
        let Some((id, slot)) = core.slots.at(index) else { return };
        if slot.reason == Reason::ready(side, fd) && slot.also.is_none() && !closed {
            // The task waited for this alone: there is nothing to withdraw.
            slot.place = Place::Ready;
            slot.since = core.clock;
            core.ready.push_back(id);
        } else {
            let reason = if closed { Reason::closed(side, fd) } else { Reason::ready(side, fd) };
            self.make_ready(id, reason);
        }
    }

    fn wake_due(&mut self) {
        while let Some(entry) = self.core.timers.pop_due(self.core.clock) {
            let id = entry.task();
            let Some(slot) = self.core.slots.get_mut(id).filter(|slot| slot.queued == entry.at) else { continue };
            slot.queued = NEVER;
            if slot.place != Place::Waiting || slot.deadline == NEVER {
                continue;
            }
            if slot.deadline <= self.core.clock {
                self.make_ready(id, Reason::UNTIL);
            } else {
                slot.queued = slot.deadline;
                self.core.timers.push(slot.deadline, id);
            }
        }
        if self.core.drain_by.is_some_and(|by| by <= self.core.now) {
            self.cancel_all();
        }
    }

    /// Whether no task is left but services, or nothing can ever be resumed again.
    fn is_finished(&mut self) -> bool {
        let core = &mut self.core;
        if core.slots.foreground() == 0 {
            return true;
        }
        let waits = core.recv_wait.len() + core.send_wait.len();
        if !core.ready.is_empty() || waits > 0 {
            return false;
        }
        // Only a deadline can go on from here: one that somebody still has.
        core.timers.discard_while(|entry| match core.slots.get_mut(entry.task()) {
            Some(slot) if slot.queued == entry.at && slot.deadline == NEVER => {
                slot.queued = NEVER;
                true
            }
            Some(slot) => slot.queued != entry.at,
            None => true,
        });
        core.timers.next().is_none()
    }

    /// Frees a task's slot, tells the observer, and drops it.
    pub(crate) fn end(&mut self, id: TaskId, task: Box<dyn Task>, end: End) {
        self.core.or.clear();
        let by = self.core.slots.get(id).and_then(|slot| slot.spawned_by);
        self.core.slots.remove(id);
        self.core.tell(|observer| observer.ended(id, by, task.as_ref(), &end));
        // One after the other: the error that it ended with is somebody else's code, too.
        for dropped in [catch(|| drop(task)), catch(|| drop(end))] {
            if let Err(message) = dropped {
                self.core.tell(|observer| observer.drop_panicked(id, &message));
            }
        }
    }
}

impl Drop for Scheduler {
    /// Drops every task, and with them whatever they own.
    fn drop(&mut self) {
        for id in self.core.slots.ids() {
            self.handle().cancel(id);
        }
        self.settle();
        self.core.mailbox.orphaned.set(true);
    }
}

/// Tells a task that what it asked for cannot be waited for.
#[cold]
fn fail_wait(task: &mut dyn Task, cx: &mut Context<'_>) -> io::Result<Wait> {
    match cx.why.error() {
        Some(error) => task.wait_failed(cx, error),
        None => task.resume(cx),
    }
}
