//! `examples/socks5`: RFC 1928 as `curl` speaks it, and as nobody should.

mod common;
#[path = "common/examples.rs"]
mod examples;
#[path = "common/strace.rs"]
mod strace;

use common::{LIMIT, ServerBuilder, eventually, uninterrupted};
use examples::{
    Program, WEB_SERVER, connect, converse, curl, curl_text, example, expect_bytes_against_a_flood, python,
    read_to_end, refusing,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// What is moved through the proxy by the test with `curl`.
const TRANSFER_MEBIBYTES: usize = 256;

/// What the proxy may occupy at most, however much goes through it.
const PEAK_BYTES_MAX: u64 = 12 << 20;

fn socks5() -> Program {
    Program::example("socks5", &["127.0.0.1:0"])
}

/// Shakes hands with the proxy, asks for `address` (type, bytes, port), and returns the code of the reply.
#[track_caller]
fn ask(proxy: &Program, command: u8, address: &[u8], port: u16) -> (TcpStream, u8) {
    ask_at(proxy.address(), command, address, port)
}

#[track_caller]
fn ask_at(proxy: SocketAddr, command: u8, address: &[u8], port: u16) -> (TcpStream, u8) {
    let mut stream = connect(proxy);
    // All at once: the proxy must not swallow what it does not need yet.
    let request = [&[5, 2, 2, 0][..], &[5, command, 0], address, &port.to_be_bytes()].concat();
    stream.write_all(&request).expect("the proxy receives");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("a method and a reply");
    assert_eq!(answer[..3], [5, 0, 5]);
    assert_eq!(answer[4..], [0, 1, 0, 0, 0, 0, 0, 0]);
    (stream, answer[3])
}

fn ipv4(ip: Ipv4Addr) -> Vec<u8> {
    [&[1][..], &ip.octets()].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    [&[3, name.len() as u8][..], name].concat()
}

fn listen(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(address).expect("a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    (listener, port)
}

/// Accepts one connection, and answers how many bytes came through it.
fn count_one(listener: TcpListener) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        let received = read_to_end(&mut stream);
        stream.write_all(format!("{} bytes", received.len()).as_bytes()).expect("the proxy receives");
    })
}

#[test]
fn ipv4_ipv6_and_names_are_connected_and_half_closed() {
    let proxy = socks5();
    let v6 = [&[4][..], &std::net::Ipv6Addr::LOCALHOST.octets()].concat();
    let mut tried = 0;
    for (listen_on, address) in
        [("127.0.0.1:0", ipv4(Ipv4Addr::LOCALHOST)), ("[::1]:0", v6), ("127.0.0.1:0", name(b"localhost"))]
    {
        // Not every machine has IPv6.
        if TcpListener::bind(listen_on).is_err() {
            continue;
        }
        tried += 1;
        let (listener, port) = listen(listen_on);
        let server = count_one(listener);
        let (mut stream, code) = ask(&proxy, 1, &address, port);
        assert_eq!(code, 0, "{address:?}");
        stream.write_all(&vec![7; 100_000]).expect("the proxy receives");
        stream.shutdown(std::net::Shutdown::Write).expect("a connection can be half-closed");
        assert_eq!(read_to_end(&mut stream), b"100000 bytes");
        server.join().expect("the server had no trouble");
    }
    assert!(tried >= 2);
}

#[test]
fn what_cannot_be_done_gets_the_code_that_says_so_and_the_end() {
    // Where nobody answers questions for names, that is found out sooner so.
    let mut command = example("socks5");
    command.arg("127.0.0.1:0").env("RES_OPTIONS", "timeout:1 attempts:1");
    let proxy = Program::spawn(command.stdin(Stdio::null()));
    let (_socket, target) = refusing();
    let port = target.port();
    for (command, address, expected) in [
        (1, ipv4(Ipv4Addr::LOCALHOST), 5),
        (1, name(b"no-such-host.invalid"), 4),
        (1, name(b""), 4),
        (1, name(b"nul\0\xff"), 4),
        (2, ipv4(Ipv4Addr::LOCALHOST), 7),
        (3, ipv4(Ipv4Addr::LOCALHOST), 7),
        (1, vec![9, 1, 2, 3, 4], 8),
    ] {
        let (mut stream, code) = ask(&proxy, command, &address, port);
        // An empty name is one that some resolvers take for this machine.
        assert!(code == expected || address == name(b"") && code == 5, "{code} for {command} {address:?}");
        assert_eq!(read_to_end(&mut stream), b"");
    }
}

#[test]
fn whoever_does_not_speak_socks5_gets_an_answer_and_costs_the_others_nothing() {
    let proxy = socks5();
    let (listener, port) = listen("127.0.0.1:0");
    let server = count_one(listener);
    let (mut bystander, code) = ask(&proxy, 1, &ipv4(Ipv4Addr::LOCALHOST), port);
    assert_eq!(code, 0);
    let answer = converse(proxy.address(), b"GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(String::from_utf8_lossy(&answer).ends_with("This is a SOCKS5 proxy.\n"), "{answer:?}");
    assert!(converse(proxy.address(), &[4, 1, 0, 80, 127, 0, 0, 1, 0]).starts_with(b"HTTP/1.0 400 "));
    // Only methods that need a password:
    assert_eq!(converse(proxy.address(), &[5, 2, 1, 2]), [5, 0xff]);
    assert_eq!(converse(proxy.address(), &[5, 0]), [5, 0xff]);
    for truncated in [&b""[..], &[5], &[5, 1, 0], &[5, 1, 0, 5, 1, 0, 3, 200, b'x']] {
        let answer = converse(proxy.address(), truncated);
        assert!(answer.is_empty() || answer == [5, 0], "{answer:?} to {truncated:?}");
    }
    bystander.write_all(b"still here").expect("the proxy receives");
    bystander.shutdown(std::net::Shutdown::Write).expect("a connection can be half-closed");
    assert_eq!(read_to_end(&mut bystander), b"10 bytes");
    server.join().expect("the server had no trouble");
}

#[test]
fn a_flood_in_one_direction_does_not_starve_the_other() {
    let proxy = socks5();
    let (listener, port) = listen("127.0.0.1:0");
    let (client, code) = ask(&proxy, 1, &ipv4(Ipv4Addr::LOCALHOST), port);
    assert_eq!(code, 0);
    let (server, _) = listener.accept().expect("the proxy connects");
    expect_bytes_against_a_flood(client, server);
}

/// What a server says of a request that it will not receive to its end.
const REFUSAL: &[u8] = b"413 Content Too Large";

#[test]
fn what_a_server_said_arrives_though_it_can_not_be_told_the_end_any_more() {
    let proxy = ServerBuilder::of(common::example("socks5")).args(["127.0.0.1:0"]).spawn();
    let (listener, port) = listen("127.0.0.1:0");
    for _ in 0..5 {
        let (mut client, code) = ask_at(proxy.address(), 1, &ipv4(Ipv4Addr::LOCALHOST), port);
        assert_eq!(code, 0);
        client.write_all(&[7; 2000]).expect("the proxy receives");
        let (mut server, _) = listener.accept().expect("the proxy connects");
        server.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        server.read_exact(&mut [0; 1000]).expect("the beginning of the request");
        assert_eq!(uninterrupted(|| server.peek(&mut [0])).expect("more of the request"), 1);
        // The proxy finds all of this at once.
        proxy.pause();
        client.shutdown(std::net::Shutdown::Write).expect("a connection can be half-closed");
        server.write_all(REFUSAL).expect("there is room in the kernel");
        drop(server);
        proxy.go_on();
        assert_eq!(read_to_end(&mut client), REFUSAL);
    }
}

#[test]
fn a_server_that_resets_the_connection_is_the_end_to_a_client_and_is_said() {
    let proxy = socks5();
    let (listener, port) = listen("127.0.0.1:0");
    let (mut client, code) = ask(&proxy, 1, &ipv4(Ipv4Addr::LOCALHOST), port);
    assert_eq!(code, 0);
    let (server, _) = listener.accept().expect("the proxy connects");
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
    drop(server);
    assert_eq!(read_to_end(&mut client), b"");
    let peer = client.local_addr().expect("a connected socket has an address");
    drop(client);
    let line = proxy.stderr.wait_for_line(LIMIT, |_| true);
    assert_eq!(line, format!("socks5: socks5 {peer}: Connection reset by peer"));
}

#[test]
fn clients_for_whom_there_are_no_descriptors_wait_until_others_leave() {
    const CLIENTS: usize = 40;
    /// Two descriptors for each, beside the 16 that it keeps for itself.
    const AT_ONCE: usize = 12;
    let proxy = ServerBuilder::of(common::example("socks5")).args(["127.0.0.1:0"]).after("ulimit -n 40").spawn();
    let (target, port) = listen("127.0.0.1:0");
    let server = thread::spawn(move || {
        let serve = |mut stream: TcpStream| assert_eq!(read_to_end(&mut stream), b"");
        let streams = (0..CLIENTS).map(|_| target.accept().expect("the proxy connects").0);
        streams.map(|stream| thread::spawn(move || serve(stream))).collect::<Vec<_>>()
    });
    let request = [&[5, 1, 0, 5, 1, 0][..], &name(b"localhost"), &port.to_be_bytes()].concat();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(proxy.address())).collect();
    for client in &mut clients {
        client.write_all(&request).expect("there is room in the kernel");
    }
    while !clients.is_empty() {
        let mut heard = Vec::new();
        eventually("as many as there is room for are served, and no more", LIMIT, || {
            heard = (0..clients.len()).filter(|&index| has_heard(&clients[index])).collect();
            heard.len() == clients.len().min(AT_ONCE)
        });
        let mut answer = [0; 12];
        clients.swap_remove(heard[0]).read_exact(&mut answer).expect("a method and a reply");
        assert_eq!(answer[..4], [5, 0, 5, 0], "turned away, with {} left", clients.len());
    }
    for served in server.join().expect("the server had no trouble") {
        served.join().expect("the server had no trouble");
    }
    assert_eq!(proxy.stderr.all(), [""; 0]);
}

/// Whether there is anything to receive, be it the end or a reset.
fn has_heard(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("a socket can be made non-blocking");
    let peeked = client.peek(&mut [0]);
    client.set_nonblocking(false).expect("and blocking again");
    !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn that_no_descriptor_is_left_is_not_taken_for_a_target_that_is_not_there() {
    for address in [ipv4(Ipv4Addr::LOCALHOST), name(b"localhost")] {
        let proxy = ServerBuilder::of(common::example("socks5")).args(["127.0.0.1:0"]).spawn();
        let (_listener, port) = listen("127.0.0.1:0");
        let mut client = connect(proxy.address());
        client.write_all(&[5, 1, 0]).expect("the proxy receives");
        client.read_exact(&mut [0; 2]).expect("a method");
        let file = |number: &u64| format!("/proc/{}/fd/{number}", proxy.pid());
        let lowest_free = (0..=9999).find(|number| std::fs::symlink_metadata(file(number)).is_err());
        proxy.limit_descriptors(lowest_free.expect("not all numbers are taken"));
        client.write_all(&[&[5, 1, 0][..], &address, &port.to_be_bytes()].concat()).expect("the proxy receives");
        let mut reply = [0; 10];
        client.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply[..2], [5, 1], "{address:?}");
        assert_eq!(read_to_end(&mut client), b"");
    }
}

#[test]
fn an_address_is_connected_to_though_there_is_no_thread_to_look_up_a_name() {
    let proxy = socks5();
    let (listener, port) = listen("127.0.0.1:0");
    let is_connected = |address: &[u8]| ask(&proxy, 1, address, port).1 == 0 && listener.accept().is_ok();
    assert!(is_connected(&ipv4(Ipv4Addr::LOCALHOST)));
    // The stack of a thread takes two MiB, and all else less than the one that there is room for.
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("Linux says so");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let limit = Rlimit { current: Some((kibibytes + 1024) * 1024), maximum: None };
    prlimit(Some(Pid::from_child(&proxy.child)), Resource::As, limit).expect("the limit of a child can be changed");
    assert_eq!(ask(&proxy, 1, &name(b"localhost"), port).1, 1);
    assert!(is_connected(&ipv4(Ipv4Addr::LOCALHOST)) && is_connected(&name(b"127.0.0.1")));
}

#[test]
#[ignore = "needs strace"]
fn a_name_that_takes_for_ever_to_look_up_holds_up_nobody_else() {
    let proxy = socks5();
    // What the system reads first to look up a name, it reads in ten minutes from now. Nobody here waits so long.
    let tracer = strace::Strace::attach_to_all(proxy.child.id(), "/etc/hosts", "openat", "openat:delay_enter=600s");
    let (listener, port) = listen("127.0.0.1:0");
    let mut slow: Vec<TcpStream> = (0..3).map(|_| connect(proxy.address())).collect();
    for stream in &mut slow {
        let request = [&[5, 1, 0, 5, 1, 0][..], &name(b"localhost"), &port.to_be_bytes()].concat();
        stream.write_all(&request).expect("the proxy receives");
        stream.read_exact(&mut [0; 2]).expect("a method");
    }
    let resolvers: Vec<u32> = (1..=slow.len()).map(|number| tracer.wait_for_thread(number)).collect();
    for round in 0..20_u8 {
        let (mut client, code) = ask(&proxy, 1, &ipv4(Ipv4Addr::LOCALHOST), port);
        assert_eq!(code, 0);
        let (mut server, _) = listener.accept().expect("the proxy connects");
        client.write_all(&[round]).expect("the proxy receives");
        let mut received = [0];
        server.read_exact(&mut received).expect("what the client has said");
        assert_eq!(received, [round]);
    }
    // They are still where the tracer has stopped them,
    eventually("all of them are looking up", LIMIT, || {
        resolvers.iter().all(|id| {
            let stat = std::fs::read_to_string(format!("/proc/{}/task/{id}/stat", proxy.child.id()));
            stat.expect("a look-up is not over").contains(") t ")
        })
    });
    // … and go on without it.
    drop(tracer);
    for stream in &mut slow {
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply[..2], [5, 0]);
    }
}

/// What `curl` gets through the proxy from Python's server, as an address and as a name.
#[track_caller]
fn download(option: &str, host: &str) {
    let server = python(WEB_SERVER);
    let proxy = socks5();
    let target = SocketAddr::new(server.address().ip(), server.address().port());
    let url = format!("http://{host}:{}/{TRANSFER_MEBIBYTES}", target.port());
    let script = format!("curl --silent --show-error --fail --noproxy '' {option} {} {url} | sha1sum", proxy.address());
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let received = String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned();
    let sent = server.stdout.wait_for_line(LIMIT, |line| line.starts_with("sent "));
    assert_eq!(sent, format!("sent {received}"), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(proxy.peak_bytes() < PEAK_BYTES_MAX, "{} bytes", proxy.peak_bytes());
}

#[test]
#[ignore = "needs curl and python3"]
fn curl_downloads_from_an_address() {
    download("--socks5", "127.0.0.1");
}

#[test]
#[ignore = "needs curl and python3"]
fn curl_downloads_from_a_name_that_the_proxy_looks_up() {
    download("--socks5-hostname", "localhost");
}

#[test]
#[ignore = "needs curl"]
fn curl_understands_why_it_is_refused() {
    let proxy = socks5();
    let (_socket, target) = refusing();
    let port = target.port();
    let at = proxy.address().to_string();
    for (url, code) in
        [(format!("http://127.0.0.1:{port}/"), "(5)"), ("http://no-such-host.invalid/".to_owned(), "(4)")]
    {
        let output = curl(["--socks5-hostname", &at, &url]);
        assert_eq!(output.status.code(), Some(97));
        assert!(String::from_utf8_lossy(&output.stderr).contains(code), "{output:?}");
    }
    assert_eq!(curl_text([format!("http://{at}/")]), "This is a SOCKS5 proxy.\n");
}

#[test]
fn a_socks_client_that_has_come_back_to_the_proxy_over_and_over_leaves_room_for_others() {
    // Two descriptors for each client, beside the 16 that it keeps for itself.
    const AT_ONCE: usize = 12;
    let builder = ServerBuilder::of(common::example("socks5")).args(["127.0.0.1:0", "1"]);
    let proxy = builder.after("ulimit -n 40").spawn();
    let mut client = connect(proxy.address());
    let request = [&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1][..], &proxy.address().port().to_be_bytes()].concat();
    for _ in 0..AT_ONCE {
        client.write_all(&request).expect("the proxy receives");
        client.read_exact(&mut [0; 12]).expect("a method and a reply");
    }
    // The proxy is its own client by now, the last one of which waits until another leaves.
    assert_eq!(proxy.open_sockets(), 1 + 2 * AT_ONCE, "the listener, and two for each");
    drop(client);
    eventually("the proxy has closed all connections", LIMIT, || proxy.open_sockets() <= 1);
}
