//! `examples/tcp_client.rs`: what `nc` does.

mod common;
#[path = "common/examples.rs"]
mod examples;

use common::{LIMIT, Server, Signal, eventually, send_until_stuck, uninterrupted};
use examples::{Directory, Program, example, read_to_end};
use rustix::process::{Pid, kill_process};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// More than what a pipe and the buffers of a connection hold, in a pattern that shows what is missing.
fn plenty() -> Vec<u8> {
    (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port().to_string();
    (listener, port)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("the client connects");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    stream
}

#[test]
fn a_typed_line_is_answered_before_the_next_and_the_end_of_input_ends_it() {
    let server = Server::start(&[]);
    let port = server.address().port().to_string();
    let mut client = Program::spawn(example("tcp_client").args(["localhost", &port]).stdin(Stdio::piped()));
    for word in ["Hello", "World"] {
        client.type_in(&format!("{word}\n"));
        client.stdout.wait_for_line(LIMIT, |line| line == format!("GOT:{word}"));
    }
    drop(client.child.stdin.take());
    assert!(client.wait(LIMIT).success());
}

#[test]
fn a_file_goes_out_whole_while_the_answer_comes_in_whole() {
    let directory = Directory::new();
    fs::write(directory.path().join("in"), plenty()).expect("a file can be written");
    let (listener, port) = listen();
    let server = thread::spawn(move || {
        // Sends what it receives, when it has received all of it: both directions must be open to the end.
        let mut stream = accept(&listener);
        let received = read_to_end(&mut stream);
        stream.write_all(&received).expect("the client receives");
    });
    let input = File::open(directory.path().join("in")).expect("it has been written");
    let output = File::create(directory.path().join("out")).expect("a file can be made");
    let status = example("tcp_client").args(["127.0.0.1", &port]).stdin(input).stdout(output).status();
    assert!(status.expect("the client can be started").success());
    server.join().expect("the server had no trouble");
    assert!(fs::read(directory.path().join("out")).expect("it has been written") == plenty());
}

#[test]
fn a_server_that_ends_its_side_first_still_receives() {
    let (listener, port) = listen();
    let mut client = Program::spawn(example("tcp_client").args(["127.0.0.1", &port]).stdin(Stdio::piped()));
    let mut server = accept(&listener);
    server.write_all(b"last words\n").expect("the client receives");
    server.shutdown(Shutdown::Write).expect("a connection can be half-closed");
    client.stdout.wait_for_line(LIMIT, |line| line == "last words");
    client.type_in("understood\n");
    drop(client.child.stdin.take());
    assert_eq!(read_to_end(&mut server), b"understood\n");
    assert!(client.wait(LIMIT).success());
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_it_from_sending() {
    let (listener, port) = listen();
    let mut command = example("tcp_client");
    let mut child = command
        .args(["127.0.0.1", &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client can be started");
    let mut server = accept(&listener);
    let sent = plenty();
    let count = send_until_stuck(&server, &sent);
    child.stdin.take().expect("standard input is a pipe").write_all(b"and yet").expect("the client reads");
    let mut received = [0; 7];
    server.read_exact(&mut received).expect("what was typed");
    assert_eq!(&received, b"and yet");
    let mut stdout = child.stdout.take().expect("standard output is a pipe");
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    server.write_all(&sent[count..]).expect("the client receives");
    drop(server);
    assert!(reader.join().expect("no panic").expect("standard output can be read") == sent);
    assert!(child.wait().expect("a child can be waited for").success());
}

#[test]
fn a_reset_is_one_line_and_exit_code_1() {
    let (listener, port) = listen();
    let mut client = Program::spawn(example("tcp_client").args(["127.0.0.1", &port]).stdin(Stdio::piped()));
    let server = accept(&listener);
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
    drop(server);
    assert_eq!(client.wait(LIMIT).code(), Some(1));
    let line = client.stderr.wait_for_line(LIMIT, |_| true);
    assert_eq!(line, "tcp_client: receiving: Connection reset by peer");
}

#[test]
#[ignore = "needs strace"]
fn an_output_that_takes_nothing_is_one_line_and_exit_code_1() {
    let (listener, port) = listen();
    // A file system that is a program may do so. The tracer says that nothing was written, and does not make the call.
    let tracer = ["-D", "-o", "/dev/null", "-e", "inject=write:retval=0:when=1"];
    let command = [common::example("tcp_client").into_os_string(), "127.0.0.1".into(), port.into()];
    let mut client = Program::spawn(Command::new("strace").args(tracer).args(command).stdin(Stdio::piped()));
    let mut server = accept(&listener);
    server.write_all(b"hello\n").expect("the client receives");
    assert_eq!(client.wait(LIMIT).code(), Some(1));
    let line = client.stderr.wait_for_line(LIMIT, |_| true);
    assert!(line.starts_with("tcp_client: receiving: "), "{line}");
}

/// Stops it, and waits until it has stopped.
#[track_caller]
fn pause(client: &Program) {
    let pid = client.child.id();
    eventually("it is stopped", LIMIT, || {
        kill_process(Pid::from_child(&client.child), Signal::STOP).expect("it runs");
        fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there").contains(") T ")
    });
}

#[test]
fn what_a_server_said_before_it_reset_the_connection_is_written_out() {
    // So long that most of it is still to be received when sending fails.
    let refusal = "413 Content Too Large. ".repeat(1000);
    let (listener, port) = listen();
    // All of it is sent, and the end of it remains to be told; or much is left to send.
    for size in [2000, 4_000_000].repeat(5) {
        let mut client = Program::spawn(example("tcp_client").args(["127.0.0.1", &port]).stdin(Stdio::piped()));
        let mut stdin = client.child.stdin.take().expect("standard input is a pipe");
        let mut server = accept(&listener);
        // It fails when the client has ended.
        let writer = thread::spawn(move || stdin.write_all(&vec![7; size]).map(|()| stdin));
        server.read_exact(&mut [0; 1000]).expect("the beginning of the request");
        assert_eq!(uninterrupted(|| server.peek(&mut [0])).expect("more of the request"), 1);
        // The client finds all of this at once. To close a connection with something unread in it is a reset.
        pause(&client);
        let writer = if size > 2000 {
            Some(writer)
        } else {
            drop(writer.join());
            None
        };
        server.write_all(refusal.as_bytes()).expect("there is room in the kernel");
        drop(server);
        kill_process(Pid::from_child(&client.child), Signal::CONT).expect("it is there");
        assert_eq!(client.wait(LIMIT).code(), Some(1));
        let answer = client.stdout.wait_until("an answer comes", LIMIT, |lines| !lines.is_empty()).concat();
        assert!(answer == refusal, "{} bytes of {} are written out", answer.len(), refusal.len());
        let line = client.stderr.wait_for_line(LIMIT, |_| true);
        assert!(line.starts_with("tcp_client: ") && line.ends_with("ing: Connection reset by peer"), "{line:?}");
        drop(writer.map(thread::JoinHandle::join));
    }
}

#[test]
#[ignore = "needs socat"]
fn a_program_behind_socat_is_talked_to_until_both_ends_have_ended() {
    // `sort` answers when its input has ended, and not before.
    let listen = "TCP4-LISTEN:0,bind=127.0.0.1";
    let socat = Program::spawn(Command::new("socat").args(["-d", "-d", listen, "EXEC:sort"]).stdin(Stdio::null()));
    let line = socat.stderr.wait_for_line(LIMIT, |line| line.contains("listening on"));
    let (_, port) = line.rsplit_once(':').expect("an address and a port");
    let mut client = Program::spawn(example("tcp_client").args(["127.0.0.1", port]).stdin(Stdio::piped()));
    client.type_in("pear\napple\n");
    drop(client.child.stdin.take());
    assert!(client.wait(LIMIT).success());
    let lines = client.stdout.wait_until("two lines come", LIMIT, |lines| lines.len() == 2);
    assert_eq!(lines, ["apple", "pear"]);
}

#[test]
#[ignore = "needs python3"]
fn it_works_on_a_terminal_and_leaves_that_blocking() {
    // Python's pty module plays the person: types, reads, ends the input with Ctrl-D, and looks at the terminal's flags.
    let server = Server::start(&[]);
    let script = format!(
        r"
import fcntl, os, pty, sys
leader, terminal = pty.openpty()
pid = os.fork()
if pid == 0:
    os.login_tty(terminal) if hasattr(os, 'login_tty') else [os.dup2(terminal, fd) for fd in (0, 1, 2)]
    os.execv({client:?}, ['tcp_client', '127.0.0.1', '{port}'])
seen = b''
os.write(leader, b'Hello\n')
while b'GOT:Hello' not in seen: seen += os.read(leader, 1000)
print('blocking', not fcntl.fcntl(terminal, fcntl.F_GETFL) & os.O_NONBLOCK)
os.write(leader, b'\x04')
print('exit', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
",
        client = example("tcp_client").get_program().to_str().expect("the path is text"),
        port = server.address().port(),
    );
    let mut python = Program::spawn(Command::new("python3").args(["-c", &script]).stdin(Stdio::null()));
    assert!(python.wait(LIMIT).success());
    let lines = python.stdout.wait_until("two lines come", LIMIT, |lines| lines.len() == 2);
    assert_eq!(lines, ["blocking True", "exit 0"]);
}
