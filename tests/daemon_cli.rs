//! The command line of the daemon: every option, and everything that can be wrong with one.

mod common;

use common::{Client, LIMIT, Server, Signal, eventually, words};
use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;

/// Expects that the daemon ends at once with `code`, and with nothing but one line on standard error. Returns the line.
#[track_caller]
fn refusal<A: AsRef<OsStr>>(args: &[A], code: i32) -> String {
    let mut server = Server::builder().args(args).spawn();
    let status = server.wait_exit(LIMIT);
    let (stdout, stderr) = (server.stdout.all(), server.stderr.all());
    let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    assert_eq!(status.code(), Some(code), "{args:?} {stderr:?}");
    assert!(stdout.is_empty(), "{args:?} {stdout:?}");
    assert_eq!(stderr.len(), 1, "{args:?} {stderr:?}");
    let line = stderr[0].clone();
    assert!(line.starts_with("fdtask: "), "{args:?} {line}");
    assert!(!line.contains("panicked"), "{args:?} {line}");
    line
}

/// Expects that the daemon prints something and ends well. Returns the lines.
#[track_caller]
fn printed(args: &[&str]) -> Vec<String> {
    let mut server = Server::builder().args(args).spawn();
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "{args:?}");
    assert!(server.stderr.all().is_empty(), "{args:?} {:?}", server.stderr.all());
    server.stdout.all()
}

#[test]
fn wrong_usage_is_one_line_that_says_what_is_wrong_and_exit_2() {
    let cases: [(&[&str], &str); 45] = [
        (&["--bogus"], "unknown option '--bogus'"),
        (&["--bogus=1"], "unknown option '--bogus=1'"),
        (&["-x"], "unknown option '-x'"),
        (&["-qx"], "unknown option '-x'"),
        (&["-w=2"], "-w '=2'"),
        (&["-qw"], "-w needs a value"),
        (&["-q-help"], "unknown option '-q-help'"),
        (&["-"], "unknown option '-'"),
        (&["--", "x"], "unknown option '--'"),
        (&["25000"], "unexpected argument '25000'"),
        (&[""], "unexpected argument ''"),
        (&["--listen"], "--listen needs a value"),
        (&["-l"], "-l needs a value"),
        (&["--listen", ""], "''"),
        (&["--listen="], "''"),
        (&["--listen", "nonsense"], "'nonsense'"),
        (&["--listen", "127.0.0.1"], "'127.0.0.1'"),
        (&["--listen", ":25000"], "':25000'"),
        (&["--listen", "127.0.0.1:"], "'127.0.0.1:'"),
        (&["--listen", "127.0.0.1:99999"], "'127.0.0.1:99999'"),
        (&["--listen", "127.0.0.1:-1"], "'127.0.0.1:-1'"),
        (&["--listen", "256.0.0.1:80"], "'256.0.0.1:80'"),
        (&["--listen", "::1:25000"], "'::1:25000'"),
        (&["--listen", "127.0.0.1:0", "--listen", "x"], "'x'"),
        (&["--max-connections"], "--max-connections needs a value"),
        (&["--max-connections", "0"], "'0'"),
        (&["--max-connections", "-1"], "'-1'"),
        (&["--max-connections", "+5"], "'+5'"),
        (&["--max-connections", "99999999999999999999"], "'99999999999999999999'"),
        (&["--idle-timeout", "0"], "--idle-timeout"),
        (&["--idle-timeout", "soon"], "'soon'"),
        (&["--idle-timeout", "-1"], "'-1'"),
        (&["--idle-timeout", "NaN"], "'NaN'"),
        (&["--drain-timeout", "-0.5"], "'-0.5'"),
        (&["--idle-timeout", "."], "'.'"),
        (&["--idle-timeout", "1.5.0"], "'1.5.0'"),
        (&["--idle-timeout", "1e3"], "'1e3'"),
        (&["--idle-timeout", "1 "], "'1 '"),
        (&["--idle-timeout", "0.0000000001"], "--idle-timeout must be longer than 0 seconds; leave it out for none"),
        (&["--drain-timeout", "inf"], "'inf'"),
        (&["--drain-timeout", "+1"], "'+1'"),
        (&["--drain-timeout", "4294967296"], "at most 4294967295"),
        (&["--poller"], "--poller needs a value"),
        (&["--poller", "select"], "'select': this system has poll"),
        (&["--quiet=yes"], "--quiet takes no value"),
    ];
    for (args, what) in cases {
        let line = refusal(args, 2);
        assert!(line.contains(what), "{args:?} is answered without {what}: {line}");
        assert!(line.contains("fdtask --help"), "{args:?} is answered without a hint at the help: {line}");
    }
}

#[test]
fn an_argument_that_is_no_text_or_has_several_lines_is_refused_in_one_line() {
    let no_text = refusal(&[OsStr::from_bytes(b"--\xff\xfe")], 2);
    assert!(no_text.contains("unknown option"), "{no_text}");
    let lines = refusal(&["--listen", "two\nlines"], 2);
    assert!(lines.contains("two"), "{lines}");
}

#[test]
fn options_that_print_take_no_value() {
    for args in [["--help=x"], ["--version=x"]] {
        let line = refusal(&args, 2);
        assert!(line.contains("takes no value"), "{line}");
    }
}

#[test]
fn an_address_that_is_not_ours_is_a_failure_and_exit_1() {
    // An address of the range that is reserved for documentation.
    let line = refusal(&["--listen", "192.0.2.1:0"], 1);
    let remedy = "choose an address of this machine, or 0.0.0.0 for all of them";
    assert_eq!(line, format!("fdtask: cannot listen on 192.0.2.1:0: {}; {remedy}", words(libc::EADDRNOTAVAIL)));
}

#[test]
fn help_names_every_option_and_the_default_port() {
    for option in ["-h", "--help"] {
        let help = printed(&[option]).join("\n");
        for word in [
            "-l, --listen ADDR:PORT",
            "--max-connections N",
            "--idle-timeout SECONDS",
            "--drain-timeout SECONDS",
            "--poller",
            "-q, --quiet",
            "-h, --help",
            "-V, --version",
            "0.0.0.0:25000",
            "SIGTERM",
            "SIGUSR1",
        ] {
            assert!(help.contains(word), "{word} is missing in:\n{help}");
        }
        assert!(help.lines().all(|line| line.len() <= 100), "a line is too long for a terminal:\n{help}");
    }
}

#[test]
fn version_is_the_package_s() {
    for option in ["-V", "--version"] {
        assert_eq!(printed(&[option]), [concat!("fdtask ", env!("CARGO_PKG_VERSION"))]);
    }
}

#[test]
fn help_that_cannot_be_printed_is_one_line_on_stderr_and_exit_1() {
    let full = || File::options().write(true).open("/dev/full").expect("there is a full device");
    let mut server = Server::builder().args(["--help"]).stdout(full()).spawn();
    assert_eq!(server.wait_exit(LIMIT).code(), Some(1));
    assert_eq!(server.stderr.all(), ["fdtask: cannot print: No space left on device"]);
    // Not even that can be said: still no panic, which would be exit 101.
    let mut server = Server::builder().args(["--help"]).stdout(full()).stderr(full()).spawn();
    assert_eq!(server.wait_exit(LIMIT).code(), Some(1));
}

#[test]
fn wrong_usage_that_cannot_be_printed_is_still_exit_2() {
    let full = File::options().write(true).open("/dev/full").expect("there is a full device");
    let mut server = Server::builder().args(["--bogus"]).stderr(full).spawn();
    assert_eq!(server.wait_exit(LIMIT).code(), Some(2));
}

#[test]
fn without_arguments_it_listens_on_port_25000() {
    let server = Server::builder().spawn();
    // Somebody else may have that port, which is said in the same words.
    let mut line = None;
    eventually("it says where it listens", LIMIT, || {
        line = server.stdout.all().into_iter().chain(server.stderr.all()).next();
        line.is_some()
    });
    let line = line.unwrap_or_default();
    let taken = format!("fdtask: cannot listen on 0.0.0.0:25000: {}", words(libc::EADDRINUSE));
    assert!(line == "Listening on 0.0.0.0:25000" || line.starts_with(&taken), "{line}");
}

#[test]
fn it_listens_on_every_address_it_is_given_in_any_spelling_of_the_option() {
    let args = ["--listen", "127.0.0.1:0", "--listen=127.0.0.1:0", "-l", "0.0.0.0:0", "--quiet"];
    let server = Server::builder().args(args).spawn();
    let addresses = server.addresses(3);
    let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(ips, ["127.0.0.1", "127.0.0.1", "0.0.0.0"]);
    for address in addresses {
        assert_ne!(address.port(), 0, "the real port is said");
        Client::connect((Ipv4Addr::LOCALHOST, address.port()).into()).ask(b"Hello");
    }
}

#[test]
fn the_longest_drain_that_can_be_asked_for_ends_with_its_last_client() {
    let mut server = Server::start(&["--drain-timeout", "4294967295"]);
    let mut client = Client::connect(server.address());
    client.ask(b"Hello");
    server.signal(Signal::TERM);
    client.expect_end();
    client.half_close();
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "{:?}", server.stderr.all());
    assert!(server.stderr.all().is_empty(), "{:?}", server.stderr.all());
}

#[test]
fn it_listens_on_ipv6_beside_ipv4_on_the_same_port() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("not tested: this system has no IPv6");
        return;
    }
    let server = Server::builder().args(["--listen", "[::1]:0"]).spawn();
    let address = server.address();
    assert!(address.is_ipv6());
    let mut client = Client::connect(address);
    client.ask(b"Hello");
    let expected = format!("Connection from {}", client.local_address());
    server.stdout.wait_for_line(LIMIT, |line| line == expected);

    // The port that the system chooses for IPv6 may happen to be in use on IPv4, and then another one is tried.
    let (six, four) = (0..20).find_map(|_| pair_on_one_port()).expect("one port of twenty is free on IPv4, too");
    assert_eq!(four.address().port(), six.address().port());
    Client::connect((Ipv4Addr::LOCALHOST, four.address().port()).into()).ask(b"to the one");
    Client::connect((Ipv6Addr::LOCALHOST, six.address().port()).into()).ask(b"to the other");
}

/// A server on `[::]`, and one beside it on `0.0.0.0` with the same port, if that is free.
fn pair_on_one_port() -> Option<(Server, Server)> {
    let six = Server::builder().args(["--listen", "[::]:0"]).spawn();
    let mut four = Server::builder().args(["--listen", &format!("0.0.0.0:{}", six.address().port())]).spawn();
    eventually("it listens, or has ended", LIMIT, || !four.stdout.all().is_empty() || !four.is_running());
    four.is_running().then_some((six, four))
}

#[test]
#[cfg(target_os = "linux")]
fn it_serves_with_either_poller() {
    for poller in ["poll", "parked"] {
        let server = Server::start(&["--poller", poller]);
        let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.address())).collect();
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.ask(format!("client {number} round {round}").as_bytes());
            }
        }
    }
}

/// As POSIX has it for every utility: `-qw2` is `-q -w 2`.
#[test]
fn short_options_may_stand_together_and_their_values_behind_them() {
    let server = Server::builder().args(["-qql127.0.0.1:0", "-w2"]).spawn();
    Client::connect(server.address()).ask(b"Hello");
    server.signal(Signal::USR1);
    server.stderr.wait_until("a second worker tells its table", LIMIT, |lines| {
        lines.iter().any(|line| line.starts_with("Worker 2"))
    });
    assert_eq!(server.stdout.all(), [format!("Listening on {}", server.address())]);
}

#[test]
fn quiet_says_nothing_about_single_connections() {
    for option in ["-q", "--quiet"] {
        let server = Server::start(&[option]);
        let mut orderly = Client::connect(server.address());
        orderly.ask(b"Hello");
        orderly.half_close();
        orderly.expect_end();
        let mut other = Client::connect(server.address());
        other.ask(b"Hello");
        let with_other = server.open_sockets();
        other.reset();
        eventually("the reset is noticed", LIMIT, || server.open_sockets() < with_other);
        // The log is written in order: if there were a line about either, this one would come behind it.
        server.signal(Signal::USR1);
        let lines = server.stderr.wait_until("the task table comes", LIMIT, |lines| !lines.is_empty());
        assert!(lines[0].contains("TASK"), "{lines:?}");
        assert_eq!(server.stdout.all(), [format!("Listening on {}", server.address())]);
    }
}

#[test]
fn no_profile_makes_a_panic_the_end_of_the_daemon() {
    // Row 18 of the faults. A test cannot see it in its own build, because tests always unwind.
    let settings = include_str!("../Cargo.toml").lines().filter(|line| line.trim_start().starts_with("panic"));
    assert_eq!(settings.count(), 0);
}
