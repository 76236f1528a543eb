//! The service manager's protocol for listeners that are passed at the start, as `sd_listen_fds(3)` describes it. What the
//! manager is told is in `sd_notify.rs`.
//!
//! The listener is passed as the standard error of a shell, which makes it descriptor 3, sets `LISTEN_PID` to its own number,
//! and becomes the daemon.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, LIMIT, Server, Signal, eventually, payload, payload_of};
use faults::{Heard, client_that_never_reads, descriptors, heard, served};
use fdtask::net::Listener;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddress;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Makes what was passed as standard error descriptor 3, and standard error the pipe that standard output is.
const PASS_ONE: &str = "exec 3<&2 2>&1; export LISTEN_FDS=1 LISTEN_PID=$$";

/// `IPPROTO_MPTCP`.
const MULTIPATH_TCP: i32 = 262;

/// A listener as the service manager opens it, and its address. Unlike one of the daemon's own it is blocking.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let address = listener.local_addr().expect("a listener has an address");
    (listener, address)
}

fn share(listener: &TcpListener) -> OwnedFd {
    listener.try_clone().expect("a descriptor can be cloned").into()
}

/// A daemon to which `listener` is passed.
fn activated(listener: &TcpListener) -> Server {
    let server = Server::builder().after(PASS_ONE).stderr(share(listener)).spawn();
    server.address();
    server
}

#[test]
fn a_passed_listener_is_served_and_no_other_is_opened() {
    let (listener, address) = listener();
    let server = activated(&listener);
    assert_eq!(server.address(), address, "it says where it was told to listen");
    served(address, 20);
    assert_eq!(server.stdout.count(|line| line.starts_with("Listening on")), 1, "{:?}", server.stdout.all());
}

#[test]
fn several_passed_listeners_are_all_served() {
    let (one, two) = (listener(), listener());
    let pass_both = "exec 3<&2 4<&1 >/dev/null 2>&1; export LISTEN_FDS=2 LISTEN_PID=$$";
    let _server = Server::builder().after(pass_both).stderr(share(&one.0)).stdout(share(&two.0)).spawn();
    served(one.1, 5);
    served(two.1, 5);
}

#[test]
fn the_limit_on_descriptors_is_raised_for_all_passed_listeners_and_their_clients() {
    // As many as a shell can number.
    const LISTENERS: u32 = 7;
    const CLIENTS: usize = 60;
    let (listener, address) = listener();
    let pass_all = format!(
        "ulimit -S -n 64; exec 3<&2 4<&2 5<&2 6<&2 7<&2 8<&2 9<&2 2>&1; export LISTEN_FDS={LISTENERS} LISTEN_PID=$$"
    );
    let server = Server::builder().args(["--quiet", "--max-connections", &CLIENTS.to_string()]);
    let server = server.after(&pass_all).stderr(share(&listener)).spawn();
    let clients = served(address, CLIENTS);
    assert_eq!(server.stdout.count(|line| line.contains("cannot accept")), 0, "{:?}", server.stdout.all());
    drop(clients);
}

#[test]
fn a_client_that_came_before_the_daemon_is_served() {
    let (listener, address) = listener();
    let mut early = Client::connect(address);
    early.send(b"Anybody up?");
    let _server = activated(&listener);
    early.expect_answer(b"Anybody up?");
}

#[test]
fn a_passed_listener_is_made_non_blocking_and_closed_on_exec() {
    // Flags of open(2), as fdinfo shows them.
    const NONBLOCK: u32 = 0o4_000;
    const CLOEXEC: u32 = 0o2_000_000;
    let (listener, _) = listener();
    let server = activated(&listener);
    let open = descriptors(&server);
    assert!(open.iter().any(|(number, file)| *number == 3 && file.starts_with("socket:")), "{open:?}");
    let info = server.proc("fdinfo/3");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("fdinfo has flags");
    let flags = u32::from_str_radix(flags.trim(), 8).expect("the flags are octal");
    assert_ne!(flags & CLOEXEC, 0, "a child of the daemon must not keep the port: {info}");
    assert_ne!(flags & NONBLOCK, 0, "two daemons may share it, and one of them comes too late: {info}");
}

#[test]
fn connections_of_a_passed_listener_are_like_all_others() {
    let (listener, address) = listener();
    let _server = activated(&listener);
    let mut client = Client::connect(address);
    client.send(b"a");
    client.expect_answer(b"a");
    // An urgent byte stays in the stream.
    SockRef::from(&client.stream).send_out_of_band(b"!").expect("an urgent byte can be sent");
    client.expect_answer(b"!");
    client.ask(b"b");
}

#[test]
fn a_passed_listener_of_multipath_tcp_is_served() {
    let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(MULTIPATH_TCP))) else {
        return eprintln!("left out: this system has no multipath TCP");
    };
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(8).expect("it can listen");
    let listener = TcpListener::from(socket);
    let server = activated(&listener);
    // One speaks plain TCP with it, as most clients do, and one its own protocol.
    let mut plain = Client::connect(server.address());
    plain.ask(b"plain");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(MULTIPATH_TCP))).expect("another one");
    socket.connect(&server.address().into()).expect("it can connect");
    let mut client = Client { stream: socket.into() };
    client.stream.set_read_timeout(Some(LIMIT)).expect("a timeout can be set");
    client.ask(b"multipath");
}

#[test]
fn what_is_passed_to_another_process_is_left_alone() {
    let elsewhere = [
        "export LISTEN_FDS=1 LISTEN_PID=1",
        "export LISTEN_FDS=1 LISTEN_PID=",
        "export LISTEN_FDS=1 LISTEN_PID=me",
        "export LISTEN_FDS=1; unset LISTEN_PID",
        "export LISTEN_FDS=0 LISTEN_PID=$$",
        "unset LISTEN_FDS; export LISTEN_PID=$$",
    ];
    for variables in elsewhere {
        let (listener, address) = listener();
        let after = format!("exec 3<&2 2>&1; {variables}");
        let args = ["--listen", "127.0.0.1:0"];
        let server = Server::builder().args(args).after(&after).stderr(share(&listener)).spawn();
        assert_ne!(server.address(), address, "after {variables}");
        let mut client = Client::connect(address);
        client.send(b"Anybody?");
        served(server.address(), 3);
        assert_eq!(heard(&client), Heard::Nothing, "after {variables}");
    }
}

#[test]
fn a_passed_descriptor_that_is_no_listener_is_one_clear_line_and_exit_1() {
    let (listening, _) = listener();
    let connected = TcpStream::connect(listening.local_addr().expect("a listener has an address"));
    let (pipe, _writer) = std::io::pipe().expect("a pipe can be made");
    let wrong: [(&str, OwnedFd); 4] = [
        ("a pipe", pipe.into()),
        ("a datagram socket", UdpSocket::bind("127.0.0.1:0").expect("there are free ports").into()),
        ("a connection", connected.expect("a listener can be connected to").into()),
        ("a Unix socket", unix_listener()),
    ];
    for (what, fd) in wrong {
        expect_refusal(what, Server::builder().after(PASS_ONE).stderr(fd).spawn());
    }
    let two_of_one = "exec 3<&2 2>&1; export LISTEN_FDS=2 LISTEN_PID=$$";
    expect_refusal("fewer than announced", Server::builder().after(two_of_one).stderr(share(&listening)).spawn());
    let none = "exec 3<&-; export LISTEN_FDS=1 LISTEN_PID=$$";
    expect_refusal("none at all", Server::builder().after(none).spawn());
}

#[test]
fn a_number_of_passed_descriptors_that_is_none_is_one_clear_line_and_exit_1() {
    for count in ["-1", "4294967295", "abc", ""] {
        let (listener, _) = listener();
        let after = format!("exec 3<&2 2>&1; export LISTEN_FDS={count} LISTEN_PID=$$");
        expect_refusal(count, Server::builder().after(&after).stderr(share(&listener)).spawn());
    }
}

fn unix_listener() -> OwnedFd {
    let name = UnixAddress::from_abstract_name(format!("fdtask-test-{}-listener", std::process::id()))
        .expect("a short name is a name");
    std::os::unix::net::UnixListener::bind_addr(&name).expect("a name of our own is free").into()
}

#[track_caller]
fn expect_refusal(what: &str, mut server: Server) {
    let status = server.wait_exit(LIMIT);
    let lines = [server.stdout.all(), server.stderr.all()].concat();
    assert_eq!(status.code(), Some(1), "{what}: {lines:?}");
    assert_eq!(lines.len(), 1, "{what}: {lines:?}");
    // Which descriptor it is, or that there is no number of them.
    assert!(lines[0].starts_with("fdtask: cannot listen: ") && lines[0].contains("descriptor"), "{what}: {lines:?}");
}

#[test]
fn a_restart_on_a_passed_listener_loses_no_client() {
    let (listener, address) = listener();
    let stop = AtomicBool::new(false);
    let asked = AtomicU32::new(0);
    let mut server = activated(&listener);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = Client::connect(address);
                    // Whatever was in the queue at the signal is served; whoever comes later is served by the next.
                    client.ask(b"Who are you today?");
                    asked.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        for _ in 0..10 {
            let before = asked.load(Ordering::Relaxed);
            eventually("clients are served", LIMIT, || asked.load(Ordering::Relaxed) >= before + 20);
            server.signal(Signal::TERM);
            assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
            server = activated(&listener);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn when_its_listener_is_broken_the_first_signal_to_end_cuts_nobody_off() {
    let (listener, address) = listener();
    let mut server =
        Server::builder().after(PASS_ONE).stderr(share(&listener)).args(["--drain-timeout", "600"]).spawn();
    server.address();
    let block = payload(100_000, 1);
    let (mut client, _) = client_that_never_reads(address, &block);
    // Whoever else has the listener can do this at any time.
    SockRef::from(&listener).shutdown(Shutdown::Both).expect("a listener can be shut down");
    server.stdout.wait_for_line(LIMIT, |line| line.starts_with("fdtask: acceptor "));
    server.signal(Signal::TERM);
    eventually("the signal is received", LIMIT, || server.proc("status").contains("\nShdPnd:\t0000000000000000\n"));
    let mut answers = Vec::new();
    client.stream.read_to_end(&mut answers).expect("the stream ends in order, without a reset");
    let answered = payload_of(&answers);
    assert!(answered.iter().eq(block.iter().cycle().take(answered.len())), "the answers are those to what was sent");
    drop(client);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(1), "{:?}", server.stdout.all());
}

#[test]
fn sockets_that_have_been_taken_are_passed_over_the_second_time() {
    const NAME: &str = "sockets_that_have_been_taken_are_passed_over_the_second_time";
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string()) {
        let first = Listener::passed().expect("one was passed");
        let second = Listener::passed().expect("nothing is wrong with it");
        assert_eq!((first.len(), second.len()), (1, 0));
        return;
    }
    // This program again, as one that has been passed a listener.
    let (listener, _) = listener();
    let program = std::env::current_exe().expect("this program has a path");
    let mut again = Command::new("sh");
    again.arg("-c").arg(format!("{PASS_ONE}; exec \"$0\" --exact {NAME}")).arg(program).stderr(share(&listener));
    let output = again.output().expect("a shell can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
