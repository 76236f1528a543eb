//! A log that never stalls the program: a bounded queue of lines, and a task that writes them when there is room.
//!
//! Standard output may be a pipe that nobody reads, a terminal that somebody has stopped with Ctrl-S, a full disk, or
//! closed. A program that writes to it as it goes stands still with it, or dies of it. Here a line is put into a queue;
//! a line for which the queue has no room is dropped, and how many were dropped is said when there is room again.

use crate::context::Context;
use crate::futile::Futile;
use crate::handle::Handle;
use crate::observer::reason;
use crate::sys::Output;
use crate::task::{Task, TaskId, Wait, task_fn};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// While so many bytes of lines wait to be written, no other line is taken.
pub const LOG_QUEUE_BYTES: usize = 64 * 1024;

/// How much is written at a time: what a pipe takes whole or not at all, so that the lines of two programs that share one
/// stay whole, and what a pipe that `poll` says has room takes without sleeping.
const WRITE_BYTES: usize = libc::PIPE_BUF;

/// How long the log pauses after an error, such as that the disk is full or the reader gone, before it tries again.
const ERROR_PAUSE: Duration = Duration::from_millis(500);

/// How long at most. While nobody logs anything it pauses twice as long each time: a program may have hundreds of logs that
/// cannot be written, and do nothing.
const ERROR_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Puts lines into the queue. Clones share it.
#[derive(Clone)]
pub struct Log(Rc<RefCell<Queue>>);

struct Queue {
    handle: Handle,
    /// The task that writes, once it has run and until it has ended.
    writer: Option<TaskId>,
    /// The tasks to wake when everything has been written.
    flushing: Vec<TaskId>,
    /// The lines that wait. What is left of them moves to the front with each write, which is nothing beside the write itself,
    /// unless somebody has logged a text of megabytes.
    bytes: Vec<u8>,
    dropped_lines: u64,
    /// How many dropped lines are told of by the notice at the front of the queue; 0 if there is no notice. If the notice cannot
    /// be written either, they count as dropped again.
    noticed_lines: u64,
    /// The last attempt to write has failed.
    has_failed: bool,
    /// How long the pause after the next error is, if nothing is logged before.
    pause: Duration,
}

impl Log {
    /// A log, and the task that writes it to `fd`: spawn that as a service, on the scheduler of `handle`. Until then the lines
    /// are queued. The task table shows the task as `name`. When it cannot be written any more, that is
    /// [reported](Context::report), once until it can again.
    pub fn new(handle: Handle, name: &'static str, fd: OwnedFd) -> (Log, LogWriter) {
        let queue = Queue {
            handle,
            writer: None,
            flushing: Vec::new(),
            bytes: Vec::new(),
            dropped_lines: 0,
            noticed_lines: 0,
            has_failed: false,
            pause: ERROR_PAUSE,
        };
        let log = Log(Rc::new(RefCell::new(queue)));
        let writer = LogWriter { log: log.clone(), name, output: Output::new(fd), futile: Futile::default() };
        (log, writer)
    }

    /// Logs a line (the end of line is added), or several. While [`LOG_QUEUE_BYTES`] or more are queued, or no memory is left,
    /// what is logged is dropped and counted, and so is what follows until the queue is empty: what is missing is missing in
    /// one piece. A long text, such as a task table, is taken whole or not at all.
    pub fn line(&self, line: &str) {
        let queue = &mut *self.0.borrow_mut();
        // A pause that is long because nothing was logged is over, and so is the sleep of a writer that has nothing to write. It
        // is told also of a line for which no memory is left: nobody else would wake it to say so.
        let is_long = mem::replace(&mut queue.pause, ERROR_PAUSE) > 2 * ERROR_PAUSE;
        let is_first = queue.bytes.is_empty() && queue.dropped_lines == 0;
        let is_full = queue.dropped_lines > 0 || queue.bytes.len() >= LOG_QUEUE_BYTES;
        if is_full || queue.bytes.try_reserve(line.len() + 1).is_err() {
            queue.dropped_lines += 1 + line.bytes().filter(|byte| *byte == b'\n').count() as u64;
        } else {
            queue.bytes.extend_from_slice(line.as_bytes());
            queue.bytes.push(b'\n');
        }
        if let (true, Some(writer)) = (is_first || is_long, queue.writer) {
            queue.handle.wake(writer);
        }
    }

    /// The time, by the clock of its scheduler.
    pub(crate) fn now(&self) -> Instant {
        self.0.borrow().handle.now()
    }

    /// How many lines have been dropped and not yet been reported in the log.
    pub fn dropped_lines(&self) -> u64 {
        self.0.borrow().dropped_lines
    }

    /// A task that ends when everything has been written, but also when that has failed, when the [`LogWriter`] has ended or not
    /// begun, or after `patience`.
    pub fn flush(&self, patience: Duration) -> impl Task + use<> {
        let log = self.clone();
        let mut by = None;
        task_fn("log flush", move |cx| {
            // A patience that no clock can show has no end.
            let by = *by.get_or_insert_with(|| cx.now().checked_add(patience));
            let mut queue = log.0.borrow_mut();
            queue.flushing.retain(|task| *task != cx.id());
            let is_written = queue.bytes.is_empty() && (queue.dropped_lines == 0 || queue.has_failed);
            if is_written || queue.writer.is_none() || by.is_some_and(|by| cx.now() >= by) {
                return Ok(Wait::Done);
            }
            if let Some(by) = by {
                cx.or(Wait::Until(by));
            }
            queue.flushing.push(cx.id());
            Ok(Wait::Wake)
        })
    }
}

/// The task that writes a [`Log`].
#[must_use = "nothing is written until this is spawned as a service"]
pub struct LogWriter {
    log: Log,
    name: &'static str,
    output: Output,
    futile: Futile,
}

impl Queue {
    /// The next bytes to write: whole lines, if one fits. None if everything has been written, and no line is missing.
    fn next_chunk(&mut self) -> Option<&[u8]> {
        if self.bytes.is_empty() {
            self.notice_dropped();
        }
        let chunk = &self.bytes[..self.bytes.len().min(WRITE_BYTES)];
        let end = chunk.iter().rposition(|byte| *byte == b'\n').map_or(chunk.len(), |end| end + 1);
        (end > 0).then_some(&chunk[..end])
    }

    /// The queue is empty: says how many lines are missing, if any are.
    fn notice_dropped(&mut self) {
        let dropped = mem::take(&mut self.dropped_lines);
        if dropped > 0 {
            let notice = match dropped {
                1 => "(1 log line was dropped)\n".to_owned(),
                _ => format!("({dropped} log lines were dropped)\n"),
            };
            self.bytes.extend_from_slice(notice.as_bytes());
            self.noticed_lines = dropped;
        }
    }

    /// These bytes have been written.
    fn written(&mut self, count: usize) {
        self.has_failed = false;
        // If there is a notice, it is the first line.
        if self.bytes.drain(..count).any(|byte| byte == b'\n') {
            self.noticed_lines = 0;
        }
    }

    /// It cannot be written: drops what is queued, and returns how long to pause. A notice does not count as a line, but the
    /// lines that it tells of are still missing.
    fn fail(&mut self) -> Duration {
        self.has_failed = true;
        let lines = self.bytes.split(|byte| *byte == b'\n').count() as u64 - 1;
        let notices = u64::from(self.noticed_lines > 0);
        self.dropped_lines += lines - notices + mem::take(&mut self.noticed_lines);
        self.bytes.clear();
        self.wake_flushing();
        let next = (self.pause * 2).min(ERROR_PAUSE_MAX);
        mem::replace(&mut self.pause, next)
    }

    fn wake_flushing(&mut self) {
        for task in self.flushing.drain(..) {
            self.handle.wake(task);
        }
    }
}

impl Drop for LogWriter {
    /// The last lines are often the reason why a program ends: writes as much of them as there is room for, without waiting.
    fn drop(&mut self) {
        let mut queue = self.log.0.borrow_mut();
        // Nobody writes what is left after this, so nobody is to wait for it.
        queue.writer = None;
        queue.wake_flushing();
        while let Some(chunk) = queue.next_chunk() {
            match self.output.write(chunk) {
                Ok(written) if written > 0 => queue.written(written),
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl Task for LogWriter {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let mut queue = self.log.0.borrow_mut();
        queue.writer = Some(cx.id());
        let Some(chunk) = queue.next_chunk() else {
            queue.wake_flushing();
            return Ok(Wait::Wake);
        };
        match self.output.write(chunk) {
            Ok(written) if written > 0 => {
                queue.written(written);
                self.futile.reset();
                Ok(Wait::Turn)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(self.futile.wait(cx, Wait::Send(self.output.as_raw_fd())))
            }
            // A disk may have room again, and a named pipe a reader. (A file system that is a program may take nothing, and call
            // that no error.)
            failed => {
                let is_news = !queue.has_failed;
                let pause = queue.fail();
                // Whoever is told may log it, here too.
                drop(queue);
                if is_news {
                    let error = failed.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                    cx.report(&format!("cannot write the {}: {}; its lines are dropped", self.name, reason(&error)));
                }
                Ok(Wait::Until(cx.now() + pause))
            }
        }
    }

    fn name(&self) -> Cow<'_, str> {
        self.name.into()
    }

    fn progress(&self) -> Cow<'_, str> {
        let queue = self.log.0.borrow();
        match (queue.bytes.len(), queue.dropped_lines) {
            (0, 0) => "".into(),
            (bytes, 0) => format!("{bytes} bytes queued").into(),
            (bytes, lines) => format!("{bytes} bytes queued, {lines} lines dropped").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Scheduler;
    use std::thread;

    /// A log with more in it than its pipe has room for.
    fn full() -> (Scheduler, Log, io::PipeReader) {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut scheduler = Scheduler::new();
        let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
        scheduler.spawn_service(writer);
        log.line(&"long ".repeat(4 * LOG_QUEUE_BYTES));
        (scheduler, log, reader)
    }

    #[test]
    fn whoever_has_waited_long_enough_leaves_nothing_behind() {
        let (mut scheduler, log, _reader) = full();
        for _ in 0..3 {
            scheduler.spawn(log.flush(Duration::from_millis(1)));
        }
        scheduler.run();
        assert!(!log.0.borrow().bytes.is_empty() && log.0.borrow().flushing.is_empty());
    }

    #[test]
    fn lines_that_a_notice_has_told_of_are_not_counted_again_when_one_behind_it_cannot_be_written() {
        let (_scheduler, log, _reader) = full();
        // How much of the notice and of the two lines behind it is not written, and how many lines are missing then.
        for (unwritten_bytes, missing) in [("\none\ntwo\n".len(), 102), ("one\ntwo\n".len(), 2), ("two\n".len(), 1)] {
            let mut queue = log.0.borrow_mut();
            queue.bytes.clear();
            queue.dropped_lines = 100;
            queue.next_chunk().expect("the notice");
            drop(queue);
            log.line("one");
            log.line("two");
            let mut queue = log.0.borrow_mut();
            let written = queue.bytes.len() - unwritten_bytes;
            queue.written(written);
            queue.fail();
            assert_eq!(queue.dropped_lines, missing, "{unwritten_bytes} bytes are not written");
        }
    }

    #[test]
    fn a_flush_waits_for_whoever_reads_slowly() {
        let (mut scheduler, log, mut reader) = full();
        scheduler.spawn(log.flush(Duration::from_secs(60)));
        let reading = thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
        scheduler.run();
        assert!(log.0.borrow().bytes.is_empty());
        drop(scheduler);
        reading.join().expect("it does not panic").expect("a pipe can be read");
    }
}
