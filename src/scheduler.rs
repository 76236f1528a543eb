//! The scheduler: a ready deque, two wait maps, and one call that sleeps. The seed's `run()`.
//!
//! The steps are numbered as in the crate's documentation. No system call is made here, and no clock is read: both are the
//! poller's.

use crate::context::Context;
use crate::handle::{Descriptor, Handle, Mailbox};
use crate::observer::Observer;
use crate::poller::{self, Fired, Patience, Poller};
use crate::slots::{Place, Reason, Slots};
use crate::task::{End, Side, Task, TaskId, Wait};
use crate::timers::{Entry, Epoch, NEVER, Nanos, Timers};
use crate::wait_map::WaitMap;
use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

/// How much memory [`Context::scratch`] lends.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Runs tasks, on the thread that calls [`run`](Scheduler::run).
pub struct Scheduler {
    pub(crate) core: Core,
    poller: Box<dyn Poller>,
    /// What fired in the last poll: watched until the next one, when whatever is not waited for again is unwatched.
    fired: Vec<Fired>,
    /// How many sides fired in the last poll, and how many of these waits have been renewed since.
    fulfilled: usize,
    renewed: usize,
    /// Something has been unwatched since the last poll, and might be among what fired.
    has_unwatched: bool,
}

/// What a task can reach through its [`Context`]: everything but the poller.
pub(crate) struct Core {
    pub(crate) slots: Slots,
    /// The tasks that can run: the seed's `tasks`. A task that ended in here is skipped when its turn comes.
    ready: VecDeque<TaskId>,
    /// Which task waits to receive from a descriptor: the seed's `recv_wait`.
    recv_wait: WaitMap,
    /// Which task waits to send to a descriptor: the seed's `send_wait`.
    send_wait: WaitMap,
    timers: Timers,
    /// What the task that runs now waits for beside what it will return.
    pub(crate) or: Vec<Wait>,
    pub(crate) mailbox: Rc<Mailbox>,
    pub(crate) observer: Option<Box<dyn Observer>>,
    is_tracing: bool,
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
            observer.spawned(id, by, task.as_ref());
        }
        id
    }

    /// Tells the observer something, if there is one.
    fn tell(&mut self, what: impl FnOnce(&mut dyn Observer)) {
        if let Some(observer) = &mut self.observer {
            what(observer.as_mut());
        }
    }

    fn wait_map(&mut self, side: Side) -> &mut WaitMap {
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
        Scheduler { core, poller, fired: Vec::new(), fulfilled: 0, renewed: 0, has_unwatched: false }
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

    /// Ends every task but the services, and with that a drain, if one has begun.
    pub fn cancel_all(&mut self) {
        for id in self.core.slots.ids() {
            if self.core.slots.get(id).is_some_and(|slot| !slot.is_service) {
                self.handle().cancel(id);
            }
        }
        self.settle();
        self.core.drain_by = None;
    }

    /// Takes one turn: resumes each task that was ready when it began, once, and then polls. Returns whether there is
    /// anything left to do.
    pub fn turn(&mut self) -> bool {
        self.settle();
        // 1. Run each task that was in the deque when the turn began, once. What they spawn or wake runs next turn.
        for _ in 0..self.core.ready.len() {
            let Some(id) = self.core.ready.pop_front() else { break };
            self.resume(id);
            if self.core.mailbox.pending.get() {
                self.settle();
                if self.core.mailbox.stopped.get() {
                    break;
                }
            }
        }
        if self.core.mailbox.stopped.replace(false) || self.is_finished() {
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
        slot.place = Place::Running;
        slot.resumes += 1;
        slot.deadline = NEVER;
        let mut cx = Context { core, id, why, deadline };
        if cx.core.is_tracing {
            let why = cx.why();
            cx.core.tell(|observer| observer.resumed(id, why));
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            if why.is_error() { fail_wait(task.as_mut(), &mut cx) } else { task.resume(&mut cx) }
        }));
        match result {
            Ok(Ok(Wait::Done)) => self.end(id, task, &End::Done),
            Ok(Ok(wait)) => self.file(id, task, wait, why),
            Ok(Err(error)) => self.end(id, task, &End::Failed(error)),
            Err(payload) => self.end(id, task, &End::Panicked(panic_message(payload))),
        }
    }

    /// 2. File the task by the reason it gave. `why` is the reason why it was resumed.
    fn file(&mut self, id: TaskId, task: Box<dyn Task>, wait: Wait, why: Reason) {
        let core = &mut self.core;
        if core.is_tracing {
            core.tell(|observer| observer.waiting(id, wait));
        }
        let Some(slot) = core.slots.get_mut(id) else { return };
        slot.task = Some(task);
        slot.place = Place::Waiting;
        slot.since = core.clock;
        // The task waits for what it has just been resumed for, and for nothing else, as almost always. Then nothing needs
        // to be found out about the number: nobody has closed an owned one since, and a checked one is this task's own
        // business. And the poller still watches it.
        if core.or.is_empty() && !core.mailbox.pending.get() && !self.has_unwatched {
            let is_filed = match wait {
                Wait::Recv(fd) if why == Reason::ready(Side::Recv, fd) => core.recv_wait.file_if_free(fd, id.slot),
                Wait::Send(fd) if why == Reason::ready(Side::Send, fd) => core.send_wait.file_if_free(fd, id.slot),
                _ => false,
            };
            if is_filed {
                self.renewed += 1;
                return;
            }
        }
        slot.reason = Reason::from(wait);
        if let Err(reason) = self.file_all(id, wait) {
            self.make_ready(id, reason);
        }
    }

    /// Files the task under everything that it waits for. An `Err` is the reason to resume it at once instead.
    fn file_all(&mut self, id: TaskId, wait: Wait) -> Result<(), Reason> {
        match wait {
            Wait::Recv(fd) => self.file_descriptor(id, Side::Recv, fd)?,
            Wait::Send(fd) => self.file_descriptor(id, Side::Send, fd)?,
            Wait::Until(at) => self.set_deadline(id, at),
            Wait::Turn => return Err(Reason::TURN),
            Wait::Wake | Wait::Done => {}
        }
        if self.core.or.is_empty() { Ok(()) } else { self.file_alternatives(id) }
    }

    /// Files the task under what it said with [`Context::or`], too. An `Err` is the reason to resume it at once instead.
    fn file_alternatives(&mut self, id: TaskId) -> Result<(), Reason> {
        let mut alternatives = std::mem::take(&mut self.core.or);
        let mut result = Ok(());
        for wait in alternatives.drain(..) {
            result = result.and(match wait {
                Wait::Recv(_) | Wait::Send(_) => self.file_alternative(id, wait),
                Wait::Until(at) => {
                    self.set_deadline(id, at);
                    Ok(())
                }
                Wait::Turn => Err(Reason::TURN),
                Wait::Wake | Wait::Done => Ok(()),
            });
        }
        self.core.or = alternatives;
        result
    }

    fn file_alternative(&mut self, id: TaskId, wait: Wait) -> Result<(), Reason> {
        let Some((fd, side)) = wait.descriptor() else { return Ok(()) };
        self.file_descriptor(id, side, fd)?;
        if let Some(slot) = self.core.slots.get_mut(id) {
            slot.also.get_or_insert_default().push(wait);
        }
        Ok(())
    }

    /// Files the task under one side of a descriptor. An `Err` is the reason why it cannot wait there.
    fn file_descriptor(&mut self, id: TaskId, side: Side, fd: RawFd) -> Result<(), Reason> {
        let owned = self.core.mailbox.owned.borrow().contains(fd);
        let map = self.core.wait_map(side);
        if map.is_free_for(fd, id, owned) {
            map.file(fd, id.slot);
        } else {
            self.file_checked(id, side, fd, owned)?;
        }
        self.poller.watch(fd, side, owned);
        Ok(())
    }

    /// Files the task under a descriptor after asking which file that is, because somebody waits there already, or because
    /// it is the first time that this task waits for a number that the scheduler does not own.
    ///
    /// A number tells nothing about the file behind it: it may have been closed and given to another file since somebody
    /// began to wait for it. So what was found out at the first wait is kept, and compared when it matters. (Files without
    /// an identity of their own, such as eventfds, all look alike: there the second waiter is refused. A task that closes
    /// its own number and waits for the next file with it is checked no second time; if a third party then waits for
    /// that number, too, it is the first that gets the error.)
    #[cold]
    fn file_checked(&mut self, id: TaskId, side: Side, fd: RawFd, owned: bool) -> Result<(), Reason> {
        let closed = Reason::closed(side, fd);
        let identity = if fd < 0 { None } else { self.poller.identity(fd).ok() }.ok_or(closed)?;
        self.evict_stale(fd);
        let map = self.core.wait_map(side);
        match map.get(fd) {
            Some(waiter) if waiter == id.slot => return Ok(()),
            Some(_) => return Err(Reason::busy(side, fd)),
            None => {}
        }
        map.file(fd, id.slot);
        map.set_checked(fd, if owned { None } else { Some((id, identity)) });
        Ok(())
    }

    /// Gives an error to whoever waits for `fd` and means another file than the one that it names now. Asks only if
    /// somebody waits whose file is known by check: a wait for an owned descriptor cannot be stale.
    fn evict_stale(&mut self, fd: RawFd) {
        for side in [Side::Recv, Side::Send] {
            let Some(known) = self.core.wait_map(side).checked_identity(fd) else { continue };
            if self.poller.identity(fd).ok() != Some(known) {
                self.evict(side, fd);
            }
        }
    }

    /// Gives an error to whoever waits for a side of `fd`.
    fn evict(&mut self, side: Side, fd: RawFd) {
        if let Some(index) = self.core.wait_map(side).take(fd) {
            self.has_unwatched = true;
            self.poller.unwatch(fd, side);
            if let Some((id, _)) = self.core.slots.at(index) {
                self.make_ready(id, Reason::closed(side, fd));
            }
        }
    }

    fn set_deadline(&mut self, id: TaskId, at: Instant) {
        let core = &mut self.core;
        let at = core.epoch.nanos(at);
        let Some(slot) = core.slots.get_mut(id) else { return };
        slot.deadline = slot.deadline.min(at);
        // The queue may keep an instant that is too early, never one that is too late.
        if slot.deadline < slot.queued {
            slot.queued = slot.deadline;
            core.timers.push(slot.deadline, id);
            let slots = &core.slots;
            let is_live = |entry: Entry| slots.get(entry.task()).is_some_and(|slot| slot.queued == entry.at);
            core.timers.tidy(slots.len(), is_live);
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
        let patience = if !core.ready.is_empty() {
            Patience::Look
        } else {
            match core.timers.next().into_iter().chain(drain_by).min() {
                Some(at) => Patience::Until(core.epoch.instant(at)),
                None => Patience::Forever,
            }
        };
        if let Err(error) = self.poller.wait(patience, &mut self.fired) {
            self.core.tell(|observer| observer.poll_failed(&error));
        }
        self.core.now = self.poller.now();
        self.core.clock = self.core.epoch.nanos(self.core.now);
    }

    fn wake_fired(&mut self) {
        let fired = std::mem::take(&mut self.fired);
        for &Fired { fd, recv, send, closed } in &fired {
            self.fulfilled += usize::from(recv) + usize::from(send);
            if recv {
                self.wake_waiter(Side::Recv, fd, closed);
            }
            if send {
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

    /// Moves a waiting task to the deque, and withdraws everything that it waited for.
    #[cold]
    fn make_ready(&mut self, id: TaskId, reason: Reason) {
        if self.withdraw(id) {
            let core = &mut self.core;
            if let Some(slot) = core.slots.get_mut(id) {
                slot.place = Place::Ready;
                slot.reason = reason;
                slot.since = core.clock;
                core.ready.push_back(id);
            }
        }
    }

    /// Takes a waiting task out of the wait maps and the poller. Returns whether it waited.
    fn withdraw(&mut self, id: TaskId) -> bool {
        let Some(slot) = self.core.slots.get_mut(id) else { return false };
        if slot.place != Place::Waiting {
            return false;
        }
        let first = slot.reason;
        let also = slot.also.as_mut().filter(|also| !also.is_empty()).map(std::mem::take);
        if let Some((fd, side)) = first.wait(|| self.core.now).descriptor() {
            self.withdraw_descriptor(id, side, fd);
        }
        if let Some(mut also) = also {
            for (fd, side) in also.drain(..).filter_map(Wait::descriptor) {
                self.withdraw_descriptor(id, side, fd);
            }
            if let Some(slot) = self.core.slots.get_mut(id) {
                slot.also = Some(also);
            }
        }
        true
    }

    fn withdraw_descriptor(&mut self, id: TaskId, side: Side, fd: RawFd) {
        let map = self.core.wait_map(side);
        if map.get(fd) == Some(id.slot) {
            map.take(fd);
            self.has_unwatched = true;
            self.poller.unwatch(fd, side);
        }
    }

    /// Carries out what was said during a resume. The one home of two orders: *cancel, then drop*, and *unregister, then
    /// close*. Carrying out one thing may say another: a task that is dropped has descriptors to close.
    fn settle(&mut self) {
        while self.core.mailbox.pending.replace(false) {
            let mailbox = Rc::clone(&self.core.mailbox);
            while let Some(fd) = mailbox.next_adopted() {
                self.evict_stale(fd);
            }
            while let Some(id) = mailbox.next_cancelled() {
                self.withdraw(id);
                if let Some(task) = self.core.slots.get_mut(id).and_then(|slot| slot.task.take()) {
                    self.end(id, task, &End::Cancelled);
                }
            }
            while let Some(fd) = mailbox.next_closing() {
                let number = fd.as_raw_fd();
                self.evict(Side::Recv, number);
                self.evict(Side::Send, number);
                self.has_unwatched = true;
                self.poller.forget(number);
                mailbox.owned.borrow_mut().remove(number);
                drop(fd);
            }
            while let Some(id) = mailbox.next_woken() {
                self.make_ready(id, Reason::WAKE);
            }
            if let Some(by) = mailbox.drain_by.take() {
                self.begin_drain(by);
            }
        }
    }

    fn begin_drain(&mut self, by: Instant) {
        let begins = self.core.drain_by.is_none();
        self.core.drain_by = Some(self.core.drain_by.map_or(by, |before| before.min(by)));
        if !begins {
            return;
        }
        for id in self.core.slots.ids() {
            let Some(task) = self.core.slots.get_mut(id).and_then(|slot| slot.task.as_mut()) else { continue };
            // A task that panics here is resumed, too, and has its own say about it.
            if catch_unwind(AssertUnwindSafe(|| task.drain())).unwrap_or(true) {
                self.make_ready(id, Reason::TURN);
            }
        }
    }

    /// Whether no task is left but services, or nothing can ever be resumed again.
    fn is_finished(&self) -> bool {
        let core = &self.core;
        let waits = core.recv_wait.len() + core.send_wait.len();
        let can_go_on = !core.ready.is_empty() || waits > 0 || core.timers.next().is_some();
        core.slots.foreground() == 0 || !can_go_on
    }

    /// Frees a task's slot, tells the observer, and drops it.
    fn end(&mut self, id: TaskId, task: Box<dyn Task>, end: &End) {
        self.core.or.clear();
        let by = self.core.slots.get(id).and_then(|slot| slot.spawned_by);
        self.core.slots.remove(id);
        self.core.tell(|observer| observer.ended(id, by, task.as_ref(), end));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(task))) {
            let message = panic_message(payload);
            self.core.tell(|observer| observer.drop_panicked(id, &message));
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

/// What a panic said.
fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let message = match payload.downcast_ref::<&str>() {
        Some(text) => (*text).to_owned(),
        None => payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "a value that is no text".to_owned()),
    };
    // The value that was thrown may itself panic when it is dropped. That is nobody's business any more.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    message
}
