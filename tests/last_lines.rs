//! The last lines of a program are often the reason why it ends: they are written although nobody runs any more.

use fdtask::{Diagnostics, Scheduler, Wait, task_fn};
use std::io::{self, Read};

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
