//! What the kernel says about the server's process.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::sys;

/// The CPU time of a process in nanoseconds.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    sys::process_cpu_ns(pid).context("the server has ended")
}

/// How many threads a process has.
pub fn threads(pid: u32) -> Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/task")).context("the server has ended")?.count() as u64)
}

/// Waits until every thread of a process that was told to stop has done so, for so long at most.
pub fn await_stopped(pid: u32, most: Duration) -> Result<()> {
    let begin = Instant::now();
    loop {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).context("the server has ended")?;
        let is_stopped = |thread: io::Result<fs::DirEntry>| {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            io::Result::Ok(status.lines().any(|line| line.starts_with("State:\tT")))
        };
        let stopped: io::Result<Vec<bool>> = threads.map(is_stopped).collect();
        if stopped.is_ok_and(|stopped| stopped.iter().all(|stopped| *stopped)) {
            return Ok(());
        }
        ensure!(begin.elapsed() < most, "the server does not stop");
        thread::sleep(Duration::from_micros(200));
    }
}

/// The resident memory of a process in KiB. `smaps_rollup` walks the pages; the counter in `status` may lag behind.
pub fn rss_kib(pid: u32) -> Result<u64> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let text = match exact {
        Some(text) => text,
        None => fs::read_to_string(format!("/proc/{pid}/status")).context("the server has ended")?,
    };
    text.lines()
        .find(|line| line.starts_with("Rss:") || line.starts_with("VmRSS:"))
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .context("no resident memory in /proc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_used_that_has_ended_still_counts() {
        let own = std::process::id();
        let enough = cpu_ns(own).unwrap() + 50_000_000;
        std::thread::spawn(move || while cpu_ns(own).unwrap() < enough {}).join().unwrap();
        assert!(cpu_ns(own).unwrap() >= enough);
        assert!(threads(own).unwrap() >= 1);
    }
}
