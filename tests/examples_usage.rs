//! Examples, started in a way in which they cannot work: a line that says so, and the exit code of the daemon's.

mod common;
#[path = "common/examples.rs"]
mod examples;

use examples::{example, refusing};
use std::ffi::OsStr;
use std::fmt::Debug;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

/// The examples that have arguments, and arguments with which they work (but for the address, which is to be filled in).
const EXAMPLES: [(&str, &[&str]); 10] = [
    ("echo_async", &["--listen", "@"]),
    ("proxy", &["@", "127.0.0.1:1"]),
    ("tcp_client", &["127.0.0.1", "1"]),
    ("udp_echo", &["@"]),
    ("control_port", &["@", "0"]),
    ("chat", &["@"]),
    ("socks5", &["@"]),
    ("http", &["@", "."]),
    ("blocking_work", &["@"]),
    ("echo_threads", &["@"]),
];

/// Those that listen on their own address if they are given none.
const CONTENT_WITH_NONE: [&str; 2] = ["blocking_work", "echo_threads"];

/// The exit code, and the lines on standard error.
#[track_caller]
fn outcome<A: AsRef<OsStr> + Debug>(name: &str, args: &[A]) -> (i32, Vec<String>) {
    let output = example(name).args(args).stdin(Stdio::null()).output().expect("an example can be started");
    assert!(output.stdout.is_empty(), "{name} {args:?} prints {:?}", String::from_utf8_lossy(&output.stdout));
    let lines = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    (output.status.code().unwrap_or(-1), lines)
}

#[test]
fn wrong_arguments_get_a_usage_line_and_exit_code_2() {
    for (name, right) in EXAMPLES {
        let right: Vec<&str> = right.iter().map(|arg| if *arg == "@" { "127.0.0.1:0" } else { arg }).collect();
        let too_many: Vec<&str> = right.iter().copied().chain(["more"]).collect();
        let too_few = &right[..right.len() - 1];
        let malformed: Vec<&str> = right.iter().map(|_| "127.0.0.1:99999").collect();
        let usages = [&too_many[..], &malformed[..], &["--help"], &["-h", "-h", "-h"], too_few];
        let checked = usages.len() - usize::from(CONTENT_WITH_NONE.contains(&name));
        for args in &usages[..checked] {
            let (code, lines) = outcome(name, args);
            assert_eq!(code, 2, "{name} {args:?}: {lines:?}");
            assert_eq!(lines.len(), 1, "{name} {args:?}: {lines:?}");
            assert!(lines[0].starts_with(&format!("usage: {name} ")), "{name} {args:?}: {lines:?}");
        }
    }
}

#[test]
fn an_argument_that_is_no_text_is_a_wrong_one() {
    for (name, right) in EXAMPLES {
        let (code, lines) = outcome(name, &vec![OsStr::from_bytes(b"\xff"); right.len()]);
        assert_eq!((code, lines.len()), (2, 1), "{name}: {lines:?}");
        assert!(lines[0].starts_with(&format!("usage: {name} ")), "{name}: {lines:?}");
    }
}

#[test]
fn a_taken_address_is_one_line_and_exit_code_1() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for (name, args) in EXAMPLES.iter().filter(|(name, _)| !["tcp_client", "echo_threads"].contains(name)) {
        let taken = if *name == "udp_echo" { udp.local_addr() } else { tcp.local_addr() };
        let taken = taken.expect("a bound socket has an address").to_string();
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "@" { taken.as_str() } else { arg }).collect();
        let (code, lines) = outcome(name, &args);
        assert_eq!(code, 1, "{name}: {lines:?}");
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        assert!(lines[0].starts_with(&format!("{name}: cannot ")), "{name}: {lines:?}");
        assert!(lines[0].contains(&taken) && lines[0].ends_with(&common::words(libc::EADDRINUSE)), "{name}: {lines:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_one_line_and_exit_code_1() {
    let (_socket, address) = refusing();
    let port = address.port().to_string();
    let (code, lines) = outcome("tcp_client", &["127.0.0.1", &port]);
    assert_eq!(code, 1);
    assert_eq!(lines, [format!("tcp_client: cannot reach \"127.0.0.1\" port {port}: Connection refused")]);
}

#[test]
fn an_argument_full_of_strange_letters_is_told_back_as_one_line_that_does_nothing_to_a_terminal() {
    let strange = "no/such\n\x1b[2J\u{202e}name";
    let lines = [
        ("tcp_client", [strange, "1"]),
        ("http", ["127.0.0.1:0", strange]),
        ("control_port", ["127.0.0.1:0", strange]),
    ];
    for (name, args) in lines {
        let output = example(name).args(args).stdin(Stdio::null()).output().expect("an example can be started");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(text.starts_with(&format!("{name}: cannot ")), "{text:?}");
        assert!(text.contains(r"no/such\n\u{1b}[2J\u{202e}name") && text.lines().count() == 1, "{text:?}");
    }
}

#[test]
fn a_proxy_refuses_a_time_that_is_none() {
    for (name, right) in EXAMPLES.iter().filter(|(name, _)| ["proxy", "socks5"].contains(name)) {
        for time in ["0", "-1", "1.5", "soon", "", "4294967296"] {
            let right = right.iter().map(|arg| if *arg == "@" { "127.0.0.1:0" } else { arg });
            let args: Vec<&str> = right.chain([time]).collect();
            let (code, lines) = outcome(name, &args);
            assert_eq!(code, 2, "{name} {time}: {lines:?}");
        }
    }
}

#[test]
fn a_proxy_does_not_forward_to_itself() {
    // The second of each two is the first, or is reached by way of it.
    let pairs = [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("0.0.0.0", "[::ffff:127.0.0.1]"),
        ("[::1]", "[::]"),
    ];
    for (here, there) in pairs {
        // So that a proxy which does not see that ends, too.
        let Ok(taken) = TcpListener::bind(format!("{here}:0")) else {
            assert!(here.starts_with('['), "a free port on {here}");
            eprintln!("not tested: this system has no IPv6");
            continue;
        };
        let port = taken.local_addr().expect("a bound socket has an address").port();
        let (code, lines) = outcome("proxy", &[format!("{here}:{port}"), format!("{there}:{port}")]);
        let expected = format!("proxy: cannot listen on {here}:{port}: it is the target's address, too");
        assert_eq!((code, lines), (1, vec![expected]), "{here} {there}");
    }
}

#[test]
fn a_proxy_forwards_to_another_who_has_the_same_port() {
    // The second of each two is not reached by way of the first: no IPv4 comes to `[::]`, and `TEST-NET-3` is nobody's.
    for (here, there) in [("[::]", "127.0.0.1"), ("0.0.0.0", "203.0.113.1"), ("127.0.0.1", "127.0.0.2")] {
        // So that the proxy ends, for another reason.
        let taken = TcpListener::bind(format!("{here}:0")).expect("a free port");
        let port = taken.local_addr().expect("a bound socket has an address").port();
        let (code, lines) = outcome("proxy", &[format!("{here}:{port}"), format!("{there}:{port}")]);
        assert!(code == 1 && lines[0].ends_with(&common::words(libc::EADDRINUSE)), "{here} {there}: {lines:?}");
    }
}

#[test]
fn a_control_port_is_a_number_or_the_path_of_a_socket() {
    for neither in ["control", "65536", ""] {
        assert_eq!(outcome("control_port", &["127.0.0.1:0", neither]).0, 2, "{neither:?}");
    }
}

#[test]
fn echo_async_refuses_a_time_that_no_clock_can_show() {
    for option in ["--idle-timeout", "--drain-timeout"] {
        for time in ["1e19", "4294967296", "-1", "NaN"] {
            let (code, lines) = outcome("echo_async", &["--listen", "127.0.0.1:0", option, time]);
            assert_eq!(code, 2, "{option} {time}: {lines:?}");
        }
    }
    // Nobody can be served within no time at all.
    assert_eq!(outcome("echo_async", &["--listen", "203.0.113.1:1", "--idle-timeout", "0"]).0, 2);
}
