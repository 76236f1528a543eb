//! The task table: what `ps` is for processes. Made when somebody asks; costs nothing while nobody does.

use crate::context::Context;
use crate::panics::said;
use crate::reason::Reason;
use crate::scheduler::Scheduler;
use crate::slots::Slot;
use crate::state::Core;
use crate::sys;
use crate::task::TaskId;
use crate::timers::NEVER;
use std::collections::BinaryHeap;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// More memory than it takes to tell of a task, and to show that in a [`TaskTable`], while lists and texts grow.
const INFO_BYTES: usize = 1024;

/// One live task, as it was when the snapshot was made.
#[derive(Clone, Debug)]
pub struct TaskInfo {
    /// Which task.
    pub id: TaskId,
    /// Its [`name`](crate::Task::name).
    pub name: String,
    /// What it waits for, and its [`progress`](crate::Task::progress): `send fd 7, 12 of 64 sent`.
    pub state: String,
    /// For how long it has been waiting, as of the beginning of this turn, to about 10 ms. Zero if it does not wait.
    pub since: Duration,
    /// How often it has been resumed.
    pub resumes: u64,
    /// Which task spawned it. Of a hand-written one this is known only if it did so by its [`Context`], not by a
    /// [`Handle`](crate::Handle).
    pub spawned_by: Option<TaskId>,
}

impl Core {
    /// The live tasks, in the order in which they were spawned.
    fn tasks(&self) -> Vec<TaskInfo> {
        // Who has no memory left may ask for this to learn why, and Rust would end the program.
        if sys::ensure_memory(self.slots.len() * INFO_BYTES).is_err() {
            return Vec::new();
        }
        // Deadlines are in a heap already. The sort of a vector would add kilobytes to every program, for this alone.
        let ids: BinaryHeap<_> = self.slots.ids().map(|id| (id.serial(), id.slot())).collect();
        let ids = ids.into_sorted_vec().into_iter().map(|(serial, slot)| TaskId::new(slot, serial));
        ids.filter_map(|id| Some(self.info(id, self.slots.get(id)?))).collect()
    }

    fn info(&self, id: TaskId, slot: &Slot) -> TaskInfo {
        let (resumes, spawned_by) = (slot.resumes, self.slots.spawned_by(id));
        let Some(task) = &slot.task else {
            let (name, state) = ("(this task)".to_owned(), "running".to_owned());
            return TaskInfo { id, name, state, since: Duration::ZERO, resumes, spawned_by };
        };
        let (mut state, since) = if self.is_waiting(id) {
            (self.wait_text(id, slot), Duration::from_nanos(self.clock.saturating_sub(slot.since)))
        } else {
            ("ready".to_owned(), Duration::ZERO)
        };
        let progress = said(|| task.progress().into_owned());
        if !progress.is_empty() {
            let _ = write!(state, ", {progress}");
        }
        TaskInfo { id, name: said(|| task.name().into_owned()), state, since, resumes, spawned_by }
    }

    fn wait_text(&self, id: TaskId, slot: &Slot) -> String {
        let mut text = String::new();
        // What there is to say of a deadline, alone or beside something else, comes last.
        if slot.reason != Reason::UNTIL {
            let _ = write!(text, " or {}", slot.reason.wait(|| self.mailbox.now()));
        }
        for wait in self.slots.also(id) {
            let _ = write!(text, " or {wait}");
        }
        if slot.deadline != NEVER {
            let left = Duration::from_nanos(slot.deadline.saturating_sub(self.clock));
            let _ = write!(text, " or until +{}", tenths(left));
        }
        text.trim_start_matches(" or ").to_owned()
    }
}

impl Scheduler {
    /// The live tasks, in the order in which they were spawned. None of them, if the memory that is left is too little to tell of
    /// all.
    pub fn tasks(&self) -> Vec<TaskInfo> {
        self.core.tasks()
    }
}

impl Context<'_> {
    /// The live tasks, in the order in which they were spawned. The one that asks is in there as `(this task)`. None of them,
    /// if the memory that is left is too little to tell of all.
    pub fn tasks(&self) -> Vec<TaskInfo> {
        self.core.tasks()
    }
}

/// Shows tasks as a table with aligned columns, a line each, the first line naming the columns:
/// - `ID`: the task's number, counted from 1.
/// - `BY`: the number of the task that [spawned it](TaskInfo::spawned_by); `-` if none did, or if that is not known.
/// - `RESUMES`: how often it has been resumed.
/// - `SINCE`: for how long it has [been waiting](TaskInfo::since).
/// - `TASK`: its [`name`](crate::Task::name); `(this task)` is the one that asks.
/// - `WAITS FOR`: its [wait](crate::Wait), with its [`progress`](crate::Task::progress) behind it; `ready` if it waits for its
///   turn only, `wake` for another task or thread, `until +0.1 s` for an instant that is so far away.
///
/// ```
/// use fdtask::{Scheduler, TaskTable, Wait, task_fn};
///
/// let mut scheduler = Scheduler::new();
/// scheduler.spawn(task_fn("ticker", |_| Ok(Wait::Turn)));
/// let table = TaskTable(&scheduler.tasks()).to_string();
/// assert!(table.starts_with("ID  BY  RESUMES     SINCE  TASK    WAITS FOR\n"), "{table}");
/// assert!(table.contains("ticker  ready"));
/// ```
pub struct TaskTable<'a>(pub &'a [TaskInfo]);

impl fmt::Display for TaskTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |info: &TaskInfo| {
            let by = info.spawned_by.map_or_else(|| "-".to_owned(), |id| id.to_string());
            [info.id.to_string(), by, info.resumes.to_string(), tenths(info.since), info.name.clone()]
        };
        let mut widths = [2, 2, 7, 8, 4];
        for info in self.0 {
            for (width, cell) in widths.iter_mut().zip(cells(info)) {
                *width = cell.chars().count().max(*width);
            }
        }
        let [id_width, by_width, resumes_width, since_width, name_width] = widths;
        let mut line = |[id, by, resumes, since, name]: [&str; 5], state: &str| {
            writeln!(
                f,
                "{id:>id_width$}  {by:>by_width$}  {resumes:>resumes_width$}  {since:>since_width$}  {name:<name_width$}  {state}"
            )
        };
        line(["ID", "BY", "RESUMES", "SINCE", "TASK"], "WAITS FOR")?;
        for info in self.0 {
            line(cells(info).each_ref().map(String::as_str), &info.state)?;
        }
        Ok(())
    }
}

/// A duration to the nearest tenth of a second: `0.3 s`.
fn tenths(duration: Duration) -> String {
    let rounded = duration.saturating_add(Duration::from_millis(50));
    format!("{}.{} s", rounded.as_secs(), rounded.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_to_the_nearest_tenth_of_a_second() {
        let cases = [(0, "0.0 s"), (49, "0.0 s"), (50, "0.1 s"), (949, "0.9 s"), (950, "1.0 s"), (12_340, "12.3 s")];
        for (milliseconds, text) in cases {
            assert_eq!(tenths(Duration::from_millis(milliseconds)), text, "{milliseconds} ms");
        }
        // Anybody may make one, and show it.
        assert_eq!(tenths(Duration::MAX), "18446744073709551615.9 s");
    }
}
