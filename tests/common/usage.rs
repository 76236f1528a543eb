//! What a server costs: processor time, wake-ups, memory. Linux tells.

use super::{Server, while_steady};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// What a process has used since it was started, and how much memory it occupies now.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// How often it has gone to sleep and been woken (voluntary context switches).
    pub wakeups: u64,
    /// Resident memory, now.
    pub resident_bytes: u64,
}

impl Server {
    /// What it has used so far, all of its threads together.
    #[track_caller]
    pub fn usage(&self) -> Usage {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_nonzero())).expect("the server runs");
        let threads: Vec<PathBuf> = threads.filter_map(|entry| Some(entry.ok()?.path())).collect();
        // A thread that ends meanwhile has no files any more, and counts for nothing.
        let text = |thread: &Path, file: &str| fs::read_to_string(thread.join(file)).unwrap_or_default();
        Usage {
            cpu: threads.iter().map(|thread| cpu_time(&text(thread, "schedstat"), &text(thread, "stat"))).sum(),
            wakeups: threads.iter().map(|thread| field(&text(thread, "status"), "voluntary_ctxt_switches")).sum(),
            resident_bytes: field(&self.proc("status"), "VmRSS") * 1024,
        }
    }
}

/// A number in `/proc/PID/status`.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Processor time in nanoseconds where the kernel counts them, otherwise in its ticks of 10 ms.
fn cpu_time(schedstat: &str, stat: &str) -> Duration {
    let nanoseconds = schedstat.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    if nanoseconds > 0 {
        return Duration::from_nanos(nanoseconds);
    }
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    // Fields 14 and 15 of proc(5), of which the first two are the number and the name.
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// What the server uses during `window`.
#[track_caller]
pub fn usage_during(server: &Server, window: Duration) -> Usage {
    let before = server.usage();
    thread::sleep(window);
    let after = server.usage();
    assert!(after.wakeups > 0 && after.resident_bytes > 0, "this system does not tell what a process uses: {after:?}");
    Usage { cpu: after.cpu.saturating_sub(before.cpu), wakeups: after.wakeups.saturating_sub(before.wakeups), ..after }
}

/// How long a server is watched that should be doing nothing.
const IDLE_WINDOW: Duration = Duration::from_secs(1);

/// Whoever is stopped for so long and continued, with all others on the machine, is woken by that, too.
const STEADY: Duration = Duration::from_millis(100);

/// Expects that the server does nothing: under 1% of a core, and under 20 wake-ups a second.
#[track_caller]
pub fn assert_idle(server: &Server, while_what: &str) {
    while_steady(STEADY, || {
        let usage = usage_during(server, IDLE_WINDOW);
        let cpu_max = IDLE_WINDOW / 100;
        assert!(usage.cpu < cpu_max, "{:?} of processor time in {IDLE_WINDOW:?} while {while_what}", usage.cpu);
        let wakeups_max = 20 * IDLE_WINDOW.as_secs();
        assert!(usage.wakeups < wakeups_max, "{} wake-ups in {IDLE_WINDOW:?} while {while_what}", usage.wakeups);
    });
}
