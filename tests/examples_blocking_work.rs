//! `examples/blocking_work.rs`: work on another thread, while everybody else is answered.

mod common;
#[path = "common/examples.rs"]
mod examples;
#[path = "common/flood.rs"]
mod flood;

use common::{LIMIT, ServerBuilder, eventually};
use examples::{Program, connect, converse, read_to_end, read_until};
use flood::Flood;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The greatest number that is worked on. That takes seconds, or with an optimized build tenths of a second.
const MUCH: usize = 50_000_000;

/// How many leave at a time.
const LEAVING: usize = 10;

fn server() -> Program {
    Program::example("blocking_work", &["127.0.0.1:0"])
}

fn ask(stream: &mut TcpStream, line: &str) -> String {
    stream.write_all(line.as_bytes()).expect("the server receives");
    stream.write_all(b"\n").expect("the server receives");
    read_until(stream, "\n")
}

/// The states of the server's threads, the scheduler's first, as `ps` shows them: `R` runs or would like to.
fn threads(server: &Program) -> Vec<char> {
    let path = format!("/proc/{}/task", server.child.id());
    let mut ids: Vec<u32> = fs::read_dir(&path)
        .expect("it runs")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    let state = |id: u32| {
        let stat = fs::read_to_string(format!("{path}/{id}/stat")).expect("threads are there to stay");
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a state behind the name")
    };
    ids.into_iter().map(state).collect()
}

#[test]
fn a_number_for_which_there_is_no_memory_ends_nothing() {
    // Less than the work takes, and enough for everything else.
    let limited = ServerBuilder::of(common::example("blocking_work")).args(["127.0.0.1:0"]).after("ulimit -v 48000");
    let server = limited.spawn();
    let [mut one, mut other] = [(); 2].map(|()| connect(server.address()));
    assert_eq!(ask(&mut one, &MUCH.to_string()), "there is no memory for that now\n");
    assert_eq!(ask(&mut other, "100"), "25 primes up to 100\n");
}

#[test]
fn numbers_are_answered_and_everything_else_is_refused() {
    let server = server();
    // The last number fills the longest line that there may be.
    let answer = converse(
        server.address(),
        &[
            &b"10\r\n 100 \n0\n1\n2\n\n-1\nten\n50000001\n99999999999999999999999\n\xff\n"[..],
            format!("{:063}\nquit\n7\n", 1_000_000).as_bytes(),
        ]
        .concat(),
    );
    let text = String::from_utf8(answer).expect("text");
    let expected = "\
        4 primes up to 10\n\
        25 primes up to 100\n\
        0 primes up to 0\n\
        0 primes up to 1\n\
        1 primes up to 2\n\
        please type a number\n\
        please type a number\n\
        please type a number\n\
        that is too much: 50000000 at most\n\
        that is too much: 50000000 at most\n\
        please type a number\n\
        78498 primes up to 1000000\n";
    assert_eq!(text, expected, "and nothing after quit");
}

#[test]
fn a_line_without_an_end_is_refused_and_nobody_else_notices() {
    let server = server();
    let mut other = connect(server.address());
    assert_eq!(ask(&mut other, "10"), "4 primes up to 10\n");
    let mut endless = connect(server.address());
    endless.write_all(&vec![b'1'; 100_000]).expect("the server receives");
    assert_eq!(read_to_end(&mut endless), b"that line is too long\n");
    let mut gone = connect(server.address());
    gone.write_all(b"100").expect("the server receives");
    drop(gone);
    assert_eq!(ask(&mut other, "100"), "25 primes up to 100\n");
}

#[test]
fn telnet_gets_the_answer_that_it_waits_for_after_ctrl_c() {
    let answer = converse(server().address(), b"\xff\xf4\xff\xfd\x06\r\n10\r\n");
    // What comes before it is not shown.
    assert_eq!(answer, b"\xff\xfc\x06please type a number\n4 primes up to 10\n");
}

#[test]
fn while_one_has_much_work_done_whoever_asks_for_none_is_answered() {
    let server = server();
    let mut busy = connect(server.address());
    let mut others: Vec<TcpStream> = (0..20).map(|_| connect(server.address())).collect();
    // All of this takes at least ten times as long as anybody here waits for an answer.
    busy.write_all(format!("{MUCH}\n").repeat(1000).as_bytes()).expect("the server receives");
    eventually("the worker works", LIMIT, || threads(&server)[1..].contains(&'R'));
    for other in &mut others {
        assert_eq!(ask(other, "please"), "please type a number\n");
    }
    // Meanwhile the scheduler has nothing to do.
    eventually("the scheduler sleeps while the worker works", LIMIT, || threads(&server).starts_with(&['S', 'R']));
    assert_eq!(read_until(&mut busy, "\n"), format!("3001134 primes up to {MUCH}\n"));
}

#[test]
fn one_who_sends_lines_without_pause_keeps_nobody_waiting() {
    for is_reading in [false, true] {
        let server = server();
        let mut early = connect(server.address());
        let _flood = Flood::begin(server.address(), "y\n", is_reading);
        let mut late = connect(server.address());
        for client in [&mut early, &mut late] {
            assert_eq!(ask(client, "please"), "please type a number\n");
            assert_eq!(ask(client, "10"), "4 primes up to 10\n");
        }
    }
}

#[test]
fn one_who_leaves_while_the_work_goes_on_leaves_nothing_behind() {
    let server = server();
    let mut stays = connect(server.address());
    assert_eq!(ask(&mut stays, "10"), "4 primes up to 10\n");
    let before = server.open_sockets();
    for _ in 0..LEAVING {
        let mut leaves = connect(server.address());
        leaves.write_all(b"1000000\n").expect("the server receives");
        socket2::SockRef::from(&leaves).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
    }
    // The jobs are done one after the other, so these have been when this one has.
    assert_eq!(ask(&mut stays, "100"), "25 primes up to 100\n");
    // With the first job that takes a while, the scheduler gets its two ends of the way from other threads.
    eventually("their connections are closed", LIMIT, || server.open_sockets() <= before + 2);
}

#[test]
fn many_who_bring_much_work_and_leave_keep_nobody_waiting_for_all_of_it() {
    let server = server();
    let before = server.open_sockets();
    // Minutes of work.
    for _ in 0..200 {
        connect(server.address()).write_all(format!("{MUCH}\n").as_bytes()).expect("the server receives");
    }
    let mut other = connect(server.address());
    assert_eq!(ask(&mut other, "1000"), "32 others are waiting: try again later\n");
    assert_eq!(ask(&mut other, "please"), "please type a number\n");
    eventually("those who were sent away are gone", LIMIT, || server.open_sockets() <= before + 40);
}

#[test]
#[ignore = "needs nc"]
fn the_recipe_in_the_header_works() {
    let server = server();
    let port = server.address().port().to_string();
    let mut nc = Program::spawn(Command::new("nc").args(["127.0.0.1", &port]).stdin(Stdio::piped()));
    nc.type_in("30000000\n");
    nc.stdout.wait_for_line(LIMIT, |line| line == "1857859 primes up to 30000000");
    nc.type_in("quit\n");
    drop(nc.child.stdin.take());
    assert!(nc.wait(LIMIT).success());
}
