//! The examples that answer line by line: who sends many lines at once has his turn like anybody else.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/examples.rs"]
mod examples;

use common::{LIMIT, Server, ServerBuilder};
use examples::{connect, read_until};
use std::io::{Read, Write};
use std::net::SocketAddr;

/// How many lines one client sends at once.
const LINES: usize = 60;

/// How often the other asks for something. The server goes on each time where the answer before has stopped it.
const QUESTIONS: usize = 5;

/// Those of one turn, and of another if the question is found one turn later.
const ANSWERS_MAX: usize = 2;

fn server(example: &str, args: &[&str]) -> Server {
    ServerBuilder::of(common::example(example)).args(args).spawn()
}

/// Expects that few of many lines are answered before the only one of somebody else. An answer ends with `end`; `greetings` of
/// them come before anything is said.
#[track_caller]
fn expect_in_turn(server: &Server, address: SocketAddr, greetings: usize, line: &str, end: &str) {
    let [mut many, mut one] = [(); 2].map(|()| {
        let mut client = connect(address);
        client.write_all(line.as_bytes()).expect("the server receives");
        (0..=greetings).for_each(|_| drop(read_until(&mut client, end)));
        client
    });
    server.pause();
    many.write_all(line.repeat(LINES).as_bytes()).expect("the kernel receives");
    let mut before = Vec::new();
    for _ in 0..QUESTIONS {
        one.write_all(line.as_bytes()).expect("the kernel receives");
        server.go_on_until_it_sends_to(&one);
        read_until(&mut one, end);
        let (mut text, mut buffer) = (String::new(), [0; 16_384]);
        many.set_nonblocking(true).expect("a socket can be non-blocking");
        while let Ok(len @ 1..) = many.read(&mut buffer) {
            text += std::str::from_utf8(&buffer[..len]).expect("text");
        }
        before.push(text.matches(end).count());
    }
    assert!(before.iter().all(|answers| *answers <= ANSWERS_MAX), "so many answers before each: {before:?}");
    assert!(before.iter().any(|answers| *answers > 0), "the many are answered, too");
}

#[test]
fn who_works_on_numbers_answers_few_lines_of_one_before_that_of_another() {
    let server = server("blocking_work", &["127.0.0.1:0"]);
    expect_in_turn(&server, server.address(), 0, "no number\n", "\n");
}

#[test]
fn a_control_port_answers_few_commands_of_one_before_that_of_another() {
    let server = server("control_port", &["127.0.0.1:0", "0"]);
    let line = server.stdout.wait_for_line(LIMIT, |line| line.starts_with("Controlled on "));
    let address = line.trim_start_matches("Controlled on ").parse().expect("an address");
    expect_in_turn(&server, address, 1, "nothing\n", "> ");
}

#[test]
fn a_room_hears_few_lines_of_one_before_that_of_another() {
    let server = server("chat", &["127.0.0.1:0"]);
    expect_in_turn(&server, server.address(), 1, "no name\n", "\n");
}
