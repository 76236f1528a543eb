//! The same seeded script over plain `poll(2)` and over the poller that parks must give the same trace, task by task: which
//! poller a scheduler has is nothing that a task can tell.

#[path = "common/random.rs"]
mod random;
mod scripted;

use fdtask::poller::{Poll, Poller, default_poller};
use fdtask::{Context, Scheduler, Task, TaskId, Wait, WaitError, task_fn};
use random::Random;
use scripted::Trace;
use scripted::live::{Socket, crowd, pair};
use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// How many connections a script plays with.
const PLACES: usize = 8;

/// How many things happen in one script.
const STEPS: usize = 300;

/// How many scripts are played over each poller.
const SEEDS: u64 = 12;

/// What a script tells a connection's task to do when it is resumed next.
#[derive(Clone, Copy, Default, PartialEq)]
enum Order {
    /// Receive what is there, and wait for more.
    #[default]
    Receive,
    /// Wait for room to send.
    AwaitRoom,
    /// Wait for either.
    AwaitBoth,
    /// Wait to be woken, and for nothing else.
    Sleep,
    /// Close the descriptor, and wait for its number all the same.
    CloseAndWait,
    Leave,
}

/// One connection's task.
struct Connection {
    name: String,
    socket: Option<Socket>,
    order: Rc<RefCell<Order>>,
    trace: Trace,
}

/// A wait as both runs show it: the numbers differ.
fn describe(wait: Wait, number: RawFd) -> String {
    wait.to_string().replace(&format!("fd {number}"), "it")
}

impl Task for Connection {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let Some(socket) = &self.socket else { return Ok(Wait::Done) };
        let number = socket.number();
        let mut received = 0;
        let order = *self.order.borrow();
        if order == Order::Receive {
            let mut buffer = [0; 4096];
            loop {
                match socket.receive(&mut buffer) {
                    Ok(0) => {
                        self.trace.add(format!("{} ends after {received}: {}", self.name, describe(cx.why(), number)));
                        return Ok(Wait::Done);
                    }
                    Ok(count) => received += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        self.trace.add(format!("{} fails: {}", self.name, error.kind()));
                        return Err(error);
                    }
                }
            }
        }
        self.trace.add(format!("{} received {received}: {}", self.name, describe(cx.why(), number)));
        match order {
            Order::Receive => Ok(Wait::Recv(number)),
            Order::AwaitRoom => Ok(Wait::Send(number)),
            Order::AwaitBoth => {
                cx.or(Wait::Send(number));
                Ok(Wait::Recv(number))
            }
            Order::Sleep => Ok(Wait::Wake),
            Order::CloseAndWait => {
                self.socket = None;
                Ok(Wait::Recv(number))
            }
            Order::Leave => Ok(Wait::Done),
        }
    }

    fn wait_failed(&mut self, _cx: &mut Context<'_>, error: WaitError) -> io::Result<Wait> {
        self.trace.add(format!("{} cannot wait: {}", self.name, matches!(error, WaitError::Closed(_))));
        Ok(Wait::Done)
    }
}

/// A connection as the script sees it.
struct Place {
    task: TaskId,
    number: RawFd,
    order: Rc<RefCell<Order>>,
    far: Option<UnixStream>,
}

struct Play {
    scheduler: Scheduler,
    trace: Trace,
    random: Random,
    places: Vec<Place>,
    connections: usize,
}

impl Play {
    fn open(&mut self) -> Place {
        let (near, far) = pair();
        self.connections += 1;
        // Most are owned; a raw one is never parked.
        let socket = Socket::new(&self.scheduler, near, !self.connections.is_multiple_of(4));
        let (number, order) = (socket.number(), Rc::default());
        let task = Connection {
            name: format!("connection {}", self.connections),
            socket: Some(socket),
            order: Rc::clone(&order),
            trace: self.trace.clone(),
        };
        Place { task: self.scheduler.spawn(task), number, order, far: Some(far) }
    }

    fn step(&mut self) {
        let index = self.random.below(PLACES);
        let what = self.random.below(17);
        let place = &mut self.places[index];
        match what {
            0..=5 => {
                if let Some(far) = &mut place.far {
                    let _ = far.write(&[b'x'; 100]);
                }
            }
            6..=8 => {
                let orders = [Order::Receive, Order::AwaitRoom, Order::AwaitBoth, Order::Sleep, Order::Receive];
                *place.order.borrow_mut() = orders[self.random.below(orders.len())];
                self.scheduler.handle().wake(place.task);
            }
            9 => {
                if let Some(far) = &place.far {
                    let _ = far.shutdown(std::net::Shutdown::Write);
                }
            }
            10 => place.far = None,
            11 => {
                *place.order.borrow_mut() = [Order::CloseAndWait, Order::Leave][self.random.below(2)];
                self.scheduler.handle().wake(place.task);
            }
            12 => self.scheduler.handle().cancel(place.task),
            13 => {
                // The number of whoever leaves goes to the next.
                self.scheduler.handle().cancel(place.task);
                self.idle(2);
                self.places[index] = self.open();
            }
            14 => {
                // Another task waits for room on the descriptor that this one receives from.
                let (trace, number) = (self.trace.clone(), place.number);
                self.scheduler.spawn(task_fn("sender", move |cx| {
                    if cx.why() != Wait::Send(number) {
                        return Ok(Wait::Send(number));
                    }
                    trace.add(format!("there is room in place {index}"));
                    Ok(Wait::Done)
                }));
            }
            _ => {
                let turns = self.random.below(150);
                self.idle(turns);
            }
        }
    }

    /// Takes so many turns.
    fn idle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.scheduler.turn();
        }
    }
}

/// Plays one script and returns what its tasks went through after each step, in the order of their names.
fn play(poller: Box<dyn Poller>, seed: u64) -> Vec<Vec<String>> {
    let mut play = Play {
        scheduler: Scheduler::with_poller(poller),
        trace: Trace::default(),
        random: Random::new(seed),
        places: Vec::new(),
        connections: 0,
    };
    let _crowd = crowd(&mut play.scheduler);
    play.scheduler.spawn_service(task_fn("busy, so that no turn sleeps", |_| Ok(Wait::Turn)));
    for _ in 0..PLACES {
        let place = play.open();
        play.places.push(place);
    }
    let mut traces = Vec::new();
    for _ in 0..STEPS {
        play.step();
        play.idle(5);
        let mut lines = play.trace.take();
        // How often a task that is ready all the time is resumed in those turns is not fixed: two waits may serve it.
        lines.sort();
        lines.dedup();
        traces.push(lines);
    }
    traces
}

#[test]
fn a_script_gives_the_same_trace_over_plain_poll_and_over_the_default_poller() {
    for seed in 1..=SEEDS {
        let plain = play(Box::new(Poll::new()), seed);
        let default = play(default_poller(), seed);
        for (step, (plain, default)) in plain.iter().zip(&default).enumerate() {
            assert_eq!(plain, default, "seed {seed}, step {step}");
        }
        assert!(plain.iter().map(Vec::len).sum::<usize>() > STEPS / 4, "seed {seed} tests little");
    }
}
