//! `examples/http`: who receives slowly gets all of it, and who receives nothing is let go.

mod common;
#[path = "common/examples.rs"]
mod examples;

use common::{Client, LIMIT, Server, ServerBuilder, eventually};
use examples::{Directory, read_to_end, read_until};
use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

/// Far more than the kernel's buffers of a connection take.
const BIG_BYTES: usize = 40 << 20;

/// For so long, at least, a client may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of one big file, and a client who has asked for it.
fn asked() -> (Directory, Server, Client) {
    let directory = Directory::new();
    let big = File::create(directory.path().join("big")).and_then(|file| file.set_len(BIG_BYTES as u64));
    big.expect("a file can be written");
    let args = ["127.0.0.1:0", directory.path().to_str().expect("the path is text")];
    let server = ServerBuilder::of(common::example("http")).args(args).spawn();
    let mut client = Client::connect_with_small_buffers(server.address());
    client.send(b"GET /big HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    assert!(read_until(&mut client.stream, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
    (directory, server, client)
}

#[test]
fn a_file_that_becomes_shorter_than_was_promised_ends_the_connection() {
    let (directory, server, mut client) = asked();
    let big = File::options().write(true).open(directory.path().join("big")).and_then(|file| file.set_len(1));
    big.expect("a file can be made shorter");
    let received = read_to_end(&mut client.stream).len();
    assert!((1..BIG_BYTES).contains(&received), "{received} bytes");
    server.stderr.wait_for_line(LIMIT, |line| line.ends_with(": the file has become shorter than was promised"));
}

#[test]
#[ignore = "takes a minute"]
fn one_who_receives_slowly_all_the_time_gets_the_whole_file_and_one_who_receives_nothing_is_let_go() {
    // Both at once, so that it is one minute.
    thread::scope(|scope| {
        scope.spawn(a_slow_one_gets_the_whole_file);
        scope.spawn(one_who_receives_nothing_is_let_go);
    });
}

fn a_slow_one_gets_the_whole_file() {
    let (_directory, _server, mut client) = asked();
    let (begin, mut received) = (Instant::now(), 0);
    // In this time, the server's queue does not become so much shorter that there is room for more.
    while begin.elapsed() < 2 * PATIENCE {
        received += client.receive(5_000).len();
        thread::sleep(Duration::from_millis(250));
    }
    assert!(received < 2_000_000, "{received} bytes are not slow");
    assert_eq!(received + read_to_end(&mut client.stream).len(), BIG_BYTES);
}

fn one_who_receives_nothing_is_let_go() {
    let (_directory, server, client) = asked();
    let sockets = server.open_sockets();
    let took = eventually("it is let go", 2 * PATIENCE + LIMIT, || server.open_sockets() < sockets);
    assert!(took > PATIENCE / 2, "let go after {took:?}");
    drop(client);
}
