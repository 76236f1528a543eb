//! Signals are invisible to clients, and none is ever seen late: also not the one that arrives just before the server goes
//! to sleep.

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{LIMIT, Server, Signal, eventually};
use faults::{Bystander, assert_recovers_within, served};
use fdtask::{Scheduler, Signals};
use rustix::process::Pid;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How soon a signal is seen that is seen at once.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Sends signals that are handled, ignored by default, or stop and continue the process, for so long.
fn storm(server: &Server, duration: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        for signal in [Signal::USR1, Signal::WINCH, Signal::URG, Signal::CHILD, Signal::CONT, Signal::USR1] {
            server.signal(signal);
        }
        thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_storm_of_signals_is_invisible_to_clients() {
    let mut server = Server::start(&[]);
    let bystanders: Vec<Bystander> = (0..4).map(|_| Bystander::start(server.address())).collect();
    storm(&server, Duration::from_millis(700));
    for bystander in bystanders {
        let rounds = bystander.finish();
        assert!(rounds > 5, "it was answered {rounds} times while the storm lasted");
    }
    served(server.address(), 10);
    assert!(server.is_running());
    server.stderr.wait_for_line(LIMIT, |line| line.contains("recv fd"));
    let failures = server.stderr.count(|line| line.starts_with("fdtask: "));
    assert_eq!(failures, 0, "an interruption is nothing to talk about: {:?}", server.stderr.all());
}

#[test]
fn being_stopped_and_continued_is_invisible_to_clients() {
    let server = Server::start(&[]);
    let bystanders: Vec<Bystander> = (0..4).map(|_| Bystander::start(server.address())).collect();
    let silent = served(server.address(), 4);
    // More often in a row than any count of interruptions that a server might take for a failure.
    for round in 0..100 {
        server.pause();
        server.go_on();
        if round % 10 == 0 {
            thread::sleep(Duration::from_millis(3));
        }
    }
    for bystander in bystanders {
        bystander.finish();
    }
    for mut client in silent {
        client.ask(b"Still here");
    }
    assert_eq!(server.stderr.all(), [""; 0], "nothing has happened that is worth a line");
}

#[test]
fn an_idle_server_that_is_stopped_and_continued_stays_idle() {
    let server = Server::start(&[]);
    let mut silent = served(server.address(), 4);
    for _ in 0..100 {
        server.pause();
        server.go_on();
    }
    eventually("it sleeps", LIMIT, || server.state() == 'S');
    common::assert_idle(&server, "it was stopped and continued");
    silent[0].ask(b"Still here");
    assert_eq!(server.stderr.all(), [""; 0], "nothing has happened that is worth a line");
}

#[test]
fn each_of_two_receivers_gets_the_signals_that_it_has_asked_for() {
    let scheduler = Scheduler::new();
    let receiver = |signal| Signals::new(&scheduler.handle(), &[signal]).expect("a signal can be received");
    let (hangup, user) = (receiver(fdtask::Signal::Hangup), receiver(fdtask::Signal::User2));
    for signal in [libc::SIGUSR2, libc::SIGHUP] {
        // SAFETY: the signals have no effect but to be received, and are for this thread alone.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }
    assert_eq!(hangup.receive().expect("it can be read"), Some(fdtask::Signal::Hangup));
    assert_eq!(user.receive().expect("it can be read"), Some(fdtask::Signal::User2));
    for receiver in [hangup, user] {
        assert_eq!(receiver.receive().expect("it can be read"), None);
    }
}

#[test]
fn whatever_signal_is_asked_for_is_received() {
    use fdtask::Signal::{Child, FileSize, Hangup, Interrupt, Terminate, User1, User2};
    let scheduler = Scheduler::new();
    for signal in [Hangup, Interrupt, Terminate, User1, User2, Child, FileSize] {
        let signals = Signals::new(&scheduler.handle(), &[signal]).expect("a signal can be received");
        // SAFETY: the signal has no effect but to be received, and is for this thread alone.
        assert_eq!(unsafe { libc::raise(signal as libc::c_int) }, 0);
        assert_eq!(signals.receive().expect("it can be read"), Some(signal));
    }
}

#[test]
fn how_a_child_has_ended_is_known_even_if_the_program_was_started_with_children_ignored() {
    let script = "trap '' CHLD; exec \"$0\" --exact --ignored a_child_has_ended";
    let program = std::env::current_exe().expect("this program has a path");
    let output =
        Command::new("bash").args(["-c", script]).arg(program).output().expect("bash, as dash does not ignore them");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "the test before runs it, in a process of its own"]
fn a_child_has_ended() {
    let scheduler = Scheduler::new();
    let _signals = Signals::new(&scheduler.handle(), &[fdtask::Signal::Child]).expect("a signal can be received");
    // A kernel that ignores children keeps no status, and sends no signal either.
    let status = Command::new("false").status().expect("how it has ended");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_program_s_own_handler_of_its_children_is_left_alone() {
    extern "C" fn heed(_signal: libc::c_int) {}
    let own: libc::sighandler_t = heed as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing, whenever it is called.
    let before = unsafe { libc::signal(libc::SIGCHLD, own) };
    let scheduler = Scheduler::new();
    let _signals = Signals::new(&scheduler.handle(), &[fdtask::Signal::Child]).expect("a signal can be received");
    // SAFETY: what is put back is what was there.
    let after = unsafe { libc::signal(libc::SIGCHLD, before) };
    assert_eq!(after, own, "it has a handler for other threads, which do not block the signal");
}

#[test]
fn a_program_that_is_started_with_signals_unblocked_is_ended_by_them() {
    let scheduler = Scheduler::new();
    let _signals = Signals::new(&scheduler.handle(), &[fdtask::Signal::Terminate]).expect("a signal can be received");
    let mut command = Command::new("sleep");
    Signals::unblock_in(command.arg("30")).expect("a set of signals can be made");
    let mut child = command.spawn().expect("a program that every system has");
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).expect("it is ours");
    // If it does not, it ends soon after the test.
    eventually("it has ended", LIMIT, || child.try_wait().expect("it is ours").is_some());
    assert_eq!(child.wait().expect("it is ours").signal(), Some(libc::SIGTERM));
}

#[test]
fn a_signal_is_seen_at_once_every_time() {
    // A signal that is looked for before each sleep, and not by the sleep itself, is missed when it arrives in between: then
    // the server sleeps on. The delays spread the signals over the turns around the first sleep.
    const CYCLES: u64 = 200;
    let mut times = Vec::new();
    for cycle in 0..CYCLES {
        let mut server = Server::start(&[]);
        let delay = Duration::from_micros(cycle % 20 * 25);
        let begin = Instant::now();
        while begin.elapsed() < delay {
            std::hint::spin_loop();
        }
        server.signal(if cycle % 2 == 0 { Signal::TERM } else { Signal::INT });
        let begin = Instant::now();
        let status = server.wait_exit(LIMIT);
        times.push(begin.elapsed());
        assert_eq!(status.code(), Some(0), "cycle {cycle}: {status:?}");
        if cycle % 20 == 19 {
            assert_recovers_within(AT_ONCE, "ending after a signal", &times);
        }
    }
}

#[test]
fn a_signal_is_seen_at_once_by_a_server_that_is_just_falling_asleep() {
    // Each answer is followed by a sleep; the signals are aimed at the moments around its beginning.
    const ROUNDS: u64 = 300;
    let server = Server::start(&[]);
    let mut client = common::Client::connect(server.address());
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let tables = || server.stderr.count(|line| line.contains("WAITS FOR"));
        let before = tables();
        client.ask(b"You may sleep now");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(round % 30 * 3) {
            std::hint::spin_loop();
        }
        server.signal(Signal::USR1);
        times.push(eventually("the task table is printed", LIMIT, || tables() > before));
        if round % 20 == 19 {
            assert_recovers_within(AT_ONCE, "printing the task table", &times);
        }
    }
}
