//! What the kernel says about the server's process.

use std::fs;

use anyhow::{Context, Result};

/// The CPU time of all threads of a process in nanoseconds, and how many threads these are.
///
/// `schedstat` is what the scheduler itself counts with; the ticks in `stat` are a hundred-thousandfold coarser.
pub fn cpu_ns(pid: u32) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the server has ended")? {
        let text = fs::read_to_string(thread?.path().join("schedstat")).context("no schedstat in this kernel")?;
        let running: u64 = text.split_whitespace().next().context("an empty schedstat")?.parse()?;
        sum = (sum.0 + running, sum.1 + 1);
    }
    Ok(sum)
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
