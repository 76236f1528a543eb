//! One echo, three ways: a state machine (the daemon), an `async fn` and threads (two examples), under one suite.

mod common;

use common::{Client, LIMIT, eventually, payload, payload_of};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A client that has sent nothing for so long is held up, not slow.
const STUCK: Duration = Duration::from_millis(300);

/// One of the three, running. It is killed when this is dropped.
struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    fn start(mut command: Command) -> Echo {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it says where it listens");
        let address = line.trim_end().strip_prefix("Listening on ").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("instead of where it listens it says {line:?}"));
        // Whatever else it prints is taken, so that it never has to wait for us.
        thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Echo { child, address }
    }

    fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state_machine() -> Echo {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fdtask"));
    command.args(["--quiet", "--listen", "127.0.0.1:0"]);
    Echo::start(command)
}

fn example(name: &str) -> Echo {
    let mut command = Command::new(examples().join(name));
    command.arg("127.0.0.1:0");
    Echo::start(command)
}

/// Where the examples are, up to date: cargo builds them for `cargo test`, but not if only this file is asked for.
fn examples() -> &'static PathBuf {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let profile = PathBuf::from(env!("CARGO_BIN_EXE_fdtask")).parent().expect("a directory").to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "echo_async", "--example", "echo_threads", "--target-dir"]);
        cargo.arg(profile.parent().expect("a target directory")).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo is there").success(), "the examples can be built");
        profile.join("examples")
    })
}

/// Emits each named test for each of the three.
macro_rules! over_all_three {
    ($($test:ident)+) => {
        mod as_a_state_machine { $(#[test] fn $test() { super::$test(&super::state_machine()); })+ }
        mod as_an_async_fn { $(#[test] fn $test() { super::$test(&super::example("echo_async")); })+ }
        mod as_threads { $(#[test] fn $test() { super::$test(&super::example("echo_threads")); })+ }
    };
}

over_all_three! {
    frames_of_every_size_come_back_byte_for_byte
    a_frame_that_comes_byte_by_byte_comes_back
    a_half_closed_client_gets_every_reply_then_fin
    a_client_that_does_not_read_for_long_loses_nothing_and_delays_nobody
    many_clients_at_once_get_their_own_replies
    resets_harm_nobody_else_and_leave_no_descriptor
}

/// Sends all and half-closes, while the answers are read.
fn through(address: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(address);
    let stream = client.stream.try_clone().expect("a stream can be cloned");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = Client { stream };
            sender.send(sent);
            sender.half_close();
        });
        client.read_to_end().expect("an orderly end")
    })
}

fn frames_of_every_size_come_back_byte_for_byte(echo: &Echo) {
    for len in [1, 999, 1_000, 1_001, 65_536] {
        let sent = payload(len, len as u64);
        assert_eq!(payload_of(&through(echo.address, &sent)), sent, "a frame of {len} bytes");
    }
    for text in [&[0; 5][..], &[0xff, 0xfb, 0x01], b"Hello\r\n"] {
        Client::connect(echo.address).ask(text);
    }
}

fn a_frame_that_comes_byte_by_byte_comes_back(echo: &Echo) {
    let mut client = Client::connect(echo.address);
    for byte in 0..=255 {
        client.ask(&[byte]);
    }
}

fn a_half_closed_client_gets_every_reply_then_fin(echo: &Echo) {
    let sent = payload(3_500, 9);
    let mut client = Client::connect(echo.address);
    client.send(&sent);
    client.half_close();
    let answers = client.read_to_end().expect("the end of the stream, and no reset");
    assert_eq!(payload_of(&answers), sent);
}

fn a_client_that_does_not_read_for_long_loses_nothing_and_delays_nobody(echo: &Echo) {
    // Two of them, so that one whose answer is stuck is resumed between what the other does.
    let sent = payload(12 * 1024 * 1024, 3);
    let slow: Vec<_> = (0..2).map(|_| (Client::connect(echo.address), AtomicUsize::new(0))).collect();
    thread::scope(|scope| {
        for (client, count) in &slow {
            let stream = client.stream.try_clone().expect("a stream can be cloned");
            let sent = &sent;
            scope.spawn(move || {
                let mut sender = Client { stream };
                for chunk in sent.chunks(16 * 1024) {
                    sender.send(chunk);
                    count.fetch_add(chunk.len(), Ordering::Relaxed);
                }
                sender.half_close();
            });
        }
        // They read nothing yet, until every buffer on the way is full.
        for (_, count) in &slow {
            let mut last = (0, Instant::now());
            eventually("the server takes no more", LIMIT, || {
                let now = count.load(Ordering::Relaxed);
                if now != last.0 {
                    last = (now, Instant::now());
                }
                now > 0 && last.1.elapsed() > STUCK
            });
            assert!(count.load(Ordering::Relaxed) < sent.len(), "the server keeps what nobody reads");
        }
        // Somebody else is served all the same.
        let mut bystander = Client::connect(echo.address);
        for round in 0..500 {
            bystander.ask(format!("round {round}").as_bytes());
        }
        for (client, _) in &slow {
            let mut client = Client { stream: client.stream.try_clone().expect("a stream can be cloned") };
            let sent = &sent;
            scope.spawn(move || {
                let answers = client.read_to_end().expect("an orderly end");
                assert!(payload_of(&answers) == *sent, "every byte comes back in order");
            });
        }
    });
}

fn many_clients_at_once_get_their_own_replies(echo: &Echo) {
    let mut clients: Vec<_> = (0..300).map(|_| Client::connect(echo.address)).collect();
    for round in 0..5 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(format!("client {index} round {round}").as_bytes());
        }
        for (index, client) in clients.iter_mut().enumerate() {
            client.expect_answer(format!("client {index} round {round}").as_bytes());
        }
    }
    for client in &mut clients {
        client.half_close();
        client.expect_end();
    }
}

fn resets_harm_nobody_else_and_leave_no_descriptor(echo: &Echo) {
    let mut bystander = Client::connect(echo.address);
    bystander.ask(b"before");
    let before = echo.open_descriptors();
    for round in 0..200 {
        let mut client = Client::connect(echo.address);
        match round % 3 {
            0 => {}
            1 => client.send(b"unread answer"),
            _ => client.ask(b"read answer"),
        }
        client.reset();
        if round % 20 == 0 {
            bystander.ask(format!("round {round}").as_bytes());
        }
    }
    bystander.ask(b"after");
    // One more, because the poller may have made its epoll instance meanwhile.
    eventually("every descriptor is closed", LIMIT, || echo.open_descriptors() <= before + 1);
}
