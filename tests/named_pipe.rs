//! A log that is written to a named pipe outlives its readers (row 10 of the faults).

use fdtask::{Log, Scheduler, Wait, task_fn};
use rustix::fs::{CWD, FileType, Mode};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

#[test]
fn a_named_pipe_whose_reader_comes_back_is_told_how_many_lines_it_has_missed() {
    let path = std::env::temp_dir().join(format!("fdtask-{}-log", std::process::id()));
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a named pipe");
    let reader = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("a reader");
    let first = reader();
    let writer = OpenOptions::new().write(true).open(&path).expect("there is a reader");
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn_service(writer);
    expect_in(&mut scheduler, first, &log, Some("heard"), "heard\n");
    log.line("lost");
    until(&mut scheduler, || log.dropped_lines() == 1);
    let second = reader();
    expect_in(&mut scheduler, second.try_clone().expect("a clone"), &log, None, "(1 log line was dropped)\n");
    expect_in(&mut scheduler, second, &log, Some("heard again"), "heard again\n");
    std::fs::remove_file(&path).expect("it is there");
}

/// Logs the line, if there is one, and reads until all of `expected` has come, and nothing else.
#[track_caller]
fn expect_in(scheduler: &mut Scheduler, mut reader: File, log: &Log, line: Option<&str>, expected: &str) {
    if let Some(line) = line {
        log.line(line);
    }
    let mut text = Vec::new();
    until(scheduler, || {
        let _ = reader.read_to_end(&mut text);
        text.len() >= expected.len()
    });
    assert_eq!(String::from_utf8_lossy(&text), expected);
}

/// Takes turns until this is so.
#[track_caller]
fn until(scheduler: &mut Scheduler, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
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
