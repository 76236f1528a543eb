//! Random futures in virtual time, over real sockets: whatever they wait for in whatever combination, the scheduler never sleeps
//! while something is so that one of them waits for.
//!
//! It is to futures what `src/model_test.rs` is to tasks that are written by hand. Each single wait notes down what it waits for;
//! the poller looks at all the notes whenever it is told to sleep and nothing fires. A failure names its seed.

#[path = "common/random.rs"]
mod random;
#[path = "scripted/virtual_time.rs"]
mod virtual_time;

use fdtask::channel::{Receiver, Sender, channel};
use fdtask::future::{self, JoinHandle, Promise, promise};
use fdtask::poller::{Patience, default_poller};
use fdtask::{Descriptor, End, Handle, Notify, Observer, Scheduler, Side, Task, TaskId};
use futures_util::future::{LocalBoxFuture, join_all, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use random::Random;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use virtual_time::Virtual;

/// How many runs there are.
const SEEDS: u64 = 4_000;

/// How many turns a run takes before its scheduler is dropped.
const TURNS: usize = 40;

/// How many steps the futures of one run take at most.
const STEPS: usize = 120;

/// How many sockets, and how many of everything else, the futures of one run share.
const PLACES: usize = 2;

/// Set once, or from time to time.
type Flag = Rc<Cell<bool>>;

/// What a single wait is for.
enum Condition {
    Is(Box<dyn Fn() -> bool>),
    Ready(Rc<Descriptor>, Side),
    Until(Instant),
}

/// What a single wait has noted down.
struct Note {
    what: &'static str,
    condition: Condition,
    /// Whether somebody awaits the future that the wait is part of: `None` if it is always so.
    is_awaited: Option<Flag>,
}

/// A future that one task has begun, and another will go on with.
struct Moved {
    future: LocalBoxFuture<'static, ()>,
    is_awaited: Flag,
}

struct World {
    handle: Handle,
    random: RefCell<Random>,
    now: Rc<Cell<Instant>>,
    steps: Cell<usize>,
    notes: RefCell<BTreeMap<usize, Note>>,
    /// [`Note::is_awaited`] of what is polled right now.
    is_awaited: RefCell<Option<Flag>>,
    wrong: RefCell<Option<String>>,
    ids: RefCell<Vec<TaskId>>,
    sockets: RefCell<Vec<(Rc<Descriptor>, UnixStream)>>,
    notifies: Vec<(Notify, Rc<Cell<usize>>)>,
    sender: Sender<Rc<()>>,
    receiver: Rc<Receiver<Rc<()>>>,
    promises: RefCell<Vec<(Promise<()>, Flag)>>,
    /// With whether the task has ended.
    joins: RefCell<Vec<(JoinHandle<()>, Flag)>>,
    moved: RefCell<Vec<Moved>>,
    /// Each task and each value in the channel holds a reference.
    live: Rc<()>,
}

impl World {
    fn new(seed: u64, now: Rc<Cell<Instant>>, handle: Handle) -> World {
        let (sender, receiver) = channel(&handle, 1);
        World {
            random: RefCell::new(Random::new(seed)),
            now,
            steps: Cell::new(STEPS),
            notes: RefCell::default(),
            is_awaited: RefCell::default(),
            wrong: RefCell::default(),
            ids: RefCell::default(),
            sockets: RefCell::new((0..PLACES).map(|_| pair(&handle)).collect()),
            notifies: (0..PLACES).map(|_| (Notify::new(&handle), Rc::default())).collect(),
            sender,
            receiver: Rc::new(receiver),
            promises: RefCell::default(),
            joins: RefCell::default(),
            moved: RefCell::default(),
            live: Rc::default(),
            handle,
        }
    }

    fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    fn socket(&self) -> Rc<Descriptor> {
        Rc::clone(&self.sockets.borrow()[self.below(PLACES)].0)
    }

    /// A socket to wait for.
    fn ready(&self, side: Side) -> (Rc<Descriptor>, Condition) {
        let socket = self.socket();
        (Rc::clone(&socket), Condition::Ready(socket, side))
    }

    fn any_of<T>(&self, all: &RefCell<Vec<T>>) -> Option<T> {
        let len = all.borrow().len();
        if len == 0 { None } else { Some(all.borrow_mut().swap_remove(self.below(len))) }
    }

    /// The scheduler is about to sleep, and nothing fires: nobody may wait for what is so, or be due before it wakes up.
    fn look(&self, patience: Patience) {
        for Note { what, condition, is_awaited } in self.notes.borrow().values() {
            let is_missed = match condition {
                Condition::Is(is_so) => is_so(),
                Condition::Until(at) => !matches!(patience, Patience::Until(until) if until <= *at),
                Condition::Ready(descriptor, side) => {
                    let event = if *side == Side::Recv { PollFlags::IN } else { PollFlags::OUT };
                    let mut entries = [PollFd::new(descriptor, event)];
                    rustix::event::poll(&mut entries, Some(&Timespec::default())).expect("one can poll") > 0
                }
            };
            if is_missed && is_awaited.as_ref().is_none_or(|is_awaited| is_awaited.get()) {
                *self.wrong.borrow_mut() = Some(format!("sleeps ({patience:?}), although somebody awaits {what}"));
            }
        }
    }

    /// Something happens, or is said.
    fn act(&self) {
        match self.below(16) {
            0..=3 => _ = (&self.sockets.borrow()[self.below(PLACES)].1).write(b"x"),
            4 | 5 => {
                let socket = self.socket();
                while rustix::io::read(&socket, &mut [0; 64]).is_ok_and(|len| len > 0) {}
            }
            6 => {
                // Whoever awaits the old one finds that its peer has hung up.
                let new = pair(&self.handle);
                self.sockets.borrow_mut()[self.below(PLACES)] = new;
            }
            7..=9 => {
                let (notify, count) = &self.notifies[self.below(PLACES)];
                count.set(count.get() + 1);
                notify.notify();
            }
            10 => self.any_of(&self.promises).into_iter().for_each(|(promise, is_kept)| {
                is_kept.set(true);
                promise.keep(());
            }),
            11 => drop(self.any_of(&self.moved)),
            12 => drop(self.any_of(&self.joins)),
            what => {
                let id = self.ids.borrow().iter().rev().nth(self.below(4)).copied();
                match id {
                    Some(id) if what == 13 => self.handle.cancel(id),
                    Some(id) => self.handle.wake(id),
                    None => {}
                }
            }
        }
    }
}

fn pair(handle: &Handle) -> (Rc<Descriptor>, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    near.set_nonblocking(true).expect("non-blocking");
    far.set_nonblocking(true).expect("non-blocking");
    (Rc::new(handle.adopt(near)), far)
}

/// Awaits `future`, which waits for `condition`, and has that noted down meanwhile.
async fn noted<T>(world: &World, what: &'static str, condition: Condition, future: impl Future<Output = T>) -> T {
    struct Noted<'a>(&'a World, usize);
    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.0.notes.borrow_mut().remove(&self.1);
        }
    }
    let number = world.notes.borrow().last_key_value().map_or(0, |(last, _)| last + 1);
    let _noted = Noted(world, number);
    let is_awaited = world.is_awaited.borrow().clone();
    world.notes.borrow_mut().insert(number, Note { what, condition, is_awaited });
    future.await
}

/// One random wait for one thing.
async fn wait(world: &World) {
    match world.below(9) {
        0 | 1 => {
            let (socket, is_ready) = world.ready(Side::Recv);
            _ = noted(world, "readable", is_ready, future::readable(&socket)).await;
        }
        2 => {
            let (socket, is_ready) = world.ready(Side::Send);
            _ = noted(world, "writable", is_ready, future::writable(&socket)).await;
        }
        3 | 4 => {
            let at = world.now.get() + Duration::from_micros(world.below(3_000) as u64);
            noted(world, "an instant", Condition::Until(at), future::sleep_until(&world.handle, at)).await;
            assert!(world.now.get() >= at, "early");
        }
        5 => {
            let (notify, count) = &world.notifies[world.below(PLACES)];
            let (before, count) = (count.get(), Rc::clone(count));
            let has_happened = Condition::Is(Box::new(move || count.get() != before));
            noted(world, "a notification", has_happened, notify.notified()).await;
        }
        6 => {
            let receiver = Rc::clone(&world.receiver);
            let has_room = Condition::Is(Box::new(move || receiver.is_empty()));
            let sent = noted(world, "room", has_room, world.sender.send(Rc::clone(&world.live))).await;
            assert!(sent.is_ok(), "the receiver is there");
        }
        7 => {
            let receiver = Rc::clone(&world.receiver);
            let has_some = Condition::Is(Box::new(move || !receiver.is_empty()));
            let value = noted(world, "a value", has_some, world.receiver.recv()).await;
            assert!(value.is_some(), "a sender is there");
        }
        _ => {
            let ((promise, promised), is_kept) = (promise(), Rc::new(Cell::new(false)));
            world.promises.borrow_mut().push((promise, Rc::clone(&is_kept)));
            let is_kept = Condition::Is(Box::new(move || is_kept.get()));
            _ = noted(world, "a promise", is_kept, promised).await;
        }
    }
}

/// A random future: some waits and acts, one after the other or in combinations.
fn walk(world: Rc<World>, depth: usize) -> LocalBoxFuture<'static, ()> {
    let next = move |world: &Rc<World>| walk(Rc::clone(world), depth + 1);
    Box::pin(async move {
        for _ in 0..world.below(5) {
            let Some(left) = world.steps.get().checked_sub(1) else { return };
            world.steps.set(left);
            match world.below(if depth < 3 { 22 } else { 9 }) {
                0..=4 => wait(&world).await,
                5..=7 => world.act(),
                8 if world.below(6) == 0 => resume_unwind(Box::new("a random panic")),
                8 => future::next_turn().await,
                9 | 10 => future::race(next(&world), next(&world)).await,
                11 => _ = select(next(&world), next(&world)).await,
                12 | 13 => _ = join_all((0..world.below(4)).map(|_| next(&world))).await,
                14 | 15 => {
                    let mut all: FuturesUnordered<_> = (0..3).map(|_| next(&world)).collect();
                    for _ in 0..world.below(4) {
                        all.next().await;
                    }
                }
                16 | 17 => {
                    let time = Duration::from_micros(world.below(3_000) as u64);
                    _ = future::timeout(&world.handle, time, next(&world)).await;
                }
                18 => {
                    let is_ended = Rc::new(Cell::new(false));
                    let join = future::spawn(&world.handle, whole(next(&world), &world, &is_ended));
                    world.joins.borrow_mut().push((join, is_ended));
                }
                19 => {
                    if let Some((join, is_ended)) = world.any_of(&world.joins) {
                        let is_ended = Condition::Is(Box::new(move || is_ended.get()));
                        _ = noted(&world, "a task", is_ended, join).await;
                    }
                }
                // What is part of a future that was moved is not moved once more: that would be hard to follow.
                _ if world.is_awaited.borrow().is_some() => {}
                20 => begin_to_move(&world, next(&world)).await,
                _ => take_over(&world).await,
            }
        }
    })
}

/// The future of a whole task.
fn whole(mut future: LocalBoxFuture<'static, ()>, world: &Rc<World>, ended: &Flag) -> impl Future<Output = ()> + use<> {
    struct Ending(Flag);
    impl Drop for Ending {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let (world, live, ending) = (Rc::clone(world), Rc::clone(&world.live), Ending(Rc::clone(ended)));
    poll_fn(move |cx| {
        let _ = (&live, &ending);
        // A panic may have left it as it was.
        *world.is_awaited.borrow_mut() = None;
        future.as_mut().poll(cx)
    })
}

impl Moved {
    fn poll(&mut self, world: &World, cx: &mut Context<'_>) -> Poll<()> {
        *world.is_awaited.borrow_mut() = Some(Rc::clone(&self.is_awaited));
        let poll = self.future.as_mut().poll(cx);
        *world.is_awaited.borrow_mut() = None;
        poll
    }
}

/// Polls a future once, and leaves the rest to whoever takes it over.
async fn begin_to_move(world: &World, future: LocalBoxFuture<'static, ()>) {
    let mut moved = Moved { future, is_awaited: Rc::new(Cell::new(true)) };
    if !poll_fn(|cx| Poll::Ready(moved.poll(world, cx).is_ready())).await {
        moved.is_awaited.set(false);
        world.moved.borrow_mut().push(moved);
    }
}

async fn take_over(world: &World) {
    if let Some(mut moved) = world.any_of(&world.moved) {
        moved.is_awaited.set(true);
        poll_fn(|cx| moved.poll(world, cx)).await;
    }
}

/// The world, for a poller and an observer that are there before it is.
type Link = Rc<RefCell<Option<Rc<World>>>>;

/// Notes down the ids of all tasks, and what has panicked that should not have.
struct Listener(Link);

impl Observer for Listener {
    fn spawned(&mut self, id: TaskId, _by: Option<TaskId>, _task: &dyn Task) {
        self.0.borrow().iter().for_each(|world| world.ids.borrow_mut().push(id));
    }

    fn ended(&mut self, id: TaskId, _by: Option<TaskId>, _task: &dyn Task, end: &End) {
        if let End::Panicked(message) = end
            && message != "a random panic"
        {
            self.0.borrow().iter().for_each(|world| *world.wrong.borrow_mut() = Some(format!("{id}: {message}")));
        }
    }
}

/// One run from one seed.
fn run(seed: u64) {
    let (link, now) = (Link::default(), Rc::new(Cell::new(Instant::now())));
    let looks = Rc::clone(&link);
    let before_sleep = move |patience| looks.borrow().iter().for_each(|world| world.look(patience));
    let poller = Virtual { real: default_poller(), now: Rc::clone(&now), before_sleep };
    let mut scheduler = Scheduler::with_poller(Box::new(poller));
    scheduler.observe(Listener(Rc::clone(&link)));
    let world = Rc::new(World::new(seed, now, scheduler.handle()));
    *link.borrow_mut() = Some(Rc::clone(&world));
    for turn in 0..TURNS {
        if turn % 8 == 0 {
            let future = whole(walk(Rc::clone(&world), 0), &world, &Rc::default());
            scheduler.spawn(future::task(async {
                future.await;
                Ok(())
            }));
        }
        (0..world.below(3)).for_each(|_| world.act());
        scheduler.turn();
        assert_eq!(world.wrong.take(), None, "turn {turn}");
    }
    drop(scheduler);
    world.moved.take();
    world.joins.take();
    while world.receiver.try_recv().is_ok() {}
    assert_eq!(Rc::strong_count(&world.live), 1, "a task or a value is left");
    assert!(world.notes.borrow().is_empty(), "a wait is left");
    for (descriptor, mut peer) in world.sockets.take() {
        drop(descriptor);
        let end = peer.read(&mut [0]);
        assert!(!end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock), "a descriptor is still open");
    }
    *link.borrow_mut() = None;
}

#[test]
fn whatever_random_futures_wait_for_the_scheduler_does_not_sleep_when_it_is_so() {
    for seed in 1..=SEEDS {
        assert!(catch_unwind(|| run(seed)).is_ok(), "seed {seed}");
    }
}
