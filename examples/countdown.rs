//! Two counters that take turns, without a descriptor anywhere.
//!
//! ```text
//! cargo run --example countdown
//! ```
//! You should see them interleave, one line each at a time:
//! ```text
//! T-minus 5
//! Counting up 0
//! T-minus 4
//! Counting up 1
//! …
//! ```
//! Each counter is a task that says [`Wait::Turn`] after each number: "I could go on, but let the others first." In Python
//! this is a generator with a bare `yield`, and the scheduler is a deque that is rotated.

use fdtask::{Context, Scheduler, Task, Wait, reason};
use std::io::{self, Write};
use std::process;

/// `print(line)`: where that fails (the disk is full, nobody reads), the program has nothing left to do.
fn print(line: &str) {
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        let _ = writeln!(io::stderr(), "countdown: cannot print: {}", reason(&error));
        process::exit(1);
    }
}

/// `def countdown(n): while n > 0: print('T-minus', n); yield; n -= 1`
struct Countdown {
    n: u32,
}

impl Task for Countdown {
    fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
        if self.n == 0 {
            print("Blastoff!");
            return Ok(Wait::Done);
        }
        print(&format!("T-minus {}", self.n));
        self.n -= 1;
        Ok(Wait::Turn)
    }
}

/// `def countup(n): x = 0; while x < n: print('Counting up', x); yield; x += 1`
struct Countup {
    x: u32,
    n: u32,
}

impl Task for Countup {
    fn resume(&mut self, _cx: &mut Context<'_>) -> io::Result<Wait> {
        if self.x == self.n {
            return Ok(Wait::Done);
        }
        print(&format!("Counting up {}", self.x));
        self.x += 1;
        Ok(Wait::Turn)
    }
}

fn main() {
    let mut scheduler = Scheduler::new();
    scheduler.spawn(Countdown { n: 5 });
    scheduler.spawn(Countup { x: 0, n: 8 });
    scheduler.run();
}
