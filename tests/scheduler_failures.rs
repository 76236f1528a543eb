//! A poller that fails, by script: row 15 of the faults. Of a client nothing can be learnt then, but whoever operates the program
//! must be heard.

mod scripted;

use fdtask::{Side, Signal, Signals, TaskId, Wait};
use scripted::{Scripted, World};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Signals of which none comes, and the descriptor by which they would. (None that any test sends is among them.)
fn signals(world: &World) -> (Signals, RawFd) {
    let signals = Signals::new(&world.scheduler.handle(), &[Signal::Hangup]).expect("signals can be received");
    let fd = signals.as_raw_fd();
    (signals, fd)
}

/// So many turns, in which nobody can poll.
fn turns_without_poll(world: &mut World, count: usize) {
    for _ in 0..count {
        world.script.fail_next_wait(io::ErrorKind::OutOfMemory);
        world.turns(1);
    }
}

#[test]
fn while_nobody_can_poll_who_waits_for_signals_looks_and_nobody_else_takes_a_descriptor_for_ready() {
    let mut world = World::new();
    let (_signals, fd) = signals(&world);
    world.spawn_waits("client", std::iter::repeat(Wait::Recv(5)));
    world.spawn_waits("signals", std::iter::repeat(Wait::Recv(fd)));
    // It may read without looking, and sleep in that.
    let service = Scripted::new("service", &world.trace, |cx, _| {
        cx.or(Wait::Send(7));
        Ok(Wait::Recv(6))
    });
    world.scheduler.spawn_service(service);
    world.turns(1);
    world.trace.take();
    turns_without_poll(&mut world, 3);
    let [failed, resumed] = ["poll failed: out of memory".to_owned(), format!("signals: recv fd {fd}")];
    assert_eq!(world.trace.take(), [&failed, &resumed, &failed, &resumed, &failed].map(String::clone));
    world.turns(1);
    // They go on waiting for the same.
    assert_eq!(world.trace.take(), [resumed]);
    world.fire(7, Side::Send);
    world.fire(5, Side::Recv);
    assert_eq!(world.trace.take(), ["service: send fd 7", "client: recv fd 5"]);
}

#[test]
fn while_nobody_can_poll_what_another_thread_says_is_heard() {
    let mut world = World::new();
    let asleep = world.spawn_waits("asleep", [Wait::Wake]);
    let remote = world.scheduler.remote().expect("there are descriptors");
    world.turns(1);
    world.trace.take();
    remote.wake(asleep);
    turns_without_poll(&mut world, 3);
    let heard = world.trace.take();
    assert!(heard.contains(&"asleep: wake".to_owned()), "{heard:?}");
}

#[test]
fn a_number_that_was_that_of_signals_is_like_any_other_while_nobody_can_poll() {
    let mut world = World::new();
    let (signals, fd) = signals(&world);
    drop(signals);
    world.turn_awake();
    world.spawn_waits("client", std::iter::repeat(Wait::Recv(fd)));
    turns_without_poll(&mut world, 3);
    let resumes: Vec<TaskId> =
        world.scheduler.tasks().iter().filter(|info| info.resumes > 1).map(|info| info.id).collect();
    assert_eq!(resumes, []);
}

#[test]
fn while_nobody_can_poll_who_waits_for_signals_is_told_of_a_deadline_that_has_passed() {
    let mut world = World::new();
    let (_signals, fd) = signals(&world);
    let by = world.scheduler.handle().now() + Duration::from_millis(120);
    world.spawn("signals", move |cx, _| {
        cx.or(Wait::Until(by));
        Ok(if cx.timed_out() { Wait::Done } else { Wait::Recv(fd) })
    });
    turns_without_poll(&mut world, 4);
    let resumed: Vec<String> = world.trace.take().into_iter().filter(|line| line.starts_with("signals: ")).collect();
    let looks = format!("signals: recv fd {fd}");
    assert_eq!(resumed, ["signals: ready", &looks, &looks, "signals: until"]);
}
