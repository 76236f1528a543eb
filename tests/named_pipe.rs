//! A log that is written to a named pipe outlives its readers (row 10 of the faults).

use fdtask::{Log, Observer, Scheduler, TaskId, Wait, task_fn};
use rustix::fs::{CWD, FileType, Mode};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Notes what is reported.
struct Reports(Rc<RefCell<Vec<String>>>);

impl Observer for Reports {
    fn reported(&mut self, _id: TaskId, message: &str) {
        self.0.borrow_mut().push(message.to_owned());
    }
}

#[test]
fn a_named_pipe_whose_reader_comes_back_is_told_how_many_lines_it_has_missed_and_the_operator_that_it_is_gone() {
    let path = std::env::temp_dir().join(format!("fdtask-{}-log", std::process::id()));
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a named pipe");
    let reader = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("a reader");
    let first = reader();
    let writer = OpenOptions::new().write(true).open(&path).expect("there is a reader");
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    let id = scheduler.spawn_service(writer);
    let reports = Rc::default();
    scheduler.observe(Reports(Rc::clone(&reports)));
    expect_in(&mut scheduler, first, &log, Some("heard"), "heard\n");
    for lost in 1..=2 {
        log.line("lost");
        until(&mut scheduler, |_| log.dropped_lines() == lost);
    }
    // It tries again, and again in vain.
    let tries = |scheduler: &Scheduler| scheduler.tasks().iter().find(|task| task.id == id).map(|task| task.resumes);
    let before = tries(&scheduler);
    until(&mut scheduler, |scheduler| tries(scheduler) > before);
    assert_eq!(*reports.borrow(), ["cannot write the log: Broken pipe; its lines are dropped"]);
    let second = reader();
    expect_in(&mut scheduler, second.try_clone().expect("a clone"), &log, None, "(2 log lines were dropped)\n");
    expect_in(&mut scheduler, second, &log, Some("heard again"), "heard again\n");
    log.line("lost");
    until(&mut scheduler, |_| log.dropped_lines() == 1);
    assert_eq!(reports.borrow().len(), 2, "this is a new failure");
    std::fs::remove_file(&path).expect("it is there");
}

/// Logs the line, if there is one, and reads until all of `expected` has come, and nothing else.
#[track_caller]
fn expect_in(scheduler: &mut Scheduler, mut reader: File, log: &Log, line: Option<&str>, expected: &str) {
    if let Some(line) = line {
        log.line(line);
    }
    let mut text = Vec::new();
    until(scheduler, |_| {
        let _ = reader.read_to_end(&mut text);
        text.len() >= expected.len()
    });
    assert_eq!(String::from_utf8_lossy(&text), expected);
}

/// Takes turns until this is so.
#[track_caller]
fn until(scheduler: &mut Scheduler, mut is_so: impl FnMut(&Scheduler) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so(scheduler) {
        assert!(Instant::now() < deadline, "it takes too long: {:?}", scheduler.tasks());
        // A turn sleeps no longer than this.
        scheduler.spawn(task_fn("alarm", {
            let mut has_slept = false;
            move |cx| {
                let wait = if has_slept { Wait::Done } else { Wait::Until(cx.now() + Duration::from_millis(1)) };
                has_slept = true;
                Ok(wait)
            }
        }));
        scheduler.turn();
    }
}
