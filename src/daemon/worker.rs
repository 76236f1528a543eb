//! One worker of the daemon: a scheduler, its acceptors, its log.

use super::arguments::Config;
use super::cannot;
use super::fleet::Fleet;
use super::journal::Journal;
use fdtask::net::{Acceptor, Echo, Limit, Listener};
use fdtask::{Diagnostics, Log, Scheduler, TaskId};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long the end of the program waits for the log's last lines to be read.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(80);

/// A worker that is ready to run, on the thread that has made it.
pub struct Worker {
    pub scheduler: Scheduler,
    pub out: Log,
    pub diagnostics: Log,
    acceptors: Vec<TaskId>,
}

impl Worker {
    /// A worker that accepts from nowhere yet.
    ///
    /// # Errors
    /// A line that says why it cannot begin.
    pub fn new(config: &Config) -> Result<Worker, String> {
        let mut scheduler = Scheduler::with_poller((config.poller)());
        let out = log_to(&mut scheduler, "log to stdout", io::stdout().as_fd())?;
        let diagnostics = log_to(&mut scheduler, "log to stderr", io::stderr().as_fd())?;
        Ok(Worker { scheduler, out, diagnostics, acceptors: Vec::new() })
    }

    /// Accepts from these, too, as far as the limit has room.
    ///
    /// # Errors
    /// A line that says why it cannot.
    pub fn accept_from(
        &mut self,
        config: &Config,
        listeners: Vec<Listener>,
        limit: Option<&Limit>,
    ) -> Result<(), String> {
        if limit.is_some() {
            // Whoever shares the limit wakes the acceptors by way of this, for which there may be no descriptors later.
            self.scheduler.remote().map_err(cannot("reach a worker"))?;
        }
        for listener in listeners {
            let log = (!config.quiet).then(|| self.out.clone());
            let idle_timeout = config.idle_timeout;
            let acceptor = Acceptor::new(&self.scheduler.handle(), listener, move |stream, peer| {
                if let Some(log) = &log {
                    log.line(&format!("Connection from {peer}"));
                }
                Echo::new(stream, peer).with_idle_timeout(idle_timeout)
            });
            self.acceptors.push(self.scheduler.spawn(acceptor.with_limit(limit.cloned())));
        }
        Ok(())
    }

    /// Runs until everything has ended. `control` is the task that receives the signals, if this worker has it.
    pub fn run(mut self, config: &Config, fleet: &Fleet, control: Option<TaskId>) {
        self.scheduler.observe(Journal {
            out: self.out.clone(),
            diagnostics: Diagnostics::to_log("fdtask", self.diagnostics.clone()),
            quiet: config.quiet,
            control,
            acceptors: self.acceptors,
            fleet: fleet.clone(),
            scheduler: self.scheduler.handle(),
            drain_timeout: config.drain_timeout,
        });
        self.scheduler.run();
        let begin = Instant::now();
        let (others_by, by) = (begin + FLUSH_TIMEOUT * 3 / 4, begin + FLUSH_TIMEOUT);
        self.scheduler.cancel_all();
        if control.is_some() {
            // They write their last lines, too, and their threads end with the process. If they cannot be heard, nobody waits.
            if fleet.has_others() && fleet.wait_for_others(&mut self.scheduler, Some(others_by)).is_ok() {
                self.scheduler.run();
            }
            let cut_off = fleet.shared().cut_off;
            match cut_off {
                0 => {}
                1 => self.diagnostics.line("fdtask: cut off 1 client, which had not hung up"),
                clients => self.diagnostics.line(&format!("fdtask: cut off {clients} clients, which had not hung up")),
            }
            // Before somebody waits for it: as long as nobody can poll, each poll is a pause.
            self.scheduler.turn();
        }
        // To cut off thousands of clients takes a part of the time, but never more than three quarters of it.
        let patience = by.saturating_duration_since(Instant::now()).max(FLUSH_TIMEOUT / 4);
        self.scheduler.spawn(self.out.flush(patience));
        self.scheduler.spawn(self.diagnostics.flush(patience));
        self.scheduler.run();
    }
}

fn log_to(scheduler: &mut Scheduler, name: &'static str, fd: BorrowedFd<'_>) -> Result<Log, String> {
    let fd = fd.try_clone_to_owned().map_err(cannot(&format!("write the {name}")))?;
    let (log, writer) = Log::new(scheduler.handle(), name, fd);
    scheduler.spawn_service(writer);
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::super::arguments::{Request, parse};
    use super::*;
    use fdtask::poller::Sim;
    use fdtask::{Wait, task_fn};
    use std::io::Read;

    #[test]
    fn the_last_line_is_written_without_a_poll_which_may_fail_and_is_a_pause_then() {
        let Ok(Request::Serve(config)) = parse(Vec::new()) else { panic!("nothing is asked for") };
        let (sim, script) = Sim::new();
        let mut scheduler = Scheduler::with_poller(Box::new(sim));
        let (mut said, fd) = io::pipe().expect("a pipe");
        let [out, diagnostics] = [fd.try_clone().expect("a descriptor"), fd].map(|fd| {
            let (log, writer) = Log::new(scheduler.handle(), "log", fd.into());
            scheduler.spawn_service(writer);
            log
        });
        scheduler.turn();
        let control = scheduler.spawn_service(task_fn("control", |_| Ok(Wait::Wake)));
        let fleet = Fleet::default();
        fleet.shared().cut_off = 1;
        Worker { scheduler, out, diagnostics, acceptors: Vec::new() }.run(&config, &fleet, Some(control));
        let mut text = String::new();
        said.read_to_string(&mut text).expect("the lines");
        assert_eq!((text.as_str(), script.waits()), ("fdtask: cut off 1 client, which had not hung up\n", 0));
    }
}
