//! What the tests of futures share: a socket that the scheduler closes, turns that pass, and what a future returns.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use fdtask::future::{self, TimedOut, task};
use fdtask::{Descriptor, Handle, Scheduler, Wait, task_fn};
use std::cell::RefCell;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

/// Longer than anything takes that these tests wait for.
pub const LONG: Duration = Duration::from_secs(20);

/// A socket of the scheduler's, and its other end.
pub fn pair(scheduler: &Scheduler) -> (Descriptor, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    near.set_nonblocking(true).expect("non-blocking");
    far.set_read_timeout(Some(LONG)).expect("a timeout");
    (scheduler.adopt(near), far)
}

/// Whether the other end of `far` is closed.
pub fn is_closed(mut far: &UnixStream) -> bool {
    matches!(far.read(&mut [0]), Ok(0))
}

/// Lets a few turns pass, in which nobody sleeps.
pub fn turns(scheduler: &mut Scheduler) {
    let mut left = 6;
    scheduler.spawn(task_fn("turns", move |cx| {
        left -= 1;
        if left == 0 {
            cx.stop();
            return Ok(Wait::Done);
        }
        Ok(Wait::Turn)
    }));
    scheduler.run();
}

/// Has another task wait for this socket, in vain.
pub async fn wait_in_another_task(handle: &Handle, socket: Rc<Descriptor>) -> Result<io::Result<()>, TimedOut> {
    let own = handle.clone();
    let waiting = future::spawn(handle, async move {
        future::timeout(&own, Duration::from_millis(10), future::readable(&socket)).await
    });
    waiting.await.expect("it is not cancelled")
}

/// Runs `future` and returns what it returns.
pub fn run<T: 'static>(scheduler: &mut Scheduler, future: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(RefCell::new(None));
    let place = Rc::clone(&result);
    scheduler.spawn(task(async move {
        *place.borrow_mut() = Some(future.await);
        Ok(())
    }));
    scheduler.run();
    result.take().expect("the future has ended")
}
