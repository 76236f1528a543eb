//! Random tasks that poll futures of one pool, so that these go from one task to another at any moment: a future that is ready is
//! polled again by the task that polled it last.

#[path = "common/futures.rs"]
mod futures;
#[path = "common/random.rs"]
mod random;

use fdtask::future::{readable, sleep, task};
use fdtask::{Descriptor, Scheduler, TaskId};
use futures::{pair, turns};
use futures_util::future::{FutureExt, LocalBoxFuture};
use random::Random;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

/// How many runs there are.
const SEEDS: u64 = 1_000;

/// How many things happen in a run, before everything becomes ready.
const STEPS: usize = 12;

const TASKS: usize = 4;
const SOCKETS: usize = 3;
const FUTURES: usize = 7;

const SLEEP: Duration = Duration::from_micros(300);

type Waits = LocalBoxFuture<'static, io::Result<()>>;

/// As a combinator has it: not the task's own.
struct OtherWaker(Waker);

impl Wake for OtherWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

struct Place {
    /// Which socket it waits for; none: it sleeps.
    socket: Option<usize>,
    /// `None` when it is over.
    future: Option<Waits>,
    /// The task that has polled it last, if that has not ended.
    polled_by: Option<usize>,
}

struct Run {
    scheduler: Scheduler,
    sockets: Vec<(Rc<Descriptor>, UnixStream)>,
    pool: Rc<RefCell<Vec<Place>>>,
    random: Rc<RefCell<Random>>,
    /// Nobody takes over anything any more.
    is_settled: Rc<Cell<bool>>,
    tasks: Vec<TaskId>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let scheduler = Scheduler::new();
        let sockets = (0..SOCKETS).map(|_| pair(&scheduler)).map(|(near, far)| (Rc::new(near), far)).collect();
        let (pool, random) = (Rc::default(), Rc::new(RefCell::new(Random::new(seed))));
        let mut run = Run { scheduler, sockets, pool, random, is_settled: Rc::default(), tasks: Vec::new() };
        for _ in 0..FUTURES {
            let socket = Some(run.below(SOCKETS + 2)).filter(|socket| *socket < SOCKETS);
            let place = Place { socket, future: Some(run.future(socket)), polled_by: None };
            run.pool.borrow_mut().push(place);
        }
        run.tasks = (0..TASKS).map(|number| run.spawn(number)).collect();
        run
    }

    fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    fn future(&self, socket: Option<usize>) -> Waits {
        let Some(socket) = socket else { return sleep(&self.scheduler.handle(), SLEEP).map(Ok).boxed_local() };
        let socket = Rc::clone(&self.sockets[socket].0);
        async move { readable(&socket).await }.boxed_local()
    }

    /// A task that polls what it has polled last, as every future is polled whose waker is the task's, and whatever it likes.
    fn spawn(&mut self, number: usize) -> TaskId {
        let (pool, random, is_settled) = (Rc::clone(&self.pool), Rc::clone(&self.random), Rc::clone(&self.is_settled));
        self.scheduler.spawn(task(poll_fn(move |cx| {
            for index in 0..FUTURES {
                let [likes, is_combined] = [(); 2].map(|()| random.borrow_mut().below(3) == 0);
                let is_own = pool.borrow()[index].polled_by == Some(number);
                let Some(mut future) =
                    pool.borrow_mut()[index].future.take_if(|_| is_own || likes && !is_settled.get())
                else {
                    continue;
                };
                let other = Waker::from(Arc::new(OtherWaker(cx.waker().clone())));
                let outcome = if is_combined {
                    future.poll_unpin(&mut Context::from_waker(&other))
                } else {
                    future.poll_unpin(cx)
                };
                let place = &mut pool.borrow_mut()[index];
                place.polled_by = Some(number);
                place.future = Some(future).filter(|_| outcome.is_pending());
            }
            Poll::Pending
        })))
    }

    fn step(&mut self) {
        let (what, number, index) = (self.below(6), self.below(TASKS), self.below(FUTURES));
        match what {
            0 | 1 => self.scheduler.handle().wake(self.tasks[number]),
            2 => {
                let future = Some(self.future(self.pool.borrow()[index].socket));
                let before = std::mem::replace(&mut self.pool.borrow_mut()[index].future, future);
                self.pool.borrow_mut()[index].polled_by = None;
                drop(before);
            }
            3 => {
                self.scheduler.handle().cancel(self.tasks[number]);
                self.scheduler.handle().stop();
                // It ends here, and the next one may have its slot.
                self.scheduler.run();
                for place in self.pool.borrow_mut().iter_mut() {
                    place.polled_by = place.polled_by.filter(|task| *task != number);
                }
                self.tasks[number] = self.spawn(number);
            }
            4 => self.sockets[index % SOCKETS].1.write_all(b"!").expect("room"),
            _ => thread::sleep(SLEEP),
        }
        if self.below(3) > 0 {
            turns(&mut self.scheduler);
        }
        for (near, _) in &self.sockets {
            let _ = rustix::io::read(near, &mut [0; 64]);
        }
    }
}

#[test]
fn a_future_that_is_ready_is_polled_by_the_task_that_polled_it_last_wherever_it_was_before() {
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
        }
        run.is_settled.set(true);
        run.sockets.iter_mut().for_each(|(_, far)| far.write_all(b"!").expect("room"));
        thread::sleep(SLEEP);
        for _ in 0..4 {
            turns(&mut run.scheduler);
        }
        let is_lost = |place: &Place| place.future.is_some() && place.polled_by.is_some();
        assert!(!run.pool.borrow().iter().any(is_lost), "seed {seed}: a task sleeps, and its future is ready");
    }
}
