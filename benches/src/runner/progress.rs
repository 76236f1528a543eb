//! A line a step: which, what it came to, how long the rest may take.

use std::time::{Duration, Instant};

use crate::report::Record;

/// Counts the steps.
pub struct Progress {
    begun: Instant,
    done: usize,
    total: usize,
    guess: Duration,
}

impl Progress {
    /// `total` steps that take about `guess` each, as long as nothing is known.
    pub fn new(total: usize, guess: Duration) -> Self {
        Progress { begun: Instant::now(), done: 0, total, guess }
    }

    /// One more is done.
    pub fn step(&mut self, record: &Record, rounds: usize) {
        self.done += 1;
        let elapsed = self.begun.elapsed();
        let each = (elapsed / self.done as u32).max(self.guess / 2);
        let sample = &record.sample;
        println!(
            "[{:>3}/{}] {:<12} round {}/{rounds}  {:<17} {:>8.2} µs CPU  {:>9.0}/s  {} elapsed, about {} left",
            self.done,
            self.total,
            record.scenario,
            record.round + 1,
            record.server,
            sample.cpu_us(),
            sample.rate(),
            clock(elapsed),
            clock(each * (self.total - self.done) as u32),
        );
    }
}

/// `m:ss`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
