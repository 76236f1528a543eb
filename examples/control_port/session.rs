//! What is said at the control port.

use crate::SESSIONS_MAX;
use fdtask::channel::{Sender, channel};
use fdtask::future::{Promise, linger, next_turn, promise, send_all, timeout};
use fdtask::net::{Lines, Stream};
use fdtask::{Handle, TaskTable, Wait, task_fn};
use std::io;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

/// A session ends when there has been no command for so long, or when its answer has not been taken, …
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// … and so long after its last words if the other end does not close it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a command may be.
const COMMAND_BYTES_MAX: usize = 256;
/// What `telnet` asks when Ctrl-C is typed; it shows nothing any more until it is answered (RFC 860).
const DO_TIMING_MARK: [u8; 3] = *b"\xff\xfd\x06";
const WONT_TIMING_MARK: [u8; 3] = *b"\xff\xfc\x06";
/// How long to wait between two task tables. With thousands of clients each takes milliseconds, in which nobody is served.
const TABLE_PAUSE: Duration = Duration::from_millis(100);

/// Where a session asks for the task table.
pub type Tables = Sender<Promise<Arc<str>>>;

/// Makes task tables: one for all who have asked since the last. A future has no [`Context`](fdtask::Context), which is what the
/// table is asked of, so this is a task by hand.
pub fn tables(scheduler: &Handle) -> Tables {
    let (tables, asked) = channel::<Promise<Arc<str>>>(scheduler, SESSIONS_MAX);
    scheduler.spawn_service(task_fn("task tables", move |cx| {
        let promises: Vec<_> = iter::from_fn(|| asked.try_recv().ok()).collect();
        if promises.is_empty() {
            return Ok(asked.wait(cx));
        }
        let table: Arc<str> = TaskTable(&cx.tasks()).to_string().into();
        for promise in promises {
            promise.keep(Arc::clone(&table));
        }
        Ok(Wait::Until(cx.now() + TABLE_PAUSE))
    }));
    tables
}

/// Serves someone at the control port.
pub async fn session(scheduler: Handle, stream: Stream, tables: Tables) -> io::Result<()> {
    // One more, for the end of the line.
    let mut lines = Lines::new(COMMAND_BYTES_MAX + 1);
    send_all(&stream, b"Type 'help' for help.\n> ").await?;
    while timeout(&scheduler, COMMAND_TIMEOUT, command(&stream, &mut lines, &tables)).await?? {
        next_turn().await;
    }
    linger(&stream, LINGER_TIMEOUT).await
}

/// Carries out one command, and returns whether there may be another.
async fn command(stream: &Stream, lines: &mut Lines, tables: &Tables) -> io::Result<bool> {
    let Some(line) = lines.recv(stream).await? else { return Ok(false) };
    if line.windows(3).any(|bytes| bytes == DO_TIMING_MARK) {
        send_all(stream, &WONT_TIMING_MARK).await?;
    }
    let is_too_long = line.len() > COMMAND_BYTES_MAX && !line.ends_with(b"\n");
    let (answer, goes_on) = match line.trim_ascii() {
        _ if is_too_long => (format!("A command has at most {COMMAND_BYTES_MAX} bytes. Good-bye.\n"), false),
        b"quit" => ("Good-bye.\n".to_owned(), false),
        b"ps" => {
            let (promise, promised) = promise();
            tables.send(promise).await?;
            send_all(stream, promised.await?.as_bytes()).await?;
            ("> ".to_owned(), true)
        }
        b"help" => ("ps    shows the tasks\nhelp  shows this\nquit  ends this session\n> ".to_owned(), true),
        b"" => ("> ".to_owned(), true),
        other => (format!("Sorry, '{}' is not a command; try 'help'.\n> ", other.escape_ascii()), true),
    };
    send_all(stream, answer.as_bytes()).await?;
    Ok(goes_on)
}
