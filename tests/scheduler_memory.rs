//! What tasks cost: nothing per message, and nothing that stays when they have ended. Row 32 of the faults, at the
//! scheduler's layer; the allocations of this very thread are counted.

#![allow(unsafe_code, reason = "a global allocator is an unsafe trait; this one only counts and passes on")]

use fdtask::net::{Echo, Stream};
use fdtask::poller::{Happening, Poll, Sim, default_poller};
use fdtask::{Context, Descriptor, Scheduler, Side, Signal, Signals, Task, TaskId, Wait, task_fn};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::io::{self, PipeReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts, for each thread, how often memory was asked for and how much of it is in use.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator as it is; counting touches nothing but two thread-locals that
// neither allocate nor have destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How many tasks a generation has.
const GENERATION: usize = 100;

/// One test at a time: they open and close descriptors, and one of them looks at which numbers are free.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task that lives for a moment and ends in one of every way.
struct Mortal {
    kind: usize,
    resumes: usize,
    /// Nothing is ever in it.
    pipe: Rc<PipeReader>,
    owned: Option<Descriptor>,
}

impl Task for Mortal {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.resumes += 1;
        if self.resumes == 1 && self.kind > 9 {
            return Ok(Wait::Turn);
        }
        match self.kind % 10 {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            1 => resume_unwind(Box::new("on purpose")),
            // These are cancelled: by themselves, and by their parent while they sleep, wait, or have a deadline.
            2 => {
                cx.cancel(cx.id());
                Ok(Wait::Wake)
            }
            3 => Ok(Wait::Until(cx.now() + Duration::from_secs(3_600))),
            // Of several that wait for it all but one are refused.
            4 => {
                cx.or(Wait::Until(cx.now() + Duration::from_secs(3_600)));
                Ok(Wait::Recv(self.pipe.as_raw_fd()))
            }
            5 => {
                cx.or(Wait::Until(cx.now() + Duration::from_secs(3_600 + self.resumes as u64)));
                Ok(Wait::Wake)
            }
            6 => Ok(Wait::Wake),
            7 => {
                let owned = self.owned.insert(cx.adopt(self.pipe.try_clone()?));
                cx.or(Wait::Until(cx.now() + Duration::from_secs(3_600)));
                Ok(Wait::Recv(owned.as_raw_fd()))
            }
            _ => Ok(Wait::Done),
        }
    }
}

#[test]
fn a_million_tasks_that_have_ended_leave_nothing_behind() {
    let _alone = alone();
    let free = io::pipe().expect("a pipe");
    let free_number = free.0.as_raw_fd();
    drop(free);
    let mut scheduler = Scheduler::new();
    let (pipe, silent) = io::pipe().expect("a pipe");
    let pipe = Rc::new(pipe);
    let children: Rc<RefCell<Vec<TaskId>>> = Rc::default();
    let mut generation = 0;
    let young = children.clone();
    let spawned = Rc::new(Cell::new(0_usize));
    let count = spawned.clone();
    // In every other turn it makes a generation, in the other it ends whoever of it is left.
    scheduler.spawn(task_fn("parent", move |cx| {
        let mut young = young.borrow_mut();
        if young.is_empty() {
            generation += 1;
            young.extend((0..GENERATION).map(|index| {
                let kind = (generation + index) % 20;
                cx.spawn(Mortal { kind, resumes: 0, pipe: Rc::clone(&pipe), owned: None })
            }));
            count.set(count.get() + GENERATION);
        } else {
            young.drain(..).for_each(|id| cx.cancel(id));
        }
        Ok(Wait::Turn)
    }));
    let until = |scheduler: &mut Scheduler, tasks: usize| {
        while spawned.get() < tasks || !children.borrow().is_empty() {
            scheduler.turn();
        }
        scheduler.turn();
        while !children.borrow().is_empty() {
            scheduler.turn();
        }
        scheduler.turn();
        scheduler.turn();
        BYTES.get()
    };
    let after_some = until(&mut scheduler, 50_000);
    let after_many = until(&mut scheduler, 1_000_000);
    // A single word per task would be eight megabytes.
    assert!(after_many - after_some < 4_096, "{} bytes have stayed", after_many - after_some);
    let live: Vec<String> = scheduler.tasks().into_iter().map(|task| task.name).collect();
    assert!(live.len() <= 1 + GENERATION, "{} tasks are left", live.len());
    let before_end = BYTES.get();
    scheduler.cancel_all();
    assert!(scheduler.tasks().is_empty());
    assert!(BYTES.get() <= before_end);
    drop(scheduler);
    drop(silent);
    let free = io::pipe().expect("a pipe");
    assert_eq!(free.0.as_raw_fd(), free_number, "every descriptor is closed");
}

/// A socket pair served by a task that `serve` makes of the near end; the far end is the client's.
fn served<T: Task + 'static>(scheduler: &mut Scheduler, serve: impl FnOnce(UnixStream) -> T) -> UnixStream {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    near.set_nonblocking(true).expect("a socket can be non-blocking");
    far.set_nonblocking(true).expect("a socket can be non-blocking");
    scheduler.spawn(serve(near));
    far
}

fn exchange(scheduler: &mut Scheduler, mut client: &UnixStream, answer_bytes: usize) {
    let mut buffer = [0; 256];
    client.write_all(&[b'm'; 64]).expect("room");
    let mut received = 0;
    while received < answer_bytes {
        scheduler.turn();
        match client.read(&mut buffer) {
            Ok(count) => received += count,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(received, answer_bytes);
}

/// An echo with a deadline that moves with every message, and a second wait beside the first.
struct Impatient {
    socket: UnixStream,
    other: UnixStream,
}

impl Task for Impatient {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        if cx.timed_out() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let scratch = cx.scratch();
        if let Ok(received) = self.socket.read(scratch) {
            let _ = self.socket.write(&scratch[..received])?;
        }
        cx.or(Wait::Until(cx.now() + Duration::from_secs(60)));
        cx.or(Wait::Recv(self.other.as_raw_fd()));
        Ok(Wait::Recv(self.socket.as_raw_fd()))
    }
}

#[test]
fn a_message_allocates_nothing() {
    let _alone = alone();
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    for poller in [|| Box::new(Poll::new()) as _, default_poller] {
        let mut scheduler = Scheduler::with_poller(poller());
        // The clients are in this thread, so no turn may sleep.
        scheduler.spawn_service(task_fn("busy", |_| Ok(Wait::Turn)));
        let handle = scheduler.handle();
        let new_echo = |near| Echo::new(Stream::new(&handle, near).expect("it can be non-blocking"), nobody);
        let echo = served(&mut scheduler, new_echo);
        let timed = served(&mut scheduler, |near| new_echo(near).with_idle_timeout(Some(Duration::from_secs(60))));
        let impatient = served(&mut scheduler, |socket| {
            let (other, far) = UnixStream::pair().expect("a socket pair");
            // It stays open and silent for as long as the process lives.
            std::mem::forget(far);
            Impatient { socket, other }
        });
        let idle: Vec<_> = (0..32).map(|_| served(&mut scheduler, new_echo)).collect();
        let round = |scheduler: &mut Scheduler, number: usize| {
            exchange(scheduler, &echo, 68);
            exchange(scheduler, &timed, 68);
            exchange(scheduler, &impatient, 64);
            // Each of these is idle for long between two messages.
            if number.is_multiple_of(8) {
                exchange(scheduler, &idle[number / 8 % idle.len()], 68);
            }
        };
        (0..2_000).for_each(|number| round(&mut scheduler, number));
        let before = (ALLOCATIONS.get(), BYTES.get());
        (0..4_000).for_each(|number| round(&mut scheduler, number));
        assert_eq!((ALLOCATIONS.get(), BYTES.get()), before, "12,500 messages have allocated");
    }
}

#[test]
fn while_nobody_can_poll_for_want_of_memory_the_scheduler_asks_for_none() {
    let _alone = alone();
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    for fd in 1_000..2_000 {
        scheduler.spawn(task_fn("client", move |_| Ok(Wait::Recv(fd))));
    }
    let signals = Signals::new(&scheduler.handle(), &[Signal::Hangup]).expect("signals can be received");
    scheduler.spawn_service(task_fn("signals", move |_| Ok(Wait::Recv(signals.as_raw_fd()))));
    for _ in 0..20 {
        script.fail_next_wait(io::ErrorKind::OutOfMemory);
    }
    let mut fail = || (0..10).for_each(|_| assert!(scheduler.turn()));
    fail();
    let before = ALLOCATIONS.get();
    fail();
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
fn memory_does_not_grow_with_deadlines_that_are_set_and_met() {
    let _alone = alone();
    let mut scheduler = Scheduler::new();
    let turns = Rc::new(Cell::new(0_usize));
    for index in 0..50_u64 {
        let turns = turns.clone();
        scheduler.spawn(task_fn("ticker", move |cx| {
            turns.set(turns.get() + 1);
            // A far deadline that is always replaced by a near one, and a near one that is met.
            cx.or(Wait::Until(cx.now() + Duration::from_millis(3_600_000 - index)));
            Ok(if turns.get().is_multiple_of(3) {
                Wait::Turn
            } else {
                Wait::Until(cx.now() + Duration::from_nanos(index))
            })
        }));
    }
    let until = |scheduler: &mut Scheduler, resumes: usize| {
        while turns.get() < resumes {
            scheduler.turn();
        }
        BYTES.get()
    };
    let after_some = until(&mut scheduler, 20_000);
    let after_many = until(&mut scheduler, 200_000);
    assert!(after_many - after_some < 4_096, "{} bytes have stayed", after_many - after_some);
}

#[test]
fn what_is_said_to_a_scheduler_that_is_gone_is_kept_nowhere() {
    let _alone = alone();
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let id = scheduler.spawn(task_fn("sleeper", |_| Ok(Wait::Wake)));
    drop(scheduler);
    let speak = |times: usize| {
        for _ in 0..times {
            handle.wake(id);
            handle.cancel(id);
            handle.spawn(task_fn("late", |_| Ok(Wait::Done)));
            let (near, _far) = UnixStream::pair().expect("a pair");
            drop(handle.adopt(near));
        }
    };
    // Once, for the set of descriptor numbers to grow.
    speak(1);
    let before = BYTES.get();
    speak(1_000);
    assert_eq!(BYTES.get(), before);
}

#[test]
fn tasks_that_have_fired_and_are_cancelled_before_their_turn_leave_nothing_behind() {
    let _alone = alone();
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    script.now(Happening::Ready(3, Side::Recv));
    let mut after_the_first = None;
    for _ in 0..10 * GENERATION {
        let task = scheduler.spawn(task_fn("task", |_| Ok(Wait::Recv(3))));
        scheduler.turn();
        scheduler.handle().cancel(task);
        assert!(!scheduler.turn(), "it was resumed once, and there is nobody else");
        after_the_first.get_or_insert(BYTES.get());
    }
    assert_eq!(Some(BYTES.get()), after_the_first);
}

#[test]
fn what_a_task_has_waited_for_beside_its_wait_is_forgotten_when_it_has_ended() {
    let _alone = alone();
    let (sim, _script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    let mut in_use = [0; 2];
    for (waits_for_both, in_use) in [false, true].into_iter().zip(&mut in_use) {
        let tasks: Vec<TaskId> = (0..GENERATION as i32)
            .map(|fd| {
                scheduler.spawn(task_fn("task", move |cx| {
                    waits_for_both.then(|| cx.or(Wait::Send(fd)));
                    Ok(Wait::Recv(fd))
                }))
            })
            .collect();
        scheduler.turn();
        for task in tasks {
            scheduler.handle().cancel(task);
        }
        assert!(!scheduler.turn());
        *in_use = BYTES.get();
    }
    // The map of those who wait to send has come into being, and nothing that is kept for each task.
    let map_bytes = 2 * 4 * GENERATION as isize + 24 * GENERATION as isize;
    assert!(in_use[1] - in_use[0] < map_bytes + 2048, "{in_use:?}");
}

#[test]
fn memory_does_not_grow_with_deadlines_that_come_ever_sooner() {
    let _alone = alone();
    let (sim, script) = Sim::new();
    let mut scheduler = Scheduler::with_poller(Box::new(sim));
    script.now(Happening::Ready(3, Side::Recv));
    let mut until = scheduler.handle().now() + Duration::from_secs(3_600);
    scheduler.spawn(task_fn("task", move |cx| {
        until -= Duration::from_micros(1);
        cx.or(Wait::Until(until));
        Ok(Wait::Recv(3))
    }));
    let mut after = |turns: usize| {
        for _ in 0..turns {
            assert!(scheduler.turn());
        }
        BYTES.get()
    };
    let in_use = after(GENERATION);
    assert_eq!(after(100 * GENERATION), in_use);
}
