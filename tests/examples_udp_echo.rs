//! `examples/udp_echo.rs`: a datagram for a datagram.

mod common;
#[path = "common/examples.rs"]
mod examples;
#[path = "common/strace.rs"]
mod strace;

use common::{LIMIT, ServerBuilder, uninterrupted};
use examples::Program;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use strace::Strace;

fn client(server: &Program) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(server.address()).expect("a datagram socket can be connected");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    socket
}

#[track_caller]
fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let len = uninterrupted(|| socket.recv(&mut buffer)).expect("an answer");
    buffer[..len].to_vec()
}

#[test]
fn every_client_gets_its_own_datagrams_whole() {
    let server = Program::example("udp_echo", &["127.0.0.1:0"]);
    let clients: Vec<UdpSocket> = (0..50).map(|_| client(&server)).collect();
    for len in [0, 1, 1000, 1472, 9000, 65_503] {
        for (index, socket) in clients.iter().enumerate().take(if len > 1000 { 2 } else { 50 }) {
            socket.send(&vec![index as u8; len]).expect("the datagram is sent");
        }
        for (index, socket) in clients.iter().enumerate().take(if len > 1000 { 2 } else { 50 }) {
            assert!(
                receive(socket) == [b"GOT:", &vec![index as u8; len][..]].concat(),
                "{len} bytes of client {index}"
            );
        }
    }
}

#[test]
fn what_cannot_or_must_not_be_answered_is_dropped_and_others_are_answered() {
    let server = Program::example("udp_echo", &["127.0.0.1:0"]);
    let socket = client(&server);
    // Four bytes more than this do not fit into a datagram.
    socket.send(&vec![0; 65_507]).expect("the datagram is sent");
    // It is the answer of another echo, with which this one would go on for ever.
    socket.send(b"GOT:Hello").expect("the datagram is sent");
    // The sender of this one is gone before it is answered.
    client(&server).send(b"Good-bye").expect("the datagram is sent");
    socket.send(b"Hello").expect("the datagram is sent");
    assert_eq!(receive(&socket), b"GOT:Hello");
}

#[track_caller]
fn hello(command: &[&str]) {
    let server = Program::example("udp_echo", &["127.0.0.1:0"]);
    let address = server.address();
    let args = command[1..].iter().map(|arg| arg.replace("@PORT", &address.port().to_string()));
    let mut program = Program::spawn(Command::new(command[0]).args(args).stdin(Stdio::piped()));
    for word in ["Hello", "World"] {
        program.type_in(&format!("{word}\n"));
        program.stdout.wait_for_line(LIMIT, |line| line == format!("GOT:{word}"));
    }
}

#[test]
#[ignore = "needs strace"]
fn an_echo_that_can_receive_nothing_for_want_of_memory_pauses_and_answers_then() {
    let server = ServerBuilder::of(common::example("udp_echo")).args(["127.0.0.1:0"]).spawn();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    let strace = Strace::attach(&server, "recvfrom", "recvfrom:error=ENOMEM");
    socket.send_to(b"Hello", server.address()).expect("the datagram is sent");
    strace.wait_until_injected();
    let (before, begin) = (strace.injected(), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let calls = strace.injected() - before;
    // Ten a second, counted generously.
    let time = begin.elapsed();
    assert!(calls as u128 <= time.as_millis() / 50, "{calls} calls in {time:?}");
    strace.detach(&server);
    assert_eq!(receive(&socket), b"GOT:Hello");
}

#[test]
#[ignore = "needs nc"]
fn nc_is_answered() {
    hello(&["nc", "-u", "127.0.0.1", "@PORT"]);
}

#[test]
#[ignore = "needs socat"]
fn socat_is_answered() {
    hello(&["socat", "STDIO", "UDP4:127.0.0.1:@PORT"]);
}
