//! What a server costs: processor time, wake-ups, memory. Linux tells.

use super::Server;
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
    /// What it has used so far.
    #[track_caller]
    pub fn usage(&self) -> Usage {
        let status = self.proc("status");
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
            value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no number for {name} in {status}"))
        };
        Usage { cpu: self.cpu_time(), wakeups: field("voluntary_ctxt_switches"), resident_bytes: field("VmRSS") * 1024 }
    }

    /// Processor time in nanoseconds where the kernel counts them, otherwise in its ticks of 10 ms.
    fn cpu_time(&self) -> Duration {
        let schedstat = self.proc("schedstat");
        let nanoseconds = schedstat.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if nanoseconds > 0 {
            return Duration::from_nanos(nanoseconds);
        }
        let stat = self.proc("stat");
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        // Fields 14 and 15 of proc(5), of which the first two are the number and the name.
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// What the server uses during `window`.
#[track_caller]
pub fn usage_during(server: &Server, window: Duration) -> Usage {
    let before = server.usage();
    thread::sleep(window);
    let after = server.usage();
    Usage { cpu: after.cpu.saturating_sub(before.cpu), wakeups: after.wakeups - before.wakeups, ..after }
}

/// How long a server is watched that should be doing nothing.
const IDLE_WINDOW: Duration = Duration::from_secs(1);

/// Expects that the server does nothing: under 1% of a core, and under 20 wake-ups a second.
#[track_caller]
pub fn assert_idle(server: &Server, while_what: &str) {
    let usage = usage_during(server, IDLE_WINDOW);
    let cpu_max = IDLE_WINDOW / 100;
    assert!(usage.cpu < cpu_max, "{:?} of processor time in {IDLE_WINDOW:?} while {while_what}", usage.cpu);
    let wakeups_max = 20 * IDLE_WINDOW.as_secs();
    assert!(usage.wakeups < wakeups_max, "{} wake-ups in {IDLE_WINDOW:?} while {while_what}", usage.wakeups);
}
