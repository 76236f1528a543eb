//! Every system call of the loop fails with each of its documented errors: the first time, every third time, and always. The
//! built daemon must not die, must not spin, must lose nobody whom the error does not concern, and must serve again when the
//! failures end. So must the `async fn` when a call on a connection fails for now.

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/strace.rs"]
mod strace;

use common::{Client, Echo, LIMIT, Server, Signal, eventually, over_echoes};
use faults::{open_sockets, served, timed, warm_up};
use std::fmt;
use std::thread;
use std::time::Duration;
use strace::Strace;

/// When a call fails, in the words of strace: the first time, every third time, always.
const WHEN: [&str; 3] = ["1", "3+3", "1+"];

/// How many clients are connected, silent and long since parked, when the failures begin.
const CROWD: usize = 12;

/// How many more come during the failures, and how many of the crowd ask something then.
const ROUNDS: usize = 6;

/// For so long nothing new happens while the call goes on failing, and the server must not make a fuss about it.
const QUIET: Duration = Duration::from_millis(300);

/// How many calls it may make in [`QUIET`]: each of those who ask in vain may be tried again some ten times a second, with
/// a poll each. A spin is thousands.
const QUIET_CALLS_MAX: usize = 250;

/// How often it is looked at for [`QUIET`]. A server that spins does so each time. One whose calls are interrupted makes some
/// 200 in that time, and more where a busy machine holds strace up in between, so that they are not taken for one row of them.
const LOOKS_MAX: usize = 5;

/// How soon everything is as before once the failures end. The bars are 250 ms to 1 s; this allows for a busy machine.
const RESTORED: Duration = Duration::from_secs(3);

/// Whom an error concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concerns {
    /// Nobody: it passes, and everybody gets each answer.
    Nobody,
    /// The connections on which the call is made; the others do not notice.
    Its,
    /// Nobody, but closing fails, so that what was closed stays open (strace does not make the call at all).
    Closing,
}

/// One case of the sweep.
#[derive(Clone, Copy)]
struct Case {
    echo: Echo,
    call: &'static str,
    error: &'static str,
    when: &'static str,
    concerns: Concerns,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:error={}:when={}", self.call, self.error, self.when)
    }
}

fn sweep(call: &'static str, concerns: Concerns, errors: &[&'static str]) {
    sweep_over(Echo::Daemon, call, concerns, errors);
}

fn sweep_over(echo: Echo, call: &'static str, concerns: Concerns, errors: &[&'static str]) {
    for error in errors {
        for when in WHEN {
            // One instance is made when the server begins, and that is that; unless it cannot be made.
            if (call, when) != ("epoll_create1", "3+3") {
                survive(Case { echo, call, error, when, concerns });
            }
        }
    }
}

/// Runs one case. What fails says which.
fn survive(case: Case) {
    // A shell that has stopped, and is to become the server.
    let mut server = case.echo.listening_on("127.0.0.1:0").after("kill -STOP $$").spawn();
    eventually("the shell has stopped", LIMIT, || server.state() == 'T');
    let attach = || Strace::attach(&server, &traced(case.call), &case.to_string());
    let at_first = (case.call == "epoll_create1").then(attach);
    server.go_on();
    let address = server.address();
    // This is called when the crowd is parked, and when one of it leaves.
    let early = at_first.or_else(|| (case.call == "epoll_ctl").then(attach));
    let mut crowd = served(address, CROWD);
    warm_up(&server, address);

    let strace = early.unwrap_or_else(attach);
    crowd.truncate(CROWD - 2);
    let mut late = Vec::new();
    for client in crowd.iter_mut().take(ROUNDS) {
        client.send(b"during");
        let mut newcomer = Client::connect(address);
        newcomer.send(b"late");
        late.push(newcomer);
        // One more comes only to leave again.
        drop(Client::connect(address));
        thread::sleep(Duration::from_millis(8));
    }
    let mut looks = Vec::new();
    let is_quiet = (0..LOOKS_MAX).any(|_| {
        let before = (strace.calls().len(), server.usage());
        thread::sleep(QUIET);
        let cpu = server.usage().cpu.saturating_sub(before.1.cpu);
        assert!(cpu < QUIET / 3, "{case}: {cpu:?} of processor time in {QUIET:?}: it spins");
        looks.push(strace.calls().len() - before.0);
        looks.last().is_some_and(|calls| *calls <= QUIET_CALLS_MAX)
    });
    strace.wait_until_injected();
    assert!(server.is_running(), "{case}: the server has died: {:?}", server.stderr.all());
    strace.detach(&server);
    assert!(is_quiet, "{case}: it spins: calls in {QUIET:?} were {looks:?}");

    // Whoever has not asked is not concerned by anything, and neither is whoever comes now.
    let restored = timed(|| {
        served(address, 3);
        for client in &mut crowd[ROUNDS..] {
            client.ask(b"after");
        }
        if case.concerns != Concerns::Its {
            for client in &mut crowd[..ROUNDS] {
                client.expect_answer(b"during");
                client.ask(b"after");
            }
            for client in &mut late {
                client.expect_answer(b"late");
                client.ask(b"after");
            }
        }
    });
    assert!(restored < RESTORED, "{case}: served again only after {restored:?}");
    assert!(server.stderr.all().len() < 40, "{case}: it talks too much: {:?}", server.stderr.all());
    drop((crowd, late));
    if case.concerns != Concerns::Closing {
        eventually("all connections are closed", LIMIT, || open_sockets(&server) == 1);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "{case}: {:?}", server.stderr.all());
}

/// What is traced: the call, and those that a spin would consist of.
fn traced(call: &str) -> String {
    let loops = ["poll", "epoll_wait", "accept4", "recvfrom", "sendto"];
    let others = loops.iter().filter(|other| **other != call);
    others.fold(call.to_owned(), |all, other| all + "," + other)
}

#[test]
#[ignore = "needs strace"]
fn accept4_may_fail_for_a_connection_or_the_network() {
    let errors = [
        "EAGAIN",
        "EINTR",
        "ECONNABORTED",
        "EPERM",
        "EPROTO",
        "EOPNOTSUPP",
        "ENETDOWN",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "ETIMEDOUT",
        "ENOSR",
        "ESOCKTNOSUPPORT",
        "EPROTONOSUPPORT",
    ];
    sweep("accept4", Concerns::Nobody, &errors);
}

#[test]
#[ignore = "needs strace"]
fn accept4_may_fail_for_want_of_descriptors_or_memory() {
    sweep("accept4", Concerns::Nobody, &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);
}

over_echoes! {
    without_threads:
        #[ignore = "needs strace"]
        a_connection_may_fail_for_now
        #[ignore = "needs strace"]
        a_broken_listener_is_logged_and_ends_the_server_with_an_error
        #[ignore = "needs strace"]
        an_error_that_passes_does_not_make_a_drain_forget_what_was_received
        #[ignore = "needs strace"]
        a_drain_neither_spins_nor_forgets_while_nothing_can_be_received;
}

fn a_connection_may_fail_for_now(echo: Echo) {
    for call in ["recvfrom", "sendto"] {
        sweep_over(echo, call, Concerns::Nobody, &["EAGAIN", "EINTR", "ENOMEM", "ENOBUFS"]);
    }
}

#[test]
#[ignore = "needs strace"]
fn recvfrom_may_fail_for_good() {
    let errors = [
        "EBADF",
        "ECONNREFUSED",
        "EFAULT",
        "EINVAL",
        "ENOTCONN",
        "ENOTSOCK",
        "ECONNRESET",
        "ETIMEDOUT",
        "EHOSTUNREACH",
        "EIO",
    ];
    sweep("recvfrom", Concerns::Its, &errors);
}

#[test]
#[ignore = "needs strace"]
fn sendto_may_fail_for_good() {
    let errors = [
        "EACCES",
        "EALREADY",
        "EBADF",
        "ECONNRESET",
        "EDESTADDRREQ",
        "EFAULT",
        "EINVAL",
        "EISCONN",
        "EMSGSIZE",
        "ENOTCONN",
        "ENOTSOCK",
        "EOPNOTSUPP",
        "EPIPE",
        "ETIMEDOUT",
        "EHOSTUNREACH",
    ];
    sweep("sendto", Concerns::Its, &errors);
}

#[test]
#[ignore = "needs strace"]
fn poll_may_fail() {
    sweep("poll", Concerns::Nobody, &["EFAULT", "EINTR", "EINVAL", "ENOMEM"]);
}

#[test]
#[ignore = "needs strace"]
fn epoll_may_fail() {
    sweep("epoll_create1", Concerns::Nobody, &["EMFILE", "ENFILE", "ENOMEM"]);
    let errors = ["EBADF", "EEXIST", "EINVAL", "ELOOP", "ENOENT", "ENOMEM", "ENOSPC", "EPERM"];
    sweep("epoll_ctl", Concerns::Nobody, &errors);
    sweep("epoll_wait", Concerns::Nobody, &["EBADF", "EFAULT", "EINTR", "EINVAL"]);
}

#[test]
#[ignore = "needs strace"]
fn close_may_fail() {
    sweep("close", Concerns::Closing, &["EBADF", "EINTR", "EIO", "ENOSPC", "EDQUOT"]);
}

#[test]
#[ignore = "needs strace"]
fn close_is_never_retried() {
    // After EINTR the number may be free, and somebody else's by the time of a second try.
    let server = Server::start(&[]);
    let clients = served(server.address(), 10);
    let strace = Strace::attach(&server, "close", "close:error=EINTR");
    drop(clients);
    eventually("all ten are closed", LIMIT, || strace.injected() >= 10);
    served(server.address(), 3);
    let mut numbers: Vec<String> =
        strace.calls().iter().filter_map(|call| Some(call.split_once(')')?.0.to_owned())).collect();
    let calls = numbers.len();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), calls, "each number is closed once: {:?}", strace.calls());
}

#[test]
#[ignore = "needs strace"]
fn a_call_that_always_fails_is_said_once_a_second() {
    for error in ["EMFILE", "ENOMEM", "EPERM", "ECONNABORTED"] {
        let server = Server::start(&[]);
        let strace = Strace::attach(&server, "accept4", &format!("accept4:error={error}"));
        let _waiting = Client::connect(server.address());
        let enough = |lines: &[String]| lines.iter().filter(|line| line.contains("cannot accept")).count() >= 2;
        let took = timed(|| {
            server.stderr.wait_until("it says that it cannot accept", LIMIT, enough);
        });
        assert!(took >= Duration::from_millis(900), "{error}: two lines in {took:?}");
        strace.detach(&server);
    }
}

fn a_broken_listener_is_logged_and_ends_the_server_with_an_error(echo: Echo) {
    for error in ["EBADF", "EINVAL", "ENOTSOCK"] {
        let mut server = echo.start(&["--drain-timeout", "600"]);
        let mut clients = served(server.address(), 5);
        let strace = Strace::attach(&server, "accept4", &format!("accept4:error={error}:when=1"));
        let _newcomer = Client::connect(server.address());
        strace.wait_until_injected();
        server.stderr.wait_for_line(LIMIT, |line| line.contains(": acceptor 127.0.0.1:"));
        // Those who are connected are not let down.
        for client in &mut clients {
            client.expect_end();
        }
        drop(clients);
        let status = server.wait_exit(LIMIT);
        assert_eq!(status.code(), Some(1), "{error}: {:?}", server.stderr.all());
    }
}

#[test]
#[ignore = "needs strace"]
fn a_broken_listener_ends_the_daemon_though_nobody_reads_its_errors() {
    let (_reader, writer) = std::io::pipe().expect("a pipe can be made");
    let mut filler = writer.try_clone().expect("a descriptor can be cloned");
    rustix::io::ioctl_fionbio(&filler, true).expect("a pipe can be made non-blocking");
    while std::io::Write::write(&mut filler, &[b'x'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&filler, false).expect("a pipe can be made blocking");
    let args = ["--listen", "127.0.0.1:0"];
    let mut server = Server::builder().args(args).stderr(writer).spawn();
    let address = server.address();
    let strace = Strace::attach(&server, "accept4", "accept4:error=EBADF:when=1");
    let _newcomer = Client::connect(address);
    strace.wait_until_injected();
    assert_eq!(server.wait_exit(LIMIT).code(), Some(1));
}

fn an_error_that_passes_does_not_make_a_drain_forget_what_was_received(echo: Echo) {
    for error in ["EINTR", "EAGAIN", "ENOMEM", "ENOBUFS"] {
        let server = echo.start(&["--drain-timeout", "600"]);
        let mut clients = served(server.address(), 3);
        server.pause();
        for client in &mut clients {
            client.send(b"first words");
        }
        server.signal(Signal::TERM);
        let strace = Strace::attach(&server, "recvfrom", &format!("recvfrom:error={error}:when=1..3"));
        server.go_on();
        for client in &mut clients {
            client.expect_answer(b"first words");
            client.expect_end();
        }
        strace.wait_until_injected();
    }
}

fn a_drain_neither_spins_nor_forgets_while_nothing_can_be_received(echo: Echo) {
    for error in ["EINTR", "EAGAIN", "ENOMEM"] {
        let server = echo.start(&["--drain-timeout", "600"]);
        let mut clients = served(server.address(), 3);
        server.pause();
        // Half of them have been served before, half are new.
        clients.extend((0..3).map(|_| Client::connect(server.address())));
        for client in &mut clients {
            client.send(b"first words");
        }
        server.signal(Signal::TERM);
        let strace = Strace::attach(&server, &traced("recvfrom"), &format!("recvfrom:error={error}"));
        server.go_on();
        strace.wait_until_injected();
        let mut looks = Vec::new();
        let is_quiet = (0..LOOKS_MAX).any(|_| {
            let before = strace.calls().len();
            thread::sleep(QUIET);
            looks.push(strace.calls().len() - before);
            looks.last().is_some_and(|calls| *calls <= QUIET_CALLS_MAX)
        });
        strace.detach(&server);
        assert!(is_quiet, "{error}: it spins: calls in {QUIET:?} were {looks:?}");
        for client in &mut clients {
            client.expect_answer(b"first words");
            client.expect_end();
        }
    }
}

#[test]
#[ignore = "needs strace"]
fn an_answer_that_goes_out_in_many_pieces_goes_on_each_time_from_where_it_ended() {
    // No socket has so little room: an answer is small enough that what is left of one goes out whole. So the tracer says
    // that three bytes were sent, five times, and does not make the call: these fifteen are missing.
    let server = Server::start(&[]);
    let mut client = served(server.address(), 1).remove(0);
    let strace = Strace::attach(&server, "sendto", "sendto:retval=3:when=1..5");
    client.send(b"abcdefghijklmnopqrstuvwxyz");
    let rest = client.receive("lmnopqrstuvwxyz".len());
    assert_eq!(String::from_utf8_lossy(&rest), "lmnopqrstuvwxyz");
    strace.wait_until_injected();
    // Nothing more has come, and the next answer is whole.
    client.ask(b"next");
}
