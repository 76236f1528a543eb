//! A poller that fails, by script: row 15 of the faults. Of a client nothing can be learnt then, but whoever operates the program
//! must be heard.

mod scripted;

use fdtask::{Side, Wait};
use scripted::{Scripted, World};
use std::io;
use std::time::Duration;

#[test]
fn while_nobody_can_poll_services_are_resumed_for_what_they_wait_for_and_nobody_else_is() {
    let mut world = World::new();
    world.spawn_waits("client", std::iter::repeat(Wait::Recv(5)));
    let service = |name, waits: &'static [Wait]| {
        Scripted::new(name, &world.trace, move |cx, _| {
            waits[1..].iter().for_each(|wait| cx.or(*wait));
            Ok(waits[0])
        })
    };
    let [signals, both] = [service("signals", &[Wait::Recv(6)]), service("both", &[Wait::Recv(7), Wait::Send(8)])];
    world.scheduler.spawn_service(signals);
    world.scheduler.spawn_service(both);
    world.turns(1);
    world.trace.take();
    for _ in 0..3 {
        world.script.fail_next_wait(io::ErrorKind::OutOfMemory);
        world.turns(1);
        assert_eq!(world.trace.take(), ["poll failed: out of memory"]);
        world.turns(1);
        let resumed = world.trace.take();
        assert_eq!(resumed.len(), 2, "{resumed:?}");
        assert!(resumed.contains(&"signals: recv fd 6".to_owned()), "{resumed:?}");
        assert!(resumed.iter().any(|line| line.starts_with("both: ")), "{resumed:?}");
    }
    // They go on waiting for the same.
    world.fire(8, Side::Send);
    world.fire(5, Side::Recv);
    assert_eq!(world.trace.take(), ["both: send fd 8", "client: recv fd 5"]);
}

#[test]
fn while_nobody_can_poll_a_service_is_told_of_its_deadline_when_that_has_passed() {
    let mut world = World::new();
    let by = world.scheduler.handle().now() + Duration::from_millis(120);
    let service = Scripted::new("service", &world.trace, move |cx, _| {
        cx.or(Wait::Until(by));
        Ok(if cx.timed_out() { Wait::Done } else { Wait::Recv(6) })
    });
    world.scheduler.spawn_service(service);
    world.spawn_waits("client", std::iter::repeat(Wait::Recv(5)));
    for _ in 0..4 {
        world.script.fail_next_wait(io::ErrorKind::OutOfMemory);
        world.turns(1);
    }
    let resumed: Vec<String> = world.trace.take().into_iter().filter(|line| line.starts_with("service: ")).collect();
    assert_eq!(resumed, ["service: ready", "service: recv fd 6", "service: recv fd 6", "service: until"]);
}
