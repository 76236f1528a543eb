//! Waiting for numbers that are no descriptors, or no longer the one that was meant, with scripted readiness. Rows 5, 7 and
//! 28 of the faults. The same with real descriptors is in `scheduler_descriptors.rs`.

mod scripted;

use fdtask::poller::Happening;
use fdtask::{Side, Wait};
use scripted::{World, lines_of, ms};
use std::os::fd::{AsRawFd, RawFd};

#[test]
fn a_negative_descriptor_is_an_error_at_once() {
    // Row 28: poll(2) ignores it, which would be an eternal sleep.
    for fd in [-1, RawFd::MIN] {
        for wait in [Wait::Recv(fd), Wait::Send(fd)] {
            let mut world = World::new();
            world.spawn_waits("task", [wait]);
            world.spawn("alternative", move |cx, _| {
                cx.or(wait);
                Ok(Wait::Wake)
            });
            world.run();
            let error = format!("cannot wait to {wait}: the descriptor is closed");
            let mut lines = world.trace.take();
            lines.retain(|line| line.contains('!'));
            assert_eq!(lines, [format!("task! {error}"), format!("alternative! {error}")]);
            assert_eq!(world.script.elapsed(), ms(0));
            world.assert_empty();
        }
    }
}

#[test]
fn zero_is_a_number_like_any_other() {
    let mut world = World::new();
    world.spawn_waits("task", [Wait::Recv(0)]);
    world.turns(1);
    world.fire(0, Side::Recv);
    assert_eq!(world.trace.take(), ["task: ready", "task: recv fd 0", "task ended: done", "task dropped"]);
}

#[test]
fn a_number_that_is_not_open_is_an_error_at_once() {
    let mut world = World::new();
    world.script.now(Happening::Closed(9));
    world.spawn_waits("task", [Wait::Send(9)]);
    world.run();
    assert_eq!(world.trace.take()[1], "task! cannot wait to send fd 9: the descriptor is closed");
    world.assert_empty();
}

#[test]
fn a_number_closed_elsewhere_gives_each_waiter_an_error_once_and_the_loop_goes_on() {
    // Row 5.
    let mut world = World::new();
    world.spawn_both_sides(7);
    world.spawn_waits("other", std::iter::repeat(Wait::Recv(8)));
    world.turns(1);
    world.script.now(Happening::Closed(7));
    world.settle();
    let mut lines = world.trace.take();
    lines.retain(|line| line.contains('!') || line.contains("recv fd 7") && !line.contains("ended"));
    lines.sort();
    assert_eq!(
        lines,
        [
            "receiver! cannot wait to recv fd 7: the descriptor is closed",
            "sender! cannot wait to send fd 7: the descriptor is closed"
        ]
    );
    world.fire(8, Side::Recv);
    assert_eq!(world.trace.take(), ["other: recv fd 8"]);
    assert_eq!(world.script.watched(), [(8, Side::Recv)]);
}

#[test]
fn a_reused_number_gives_the_old_waiter_an_error_and_the_new_one_its_wake_up() {
    // Row 7. The old waiter waits for one side, and has perhaps done so before, with something else in between; and the new one
    // waits for the same or for the other.
    let sides = [Side::Recv, Side::Send];
    for (old_side, times) in sides.into_iter().flat_map(|side| [1, 2, 3].map(|times| (side, times))) {
        let old = old_side.of(7);
        for new in [Wait::Recv(7), Wait::Send(7)] {
            let mut world = World::new();
            world.spawn_waits("old", [old, Wait::Turn].into_iter().cycle().take(2 * times - 1));
            world.turns(1);
            for _ in 1..times {
                world.fire(7, old_side);
            }
            world.trace.take();
            world.script.now(Happening::Reused(7));
            world.spawn_waits("new", [new]);
            world.settle();
            let lines = world.trace.take();
            assert!(
                lines.contains(&format!("old! cannot wait to {old}: the descriptor is closed")),
                "{old}, then {new}: {lines:?}"
            );
            assert!(!lines.iter().any(|line| *line == format!("old: {old}")), "{old}, then {new}: {lines:?}");
            let side = if new == Wait::Recv(7) { Side::Recv } else { Side::Send };
            world.fire(7, side);
            assert_eq!(world.trace.take()[0], format!("new: {new}"), "{old}, then {new}");
            world.assert_empty();
        }
    }
}

#[test]
fn a_number_reused_while_its_waiter_is_ready_is_the_waiters_own_business_and_nobody_is_left_asleep() {
    let mut world = World::new();
    world.spawn_waits("old", [Wait::Recv(7), Wait::Recv(7)]);
    world.turns(1);
    world.script.now(Happening::Ready(7, Side::Recv));
    world.turns(1);
    world.script.now(Happening::Reused(7));
    world.turns(1);
    // It waits for the number again, knowing nothing. Whoever waits for the new file now gets it.
    world.spawn_waits("new", [Wait::Recv(7)]);
    world.settle();
    world.trace.take();
    world.fire(7, Side::Recv);
    assert_eq!(world.trace.take()[0], "new: recv fd 7");
    world.assert_empty();
}

#[test]
fn adopting_a_number_gives_whoever_waits_for_an_older_file_of_that_number_an_error() {
    // Before the new owner waits, and whichever side it will wait for.
    for old in [|fd| Wait::Recv(fd), |fd| Wait::Send(fd)] {
        let mut world = World::new();
        let file = std::fs::File::open("/dev/null").expect("every Unix has it");
        let fd = file.as_raw_fd();
        let old: Wait = old(fd);
        world.spawn_waits("old", [old]);
        world.turns(1);
        world.script.now(Happening::Reused(fd));
        let descriptor = world.scheduler.adopt(file);
        world.settle();
        assert_eq!(world.trace.take()[1], format!("old! cannot wait to {old}: the descriptor is closed"));
        drop(descriptor);
        world.assert_empty();
    }
}

#[test]
fn who_waited_for_a_number_before_does_not_count_against_who_waits_for_it_now() {
    // A raw wait for the number, long over; then an owned descriptor under the same number.
    let mut world = World::new();
    let file = std::fs::File::open("/dev/null").expect("every Unix has it");
    let fd = file.as_raw_fd();
    world.spawn_waits("before", [Wait::Recv(fd)]);
    world.turns(1);
    world.fire(fd, Side::Recv);
    world.script.now(Happening::Reused(fd));
    let descriptor = world.scheduler.adopt(file);
    world.spawn_waits("owner", [Wait::Recv(fd)]);
    world.turns(1);
    world.trace.take();
    world.spawn_waits("second", [Wait::Recv(fd)]);
    world.settle();
    let lines = world.trace.take();
    assert!(lines.contains(&format!("second! cannot wait to recv fd {fd}: another task already does")), "{lines:?}");
    assert_eq!(world.table(), [format!("owner: recv fd {fd}")]);
    world.fire(fd, Side::Recv);
    assert_eq!(world.trace.take()[0], format!("owner: recv fd {fd}"));
    drop(descriptor);
    world.assert_empty();
}

#[test]
fn who_waited_for_an_older_file_of_a_number_does_not_count_against_who_waits_for_it_now() {
    // The same with a number that nobody owns: what was found out for the one is not taken to hold for the other.
    let mut world = World::new();
    world.spawn_waits("before", [Wait::Recv(7)]);
    world.turns(1);
    world.fire(7, Side::Recv);
    world.script.now(Happening::Reused(7));
    world.spawn_waits("first", [Wait::Recv(7)]);
    world.turns(1);
    world.trace.take();
    world.spawn_waits("second", [Wait::Recv(7)]);
    world.settle();
    let lines = world.trace.take();
    assert!(lines.contains(&"second! cannot wait to recv fd 7: another task already does".to_owned()), "{lines:?}");
    assert_eq!(world.table(), ["first: recv fd 7"]);
    world.script.now(Happening::Closed(7));
    world.settle();
    world.trace.take();
    // Nor is a number taken to be open because it was for somebody else.
    world.script.now(Happening::Closed(8));
    world.script.now(Happening::Reused(8));
    world.spawn_waits("before", [Wait::Send(8)]);
    world.turns(1);
    world.fire(8, Side::Send);
    world.script.now(Happening::Closed(8));
    world.trace.take();
    world.spawn_waits("late", [Wait::Send(8)]);
    world.turns(2);
    assert_eq!(world.trace.take()[1], "late! cannot wait to send fd 8: the descriptor is closed");
    world.assert_empty();
}

#[test]
fn a_task_that_is_ready_when_what_it_waits_on_is_closed_gets_an_error_when_it_waits_on_it_again() {
    // Row 7. Both are ready for something in the same turn; the one runs first, or the other does.
    for (wait, side) in [(Wait::Recv as fn(RawFd) -> Wait, Side::Recv), (Wait::Send, Side::Send)] {
        for polls_before in 0..4 {
            let mut world = World::new();
            let file = std::fs::File::open("/dev/null").expect("every Unix has it");
            let fd = file.as_raw_fd();
            let mut descriptor = Some(world.scheduler.adopt(file));
            let script = world.script.clone();
            world.spawn("owner", move |_, n| {
                if n > 0 {
                    drop(descriptor.take());
                    script.now(Happening::Closed(fd));
                    return Ok(Wait::Done);
                }
                Ok(Wait::Recv(8_000))
            });
            world.spawn_waits("other", std::iter::repeat_n(wait(fd), 3));
            world.turns(1);
            for _ in 0..polls_before {
                world.turn_awake();
            }
            world.script.now(Happening::Ready(8_000, Side::Recv));
            world.script.now(Happening::Ready(fd, side));
            world.settle();
            let mut lines = world.trace.take();
            lines.retain(|line| line.starts_with("other!"));
            let error = format!("other! cannot wait to {}: the descriptor is closed", wait(fd));
            assert_eq!(lines, [error], "after {polls_before} polls");
            world.assert_empty();
        }
    }
}

#[test]
fn a_task_that_reopens_its_own_number_may_wait_for_both_sides_of_it() {
    for (first, second) in [(Wait::Recv(7), Wait::Send(7)), (Wait::Send(7), Wait::Recv(7))] {
        let mut world = World::new();
        let script = world.script.clone();
        world.spawn("task", move |cx, n| {
            if n == 1 {
                // It closes its connection and opens another, which is given the same number.
                script.now(Happening::Reused(7));
                cx.or(second);
            }
            Ok(if n < 2 { first } else { Wait::Wake })
        });
        world.spawn_waits("other", std::iter::repeat(Wait::Recv(8)));
        world.turns(1);
        world.fire(7, if first == Wait::Recv(7) { Side::Recv } else { Side::Send });
        assert_eq!(world.table()[0], format!("task: {first} or {second}"));
        world.fire(7, if second == Wait::Recv(7) { Side::Recv } else { Side::Send });
        let mut lines = world.trace.take();
        lines.retain(|line| line.starts_with("task"));
        assert_eq!(lines, ["task: ready".to_owned(), format!("task: {first}"), format!("task: {second}")]);
        world.turn_awake();
        assert_eq!(world.script.watched(), [(8, Side::Recv)]);
    }
}

#[test]
fn a_number_may_be_as_high_as_the_system_allows() {
    // Row 24: 1,024 is where select(2) ends.
    for fd in [1_023, 1_024, 65_536] {
        let mut world = World::new();
        world.spawn_waits("task", [Wait::Recv(fd), Wait::Send(fd)]);
        world.turns(1);
        world.fire(fd, Side::Recv);
        world.fire(fd, Side::Send);
        let lines = world.trace.take();
        assert_eq!(lines[1..3], [format!("task: recv fd {fd}"), format!("task: send fd {fd}")]);
        world.assert_empty();
    }
}

#[test]
fn a_number_reused_while_its_waiter_is_ready_is_not_watched_for_that_waiter_any_more() {
    let mut world = World::new();
    let script = world.script.clone();
    world.spawn("new owner", move |_, n| {
        if n < 2 {
            return Ok(Wait::Turn);
        }
        script.now(Happening::Reused(3));
        Ok(Wait::Send(3))
    });
    world.spawn("old waiter", |_, n| Ok(if n == 0 { Wait::Recv(3) } else { Wait::Done }));
    world.turns(1);
    world.script.now(Happening::Ready(3, Side::Recv));
    world.turns(1);
    world.turn_awake();
    assert_eq!(world.table(), ["new owner: send fd 3"]);
    assert_eq!(world.script.watched(), [(3, Side::Send)]);
}

#[test]
fn a_number_that_its_owner_drops_while_its_waiter_is_ready_is_not_waited_for_again() {
    let mut world = World::new();
    let descriptor = world.scheduler.adopt(std::fs::File::open("/dev/null").expect("every Unix has it"));
    let fd = descriptor.as_raw_fd();
    let (script, mut owned) = (world.script.clone(), Some(descriptor));
    world.spawn("owner", move |_, n| {
        if n > 0 {
            drop(owned.take());
            script.now(Happening::Closed(fd));
        }
        Ok(if n > 0 { Wait::Done } else { Wait::Turn })
    });
    world.spawn("waiter", move |_, _| Ok(Wait::Recv(fd)));
    world.script.now(Happening::Ready(fd, Side::Recv));
    world.settle();
    let error = format!("waiter! cannot wait to recv fd {fd}: the descriptor is closed");
    assert_eq!(lines_of(&world, "waiter")[1..3], [format!("waiter: recv fd {fd}"), error]);
    world.assert_empty();
}
