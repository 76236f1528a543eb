//! Where no memory is left for what is logged or received, it goes on when there is some. A program of its own, because of its
//! allocator.

#![allow(unsafe_code, reason = "a global allocator is an unsafe trait; this one only refuses and passes on")]

use fdtask::future::{self, recv_more};
use fdtask::net::Stream;
use fdtask::{Log, Scheduler, Wait, task_fn};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

/// Refuses a thread more than so many bytes at once.
struct Sparing;

thread_local! {
    static BYTES_MAX: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[global_allocator]
static SPARING: Sparing = Sparing;

// SAFETY: every call is passed on to the system's allocator as it is, or answered that no memory is left; the thread-local
// neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Sparing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > BYTES_MAX.get() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn a_line_for_which_no_memory_is_left_is_told_of_and_what_follows_is_logged() {
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut scheduler = Scheduler::new();
    let (log, writer) = Log::new(scheduler.handle(), "log", writer.into());
    scheduler.spawn_service(writer);
    let text = "x".repeat(32 * 1024);
    // Everything that there is has been written, so nobody but a line wakes the writer.
    scheduler.turn();
    BYTES_MAX.set(16 * 1024);
    log.line(&text);
    BYTES_MAX.set(usize::MAX);
    log.line("too early");
    scheduler.spawn(log.flush(Duration::from_secs(1)));
    scheduler.run();
    log.line("in time");
    drop((scheduler, log));
    assert_eq!(io::read_to_string(reader).expect("lines"), "(2 log lines were dropped)\nin time\n");
}

#[test]
fn what_a_future_has_no_memory_to_receive_into_is_received_when_there_is_some() {
    let mut scheduler = Scheduler::new();
    let (mut far, near) = UnixStream::pair().expect("a pair");
    far.write_all(b"hello").expect("there is room");
    let stream = Stream::new(&scheduler.handle(), near).expect("a socket");
    let received = Rc::new(Cell::new(0));
    let answer = Rc::clone(&received);
    scheduler.spawn(future::task(async move {
        answer.set(recv_more(&stream, &mut Vec::new()).await?);
        Ok(())
    }));
    let (mut turns, so_far) = (0, Rc::clone(&received));
    scheduler.spawn(task_fn("memory comes back", move |_| {
        turns += 1;
        if turns < 5 {
            return Ok(Wait::Turn);
        }
        assert_eq!(so_far.get(), 0, "there was no memory");
        BYTES_MAX.set(usize::MAX);
        Ok(Wait::Done)
    }));
    BYTES_MAX.set(16 * 1024);
    scheduler.run();
    assert_eq!((received.get(), BYTES_MAX.get()), (5, usize::MAX));
}
