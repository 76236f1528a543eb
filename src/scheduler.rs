//! The scheduler: a ready deque, two wait maps, and one call that sleeps. The seed's `run()`.
//!
//! The steps are numbered as in the crate's documentation. No system call is made here, and no clock is read: both are the
//! poller's. What a task says while it runs waits in the *mailbox* (`handle.rs`) until it has returned.

use crate::context::Context;
use crate::descriptor::Descriptor;
use crate::handle::{Handle, MAIL, SPECIAL, UNTIL};
use crate::observer::Observer;
use crate::panics::catch;
use crate::poller::{self, Fired, Patience, Poller};
use crate::ready::OTHERWISE;
use crate::reason::{Kind, Reason};
use crate::state::{Core, MANY};
use crate::task::{End, Task, TaskId, Wait};
use crate::timers::NEVER;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Runs tasks, on the thread that calls [`run`](Scheduler::run).
pub struct Scheduler {
    pub(crate) core: Core,
    pub(crate) poller: Box<dyn Poller>,
    /// The task that is being resumed. It is kept here and not on the stack, because a panic drops what is on the stack.
    running: Option<Box<dyn Task>>,
    /// The last of the random numbers by which [`wake_unclaimed`](Scheduler::wake_unclaimed) is fair.
    random: u64,
    /// The turn before this one of the same run has ended with a poll.
    has_polled: bool,
    /// A drain is over, so the next turn is the last, whatever has been spawned since.
    is_overdue: bool,
    /// A drain has begun, and the tasks, which have been told, have not had their turn yet.
    pub(crate) has_just_told: bool,
}

impl Scheduler {
    /// A scheduler without tasks, on the poller that suits this system.
    #[expect(clippy::new_without_default, reason = "a scheduler is made on purpose, not by default")]
    pub fn new() -> Scheduler {
        Scheduler::with_poller(poller::default_poller())
    }

    /// A scheduler without tasks, on a poller of the caller's choice.
    pub fn with_poller(poller: Box<dyn Poller>) -> Scheduler {
        let core = Core::new(poller.now());
        Scheduler { core, poller, running: None, random: 0, has_polled: false, is_overdue: false, has_just_told: false }
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
    /// [`stop`](Handle::stop) is said. (Services that have just been told of a [drain](Handle::drain) have their turn first.)
    ///
    /// In a task of another scheduler this is a call that blocks, like any other: nothing that the other one owns can be waited
    /// for until it has returned.
    pub fn run(&mut self) {
        self.take_turns(false);
    }

    /// Takes one turn: resumes each task that was ready when it began, once, and then polls, which sleeps until something fires
    /// or is due if no task is ready. Returns false when there is nothing left to do, or when [`stop`](Handle::stop) has been
    /// said: then the tasks are still there.
    pub fn turn(&mut self) -> bool {
        self.take_turns(true)
    }

    /// Takes turns until nothing is left to do, or somebody says stop; then it returns false. `only_one`: true after one turn.
    fn take_turns(&mut self, only_one: bool) -> bool {
        // The clock has stood still since the last poll, and no deadline is to be counted from back then.
        self.core.set_now(self.poller.now());
        self.has_polled = false;
        loop {
            let is_more = self.take_turn();
            if !is_more {
                // What has ended this run is none of the next one's, be it a stop, a drain that is over, or both.
                self.core.mailbox.stopped.set(false);
                self.is_overdue = false;
            }
            if only_one || !is_more {
                return is_more;
            }
        }
    }

    /// Takes a turn; returns whether there may be another.
    fn take_turn(&mut self) -> bool {
        self.settle();
        self.wake_held(false);
        if self.core.mailbox.stopped.get() {
            return false;
        }
        // 1. Resume each task that is ready, once. 2. File each by the reason it gives.
        self.run_ready();
        if self.is_overdue {
            return false;
        }
        if !self.core.mailbox.stopped.get() && self.is_finished() {
            // If a drain goes on, nothing can happen any more before its deadline, so it is over now.
            return self.end_drain();
        }
        // 3. Sleep until something fires or the next deadline; if something is ready, or this turn is stopped, only look.
        let patience = self.patience();
        self.has_polled = patience.is_some();
        if let Some(patience) = patience
            && let Err(error) = self.poller.wait(patience, &mut self.core.waiters)
        {
            self.core.poll_failed(&error, self.poller.now());
        }
        // Another turn begins, even if nobody has polled, and this one may have taken long.
        self.core.set_now(self.poller.now());
        // 4. Most tasks whose descriptor has fired are in the deque already: the poller has told `Waiters`, which moves them.
        // The rest follow here, and so do those whose deadline has passed, and those whose wake was held.
        if !self.core.waiters.unclaimed.is_empty() {
            self.wake_unclaimed();
        }
        if self.has_polled && self.core.timers.soonest() <= self.core.clock {
            self.wake_due();
        }
        self.wake_held(self.has_polled);
        !self.core.mailbox.stopped.get()
    }

    /// Step 1: run each task that was in the deque when the turn began, once. What they spawn or wake runs next turn.
    /// Ends early if the scheduler is told to stop.
    fn run_ready(&mut self) {
        self.core.waiters.ready.begin_turn();
        self.has_just_told = false;
        // A panic ends the task that it comes from, and the turn goes on with the next.
        let (is_tracing, are_many) = (self.core.is_tracing, self.core.slots.len() > MANY);
        while let Err(message) = catch(|| match (is_tracing, are_many) {
            (true, _) => self.trace_each(),
            (false, true) => self.resume_each::<false, true>(),
            (false, false) => self.resume_each::<false, false>(),
        }) {
            self.end_panicked(message);
            if self.core.mailbox.stopped.get() {
                break;
            }
        }
    }

    /// [`resume_each`](Scheduler::resume_each), and the observer is told.
    #[cold]
    #[inline(never)]
    fn trace_each(&mut self) {
        self.resume_each::<true, false>();
    }

    /// Resumes the tasks of this turn, as far as nobody says that the scheduler is to stop.
    #[expect(clippy::inline_always, reason = "measured: it is called once a turn, from one place")]
    #[inline(always)]
    fn resume_each<const IS_TRACING: bool, const ARE_MANY: bool>(&mut self) {
        while let Some(slot) = self.core.waiters.ready.pop_front() {
            if ARE_MANY {
                self.core.look_ahead();
            }
            if IS_TRACING {
                self.core.trace_resume(slot & !OTHERWISE);
            }
            if !self.resume(slot) {
                self.settle();
                if self.core.mailbox.stopped.get() {
                    return;
                }
            }
        }
    }

    /// Resumes the task in a slot, and files or ends it, as it says. Returns true if nothing is left to be done: if the task
    /// waits for the same again, or if it had ended before its turn came. Otherwise the caller has to look at the mailbox.
    #[expect(clippy::inline_always, reason = "measured: this is done for each message")]
    #[inline(always)]
    fn resume(&mut self, index: u32) -> bool {
        let core = &mut self.core;
        let Some(slot) = core.slots.at_mut(index) else { return self.resume_otherwise(index) };
        mem::swap(&mut slot.task, &mut self.running);
        let Some(task) = &mut self.running else { return core.slots.reclaim(index) };
        slot.resumes += 1;
        let said = task.resume(&mut Context { core, entry: index });
        // The usual case: it has put nothing in the mailbox, and waits for the same again.
        if core.mailbox.notes.get() == 0 && self.renew(index, &said) {
            return true;
        }
        self.heed(index, said);
        false
    }

    /// Files the task again if it waits for what it has just been resumed for, as it almost always does, and returns whether it
    /// does. Then the poller still watches the descriptor, and its number need not be checked: if the scheduler owns the
    /// descriptor it is still open, and otherwise it was checked when the task first waited for it.
    #[expect(clippy::inline_always, reason = "measured: this is done for each message")]
    #[inline(always)]
    fn renew(&mut self, index: u32, said: &io::Result<Wait>) -> bool {
        let core = &mut self.core;
        let is_renewed = match said {
            Ok(Wait::Recv(fd)) => core.waiters.recv_wait.renew(*fd, index),
            Ok(Wait::Send(fd)) => core.waiters.send_wait.renew(*fd, index),
            _ => false,
        };
        if is_renewed && let Some(slot) = core.slots.at_mut(index) {
            mem::swap(&mut slot.task, &mut self.running);
            slot.since = core.clock;
            slot.deadline = NEVER;
            return true;
        }
        false
    }

    /// [`resume`](Scheduler::resume) for an entry that is marked [`OTHERWISE`].
    #[cold]
    fn resume_otherwise(&mut self, entry: u32) -> bool {
        let core = &mut self.core;
        let index = entry & !OTHERWISE;
        let Some(slot) = core.slots.at_mut(index) else { return true };
        mem::swap(&mut slot.task, &mut self.running);
        let Some(task) = &mut self.running else { return core.slots.reclaim(index) };
        slot.resumes += 1;
        let error = slot.reason.error();
        let cx = &mut Context { core, entry };
        let said = match error {
            Some(error) => task.wait_failed(cx, error),
            None => task.resume(cx),
        };
        self.heed(index, said);
        false
    }

    /// Files or ends the task that has been resumed, as it has said.
    #[cold]
    #[inline(never)]
    fn heed(&mut self, index: u32, said: io::Result<Wait>) {
        let notes = self.core.mailbox.notes.get();
        self.core.mailbox.forget(SPECIAL | UNTIL);
        if notes & MAIL != 0 {
            self.settle_adopted();
        }
        let Some(id) = self.core.slots.id_at(index) else { return };
        if notes & SPECIAL == 0 && self.renew(index, &said) {
            let until = mem::replace(&mut self.core.until, NEVER);
            return self.set_deadline(id, until);
        }
        let Some(task) = self.running.take() else { return };
        match said {
            Ok(Wait::Done) => self.end_running(id, task, End::Done),
            Ok(wait) => {
                if notes & MAIL != 0 {
                    self.settle_ended(Some(id));
                }
                self.file(id, task, wait);
            }
            Err(error) => self.end_running(id, task, End::Failed(error)),
        }
    }

    /// Ends the task that has been resumed. What it has said with `or` has no effect.
    fn end_running(&mut self, id: TaskId, task: Box<dyn Task>, end: End) {
        self.core.or.clear();
        self.core.until = NEVER;
        self.end(id, task, end, false);
    }

    /// Ends the task that has panicked while it was resumed.
    #[cold]
    fn end_panicked(&mut self, message: String) {
        self.core.mailbox.futures.abandon();
        let id = self.core.waiters.ready.last_taken().and_then(|slot| self.core.slots.id_at(slot));
        match (id, self.running.take()) {
            (Some(id), Some(task)) => self.end_running(id, task, End::Panicked(message)),
            _ => panic!("{message}"),
        }
        self.settle();
    }

    /// How long the poll of step 3 may sleep. `None` if it is left out: if only new tasks are ready, as one poll then tells of
    /// what they wait for, too, or on a stop. But never twice in a row, nor in the first turn of a run: a task that spawns its
    /// successor each time, or somebody who stops each run, would keep everybody else waiting.
    fn patience(&mut self) -> Option<Patience> {
        let core = &self.core;
        let is_stopped = core.mailbox.stopped.get();
        if is_stopped || !core.waiters.ready.is_empty() || !core.held.is_empty() {
            let is_left_out = self.has_polled && (is_stopped || core.are_new());
            return if is_left_out { None } else { Some(Patience::Look) };
        }
        if !core.timers.is_empty() {
            self.discard_stale_deadlines();
        }
        Some(match self.core.timers.soonest() {
            NEVER => Patience::Forever,
            at => Patience::Until(self.core.epoch.instant(at)),
        })
    }

    /// Wakes the tasks for which something has fired that is still in [`Waiters::unclaimed`](crate::waiters::Waiters).
    ///
    /// A task that waits for several things is resumed for the first of them in this list. So the list is read from a random
    /// place, in a random direction: something that always fires then does not hide the others for ever. (A counter in place of
    /// the random numbers would not do: tasks that take turns at waiting could each meet the same count every time.) The two
    /// sides of one descriptor are neighbours in the list and stay together, so which is first does not depend on the rest.
    #[cold]
    fn wake_unclaimed(&mut self) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (self.random >> 32) as usize;
        let fired = &self.core.waiters.unclaimed;
        let len = fired.len();
        let mut begin = random / 2 % len.max(1);
        if begin > 0 && fired[begin - 1].fd == fired[begin].fd {
            begin -= 1;
        }
        for step in 0..len {
            let ahead = if random.is_multiple_of(2) { step } else { len - 1 - step };
            self.wake_otherwise(self.core.waiters.unclaimed[(begin + ahead) % len]);
        }
        self.core.waiters.unclaimed.clear();
    }

    /// Wakes the task that waits for what has fired, if there is one. It waits for something else, too, or has to be told of an
    /// error; any other was moved to the deque when the poller said so.
    fn wake_otherwise(&mut self, fired: Fired) {
        let Fired { fd, side, is_closed } = fired;
        if is_closed && self.core.waiters.get(side, fd).is_some() {
            // This wait cannot be renewed: whoever waits for the number again is filed anew, and then the number is checked.
            return self.evict(side, fd);
        }
        // Perhaps nobody waits any more: the task is in the deque already, for something else that fired in the same poll, or
        // since an earlier poll, after which a turn was stopped. It may renew this wait, so the poller goes on watching.
        let waiter = self.core.waiters.map(side).fire(fd);
        if let Some(id) = waiter.and_then(|slot| self.core.slots.id_at(slot)) {
            self.move_to_ready(id, Reason::new(Kind::Ready, side, fd));
        }
    }

    /// Moves the tasks whose deadline has passed to the deque, and ends a drain whose time is over.
    fn wake_due(&mut self) {
        while let Some(entry) = self.core.timers.pop_due(self.core.clock) {
            let id = entry.task();
            let Some(slot) = self.core.slots.of_entry(entry) else { continue };
            slot.queued = NEVER;
            match slot.deadline {
                deadline if deadline > self.core.clock => self.set_deadline(id, deadline),
                _ => self.make_ready(id, Reason::UNTIL),
            }
        }
        // A drain may begin when its deadline is over already. The tasks, which have just been told, have one turn all the same,
        // and if that was stopped, some of them still have it before them.
        let is_early = self.has_just_told || self.core.mailbox.stopped.get();
        if self.core.timers.drain_by() <= self.core.clock && !is_early {
            self.end_drain();
        }
    }

    /// Ends whoever is left of a drain, if one has begun; returns whether. What they spawn as they are dropped has one turn.
    fn end_drain(&mut self) -> bool {
        self.is_overdue = self.core.timers.drain_by() != NEVER;
        if self.is_overdue {
            self.cancel_all();
        }
        self.is_overdue
    }

    /// Whether no task is left but services, or nothing can ever be resumed again.
    fn is_finished(&mut self) -> bool {
        let core = &mut self.core;
        if core.slots.foreground == 0 {
            // Services that have been told of a drain have a turn before it is over.
            return !self.has_just_told || core.waiters.ready.is_empty();
        }
        if core.waiters.waiting() > 0 || !core.waiters.ready.is_empty() || !core.held.is_empty() {
            return false;
        }
        // Only a deadline can go on from here: one that somebody still has.
        self.discard_stale_deadlines();
        self.core.timers.is_empty()
    }
}
