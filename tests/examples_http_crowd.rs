//! `examples/http`: many clients at once, with few descriptors, or none; and one that wants everything at once.

mod common;
#[path = "common/examples.rs"]
mod examples;

use common::{Client, LIMIT, Server, ServerBuilder, eventually};
use examples::{Directory, connect, read_to_end, read_until};
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// More clients than half of [`DESCRIPTORS`], of which each needs two, and all of them.
const CLIENTS: usize = 60;
const DESCRIPTORS: usize = 40;

/// More than the kernel's buffers of a connection take whose client does not read.
const BIG_BYTES: u64 = 64 << 20;

/// So many clients at least must have been served at once with [`DESCRIPTORS`]: the program itself needs the others.
const SERVED_MIN: usize = 10;

fn site() -> Directory {
    let directory = Directory::new();
    let big = File::create(directory.path().join("big")).and_then(|file| file.set_len(BIG_BYTES));
    big.expect("a file can be written");
    directory
}

/// A server of `site`, started from a shell that first does `shell`.
fn server(site: &Directory, shell: &str) -> Server {
    let args = ["127.0.0.1:0", site.path().to_str().expect("the path is text")];
    ServerBuilder::of(common::example("http")).args(args).after(shell).spawn()
}

/// Clients who have asked for the big file and receive nothing.
fn slow_clients(server: &Server) -> Vec<Client> {
    let slow_client = |_| {
        let mut client = Client::connect_with_small_buffers(server.address());
        client.send(b"GET /big HTTP/1.1\r\nHost: here\r\n\r\n");
        client
    };
    (0..CLIENTS).map(slow_client).collect()
}

#[test]
fn clients_for_whom_there_is_no_descriptor_wait_until_there_is() {
    let site = site();
    let server = server(&site, &format!("ulimit -n {DESCRIPTORS}"));
    let slow = slow_clients(&server);
    // Once it sleeps again, it has done for all of them what it can.
    let has_done = || server.open_descriptors() >= 2 * SERVED_MIN && server.state() == 'S';
    eventually("it serves as many as it can", LIMIT, has_done);
    for (number, mut client) in slow.into_iter().enumerate() {
        let status = read_until(&mut client.stream, "\r\n");
        assert_eq!(status, "HTTP/1.1 200 OK\r\n", "client {number}");
        // It ends, which makes room for another.
    }
    let refused: Vec<_> = server.stderr.all().into_iter().filter(|line| line.contains("cannot accept")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn the_limit_on_descriptors_is_raised_as_far_as_the_clients_need_it() {
    common::need_descriptors(2 * CLIENTS as u64 + 100);
    let site = site();
    let server = server(&site, &format!("ulimit -S -n {DESCRIPTORS}"));
    let mut slow = slow_clients(&server);
    for client in &mut slow {
        assert_eq!(read_until(&mut client.stream, "\r\n"), "HTTP/1.1 200 OK\r\n");
    }
    assert!(server.open_descriptors() >= 2 * CLIENTS, "all of them are served at once");
}

#[test]
fn one_who_receives_slowly_costs_the_memory_of_one_chunk() {
    /// A chunk is 64 KiB, and the rest of a client takes a few more.
    const CLIENT_KIBIBYTES_MAX: usize = 96;

    common::need_descriptors(2 * CLIENTS as u64 + 100);
    let site = site();
    let server = server(&site, "true");
    // What it has asked the system for: much of a chunk that is too large is touched only sooner or later.
    let kibibytes = || {
        let status = server.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    };
    let before = kibibytes();
    let slow = slow_clients(&server);
    assert!(slow.iter().all(|client| client.hears_something(LIMIT)), "all of them are served");
    let holds_all = || server.open_descriptors() >= 2 * CLIENTS && server.state() == 'S';
    eventually("the kernel takes no more, and it waits for all of them", LIMIT, holds_all);
    let grown = kibibytes() - before;
    assert!(grown < CLIENTS * CLIENT_KIBIBYTES_MAX, "{grown} KiB");
}

#[test]
#[cfg(target_os = "linux")]
fn who_comes_behind_a_crowd_of_downloads_waits_for_few_chunks_of_each() {
    /// It accepts so many in a dozen turns.
    const DOWNLOADS: usize = 400;
    /// What is read of a file at a time.
    const CHUNK_BYTES: usize = 64 * 1024;
    /// If those who have been accepted received a chunk in each turn, the first would get a dozen, and all of them 2,900.
    const CHUNKS_MAX: usize = 1000;

    common::need_descriptors(2 * DOWNLOADS as u64 + 100);
    let site = site();
    fs::write(site.path().join("small"), "small").expect("a file can be written");
    let server = server(&site, "true");
    let address = server.address();
    // What has been read, of files alone: sockets are received from.
    let read_bytes = || {
        let io = server.proc("io");
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("Linux says so");
        line.parse::<usize>().expect("a number")
    };
    let ask = |path: &str| {
        let mut client = connect(address);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes()).expect("it is received");
        client
    };
    let before = read_bytes();
    server.pause();
    let _downloads: Vec<_> = (0..DOWNLOADS).map(|_| ask("/big")).collect();
    let mut newcomer = ask("/small");
    server.go_on_until_it_sends_to(&newcomer);
    read_until(&mut newcomer, "\r\n\r\nsmall");
    let chunks = (read_bytes() - before) / CHUNK_BYTES;
    assert!((DOWNLOADS..CHUNKS_MAX).contains(&chunks), "{chunks} chunks of the downloads went before it");
}

#[test]
#[cfg(target_os = "linux")]
fn who_asks_for_everything_at_once_is_answered_in_turn_with_the_others() {
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
    use std::mem::MaybeUninit;

    /// What fits into what is received at a time.
    const REQUESTS: usize = 80;

    let site = site();
    for name in ["a", "many", "last", "z"] {
        fs::write(site.path().join(name), name).expect("a file can be written");
    }
    let server = server(&site, "true");
    // One of the others is on either side, in whatever order the server looks at them.
    let ask = |name: &str| format!("GET /{name} HTTP/1.0\r\nConnection: close\r\n\r\n");
    let keep = |name: &str| format!("GET /{name} HTTP/1.1\r\nHost: here\r\n\r\n");
    let requests = [ask("a"), keep("many").repeat(REQUESTS) + &ask("last"), ask("z")];
    let mut clients = [(); 3].map(|()| connect(server.address()));
    for client in &mut clients {
        // It is known to the server, and has nothing to do.
        client.write_all(keep("many").as_bytes()).expect("the server receives");
        read_until(client, "\r\n\r\nmany");
    }
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("Linux has it");
    inotify::add_watch(&watch, site.path(), WatchFlags::OPEN).expect("the directory is there");
    server.pause();
    for (client, request) in clients.iter_mut().zip(&requests) {
        client.write_all(request.as_bytes()).expect("the kernel receives");
    }
    server.go_on();
    for client in &mut clients {
        read_to_end(client);
    }
    // The order in which files were opened is the order of the answers.
    let (mut buffer, mut opened) = ([MaybeUninit::uninit(); 4096], Vec::new());
    let mut reader = Reader::new(watch, &mut buffer);
    while let Ok(event) = reader.next() {
        assert!(event.events().contains(ReadFlags::OPEN), "{event:?}");
        opened.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    assert_eq!(opened.last().map(String::as_str), Some("last"), "{opened:?}");
}

#[test]
fn who_has_asked_while_polls_were_refused_is_not_let_go_but_answered() {
    /// Longer than a client may take to ask again.
    const REFUSED: Duration = Duration::from_millis(5_500);

    let site = site();
    fs::write(site.path().join("a"), "a").expect("a file can be written");
    let server = server(&site, "true");
    let mut clients = [(); 3].map(|()| connect(server.address()));
    let ask_each = |clients: &mut [TcpStream]| {
        for client in clients {
            client.write_all(b"GET /a HTTP/1.1\r\nHost: here\r\n\r\n").expect("the kernel receives");
        }
    };
    let expect_answers = |clients: &mut [TcpStream]| {
        for client in clients {
            assert!(read_until(client, "\r\n\r\na").starts_with("HTTP/1.1 200 "));
        }
    };
    ask_each(&mut clients);
    expect_answers(&mut clients);
    // A poll that sleeps already is refused when it begins anew.
    server.pause();
    server.limit_descriptors(0);
    server.go_on();
    server.stderr.wait_for_line(LIMIT, |line| line.contains("cannot poll"));
    ask_each(&mut clients);
    thread::sleep(REFUSED);
    server.limit_descriptors(1_000);
    expect_answers(&mut clients);
}

#[test]
#[cfg(target_os = "linux")]
fn each_piece_of_a_file_is_read_in_one_call_during_which_everybody_waits() {
    const PIECES: u64 = 64;

    let site = site();
    let file = File::create(site.path().join("pieces")).and_then(|file| file.set_len(PIECES << 16));
    file.expect("a file can be written");
    let server = server(&site, "true");
    let reads = || {
        let io = fs::read_to_string(format!("/proc/{}/io", server.pid().as_raw_nonzero())).expect("Linux tells");
        let count = io.lines().find_map(|line| line.strip_prefix("syscr: ")?.parse::<u64>().ok());
        count.expect("how often it has read")
    };
    let mut client = connect(server.address());
    let before = reads();
    client.write_all(b"GET /pieces HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").expect("the server receives");
    assert!(read_to_end(&mut client).len() as u64 > PIECES << 16);
    let calls = reads() - before;
    assert!((PIECES..PIECES + 8).contains(&calls), "{calls} calls to read {PIECES} pieces");
}
