//! Tasks of different types where one type is asked for: in boxes.

use fdtask::net::{Acceptor, Echo, Listener};
use fdtask::{Context, Scheduler, Task, Wait, WaitError, future, task_fn};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Notes which of its methods are called.
struct Witness(Rc<RefCell<Vec<&'static str>>>);

impl Task for Witness {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        self.0.borrow_mut().push("resume");
        Ok(if cx.is_draining() { Wait::Done } else { Wait::Recv(-1) })
    }

    fn wait_failed(&mut self, _cx: &mut Context<'_>, _error: WaitError) -> io::Result<Wait> {
        self.0.borrow_mut().push("wait failed");
        Ok(Wait::Wake)
    }

    fn drain(&mut self) -> bool {
        self.0.borrow_mut().push("drain");
        true
    }

    fn name(&self) -> Cow<'_, str> {
        "witness".into()
    }

    fn progress(&self) -> Cow<'_, str> {
        "so far".into()
    }
}

#[test]
fn a_task_in_a_box_is_told_and_asked_whatever_it_would_be_without() {
    let told = Rc::new(RefCell::new(Vec::new()));
    let mut scheduler = Scheduler::new();
    let boxed: Box<dyn Task> = Box::new(Witness(Rc::clone(&told)));
    scheduler.spawn(boxed);
    // A neighbour that is always ready, so that no turn sleeps.
    scheduler.spawn(task_fn("awake", |cx| Ok(if cx.is_draining() { Wait::Done } else { Wait::Turn })));
    for _ in 0..3 {
        scheduler.turn();
    }
    let info = &scheduler.tasks()[0];
    assert_eq!((info.name.as_str(), info.state.as_str()), ("witness", "wake, so far"));
    scheduler.handle().drain(Instant::now() + Duration::from_secs(20));
    scheduler.run();
    assert_eq!(*told.borrow(), ["resume", "wait failed", "drain", "resume"]);
}

#[test]
fn a_handler_makes_different_tasks_of_different_clients() -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"))?;
    let clients = [TcpStream::connect(listener.address())?, TcpStream::connect(listener.address())?];
    let mut accepted = 0;
    let handler = move |stream, peer| -> Box<dyn Task> {
        accepted += 1;
        if accepted == 1 {
            return Box::new(Echo::new(stream, peer));
        }
        Box::new(future::task(async move { future::send_all(&stream, b"Full").await }))
    };
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, handler));
    for client in &clients {
        client.shutdown(Shutdown::Write)?;
    }
    scheduler.handle().drain(Instant::now() + Duration::from_secs(20));
    scheduler.run();
    let said = clients.map(|mut client| {
        let mut said = String::new();
        client.read_to_string(&mut said).map(|_| said).expect("the end of the stream")
    });
    assert_eq!(said, ["", "Full"]);
    Ok(())
}
