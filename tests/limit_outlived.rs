//! A connection of a limit that outlives its scheduler. It needs a program of its own, because nobody else may get the number of
//! the descriptor when that has been closed.
#![cfg(target_os = "linux")]

#[path = "common/limited.rs"]
mod limited;

use fdtask::net::{Acceptor, Echo, Limit, Listener, Stream};
use fdtask::{Scheduler, Wait, task_fn};
use limited::within_limit;
use std::cell::Cell;
use std::fs::symlink_metadata;
use std::hint;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

/// So many connections are closed while another thread looks.
const ROUNDS: usize = 20;

/// So many acceptors wait for a place. To wake them takes a while, in which the other thread sees that there is one.
const CROWD: usize = 16;

/// Accepts one connection, and keeps it longer than the scheduler that has accepted it.
fn outliving(limit: &Limit) -> (Stream, TcpStream) {
    let mut scheduler = Scheduler::new();
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let client = TcpStream::connect(listener.address()).expect("it listens");
    let (kept, handle) = (Rc::new(Cell::new(None)), scheduler.handle());
    let place = Rc::clone(&kept);
    let keep = move |stream, _| {
        place.set(Some(stream));
        handle.stop();
        task_fn("nothing", |_| Ok(Wait::Done))
    };
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, keep).with_limit(Some(limit.clone())));
    scheduler.run();
    (kept.take().expect("it was accepted"), client)
}

/// A scheduler whose acceptor waits for a place.
fn waiting(limit: &Limit) -> Scheduler {
    let mut scheduler = Scheduler::new();
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, Echo::new).with_limit(Some(limit.clone())));
    scheduler.spawn(task_fn("stopper", |cx| {
        cx.stop();
        Ok(Wait::Done)
    }));
    scheduler.run();
    scheduler
}

#[test]
fn a_connection_that_outlives_its_scheduler_counts_until_it_is_closed() {
    within_limit(|| {
        let limit = Limit::new(1);
        let early = thread::scope(|scope| {
            let ((say, told), (answer, answers)) = (mpsc::channel(), mpsc::channel());
            let waits = limit.clone();
            scope.spawn(move || {
                for number in told {
                    let entry = format!("/proc/self/fd/{number}");
                    answer.send(false).expect("it listens");
                    while waits.open() > 0 {
                        hint::spin_loop();
                    }
                    answer.send(symlink_metadata(&entry).is_ok()).expect("it listens");
                }
            });
            let rounds = (0..ROUNDS).map(|_| {
                let (stream, _client) = outliving(&limit);
                assert_eq!(limit.open(), 1);
                let _crowd: Vec<Scheduler> = (0..CROWD).map(|_| waiting(&limit)).collect();
                say.send(stream.as_raw_fd()).expect("it listens");
                answers.recv().expect("it looks");
                drop(stream);
                answers.recv().expect("it answers")
            });
            let early = rounds.filter(|is_open| *is_open).count();
            drop(say);
            early
        });
        assert_eq!(early, 0, "places of {ROUNDS} were free before their connection was closed");
    });
}
