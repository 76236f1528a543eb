//! What the task table shows, and in which order. Time is virtual here.

mod scripted;

use fdtask::{Side, TaskTable, Wait};
use scripted::{Scripted, World, ms};
use std::time::Duration;

#[test]
fn the_table_shows_how_long_a_task_will_wait() {
    let mut world = World::new();
    world.spawn("sleeper", |cx, _| Ok(Wait::Until(cx.now() + ms(3_200))));
    world.spawn("patient", |cx, _| {
        cx.or(Wait::Until(cx.now() + ms(1_500)));
        Ok(Wait::Recv(7))
    });
    // The deadline comes last, wherever it was said.
    world.spawn("the same", |cx, _| {
        cx.or(Wait::Recv(8));
        Ok(Wait::Until(cx.now() + ms(1_500)))
    });
    world.turn_awake();
    assert_eq!(world.table()[0], "sleeper: until +3.2 s");
    assert_eq!(world.table()[1..], ["patient: recv fd 7 or until +1.5 s", "the same: recv fd 8 or until +1.5 s"]);
    world.script.advance(ms(1_200));
    world.turn_awake();
    assert_eq!(world.table()[0], "sleeper: until +2.0 s");
    assert_eq!(world.table()[1..], ["patient: recv fd 7 or until +0.3 s", "the same: recv fd 8 or until +0.3 s"]);
}

#[test]
fn the_table_shows_since_when_a_task_waits_and_how_often_it_was_resumed() {
    let mut world = World::new();
    // A wait that is said again counts anew; so does one that is said for the first time, and one after an error.
    world.spawn_waits("again", std::iter::repeat(Wait::Recv(7)));
    world.spawn("in turns", |_, n| Ok(if n % 2 == 0 { Wait::Recv(8) } else { Wait::Send(8) }));
    let undaunted = Scripted::new("undaunted", &world.trace, |_, _| Ok(Wait::Recv(-1)));
    world.scheduler.spawn(undaunted.on_wait_failed(|_, _| Ok(Wait::Recv(9))));
    let shown = |world: &World| -> Vec<(Duration, u64)> {
        world.scheduler.tasks().iter().take(3).map(|info| (info.since, info.resumes)).collect()
    };
    world.turns(2);
    assert_eq!(shown(&world), [(ms(0), 1), (ms(0), 1), (ms(0), 2)]);
    world.script.advance(ms(3_000));
    world.turn_awake();
    assert_eq!(shown(&world), [(ms(3_000), 1), (ms(3_000), 1), (ms(3_000), 2)]);
    world.fire(7, Side::Recv);
    world.fire(8, Side::Recv);
    world.script.advance(ms(1_200));
    world.turn_awake();
    assert_eq!(shown(&world), [(ms(1_200), 2), (ms(1_200), 2), (ms(4_200), 2)]);
}

#[test]
fn the_table_is_in_the_order_in_which_the_tasks_were_spawned_and_its_columns_are_aligned() {
    let mut world = World::new();
    world.spawn_waits("first", []);
    world.spawn_waits("žluťoučký", [Wait::Wake]);
    world.turns(1);
    // It has the place of the first, which has ended.
    world.spawn_waits("third", [Wait::Wake]);
    let tasks = world.scheduler.tasks();
    assert_eq!(world.table(), ["žluťoučký: wake", "third: ready"]);
    let table = TaskTable(&tasks).to_string();
    let column = |line: &str, text: &str| line.find(text).map(|at| line[..at].chars().count());
    let columns: Vec<_> =
        table.lines().zip(["WAITS", "wake", "ready"]).map(|(line, text)| column(line, text)).collect();
    assert!(columns[0].is_some() && columns.iter().all(|column| *column == columns[0]), "{table}");
    assert!(table.contains("žluťoučký  wake"), "no wider than it need be:\n{table}");
}
