//! What a log takes, what it counts as dropped, and what it says of that.

use fdtask::{End, LOG_QUEUE_BYTES, Log, Observer, Scheduler, Task, TaskId, Wait, task_fn};
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_line_is_taken_while_less_is_queued_than_fits_and_each_line_of_what_is_dropped_is_counted() {
    for (queued, dropped) in [(LOG_QUEUE_BYTES - 1, 0), (LOG_QUEUE_BYTES, 2)] {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let (log, _writer) = Log::new(Scheduler::new().handle(), "log", writer.into());
        log.line(&"x".repeat(queued - "\n".len()));
        log.line("two\nlines");
        assert_eq!(log.dropped_lines(), dropped, "behind {queued} bytes");
    }
}

#[test]
fn no_flush_ends_before_it_is_written_that_lines_were_dropped_whenever_it_begins() {
    /// Notes for how many flushes that end lines are missing of which the log does not tell yet.
    struct Notes(Log, Rc<Cell<(usize, usize)>>);

    impl Observer for Notes {
        fn ended(&mut self, _id: TaskId, _by: Option<TaskId>, task: &dyn Task, _end: &End) {
            if task.name() == "log flush" {
                let (ended, early) = self.1.get();
                self.1.set((ended + 1, early + usize::from(self.0.dropped_lines() > 0)));
            }
        }
    }

    let (mut reader, writer) = io::pipe().expect("a pipe");
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn_service(writer);
    let noted = Rc::new(Cell::new((0, 0)));
    scheduler.observe(Notes(log.clone(), Rc::clone(&noted)));
    // More than the pipe has room for, and more than the queue.
    log.line(&"long ".repeat(LOG_QUEUE_BYTES));
    log.line("one that is dropped");
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    while noted.get().0 == 0 {
        scheduler.spawn(log.flush(LONG));
        scheduler.turn();
    }
    scheduler.run();
    assert_eq!(noted.get().1, 0, "of {} flushes", noted.get().0);
    drop(scheduler);
    let text = reading.join().expect("it does not panic").expect("a pipe can be read");
    assert!(text.ends_with("long \n(1 log line was dropped)\n"));
}

#[test]
fn whoever_is_told_that_the_log_cannot_be_written_may_log_that_at_once() {
    struct Logs(Log, Rc<Cell<bool>>);

    impl Observer for Logs {
        fn reported(&mut self, _id: TaskId, message: &str) {
            self.0.line(message);
            self.1.set(true);
        }
    }

    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn_service(writer);
    let has_logged = Rc::new(Cell::new(false));
    scheduler.observe(Logs(log.clone(), Rc::clone(&has_logged)));
    log.line("nobody reads this");
    scheduler.spawn(log.flush(LONG));
    scheduler.run();
    assert!(has_logged.get());
    assert_eq!(log.dropped_lines(), 2);
}

#[test]
fn a_reader_that_is_slow_again_and_again_is_waited_for_and_not_paused_for() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn(writer);
    scheduler.spawn(task_fn("busy, so that nobody sleeps", |_| Ok(Wait::Turn)));
    log.line(&"long ".repeat(10 * LOG_QUEUE_BYTES));
    for round in 0..20 {
        while scheduler.tasks()[0].state.starts_with("ready") {
            scheduler.turn();
        }
        let state = &scheduler.tasks()[0].state;
        assert!(state.starts_with("send"), "after {round} times: {state}");
        reader.read_exact(&mut vec![0; LOG_QUEUE_BYTES / 2]).expect("it is full");
        while !scheduler.tasks()[0].state.starts_with("ready") {
            scheduler.turn();
        }
    }
}
