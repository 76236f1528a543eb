//! Examples whose standard output, or standard error, takes nothing: the disk is full, or nobody reads.

mod common;
#[path = "common/examples.rs"]
mod examples;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, LIMIT, ServerBuilder, eventually};
use examples::{Directory, example, refusing};
use faults::{listening_address, open_sockets};
use std::fs::File;
use std::io;
use std::process::Stdio;

/// What takes nothing, twice.
#[track_caller]
fn outputs() -> [Stdio; 2] {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let (reader, unread) = io::pipe().expect("a pipe");
    drop(reader);
    [full.into(), unread.into()]
}

#[test]
fn a_server_that_cannot_say_where_it_listens_serves_all_the_same() {
    let directory = Directory::new();
    let servers: [(&str, &[&str]); 7] = [
        ("echo_async", &["--listen", "127.0.0.1:0"]),
        ("echo_threads", &["127.0.0.1:0"]),
        ("blocking_work", &["127.0.0.1:0"]),
        ("chat", &["127.0.0.1:0"]),
        ("http", &["127.0.0.1:0", "."]),
        ("control_port", &["127.0.0.1:0", "0"]),
        ("control_port", &["127.0.0.1:0", &directory.file("control")]),
    ];
    for (name, args) in servers {
        for output in outputs() {
            let mut server = ServerBuilder::of(common::example(name)).args(args).stdout(output).spawn();
            let mut client = Client::connect(listening_address(&mut server));
            client.send(b"x\r\n\r\n");
            // Each of them has an answer to that.
            client.receive(1);
            assert!(server.stderr.all().is_empty(), "{name}: {:?}", server.stderr.all());
        }
    }
}

#[test]
fn a_server_of_datagrams_that_cannot_say_where_it_is_stays_there() {
    for output in outputs() {
        let server = ServerBuilder::of(common::example("udp_echo")).args(["127.0.0.1:0"]).stdout(output).spawn();
        eventually("it waits", LIMIT, || open_sockets(&server) == 1 && server.state() == 'S');
        assert!(server.stderr.all().is_empty(), "{:?}", server.stderr.all());
    }
}

#[test]
fn a_program_that_only_prints_ends_with_an_error_if_it_cannot() {
    for (output, error) in outputs().into_iter().zip(["No space left on device", "Broken pipe"]) {
        let output = example("countdown").stdout(output).stderr(Stdio::piped()).output();
        let output = output.expect("an example can be started");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("countdown: cannot print: {error}\n"));
    }
}

#[test]
fn a_program_that_cannot_say_what_is_wrong_ends_with_the_same_exit_code() {
    const ALL: [&str; 10] = [
        "echo_async",
        "echo_threads",
        "blocking_work",
        "proxy",
        "socks5",
        "chat",
        "http",
        "tcp_client",
        "control_port",
        "udp_echo",
    ];
    let (_socket, nobody) = refusing();
    let [host, port] = [nobody.ip().to_string(), nobody.port().to_string()];
    let usages = ALL.map(|name| (name, vec!["--help"], 2));
    let failures = [("tcp_client", vec![&host[..], &port], 1), ("http", vec!["127.0.0.1:0", "/nowhere"], 1)];
    for (name, args, code) in usages.into_iter().chain(failures).chain([("countdown", vec![], 1)]) {
        for (stdout, stderr) in outputs().into_iter().zip(outputs()) {
            let status = example(name).args(&args).stdin(Stdio::null()).stdout(stdout).stderr(stderr).status();
            let status = status.expect("an example can be started");
            assert_eq!(status.code(), Some(code), "{name} {args:?}");
        }
    }
}
