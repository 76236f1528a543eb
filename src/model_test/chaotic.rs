//! A task that does random things, and notes down what it has asked for.

use super::ledger::{Ledger, Record, TASKS_MAX};
use crate::context::Context;
use crate::descriptor::Descriptor;
use crate::poller::Happening;
use crate::task::{Side, Task, TaskId, Wait, WaitError};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A task that does random things.
pub(super) struct Chaotic {
    ledger: Rc<Ledger>,
    id: Option<TaskId>,
    owned: Vec<Descriptor>,
}

impl Chaotic {
    pub(super) fn new(ledger: &Rc<Ledger>) -> Chaotic {
        Chaotic { ledger: Rc::clone(ledger), id: None, owned: Vec::new() }
    }

    fn act(&mut self, cx: &mut Context<'_>) {
        let ledger = Rc::clone(&self.ledger);
        match ledger.below(16) {
            0..=3 if ledger.tasks.borrow().len() < TASKS_MAX => {
                let id = cx.spawn(Chaotic::new(&ledger));
                ledger.note_spawned(id);
            }
            4 => cx.cancel(ledger.any_id()),
            5..=6 => {
                let id = ledger.any_id();
                let waits = cx.core.is_waiting(id) || id == cx.id();
                ledger.wake(id, waits);
            }
            7..=8 if self.owned.len() < 3 => {
                let (reader, writer) = io::pipe().expect("a pipe");
                rustix::io::ioctl_fionbio(&reader, true).expect("a pipe can be non-blocking");
                ledger.script.now(Happening::Reused(writer.as_raw_fd()));
                ledger.owned.borrow_mut().insert(writer.as_raw_fd());
                ledger.readers.borrow_mut().push(reader);
                self.owned.push(cx.adopt(writer));
            }
            9 => self.let_go(),
            10..=13 => ledger.disturb(),
            14 if ledger.one_in(30) => {
                ledger.stopped.set(true);
                cx.stop();
            }
            15 if ledger.one_in(60) => {
                ledger.drained.set(true);
                cx.drain(cx.now() + Duration::from_millis(ledger.below(20) as u64));
            }
            _ => {}
        }
    }

    fn let_go(&mut self) {
        if let Some(descriptor) = self.owned.pop() {
            self.ledger.owned.borrow_mut().remove(&descriptor.as_raw_fd());
        }
    }

    fn any_wait(&self, cx: &Context<'_>) -> Wait {
        let ledger = &self.ledger;
        let own = self.owned.last().map_or_else(|| ledger.any_fd(), AsRawFd::as_raw_fd);
        match ledger.below(16) {
            0..=4 => ledger.any_side().of(own),
            5..=8 => ledger.any_side().of(ledger.any_fd()),
            9..=10 => Wait::Until(cx.now() + Duration::from_micros(ledger.below(4_000) as u64)),
            11 => ledger.any_side().of(-1 - ledger.below(2) as RawFd),
            12..=13 => Wait::Turn,
            _ => Wait::Wake,
        }
    }

    /// Acts, and says what comes next; notes it down first.
    fn go_on(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let ledger = Rc::clone(&self.ledger);
        self.id = Some(cx.id());
        ledger.resumed.borrow_mut().push(cx.id());
        ledger.woken.borrow_mut().remove(&cx.id());
        ledger.tasks.borrow_mut().insert(cx.id(), Record::default());
        for _ in 0..ledger.below(3) {
            self.act(cx);
        }
        let mut record = Record::default();
        let mut note = |wait: Wait| match wait {
            Wait::Until(at) => record.until = Some(record.until.map_or(at, |before: Instant| before.min(at))),
            Wait::Turn => record.is_ready = true,
            wait => record.waits.extend(wait.descriptor()),
        };
        for _ in 0..ledger.below(9) / 4 {
            let wait = self.any_wait(cx);
            note(wait);
            cx.or(wait);
        }
        match ledger.below(40) {
            0 => return Ok(Wait::Done),
            1 => return Err(io::Error::other("a random error")),
            2 => resume_unwind(Box::new("a random panic")),
            _ => {}
        }
        let wait = self.any_wait(cx);
        note(wait);
        ledger.tasks.borrow_mut().insert(cx.id(), record);
        Ok(wait)
    }

    /// Holds the reason for a resume against what the task has noted down. A panic here would be the task's own end, so
    /// what is wrong is noted, too.
    fn check_why(&self, cx: &Context<'_>) {
        let tasks = self.ledger.tasks.borrow();
        let record = tasks.get(&cx.id()).expect("a live task has a record");
        let is_right = match cx.why() {
            Wait::Recv(fd) => record.waits.contains(&(fd, Side::Recv)),
            Wait::Send(fd) => record.waits.contains(&(fd, Side::Send)),
            Wait::Until(at) => record.until == Some(at) && at <= cx.now(),
            Wait::Turn => record.is_ready || self.ledger.drained.get(),
            Wait::Wake => self.ledger.woken.borrow().contains(&cx.id()),
            Wait::Done => false,
        };
        if !is_right {
            *self.ledger.wrong.borrow_mut() = Some(format!("{} is resumed for {}", cx.id(), cx.why()));
        }
    }
}

impl Task for Chaotic {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.check_why(cx);
        self.go_on(cx)
    }

    fn wait_failed(&mut self, cx: &mut Context<'_>, error: WaitError) -> io::Result<Wait> {
        let (WaitError::Busy(wait) | WaitError::Closed(wait)) = error;
        if cx.why() != wait {
            *self.ledger.wrong.borrow_mut() = Some(format!("{} is told {error}, and {}", cx.id(), cx.why()));
        }
        self.check_why(cx);
        if self.ledger.one_in(3) { Err(error.into()) } else { self.go_on(cx) }
    }

    fn drain(&mut self) -> bool {
        self.ledger.one_in(2)
    }
}

impl Drop for Chaotic {
    fn drop(&mut self) {
        while !self.owned.is_empty() {
            self.let_go();
        }
        if let Some(id) = self.id {
            self.ledger.tasks.borrow_mut().remove(&id);
            self.ledger.woken.borrow_mut().remove(&id);
        }
        if self.ledger.one_in(50) {
            resume_unwind(Box::new("a random panic in drop"));
        }
    }
}
