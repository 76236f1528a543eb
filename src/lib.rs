//! lib
#![deny(unsafe_code)]

mod context;
mod handle;
mod log;
pub mod net;
mod observer;
pub mod poller;
mod scheduler;
mod signals;
mod slots;
mod sys;
mod table;
mod task;
mod timers;
mod wait_map;

pub use context::Context;
pub use handle::{Descriptor, Handle};
pub use log::{LOG_QUEUE_BYTES, Log, LogWriter};
pub use observer::{Observer, reason};
pub use scheduler::{SCRATCH_BYTES, Scheduler};
pub use signals::{Signal, Signals};
pub use table::{TaskInfo, TaskTable};
pub use task::{End, Side, Task, TaskId, Wait, WaitError, task_fn};
