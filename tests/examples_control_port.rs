//! `examples/control_port`: the task table for whoever runs the server, and nothing else for anybody.

mod common;
#[path = "common/examples.rs"]
mod examples;

use common::{Client, LIMIT, ServerBuilder, Signal, eventually};
use examples::{Directory, Program, connect, converse, example, read_to_end, read_until};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn server() -> Program {
    Program::example("control_port", &["127.0.0.1:0", "0"])
}

fn control(server: &Program) -> std::net::SocketAddr {
    server.address_behind("Controlled on ")
}

#[test]
fn ps_shows_every_live_task_by_its_name() {
    let server = server();
    let mut client = Client::connect(server.address());
    client.ask(b"Hello");
    let text = String::from_utf8(converse(control(&server), b"ps\r\n")).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("> ID  BY "), "{text}");
    let has = |what: &str| lines.iter().any(|line| line.contains(what));
    assert!(
        has(&format!("acceptor {}  ", server.address())) && has(&format!("acceptor {}  ", control(&server))),
        "{text}"
    );
    assert!(
        has(&format!("echo {}", client.local_address())) && has("control 127.0.0.1:") && has("(this task)"),
        "{text}"
    );
    // It is the table of this moment.
    let gone = client.local_address();
    drop(client);
    eventually("the client's task is gone", LIMIT, || {
        let text = String::from_utf8(converse(control(&server), b"ps")).expect("text");
        !text.contains(&format!("echo {gone}"))
    });
}

#[test]
fn one_who_asks_for_one_table_after_the_other_gets_ten_a_second() {
    let (server, begin) = (server(), Instant::now());
    let text = String::from_utf8(converse(control(&server), &b"ps\n".repeat(6))).expect("text");
    assert_eq!(text.matches("WAITS FOR").count(), 6);
    assert!(begin.elapsed() >= Duration::from_millis(500), "six tables in {:?}", begin.elapsed());
}

#[test]
fn whatever_else_is_typed_is_refused_politely_and_shown_harmless() {
    let server = server();
    let answer = converse(control(&server), b"reboot\n\x1b[2Jps\n\xff\xf4\xff\xfd\x06\r\n\n help \nquit\nps\n");
    let text = String::from_utf8_lossy(&answer).replace("\u{fffd}\u{fffd}\u{6}", "");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "> Sorry, 'reboot' is not a command; try 'help'.");
    assert_eq!(lines[2], r"> Sorry, '\x1b[2Jps' is not a command; try 'help'.");
    assert_eq!(lines[3], r"> Sorry, '\xff\xf4\xff\xfd\x06' is not a command; try 'help'.");
    assert_eq!(lines[4..7], ["> > ps    shows the tasks", "help  shows this", "quit  ends this session"]);
    assert_eq!(lines[7..], ["> Good-bye."], "nothing is carried out after quit");
}

#[test]
fn telnet_gets_the_answer_that_it_waits_for_after_ctrl_c() {
    let server = server();
    let answer = converse(control(&server), b"\xff\xf4\xff\xfd\x06\r\nquit\n");
    let mut timing_marks = answer.windows(3).enumerate().filter(|(_, bytes)| *bytes == b"\xff\xfc\x06");
    let (at, _) = timing_marks.next().expect("an answer to telnet");
    assert!(answer[at + 3..].starts_with(b"Sorry, "), "what comes before it is not shown");
    assert_eq!(timing_marks.next(), None);
}

#[test]
fn a_command_without_an_end_is_refused_and_nobody_else_notices() {
    let server = server();
    let mut client = Client::connect(server.address());
    let mut session = connect(control(&server));
    session.write_all(&vec![b'x'; 100_000]).expect("the server receives");
    let text = String::from_utf8(read_to_end(&mut session)).expect("text");
    assert!(text.ends_with("> A command has at most 256 bytes. Good-bye.\n"), "{text}");
    let longest = "x".repeat(256);
    let answer = converse(control(&server), format!("{longest}\nquit\n").as_bytes());
    let text = String::from_utf8(answer).expect("text");
    assert!(text.contains(&format!("'{longest}' is not a command")), "{text}");
    client.ask(b"Hello");
}

#[test]
fn someone_who_asks_and_never_reads_costs_a_session_and_no_memory() {
    let server = server();
    let mut client = Client::connect(server.address());
    let mut session = connect(control(&server));
    session.set_write_timeout(Some(Duration::from_millis(300))).expect("a limit that is not zero can be set");
    let before = server.peak_bytes();
    for _ in 0..2000 {
        if session.write_all(&b"ps\n".repeat(1000)).is_err() {
            break;
        }
    }
    client.ask(b"Hello");
    let grown = server.peak_bytes() - before;
    assert!(grown < 2 << 20, "{grown} bytes");
}

#[test]
fn no_more_than_sixteen_sessions_are_held_and_the_next_gets_a_free_place() {
    let server = server();
    let mut sessions: Vec<_> = (0..16).map(|_| connect(control(&server))).collect();
    for session in &mut sessions {
        read_until(session, "> ");
    }
    let mut next = connect(control(&server));
    next.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit that is not zero can be set");
    assert!(next.read(&mut [0]).is_err(), "the seventeenth is served");
    sessions.pop();
    next.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    read_until(&mut next, "> ");
}

#[test]
fn sessions_that_ask_for_the_table_without_pause_share_it() {
    const ASKED: usize = 10;
    let server = server();
    let mut sessions: Vec<_> = (0..16).map(|_| connect(control(&server))).collect();
    for session in &mut sessions {
        session.write_all(&[&b"ps\n".repeat(ASKED)[..], b"quit\n"].concat()).expect("the server receives");
    }
    let texts: Vec<_> =
        sessions.iter_mut().map(|session| String::from_utf8(read_to_end(session)).expect("text")).collect();
    let mut tables: Vec<&str> =
        texts.iter().flat_map(|text| text.split("> ").filter(|answer| answer.starts_with("ID "))).collect();
    assert_eq!(tables.len(), 16 * ASKED);
    // No two are the same that were not made at once: how often each session has been resumed is in there.
    tables.sort_unstable();
    tables.dedup();
    assert!(tables.len() <= 4 * ASKED, "{} tables", tables.len());
}

#[test]
fn the_table_can_be_asked_for_when_clients_have_taken_all_descriptors() {
    const CLIENTS: usize = 100;
    let server = ServerBuilder::of(common::example("control_port")).args(["127.0.0.1:0", "0"]).after("ulimit -n 64");
    let server = server.spawn();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(server.address())).collect();
    let line = server.stdout.wait_for_line(LIMIT, |line| line.starts_with("Controlled on "));
    let control = line["Controlled on ".len()..].parse().expect("an address and a port");
    eventually("the table says why others wait", LIMIT, || {
        let text = String::from_utf8(converse(control, b"ps\n")).expect("text");
        text.lines().any(|line| line.contains(&format!("acceptor {} ", server.address())) && line.contains("limit of"))
    });
    // They wait for a place, and get one.
    for mut client in clients {
        client.ask(b"Hello");
    }
    assert!(server.stderr.all().is_empty(), "{:?}", server.stderr.all());
}

#[test]
fn a_unix_socket_does_as_well_and_is_for_its_owner_alone() {
    let directory = Directory::new();
    let path = directory.file("control");
    for _ in 0..2 {
        // The second time, the first one's socket is still there.
        let server = Program::example("control_port", &["127.0.0.1:0", &path]);
        server.stdout.wait_for_line(LIMIT, |line| line == format!("Controlled on {path}"));
        let mode = std::fs::metadata(&path).expect("the socket is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut session = UnixStream::connect(&path).expect("the server listens");
        session.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        session.write_all(b"ps\n").expect("the server receives");
        session.shutdown(Shutdown::Write).expect("a connection can be half-closed");
        let mut text = String::new();
        session.read_to_string(&mut text).expect("an answer and the end");
        assert!(text.contains("unix acceptor"), "{text}");
        // While it runs, nobody takes its place.
        let second = example("control_port").args(["127.0.0.1:0", &path]).stdin(Stdio::null()).output();
        let second = second.expect("an example can be started");
        assert_eq!(second.status.code(), Some(1));
        let reason = common::words(libc::EADDRINUSE);
        assert!(String::from_utf8_lossy(&second.stderr).trim_end().ends_with(&reason), "{second:?}");
    }
}

#[test]
fn no_more_than_sixteen_sessions_are_held_on_a_unix_socket_and_the_next_gets_a_free_place() {
    let directory = Directory::new();
    let path = directory.file("control");
    let server = Program::example("control_port", &["127.0.0.1:0", &path]);
    server.stdout.wait_for_line(LIMIT, |line| line == format!("Controlled on {path}"));
    let greeted = || {
        let mut session = UnixStream::connect(&path).expect("the server listens");
        session.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        session.read_exact(&mut [0; 24]).expect("a greeting");
        session
    };
    let mut sessions: Vec<_> = (0..16).map(|_| greeted()).collect();
    let mut next = UnixStream::connect(&path).expect("there is room in the kernel's queue");
    next.set_read_timeout(Some(Duration::from_millis(300))).expect("a limit that is not zero can be set");
    assert!(next.read(&mut [0]).is_err(), "the seventeenth is served");
    sessions.pop();
    next.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    next.read_exact(&mut [0; 24]).expect("a greeting");
}

#[test]
#[ignore = "needs strace"]
fn whoever_connects_before_the_socket_is_for_its_owner_alone_is_turned_away() {
    const CHMOD: &str = "?chmod,?fchmodat,?fchmodat2";
    let directory = Directory::new();
    let path = directory.file("control");
    // The tracer stops the server as soon as it has said who may connect, and is no child of ours: the server is.
    let tracer =
        ["-D", "-o", "/dev/null", "-e", &format!("trace={CHMOD}"), "-e", &format!("inject={CHMOD}:signal=STOP")];
    let server = ServerBuilder::of("strace").args(tracer).args([common::example("control_port")]);
    let server = server.args(["127.0.0.1:0", &path]).spawn();
    let is_private = || std::fs::metadata(&path).is_ok_and(|data| data.permissions().mode() & 0o777 == 0o600);
    eventually("the socket is there, and the server stopped", LIMIT, || is_private() && server.state() == 't');
    let connect = || UnixStream::connect(&path).expect("somebody listens");
    let mut early = connect();
    early.set_nonblocking(true).expect("a socket can be");
    let mut greeting = [0; 1];
    let mut heard = early.read(&mut greeting);
    eventually("it hears something, or the end", LIMIT, || {
        server.signal(Signal::CONT);
        heard = early.read(&mut greeting);
        heard.is_ok()
    });
    assert!(heard.is_ok_and(|len| len == 0), "it is served");
    let mut late = connect();
    late.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    read_until(&mut late, "> ");
}

#[test]
fn a_file_that_is_in_the_way_is_left_alone() {
    let directory = Directory::new();
    let path = directory.file("precious");
    std::fs::write(&path, "data").expect("a file can be written");
    let mut server = Program::spawn(example("control_port").args(["127.0.0.1:0", &path]).stdin(Stdio::null()));
    assert_eq!(server.wait(LIMIT).code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "data");
    // A socket of another kind does not refuse a connection: nobody could have one.
    let path = directory.file("datagrams");
    let _socket = UnixDatagram::bind(&path).expect("a socket can be bound");
    let mut server = Program::spawn(example("control_port").args(["127.0.0.1:0", &path]).stdin(Stdio::null()));
    assert_eq!(server.wait(LIMIT).code(), Some(1));
    UnixDatagram::unbound().expect("a socket").connect(&path).expect("it is still there");
}

/// A session with a program that people use.
#[track_caller]
fn hold_a_session(server: &Program, command: &mut Command) {
    let mut program = Program::spawn(command.stdin(Stdio::piped()));
    program.stdout.wait_for_line(LIMIT, |line| line.contains("Type 'help' for help."));
    program.type_in("ps\n");
    program.stdout.wait_for_line(LIMIT, |line| line.contains(&format!("acceptor {}", server.address())));
    program.type_in("quit\n");
    program.stdout.wait_for_line(LIMIT, |line| line.contains("Good-bye."));
}

#[test]
#[ignore = "needs telnet"]
fn telnet_holds_a_session() {
    let server = server();
    let address = control(&server);
    hold_a_session(&server, Command::new("telnet").args([address.ip().to_string(), address.port().to_string()]));
}

#[test]
#[ignore = "needs nc"]
fn nc_holds_a_session_on_a_unix_socket() {
    let directory = Directory::new();
    let path = directory.file("control");
    let server = Program::example("control_port", &["127.0.0.1:0", &path]);
    server.stdout.wait_for_line(LIMIT, |line| line.starts_with("Controlled on "));
    hold_a_session(&server, Command::new("nc").args(["-U", &path]));
}
