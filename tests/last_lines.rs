//! The last lines of a program are often the reason why it ends: they are written although nobody runs any more, and who waits
//! for that does not wait for longer.

use fdtask::poller::{Sim, SimScript};
use fdtask::{Context, Diagnostics, Log, Scheduler, Task, Wait, task_fn};
use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

#[test]
fn the_error_of_the_last_task_is_written_when_the_scheduler_is_dropped() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let mut scheduler = Scheduler::new();
    scheduler.observe(Diagnostics::new(&scheduler.handle(), "example", writer.into()));
    let mut turns = 0;
    // In a later turn than the first: by then the task that writes has found nothing to do.
    scheduler.spawn(task_fn("last", move |_| {
        turns += 1;
        if turns < 5 { Ok(Wait::Turn) } else { Err(io::Error::other("no reason")) }
    }));
    scheduler.run();
    drop(scheduler);
    let mut lines = String::new();
    reader.read_to_string(&mut lines).expect("the writing end is closed");
    assert_eq!(lines, "example: last: no reason\n");
}

/// A scheduler in virtual time whose diagnostics come out there. It never sleeps.
fn diagnosed() -> (Scheduler, SimScript, io::PipeReader) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    scheduler.observe(Diagnostics::new(&scheduler.handle(), "example", writer.into()));
    scheduler.spawn(task_fn("busy", |_| Ok(Wait::Turn)));
    (scheduler, script, reader)
}

/// Says nothing but panics: neither its name, nor why it fails.
#[derive(Debug)]
struct Speechless;

impl Task for Speechless {
    fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
        Err(io::Error::other(Speechless))
    }

    fn name(&self) -> Cow<'_, str> {
        panic!("it has no name");
    }
}

impl fmt::Display for Speechless {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("it has no reason");
    }
}

impl std::error::Error for Speechless {}

#[test]
fn a_task_that_cannot_be_named_is_said_to_fail_as_far_as_anything_can_be_said() {
    let (mut scheduler, _script, mut reader) = diagnosed();
    scheduler.spawn(Speechless);
    scheduler.turn();
    drop(scheduler);
    let lines = io::read_to_string(&mut reader).expect("the writing end is closed");
    assert_eq!(lines, "example: ?: ?\n");
}

#[test]
fn that_the_system_cannot_poll_is_said_once_a_second_at_most() {
    let (mut scheduler, script, mut reader) = diagnosed();
    while script.elapsed() < Duration::from_millis(1_500) {
        script.fail_next_wait(io::ErrorKind::OutOfMemory);
        scheduler.turn();
    }
    drop(scheduler);
    let lines = io::read_to_string(&mut reader).expect("the writing end is closed");
    assert_eq!(lines, "example: cannot poll: out of memory; retrying\n".repeat(2));
}

#[test]
fn a_panic_of_what_is_dropped_is_said() {
    struct Careless;
    impl Drop for Careless {
        fn drop(&mut self) {
            panic!("no reason");
        }
    }

    let (mut scheduler, _script, mut reader) = diagnosed();
    let careless = Careless;
    let id = scheduler.spawn(task_fn("careless", move |_| {
        let _held = &careless;
        Ok(Wait::Done)
    }));
    scheduler.turn();
    drop(scheduler);
    let lines = io::read_to_string(&mut reader).expect("the writing end is closed");
    assert_eq!(lines, format!("example: task {id} panicked while it was dropped: no reason\n"));
}

#[test]
fn what_is_said_while_the_scheduler_drops_its_tasks_is_written() {
    struct Leaving(Log);
    impl Drop for Leaving {
        fn drop(&mut self) {
            self.0.line("goodbye");
            panic!("no reason");
        }
    }

    let (mut scheduler, _script, diagnostics) = diagnosed();
    let (reader, writer) = io::pipe().expect("a pipe");
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn_service(writer);
    scheduler.turn();
    // The tasks that write were there before this one.
    let leaving = Leaving(log);
    let id = scheduler.spawn(task_fn("leaving", move |_| {
        let _held = &leaving;
        Ok(Wait::Wake)
    }));
    scheduler.turn();
    drop(scheduler);
    assert_eq!(io::read_to_string(reader).expect("the writing end is closed"), "goodbye\n");
    let lines = io::read_to_string(diagnostics).expect("the writing end is closed");
    assert_eq!(lines, format!("example: task {id} panicked while it was dropped: no reason\n"));
}

/// More than is written in one turn, and less than a pipe has room for.
const LINES: usize = 200;
const LINE: &str = "a line of a log that is written in more than one turn, because there are some of its kind";

/// A scheduler with a log that has been told this, and where that comes out.
fn logging() -> (Scheduler, Log, io::PipeReader) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn_service(writer);
    (0..LINES).for_each(|_| log.line(LINE));
    (scheduler, log, reader)
}

#[test]
fn all_lines_that_nobody_has_written_are_written_when_the_scheduler_is_dropped() {
    let (scheduler, _log, reader) = logging();
    drop(scheduler);
    let lines = io::read_to_string(reader).expect("the writing end is closed");
    assert_eq!(lines, format!("{LINE}\n").repeat(LINES));
}

#[test]
fn a_patience_without_end_waits_until_the_last_line_is_written() {
    let (mut scheduler, log, mut reader) = logging();
    scheduler.spawn(log.flush(Duration::MAX));
    scheduler.run();
    // The scheduler is there still: when it is dropped, the writer writes what is left.
    let [writer] = &scheduler.tasks()[..] else { panic!("{:?}", scheduler.tasks()) };
    assert_eq!(writer.state, "wake", "nothing is queued any more");
    drop(scheduler);
    let mut lines = String::new();
    reader.read_to_string(&mut lines).expect("the writing end is closed");
    assert_eq!(lines.lines().filter(|line| *line == LINE).count(), LINES);
}

#[test]
fn of_several_who_wait_until_a_log_is_written_each_is_told() {
    let (mut scheduler, log, _reader) = logging();
    let patience = Duration::from_secs(20);
    (0..3).for_each(|_| _ = scheduler.spawn(log.flush(patience)));
    let begin = Instant::now();
    scheduler.run();
    assert!(begin.elapsed() < patience, "somebody has waited for all of his patience");
}

#[test]
fn nobody_waits_for_lines_whose_writer_is_gone() {
    let (mut scheduler, log, _reader) = logging();
    // More than a pipe has room for.
    (0..1_000).for_each(|_| log.line(LINE));
    let writer = scheduler.tasks()[0].id;
    let mut flush = Some(log.flush(Duration::MAX));
    scheduler.spawn(task_fn("program", move |cx| {
        if let Some(flush) = flush.take() {
            cx.spawn(flush);
            return Ok(Wait::Turn);
        }
        cx.cancel(writer);
        Ok(Wait::Done)
    }));
    scheduler.run();
    assert!(scheduler.tasks().is_empty(), "{:?}", scheduler.tasks());
}

#[test]
fn nobody_waits_for_lines_that_cannot_be_written() {
    let (_, writer) = io::pipe().expect("a pipe");
    let mut scheduler = Scheduler::with_poller(Box::new(Sim::new().0));
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn_service(writer);
    scheduler.turn();
    log.line(LINE);
    // It begins to wait before the writer has found out.
    scheduler.spawn(log.flush(Duration::MAX));
    assert!((0..20).any(|_| !scheduler.turn()), "{:?}", scheduler.tasks());
}

#[test]
fn lines_that_were_said_to_be_missing_are_not_counted_again() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let mut scheduler = Scheduler::with_poller(Box::new(Sim::new().0));
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn_service(writer);
    scheduler.spawn(task_fn("busy", |_| Ok(Wait::Turn)));
    while log.dropped_lines() < 2 {
        log.line(LINE);
    }
    let mut text = Vec::new();
    while !text.ends_with(b"(2 log lines were dropped)\n") {
        scheduler.turn();
        // Something has been written in each turn.
        let mut chunk = vec![0; 1 << 16];
        let received = reader.read(&mut chunk).expect("it is open");
        text.extend_from_slice(&chunk[..received]);
    }
    scheduler.turn();
    drop(reader);
    log.line(LINE);
    for _ in 0..3 {
        scheduler.turn();
    }
    assert_eq!(log.dropped_lines(), 1);
}

#[test]
fn a_log_that_cannot_be_written_is_tried_seldom_unless_there_is_more_to_write() {
    // A file that is only open for reading.
    let file = File::open("Cargo.toml").expect("tests run beside it");
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    let (log, writer) = Log::new(scheduler.handle(), "log", file.into());
    let writer = scheduler.spawn_service(writer);
    // Somebody says something every 50 ms, or once.
    let mut tries_within = |time: Duration, is_talking: bool| {
        let tries = |scheduler: &Scheduler| {
            scheduler.tasks().iter().find(|task| task.id == writer).map_or(0, |task| task.resumes)
        };
        let (over, before) = (script.elapsed() + time, tries(&scheduler));
        let (log, clock) = (log.clone(), script.clone());
        let mut has_spoken = false;
        scheduler.spawn(task_fn("talker", move |cx| {
            if is_talking || !std::mem::replace(&mut has_spoken, true) {
                log.line("lost");
            }
            let is_over = clock.elapsed() >= over;
            Ok(if is_over { Wait::Done } else { Wait::Until(cx.now() + Duration::from_millis(50)) })
        }));
        while script.elapsed() < over {
            scheduler.turn();
        }
        tries(&scheduler) - before
    };
    let minute = Duration::from_secs(60);
    let talking = tries_within(minute, true);
    assert!((100..=130).contains(&talking), "{talking} times a minute while there is more and more to write");
    let silent = tries_within(10 * minute, false);
    assert!((15..=40).contains(&silent), "{silent} times in 10 minutes of silence");
    let again = tries_within(Duration::from_secs(1), false);
    assert!((1..=3).contains(&again), "{again} times in the second after somebody has said something");
}
