//! The daemon's log never stalls service, whatever becomes of standard output and standard error: lines may be dropped, the
//! dropped ones are counted, and the count is told once there is room.

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, LIMIT, Lines, Server, ServerBuilder, Signal, assert_idle, eventually, payload};
use faults::{
    Bystander, assert_recovers_within, client_that_never_reads, descriptors, listening_address, open_sockets, served,
    terminal, timed,
};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{Resource, Rlimit, prlimit};
use rustix::termios::{Action, tcflow};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// Enough connections to fill the log's queue (64 KiB) and a small pipe behind it with some 60 bytes each.
const CONNECTIONS: usize = 1_500;

/// How many lines the daemon logs for each of them.
const LINES_EACH: usize = 3;

/// A server whose standard output is `stdout`.
fn server_with_stdout(stdout: impl Into<Stdio>) -> (Server, SocketAddr) {
    let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).stdout(stdout).spawn();
    let address = listening_address(&mut server);
    (server, address)
}

/// Lets so many clients come and go, one of them asking now and then, and waits until the server is done with all.
#[track_caller]
fn come_and_go(server: &Server, address: SocketAddr, count: usize) {
    let before = open_sockets(server);
    for number in 0..count {
        let mut client = Client::connect(address);
        // When the last one is answered, nobody is in the queue any more.
        if number % 100 == 0 || number == count - 1 {
            client.ask(b"Is the log in your way?");
        }
    }
    eventually("all of them are gone", LIMIT, || open_sockets(server) <= before);
}

/// How many lines stand in `lines`, and how many more these say were dropped.
fn written_and_dropped(lines: &[String]) -> (usize, usize) {
    let dropped = |line: &String| {
        let text = line.split_once('(').filter(|(_, notice)| notice.contains("dropped"))?.1;
        text.split_whitespace().find_map(|word| word.parse::<usize>().ok())
    };
    let notices: Vec<usize> = lines.iter().filter_map(dropped).collect();
    // A line that was cut off by an error has the notice for its end, and counts as dropped.
    (lines.len() - notices.len(), notices.iter().sum())
}

/// Waits until `expected` lines have either been written or been reported as dropped, and expects that some were.
#[track_caller]
fn expect_all_accounted_for(lines: &Lines, expected: usize) {
    let lines = lines.wait_until("each line is written or counted", LIMIT, |lines| {
        let (written, dropped) = written_and_dropped(lines);
        written + dropped >= expected
    });
    let (written, dropped) = written_and_dropped(&lines);
    assert_eq!(written + dropped, expected, "{written} written and {dropped} dropped");
    assert!(dropped > 0, "there was no room for all of them");
    for line in &lines {
        let line = line.trim_end();
        let address = line.strip_prefix("Connection from ").or(line.strip_prefix("Listening on "));
        let is_whole = address.is_some_and(|address| address.parse::<SocketAddr>().is_ok())
            || matches!(line, "Connection closed" | "Task done")
            || line.contains("dropped)");
        assert!(is_whole, "a line is whole: {line:?}");
    }
}

/// Fills a log that nobody reads, looks at what that costs, and then lets `read` begin to read it.
#[track_caller]
fn expect_no_stall(server: &Server, address: SocketAddr, read: impl FnOnce() -> Lines) {
    let bystander = Bystander::start(address);
    come_and_go(server, address, CONNECTIONS);
    assert!(bystander.finish() > 0, "a bystander does not notice");
    assert_idle(server, "nobody reads the log");
    let lines = read();
    // The line that tells where it listens, and those of the bystander and all the others.
    let expected = 1 + LINES_EACH * (1 + CONNECTIONS);
    expect_all_accounted_for(&lines, expected);
    // From now on nothing is dropped.
    come_and_go(server, address, 10);
    lines.wait_until("the log goes on", LIMIT, |lines| lines.len() >= 10 * LINES_EACH);
    let wait = |lines: &[String]| {
        let (written, dropped) = written_and_dropped(lines);
        written + dropped == expected + 10 * LINES_EACH
    };
    lines.wait_until("each new line is written", LIMIT, wait);
}

fn small_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a pipe can be made smaller");
    (reader, writer)
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_and_no_service() {
    let (reader, writer) = small_pipe();
    let (server, address) = server_with_stdout(writer);
    expect_no_stall(&server, address, || Lines::read_from(reader));
}

#[test]
fn a_socket_that_nobody_reads_costs_lines_and_no_service() {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets can be made");
    socket2::SockRef::from(&theirs).set_send_buffer_size(4096).expect("a buffer can be made smaller");
    let (server, address) = server_with_stdout(OwnedFd::from(theirs));
    expect_no_stall(&server, address, || Lines::read_from(ours));
}

#[test]
fn a_pipe_that_cannot_be_opened_again_costs_lines_and_no_service() {
    // A pipe that somebody else has made, as `sudo -u` and containers pass it on: its flags are not the daemon's to change, and
    // a description of its own cannot be had. Standard output and standard error are the same pipe, and both have
    // something to say in the same turn, for which there is room once.
    let (mut reader, writer) = small_pipe();
    rustix::fs::fchmod(&writer, rustix::fs::Mode::empty()).expect("a pipe has a mode");
    let errors = writer.try_clone().expect("a descriptor can be cloned");
    let server = Server::builder().args(["--listen", "127.0.0.1:0"]).after(faults::WITHOUT_OVERRIDE).stdout(writer);
    let mut server = server.stderr(errors).spawn();
    let address = listening_address(&mut server);
    let mut clients = served(address, 80);
    rustix::io::ioctl_fionbio(&reader, true).expect("a pipe can be made non-blocking");
    for _ in 0..30 {
        while io::Read::read(&mut reader, &mut [0; 4096]).is_ok() {}
        server.pause();
        let mut client = Client::connect(address);
        server.signal(Signal::USR1);
        server.go_on();
        client.ask(b"Is the log in your way?");
        clients.push(client);
    }
    assert_idle(&server, "nobody reads the log");
    rustix::io::ioctl_fionbio(&reader, false).expect("a pipe can be made blocking");
    Lines::read_from(reader).wait_for_line(LIMIT, |line| line.contains("dropped") || line.contains("WAITS FOR"));
    served(address, 3);
}

#[test]
#[ignore = "needs strace"]
fn a_pipe_of_which_the_system_makes_a_duplicate_instead_costs_lines_and_no_service() {
    // As Apple's systems do: what is opened is standard output itself, which sleeps where there is no room.
    let (reader, writer) = small_pipe();
    let paths = (3..20).flat_map(|fd| ["-P".to_owned(), format!("/dev/fd/{fd}")]);
    let tracer = "-D -f --seccomp-bpf -o /dev/null -e inject=?open,openat:retval=1:when=1".split(' ');
    let daemon = [env!("CARGO_BIN_EXE_fdtask"), "--listen", "127.0.0.1:0"];
    let mut server = ServerBuilder::of("strace").args(tracer).args(paths).args(daemon).stdout(writer).spawn();
    let address = listening_address(&mut server);
    expect_no_stall(&server, address, || Lines::read_from(reader));
}

#[test]
fn a_terminal_that_is_stopped_costs_lines_and_no_service() {
    let (ours, theirs) = terminal();
    let handle = theirs.try_clone().expect("a descriptor can be cloned");
    // What Ctrl-S does.
    tcflow(&handle, Action::OOff).expect("a terminal can be stopped");
    let (server, address) = server_with_stdout(theirs);
    expect_no_stall(&server, address, || {
        tcflow(&handle, Action::OOn).expect("a terminal can go on");
        Lines::read_from(File::from(ours))
    });
}

#[test]
fn a_terminal_that_cannot_be_opened_again_costs_lines_and_no_service() {
    // One of somebody else, which `su` and containers pass on, and which nobody reads, such as over a connection that hangs.
    let (ours, theirs) = terminal();
    rustix::fs::fchmod(&theirs, rustix::fs::Mode::empty()).expect("a terminal has a mode");
    let server = Server::builder().args(["--listen", "127.0.0.1:0"]).after(faults::WITHOUT_OVERRIDE).stdout(theirs);
    let mut server = server.spawn();
    let address = listening_address(&mut server);
    expect_no_stall(&server, address, || Lines::read_from(File::from(ours)));
}

#[test]
fn a_standard_error_that_nobody_reads_costs_lines_and_no_service() {
    let (reader, writer) = small_pipe();
    let server = Server::builder().args(["--listen", "127.0.0.1:0"]).stderr(writer).spawn();
    let mut clients = served(server.address(), 50);
    for _ in 0..200 {
        // A table of all the clients each time, unless two signals become one.
        server.signal(Signal::USR1);
        clients[0].ask(b"Is the log in your way?");
    }
    for _ in 0..200 {
        // A line each.
        Client::connect(server.address()).reset();
    }
    clients[0].ask(b"Is the log in your way?");
    assert_idle(&server, "nobody reads its diagnostics");
    let lines = Lines::read_from(reader);
    lines.wait_for_line(LIMIT, |line| line.contains("dropped"));
    served(server.address(), 10);
}

#[test]
fn a_standard_output_whose_reader_is_gone_costs_the_log_and_no_service() {
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    let (server, address) = server_with_stdout(writer);
    let bystander = Bystander::start(address);
    drop(reader);
    come_and_go(&server, address, 200);
    bystander.finish();
    assert_idle(&server, "the reader of its log is gone");
    expect_clean_end(server);
}

#[test]
fn a_standard_output_whose_reader_was_gone_before_the_start_costs_the_log_and_no_service() {
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    drop(reader);
    let (server, address) = server_with_stdout(writer);
    come_and_go(&server, address, 200);
    assert_idle(&server, "the reader of its log is gone");
    expect_clean_end(server);
}

#[test]
fn a_full_disk_costs_the_log_and_no_service() {
    let full = || File::options().write(true).open("/dev/full").expect("Linux has /dev/full");
    let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).stdout(full()).stderr(full()).spawn();
    let address = listening_address(&mut server);
    let bystander = Bystander::start(address);
    come_and_go(&server, address, 200);
    server.signal(Signal::USR1);
    bystander.finish();
    assert_idle(&server, "its disk is full");
    served(address, 10);
    expect_clean_end(server);
}

#[test]
fn descriptors_that_cannot_be_written_to_cost_the_log_and_no_service() {
    let read_only = || File::open("/dev/null").expect("every Unix has /dev/null");
    let mut server =
        Server::builder().args(["--listen", "127.0.0.1:0"]).stdout(read_only()).stderr(read_only()).spawn();
    let address = listening_address(&mut server);
    come_and_go(&server, address, 200);
    server.signal(Signal::USR1);
    assert_idle(&server, "its log cannot be written");
    served(address, 10);
    expect_clean_end(server);
}

#[test]
fn text_for_closed_descriptors_never_reaches_a_client() {
    for closed in ["exec >&-", "exec 2>&-", "exec <&- >&-", "exec >&- 2>&-", "exec <&- >&- 2>&-"] {
        let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).after(closed).spawn();
        let address = listening_address(&mut server);
        // The numbers 0, 1 and 2 are of some file that swallows everything, so that no connection can be given them.
        for number in 0..3 {
            let open = descriptors(&server);
            let file = open.iter().find(|(one, _)| *one == number).map(|(_, file)| file.as_str());
            assert!(file.is_some_and(|file| !file.starts_with("socket:")), "after {closed}: {number} is {file:?}");
        }
        let mut clients = served(address, 20);
        // These are worth some lines on both: a table, a reset, connections that end.
        server.signal(Signal::USR1);
        clients.pop().expect("there are 20").reset();
        drop(clients.pop());
        come_and_go(&server, address, 20);
        for client in &mut clients {
            client.ask(b"Anything but the answer?");
            client.half_close();
            client.expect_end();
        }
        expect_clean_end(server);
    }
}

#[test]
fn the_flags_of_descriptors_that_are_shared_with_others_are_left_alone() {
    let (_reader, pipe) = small_pipe();
    let (_ours, terminal) = terminal();
    let (_one, socket) = UnixStream::pair().expect("a pair of sockets can be made");
    for shared in [OwnedFd::from(pipe), terminal.into(), socket.into()] {
        let flags = fcntl_getfl(&shared).expect("an open descriptor has flags");
        assert!(!flags.contains(OFlags::NONBLOCK));
        let out = shared.try_clone().expect("a descriptor can be cloned");
        let err = shared.try_clone().expect("a descriptor can be cloned");
        let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).stdout(out).stderr(err).spawn();
        let address = listening_address(&mut server);
        come_and_go(&server, address, 20);
        server.signal(Signal::USR1);
        served(address, 1);
        assert_eq!(fcntl_getfl(&shared).expect("an open descriptor has flags"), flags, "while it runs");
        expect_clean_end(server);
        assert_eq!(fcntl_getfl(shared.as_fd()).expect("an open descriptor has flags"), flags, "after it has ended");
    }
}

/// A file that has no name, for a server to log to, and a second descriptor to read it with.
fn log_file(name: &str) -> (File, File) {
    let path: PathBuf = std::env::temp_dir().join(format!("fdtask-test-{}-{name}", std::process::id()));
    let log = File::options().create(true).append(true).open(&path).expect("a file can be made");
    let reader = File::open(&path).expect("it can be opened once more");
    std::fs::remove_file(&path).expect("it can be removed");
    (log, reader)
}

/// Lifts the limit of the file size that the server was started with.
fn lift_file_limit(server: &Server) {
    let unlimited = Rlimit { current: None, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, unlimited).expect("a limit can be raised to the hard one");
}

#[test]
fn the_count_of_dropped_lines_survives_a_notice_that_cannot_be_written() {
    let (log, mut reader) = log_file("count");
    // A limit of 4 KiB is a disk with room for so much: writing says EFBIG, where the signal is ignored.
    let mut server =
        Server::builder().args(["--listen", "127.0.0.1:0"]).after("trap '' XFSZ; ulimit -S -f 8").stdout(log).spawn();
    let address = listening_address(&mut server);
    come_and_go(&server, address, 300);
    // Long enough for the notice to be tried, too, and more than once.
    assert_idle(&server, "its disk is full");
    lift_file_limit(&server);
    let expected = 1 + 300 * LINES_EACH;
    eventually("each line is written or counted", LIMIT, || {
        let mut text = String::new();
        io::Seek::rewind(&mut reader).expect("a file can be read again");
        io::Read::read_to_string(&mut reader, &mut text).expect("a file can be read");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (written, dropped) = written_and_dropped(&lines);
        assert!(written + dropped <= expected, "{written} written and {dropped} dropped of {expected}");
        dropped > 0 && written + dropped == expected
    });
}

#[test]
fn a_log_file_at_its_size_limit_costs_lines_and_not_the_daemon() {
    let (log, _reader) = log_file("limit");
    let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).after("ulimit -S -f 8").stdout(log).spawn();
    let address = listening_address(&mut server);
    come_and_go(&server, address, 300);
    assert_idle(&server, "its log file is full");
    served(address, 10);
    assert!(server.is_running(), "no signal has ended it");
    expect_clean_end(server);
}

#[track_caller]
fn expect_clean_end(mut server: Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_daemon_from_ending() {
    let end = |signals: &[Signal]| {
        let ((_out_reader, out), (_err_reader, err)) = (small_pipe(), small_pipe());
        let args = ["--listen", "127.0.0.1:0", "--drain-timeout", "600"];
        let mut server = Server::builder().args(args).stdout(out).stderr(err).spawn();
        let address = listening_address(&mut server);
        come_and_go(&server, address, 200);
        let clients = served(address, 50);
        let stuck = (signals.len() > 1).then(|| client_that_never_reads(address, &payload(10_000, 1)));
        for _ in 0..20 {
            server.signal(Signal::USR1);
            Client::connect(address).ask(b"Is the log in your way?");
        }
        drop(clients);
        let (last, before) = signals.split_last().expect("there is a signal");
        for signal in before {
            server.signal(*signal);
            eventually("it drains", LIMIT, || Client::try_connect(address, LIMIT).is_err());
        }
        let took = timed(|| {
            server.signal(*last);
            let status = server.wait_exit(LIMIT);
            assert!(status.code().is_some(), "it exits, it is not killed: {status:?}");
        });
        drop(stuck);
        took
    };
    let times: Vec<Duration> = (0..3).map(|_| end(&[Signal::TERM])).collect();
    assert_recovers_within(Duration::from_millis(500), "ending with a blocked log", &times);
    // The bar is 100 ms; what is tested is that it does not wait for a reader.
    let times: Vec<Duration> = (0..3).map(|_| end(&[Signal::TERM, Signal::INT])).collect();
    assert_recovers_within(Duration::from_millis(300), "ending on a second signal with a blocked log", &times);
}
