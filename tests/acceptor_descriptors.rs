//! An acceptor that is out of descriptors, without the daemon around it: row 3 of the faults. It needs a program of its own,
//! because the limit that it lowers is the whole process's.

use fdtask::net::{Acceptor, DESCRIPTORS_RETRY, Echo, Limit, Listener};
use fdtask::{Observer, Scheduler, TaskId, TaskInfo, Wait, task_fn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::Cell;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

struct Reports(Rc<Cell<u64>>);

impl Observer for Reports {
    fn reported(&mut self, _id: TaskId, message: &str) {
        assert!(message.contains("cannot accept"), "{message}");
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn an_acceptor_that_is_out_of_descriptors_says_so_once_a_second_and_tries_again() {
    check(None, 1);
    // Other threads are to reach it when there is room, which takes descriptors, too.
    check(Some(&Limit::new(10)), 1);
    // Several do together what one does, if they have heard of each other while there were descriptors for that.
    check(Some(&Limit::new(usize::MAX)), 5);
    check_drain();
}

/// Accept says that no descriptor is left also when nobody waits, so that is no reason to wait for the drain's deadline.
fn check_drain() {
    let mut scheduler = Scheduler::new();
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, Echo::new));
    let begin = Instant::now();
    without_descriptors(|| {
        scheduler.handle().drain(begin + Duration::from_secs(20));
        scheduler.run();
    });
    assert!(begin.elapsed() < Duration::from_secs(10), "it has ended only at the deadline");
}

/// Does something while the process may open no descriptor.
fn without_descriptors(what: impl FnOnce()) {
    let limit = getrlimit(Resource::Nofile);
    let lowest_free = File::open("/dev/null").expect("every Unix has it").as_raw_fd() as u64;
    let lowered = Rlimit { current: Some(lowest_free), maximum: limit.maximum };
    setrlimit(Resource::Nofile, lowered).expect("a limit can be lowered");
    what();
    setrlimit(Resource::Nofile, limit).expect("and raised again");
}

/// So many acceptors, each with a client who waits.
fn check(limit: Option<&Limit>, acceptors: usize) {
    let mut scheduler = Scheduler::new();
    let reports = Rc::new(Cell::new(0));
    scheduler.observe(Reports(Rc::clone(&reports)));
    let (acceptors, clients): (Vec<TaskId>, Vec<TcpStream>) = (0..acceptors)
        .map(|_| {
            let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
            let client = TcpStream::connect(listener.address()).expect("it listens");
            let acceptor = Acceptor::new(&scheduler.handle(), listener, Echo::new).with_limit(limit.cloned());
            (scheduler.spawn(acceptor), client)
        })
        .unzip();
    if acceptors.len() > 1 {
        scheduler.remote().expect("there are descriptors yet");
    }
    let retries = 6;
    let handle = scheduler.handle();
    let mut is_over = false;
    scheduler.spawn(task_fn("end", move |cx| {
        if std::mem::replace(&mut is_over, true) {
            handle.stop();
        }
        Ok(Wait::Until(cx.now() + DESCRIPTORS_RETRY * retries))
    }));

    let begin = Instant::now();
    without_descriptors(|| scheduler.run());
    let elapsed = begin.elapsed();

    assert!(reports.get() > 0, "it was not out of descriptors: the test is void");
    let most = (1 + elapsed.as_secs()) * acceptors.len() as u64;
    assert!(reports.get() <= most, "{} reports in {elapsed:?}", reports.get());
    let tasks = scheduler.tasks();
    let resumes: Vec<u64> = tasks.iter().filter(|task| acceptors.contains(&task.id)).map(|task| task.resumes).collect();
    assert!(
        resumes.len() == acceptors.len() && resumes.iter().all(|resumes| *resumes >= 2),
        "all try again: {tasks:?}"
    );
    // The first pauses are shorter: 1 ms, then twice as long each time.
    let most = 20 + 2 * elapsed.as_millis() / DESCRIPTORS_RETRY.as_millis();
    assert!(u128::from(resumes.iter().sum::<u64>()) <= most, "they do not spin: {tasks:?} in {elapsed:?}");
    // Whoever waits is served when there is a descriptor.
    let end = Instant::now() + Duration::from_secs(20);
    let served = |tasks: &[TaskInfo]| tasks.iter().filter(|task| task.name.starts_with("echo")).count();
    while served(&scheduler.tasks()) < clients.len() {
        assert!(Instant::now() < end, "nobody is accepted: {:?}", scheduler.tasks());
        scheduler.turn();
    }
}
