//! `examples/proxy`: what goes in at one end comes out at the other, whatever the ends do.

mod common;
#[path = "common/examples.rs"]
mod examples;

use common::{LIMIT, Server, ServerBuilder, eventually, send_until_stuck, uninterrupted};
use examples::{
    Program, WEB_SERVER, connect, converse, curl, curl_text, expect_bytes_against_a_flood, python, read_to_end,
    refusing,
};
use fdtask::net::{FUTILE_PAUSE, FUTILE_RESUMES_MAX};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What is moved through the proxy in each direction by the tests with real programs.
const TRANSFER_MEBIBYTES: usize = 1024;

/// What the proxy may occupy at most, however much goes through it. (It starts with 2 MB, most of which is its own code.)
const PEAK_BYTES_MAX: u64 = 8 << 20;

/// How much a peer that does not read is sent: far more than all the buffers of the kernel on the way hold together.
const FLOOD_BYTES: usize = 64 << 20;

/// Its listener. (What wakes the acceptor that waits for room is no socket on Linux.)
const OWN_SOCKETS: usize = 1;

fn proxy_to(target: &TcpListener) -> Program {
    let target = target.local_addr().expect("a bound socket has an address").to_string();
    Program::example("proxy", &["127.0.0.1:0", &target])
}

/// The same from a shell that first does this; and it can be paused.
fn server_to(target: &TcpListener, after: &str) -> Server {
    let target = target.local_addr().expect("a bound socket has an address").to_string();
    ServerBuilder::of(common::example("proxy")).args(["127.0.0.1:0", &target]).after(after).spawn()
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

#[track_caller]
fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("the proxy connects");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    stream.set_write_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    stream
}

#[test]
fn a_half_closed_client_still_gets_the_answer() {
    let target = listener();
    let proxy = proxy_to(&target);
    let server = thread::spawn(move || {
        let mut stream = accept(&target);
        let received = read_to_end(&mut stream);
        stream.write_all(format!("{} bytes", received.len()).as_bytes()).expect("the proxy receives");
    });
    assert_eq!(converse(proxy.address(), &vec![7; 100_000]), b"100000 bytes");
    server.join().expect("the server had no trouble");
}

#[test]
fn a_server_that_has_said_everything_still_receives() {
    let target = listener();
    let proxy = proxy_to(&target);
    let mut client = connect(proxy.address());
    let mut server = accept(&target);
    server.write_all(b"all I know").expect("the proxy receives");
    server.shutdown(Shutdown::Write).expect("a connection can be half-closed");
    assert_eq!(read_to_end(&mut client), b"all I know");
    client.write_all(b"thank you").expect("the proxy receives");
    drop(client);
    assert_eq!(read_to_end(&mut server), b"thank you");
}

#[test]
fn a_client_that_does_not_read_stops_its_server_and_nobody_else_and_costs_no_memory() {
    let target = listener();
    let proxy = proxy_to(&target);
    let mut client = connect(proxy.address());
    client.write_all(b"?").expect("the proxy receives");
    let mut server = accept(&target);
    let flood: Vec<u8> = (0..FLOOD_BYTES).map(|index| (index / 251) as u8).collect();
    let sent = send_until_stuck(&server, &flood);
    // The other direction of the same connection, …
    let mut question = [0; 4];
    client.write_all(b"???").expect("the proxy receives");
    server.read_exact(&mut question).expect("what the client has said");
    assert_eq!(&question, b"????");
    // … and another connection, are not held up.
    let mut other = connect(proxy.address());
    let mut other_server = accept(&target);
    other.write_all(b"!").expect("the proxy receives");
    other_server.read_exact(&mut question[..1]).expect("what the client has said");
    // Nothing is lost when it does read.
    let reader = thread::spawn(move || read_to_end(&mut client));
    server.write_all(&flood[sent..]).expect("the proxy receives");
    drop(server);
    assert!(reader.join().expect("the client had no trouble") == flood, "something is lost or out of order");
    assert!(proxy.peak_bytes() < PEAK_BYTES_MAX, "{} bytes", proxy.peak_bytes());
}

#[test]
fn a_flood_in_one_direction_does_not_starve_the_other() {
    let target = listener();
    let proxy = proxy_to(&target);
    let client = connect(proxy.address());
    let server = accept(&target);
    expect_bytes_against_a_flood(client, server);
}

#[test]
fn who_has_been_silent_while_the_other_end_talked_is_heard_at_once() {
    const ROUNDS: usize = 20;
    let target = listener();
    let proxy = proxy_to(&target);
    let mut client = connect(proxy.address());
    let mut server = accept(&target);
    // A busy machine may be slow, but is not so each time.
    let is_heard_at_once = (0..ROUNDS).any(|_| {
        for _ in 0..2 * FUTILE_RESUMES_MAX {
            server.write_all(b"x").expect("the proxy receives");
            client.read_exact(&mut [0]).expect("what the server has said");
        }
        let begin = Instant::now();
        client.write_all(b"y").expect("the proxy receives");
        server.read_exact(&mut [0]).expect("what the client has said");
        begin.elapsed() < FUTILE_PAUSE / 2
    });
    assert!(is_heard_at_once, "that nothing came from the silent one was no reason to pause");
}

#[test]
fn a_target_that_refuses_costs_that_client_its_connection_and_is_said() {
    let target = listener();
    let address = target.local_addr().expect("a bound socket has an address");
    let proxy = proxy_to(&target);
    let mut before = connect(proxy.address());
    let mut server = accept(&target);
    drop(target);
    let mut refused = connect(proxy.address());
    assert_eq!(read_to_end(&mut refused), b"");
    let line = proxy.stderr.wait_for_line(LIMIT, |line| line.contains("refused"));
    let peer = refused.local_addr().expect("a connected socket has an address");
    assert_eq!(line, format!("proxy: tunnel {peer} to {address}: Connection refused"));
    server.write_all(b"still here").expect("the proxy receives");
    drop(server);
    assert_eq!(read_to_end(&mut before), b"still here");
}

#[test]
fn a_client_that_has_sent_something_to_a_target_that_refuses_gets_the_end_and_no_reset() {
    let (_socket, target) = refusing();
    let proxy = Program::example("proxy", &["127.0.0.1:0", &target.to_string()]);
    for _ in 0..50 {
        let mut client = connect(proxy.address());
        // Before, while or after the proxy finds out: it has to be the same to the client.
        client.write_all(&vec![7; 100_000]).expect("the proxy receives");
        assert_eq!(read_to_end(&mut client), b"");
    }
    // And one that never closes is let go.
    let mut client = connect(proxy.address());
    assert_eq!(read_to_end(&mut client), b"");
    eventually("the proxy has closed its end", LIMIT, || proxy.open_sockets() <= OWN_SOCKETS);
}

#[test]
fn a_client_that_is_gone_ends_the_connection_to_the_target() {
    let target = listener();
    let proxy = proxy_to(&target);
    let mut client = connect(proxy.address());
    let mut server = accept(&target);
    client.write_all(b"x").expect("the proxy receives");
    server.read_exact(&mut [0]).expect("what the client has said");
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
    drop(client);
    // The end of the stream or a reset: in any case not silence.
    let outcome = uninterrupted(|| server.read(&mut [0]));
    assert!(matches!(&outcome, Ok(0)) || outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    eventually("the proxy has closed both connections", LIMIT, || proxy.open_sockets() <= OWN_SOCKETS);
}

/// What a server says of a request that it will not receive to its end.
const REFUSAL: &[u8] = b"413 Content Too Large";

#[test]
fn what_a_server_said_arrives_though_it_can_not_be_told_the_end_any_more() {
    let target = listener();
    let proxy = server_to(&target, ":");
    for _ in 0..5 {
        let mut client = connect(proxy.address());
        client.write_all(&[7; 2000]).expect("the proxy receives");
        let mut server = accept(&target);
        server.read_exact(&mut [0; 1000]).expect("the beginning of the request");
        assert_eq!(uninterrupted(|| server.peek(&mut [0])).expect("more of the request"), 1);
        // The proxy finds all of this at once.
        proxy.pause();
        client.shutdown(Shutdown::Write).expect("a connection can be half-closed");
        server.write_all(REFUSAL).expect("there is room in the kernel");
        drop(server);
        proxy.go_on();
        assert_eq!(read_to_end(&mut client), REFUSAL);
    }
}

#[test]
fn clients_for_whom_there_are_no_descriptors_wait_until_others_leave() {
    const CLIENTS: usize = 40;
    /// Two descriptors for each, beside the 16 that it keeps for itself.
    const AT_ONCE: usize = 12;
    let target = listener();
    let proxy = server_to(&target, "ulimit -n 40");
    let server = thread::spawn(move || {
        let serve = |mut stream: TcpStream| {
            stream.write_all(b"!").expect("the proxy receives");
            assert_eq!(read_to_end(&mut stream), b"");
        };
        let served = (0..CLIENTS).map(|_| accept(&target)).map(|stream| thread::spawn(move || serve(stream)));
        served.collect::<Vec<_>>()
    });
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(proxy.address())).collect();
    for client in &clients {
        client.set_nonblocking(true).expect("a socket can be made non-blocking");
    }
    while !clients.is_empty() {
        let mut heard = Vec::new();
        eventually("as many as there is room for are served, and no more", LIMIT, || {
            // Who waits hears nothing, neither the end nor a reset.
            let has_heard =
                |client: &TcpStream| !client.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            heard = (0..clients.len()).filter(|&index| has_heard(&clients[index])).collect();
            heard.len() == clients.len().min(AT_ONCE)
        });
        let mut client = clients.swap_remove(heard[0]);
        assert_eq!(client.read(&mut [0]).expect("what the server says"), 1, "turned away, with {} left", clients.len());
    }
    for served in server.join().expect("the server had no trouble") {
        served.join().expect("the server had no trouble");
    }
    assert_eq!(proxy.stderr.all(), [""; 0]);
}

#[test]
#[ignore = "needs curl and python3"]
fn curl_downloads_a_gibibyte_through_it_and_memory_stays_flat() {
    let server = python(WEB_SERVER);
    let proxy = Program::example("proxy", &["127.0.0.1:0", &server.address().to_string()]);
    let url = format!("http://{}/{TRANSFER_MEBIBYTES}", proxy.address());
    let script = format!("curl --silent --show-error --fail {url} | sha1sum");
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let received = String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned();
    let sent = server.stdout.wait_for_line(LIMIT, |line| line.starts_with("sent "));
    assert_eq!(sent, format!("sent {received}"));
    assert!(proxy.peak_bytes() < PEAK_BYTES_MAX, "{} bytes", proxy.peak_bytes());
}

#[test]
#[ignore = "needs curl and python3"]
fn curl_uploads_a_gibibyte_through_it_and_memory_stays_flat() {
    let server = python(WEB_SERVER);
    let proxy = Program::example("proxy", &["127.0.0.1:0", &server.address().to_string()]);
    // What is uploaded is what the same server has to give, and comes directly from there.
    let source = format!("http://{}/{TRANSFER_MEBIBYTES}", server.address());
    let target = format!("http://{}/", proxy.address());
    let script = format!("curl --silent --fail {source} | curl --silent --show-error --fail --upload-file - {target}");
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let received = String::from_utf8_lossy(&output.stdout).into_owned();
    let sent = server.stdout.wait_for_line(LIMIT, |line| line.starts_with("sent "));
    assert_eq!(sent, format!("sent {received}"));
    assert!(proxy.peak_bytes() < PEAK_BYTES_MAX, "{} bytes", proxy.peak_bytes());
}

#[test]
#[ignore = "needs curl and python3"]
fn the_recipe_in_the_header_works() {
    let mut server = Command::new("python3");
    server.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", env!("CARGO_MANIFEST_DIR")]);
    let mut server = Program::spawn(server.stdin(Stdio::null()));
    // "Serving HTTP on 127.0.0.1 port 8000 (…"
    let line = server.stdout.wait_for_line(LIMIT, |line| line.starts_with("Serving HTTP"));
    let port = line.split(' ').nth(5).expect("a port in its place");
    let proxy = Program::example("proxy", &["127.0.0.1:0", &format!("127.0.0.1:{port}")]);
    let url = format!("http://{}/", proxy.address());
    assert!(curl_text([&url]).contains("README.md"));
    // And without the server:
    server.child.kill().expect("it runs");
    server.child.wait().expect("it was killed");
    let output = curl([&url]);
    assert_eq!(output.status.code(), Some(52), "{}", String::from_utf8_lossy(&output.stderr));
    proxy.stderr.wait_for_line(LIMIT, |line| line.ends_with("Connection refused"));
}
