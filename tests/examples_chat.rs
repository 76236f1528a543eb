//! `examples/chat`: everybody hears everybody, and nobody waits for anybody.

mod common;
#[path = "common/examples.rs"]
mod examples;
#[path = "common/flood.rs"]
mod flood;
#[path = "common/strace.rs"]
mod strace;

use common::{LIMIT, Signal, eventually};
use examples::{Program, connect, converse, read_to_end};
use flood::Flood;
use rustix::process::{Pid, kill_process};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;
use strace::Strace;

fn room() -> Program {
    Program::example("chat", &["127.0.0.1:0"])
}

/// What is answered to what is no name.
const NO_NAME: &str = "* A name is 1 to 20 letters, digits, or of '-_.'. Your name?";

/// Someone in the room.
struct Guest(BufReader<TcpStream>);

impl Guest {
    fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line
    }
}

#[track_caller]
fn enter(room: &Program, name: &str) -> Guest {
    let mut guest = Guest(BufReader::new(connect(room.address())));
    guest.stream().write_all(format!("{name}\n").as_bytes()).expect("the room listens");
    let text = guest.line() + &guest.line();
    assert!(text.starts_with(&format!("* Your name?\n* Hello, {name}. Here are: ")), "{text}");
    guest
}

#[track_caller]
fn say(guest: &mut Guest, line: &str) {
    guest.stream().write_all(format!("{line}\n").as_bytes()).expect("the room listens");
}

#[track_caller]
fn hear(guest: &mut Guest, line: &str) {
    assert_eq!(guest.line(), format!("{line}\n"));
}

#[test]
fn what_one_says_all_others_hear_in_order() {
    let room = room();
    let mut ann = enter(&room, "Ann");
    let mut bob = enter(&room, "Bob");
    hear(&mut ann, "* Bob is here.");
    let mut cid = enter(&room, "Cid");
    hear(&mut ann, "* Cid is here.");
    hear(&mut bob, "* Cid is here.");
    // Far more than a queue holds, and whoever reads misses none of it.
    let lines: Vec<String> = (0..1000).map(|number| format!("line {number}\n")).collect();
    ann.stream().write_all(lines.concat().as_bytes()).expect("the room listens");
    for number in 0..1000 {
        hear(&mut bob, &format!("Ann: line {number}"));
        hear(&mut cid, &format!("Ann: line {number}"));
    }
    drop(ann);
    hear(&mut bob, "* Ann has left.");
    say(&mut bob, "so long");
    hear(&mut cid, "* Ann has left.");
    hear(&mut cid, "Bob: so long");
}

#[test]
fn one_who_does_not_read_delays_nobody_costs_little_and_is_told_what_was_missed() {
    const LINES: usize = 12_000;
    let room = room();
    let mut ann = enter(&room, "Ann");
    let mut deaf = enter(&room, "Deaf");
    hear(&mut ann, "* Deaf is here.");
    let mut leaver = enter(&room, "Leaver");
    let mut bob = enter(&room, "Bob");
    for (guest, names) in [(&mut ann, &["Leaver", "Bob"][..]), (&mut deaf, &["Leaver", "Bob"]), (&mut leaver, &["Bob"])]
    {
        for name in names {
            hear(guest, &format!("* {name} is here."));
        }
    }
    let before = room.peak_bytes();
    let text = "x".repeat(900);
    let mut slowest = std::time::Duration::ZERO;
    for number in 0..LINES {
        // 11 MB, which is more than what the kernel takes on its way to someone who does not read.
        let begin = Instant::now();
        say(&mut ann, &format!("{number} {text}"));
        hear(&mut bob, &format!("Ann: {number} {text}"));
        slowest = slowest.max(begin.elapsed());
    }
    // The naive room waits here for ever, or as long as its patience with a stuck client lasts.
    assert!(slowest < LIMIT / 4, "a line took {slowest:?}");
    let grown = room.peak_bytes() - before;
    assert!(grown < 1 << 20, "{grown} bytes");
    // And when it reads again, it gets what it was sent before it fell behind, in order, and how much it has missed: although
    // nobody says anything more.
    let mut heard = 0;
    let missed: usize = loop {
        let line = deaf.line();
        if let Some(rest) = line.strip_prefix("* You have missed ") {
            break rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        }
        assert!(line.starts_with(&format!("Ann: {heard} x")), "line {heard} is {line:.30}");
        heard += 1;
        assert!(heard < LINES, "nothing was missed: the buffers on the way hold it all");
    };
    assert_eq!(heard + missed, LINES);
    say(&mut ann, "Welcome back");
    hear(&mut deaf, "Ann: Welcome back");
    // One who leaves, and reads then, is still sent what was in the queue, and told what was not.
    leaver.stream().shutdown(Shutdown::Write).expect("connected");
    hear(&mut ann, "* Leaver has left.");
    let mut rest = String::new();
    leaver.0.read_to_string(&mut rest).expect("the end of the stream");
    let last = rest.lines().next_back().unwrap_or_default();
    assert!(last.starts_with("* You have missed "), "{last:.30}");
}

#[test]
fn one_who_reads_misses_nothing_of_many_who_come_speak_and_leave_at_the_same_time() {
    // Far more than a queue holds.
    const GUESTS: usize = 200;
    let room = room();
    let mut ann = enter(&room, "Ann");
    let mut guests: Vec<_> = (0..GUESTS).map(|_| Guest(BufReader::new(connect(room.address())))).collect();
    for guest in &mut guests {
        assert_eq!(guest.line(), "* Your name?\n");
    }
    // That one speaks at a time, for a while, does not earn them that they may all speak at once.
    let mut bob = enter(&room, "Bob");
    hear(&mut ann, "* Bob is here.");
    for _ in 0..20 {
        say(&mut bob, "Nobody else?");
        hear(&mut ann, "Bob: Nobody else?");
    }
    let at_once = |act: &mut dyn FnMut()| at_once(&room, act);
    at_once(&mut || guests.iter_mut().enumerate().for_each(|(number, guest)| say(guest, &format!("guest-{number}"))));
    hear_from_all(&mut ann, GUESTS, "* guest-", " is here.");
    at_once(&mut || guests.iter_mut().for_each(|guest| say(guest, "Hello")));
    hear_from_all(&mut ann, GUESTS, "guest-", ": Hello");
    at_once(&mut || guests.clear());
    hear_from_all(&mut ann, GUESTS, "* guest-", " has left.");
}

/// What is done while the room is stopped is there all at once when it goes on.
#[track_caller]
fn at_once(room: &Program, act: &mut dyn FnMut()) {
    let process = Pid::from_child(&room.child);
    kill_process(process, Signal::STOP).expect("it runs");
    act();
    kill_process(process, Signal::CONT).expect("it is there");
}

#[test]
#[ignore = "needs strace"]
fn what_many_say_at_once_is_sent_to_each_in_few_calls() {
    const GUESTS: usize = 40;
    let room = room();
    let mut guests: Vec<_> = (0..GUESTS).map(|number| enter(&room, &format!("guest-{number}"))).collect();
    // It only looks on.
    let pid = room.child.id().try_into().expect("a process has such a number");
    let strace = Strace::attach_to(pid, "sendto", "mkdir:error=EPERM");
    at_once(&room, &mut || guests.iter_mut().for_each(|guest| say(guest, "Hello")));
    for (number, guest) in guests.iter_mut().enumerate() {
        for _ in number + 1..GUESTS {
            guest.line();
        }
        let heard: BTreeSet<String> = (1..GUESTS).map(|_| guest.line()).collect();
        assert_eq!(heard.len(), GUESTS - 1, "guest {number} hears each of the others once");
    }
    let calls = strace.calls().len();
    // A line each would be 1,560.
    assert!((GUESTS..GUESTS * GUESTS / 4).contains(&calls), "{calls} calls");
}

/// Hears the same from each of so many, in whatever order.
#[track_caller]
fn hear_from_all(guest: &mut Guest, count: usize, start: &str, end: &str) {
    let heard = (0..count).map(|_| {
        let line = guest.line();
        let number = line.trim_end().strip_prefix(start).and_then(|rest| rest.strip_suffix(end)?.parse().ok());
        number.unwrap_or_else(|| panic!("{line}"))
    });
    assert_eq!(heard.collect::<BTreeSet<usize>>(), (0..count).collect());
}

#[test]
fn a_name_is_asked_for_until_it_is_one_of_its_own() {
    let room = room();
    let mut ann = enter(&room, "Ann");
    let answer = converse(room.address(), "\n \nAnn\nthis-name-is-too-long-for-a-name\n Bob \r\nHi\n".as_bytes());
    let text = String::from_utf8(answer).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["* Your name?", NO_NAME, NO_NAME]);
    assert_eq!(lines[3..], ["* Ann is somebody else. Your name?", NO_NAME, "* Hello, Bob. Here are: Ann."]);
    hear(&mut ann, "* Bob is here.");
    hear(&mut ann, "Bob: Hi");
    hear(&mut ann, "* Bob has left.");
    // The name is free again.
    enter(&room, "Bob");
}

#[test]
fn a_name_that_looks_like_another_or_like_a_notice_is_none() {
    // Nothing at all is shown of some letters, some turn what follows around, and some are the beginning of what the room says.
    let names = [
        "Ann\u{200b}",
        "\u{202e}nnA",
        "Ann\u{ad}",
        "A\u{7f}nn",
        "Ann\tB",
        "Ann B",
        "* Ann",
        "Ann:",
        "\u{feff}",
        "Ann\u{3164}",
        "\u{115f}",
        "\u{1160}",
        "\u{ffa0}",
        "Ann\u{13441}",
        "\u{13442}",
    ];
    let answer = converse(room().address(), (names.join("\n") + "\nAnn-B_2.\u{e9}\n").as_bytes());
    let lines: Vec<String> = String::from_utf8(answer).expect("text").lines().skip(1).map(str::to_owned).collect();
    assert_eq!(lines[..names.len()], vec![NO_NAME; names.len()]);
    assert_eq!(lines[names.len()..], ["* Hello, Ann-B_2.\u{e9}. Here are: you alone."]);
}

#[test]
fn one_who_tries_many_names_at_once_gets_an_answer_to_each() {
    // Far more than a queue holds.
    const NAMES: usize = 300;
    let answer = converse(room().address(), &[b'\n'; NAMES]);
    let lines = String::from_utf8(answer).expect("text").lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines, vec![NO_NAME; NAMES]);
}

#[test]
fn one_who_sends_lines_without_pause_keeps_nobody_waiting() {
    // Also more of them than may say something in one turn.
    for (floods, is_reading) in [(1, false), (1, true), (40, true)] {
        let room = room();
        let mut ann = enter(&room, "Ann");
        // An empty line is no name, so these are asked for one again and again.
        let _floods: Vec<_> = (0..floods).map(|_| Flood::begin(room.address(), "\n", is_reading)).collect();
        let begin = Instant::now();
        let mut bob = enter(&room, "Bob");
        hear(&mut ann, "* Bob is here.");
        for number in 0..10 {
            say(&mut bob, &format!("line {number}"));
            hear(&mut ann, &format!("Bob: line {number}"));
        }
        assert!(begin.elapsed() < LIMIT / 4, "{floods} floods keep them waiting for {:?}", begin.elapsed());
    }
}

#[test]
fn nothing_that_one_sends_reaches_the_terminal_of_another_raw_or_is_too_long() {
    let room = room();
    let mut ann = enter(&room, "Ann");
    let mut bob = enter(&room, "B\u{f6}b");
    hear(&mut ann, "* B\u{f6}b is here.");
    bob.stream().write_all(b"\x1b[2J\xff\xf4 \0bell\x07 \xc3\xa9\r\n\n\n").expect("the room listens");
    hear(&mut ann, "B\u{f6}b: ?[2J\u{fffd}\u{fffd} ?bell? \u{e9}");
    // Nothing is shown of these, and what follows may be turned around. What joins two people is needed to make a family.
    say(&mut bob, "a\u{202e}b\u{2066}c\u{2028}d\u{200b}e\u{e0041}f\u{feff}g\u{ad}h \u{1f468}\u{200d}\u{1f467}");
    hear(&mut ann, "B\u{f6}b: a?b?c?d?e?f?g?h \u{1f468}\u{200d}\u{1f467}");
    let endless = [b'y'; 2500];
    bob.stream().write_all(&endless).expect("the room listens");
    hear(&mut ann, &format!("B\u{f6}b: {}", "y".repeat(1000)));
    hear(&mut ann, &format!("B\u{f6}b: {}", "y".repeat(1000)));
    bob.stream().shutdown(Shutdown::Write).expect("a connection can be half-closed");
    // The last line need not end.
    hear(&mut ann, &format!("B\u{f6}b: {}", "y".repeat(500)));
    hear(&mut ann, "* B\u{f6}b has left.");
    assert_eq!(read_to_end(bob.stream()), b"");
}

#[test]
fn telnet_gets_the_answer_that_it_waits_for_after_ctrl_c() {
    let room = room();
    let mut ann = enter(&room, "Ann");
    let mut bob = enter(&room, "Bob");
    hear(&mut ann, "* Bob is here.");
    bob.stream().write_all(b"\xff\xf4\xff\xfd\x06\r\n").expect("the room listens");
    let mut answer = [0; 3];
    bob.0.read_exact(&mut answer).expect("an answer to telnet");
    assert_eq!(answer, *b"\xff\xfc\x06");
    // And everything goes on.
    say(&mut ann, "Bob?");
    hear(&mut bob, "Ann: Bob?");
}

#[test]
fn a_line_that_is_said_in_pieces_loses_nothing_where_it_is_cut() {
    let room = room();
    let mut ann = enter(&room, "Ann");
    let mut bob = enter(&room, "Bob");
    hear(&mut ann, "* Bob is here.");
    // Each of these has a letter of several bytes, or a blank, or the end of the line, at one of the cuts.
    for line in [
        "x".to_owned() + &"\u{e9}".repeat(1500),
        "xx".to_owned() + &"\u{1f600}".repeat(600),
        "w ".repeat(700),
        " w".repeat(700),
        "y".repeat(999) + "\r",
        "y".repeat(1000) + "\r",
    ] {
        say(&mut bob, &format!("{line}\nthat was all"));
        let mut heard = String::new();
        loop {
            let piece = ann.line();
            let piece = piece.strip_prefix("Bob: ").expect("only Bob speaks").trim_end_matches('\n');
            if piece == "that was all" {
                break;
            }
            assert!(!piece.is_empty() && piece.len() <= 1003, "{} bytes", piece.len());
            heard += piece;
        }
        assert_eq!(heard, line.trim_end_matches('\r'));
    }
}

#[test]
fn a_hundred_come_and_go_in_every_way_and_leave_nothing_behind() {
    let room = room();
    let mut ann = enter(&room, "Ann");
    let before = room.open_sockets();
    for round in 0..100 {
        let mut guest = enter(&room, &format!("guest-{round}"));
        hear(&mut ann, &format!("* guest-{round} is here."));
        if round % 2 == 0 {
            socket2::SockRef::from(&*guest.stream())
                .set_linger(Some(std::time::Duration::ZERO))
                .expect("SO_LINGER can be set");
        }
        drop(guest);
        hear(&mut ann, &format!("* guest-{round} has left."));
    }
    eventually("their connections are closed", LIMIT, || room.open_sockets() <= before);
    let failed = |line: &String| !line.ends_with(": Connection reset by peer");
    assert!(!room.stderr.all().iter().any(failed), "who leaves is not waited for: {:?}", room.stderr.all());
}

/// Two people with these programs talk to each other.
#[track_caller]
fn hold_a_conversation(first: &[&str], second: &[&str]) {
    let room = room();
    let port = room.address().port().to_string();
    let enter = |command: &[&str], name: &str| {
        let args = command[1..].iter().map(|arg| arg.replace("@PORT", &port));
        let mut program = Program::spawn(Command::new(command[0]).args(args).stdin(Stdio::piped()));
        program.stdout.wait_for_line(LIMIT, |line| line == "* Your name?");
        program.type_in(&format!("{name}\n"));
        program.stdout.wait_for_line(LIMIT, |line| line.starts_with(&format!("* Hello, {name}.")));
        program
    };
    let mut ann = enter(first, "Ann");
    let mut bob = enter(second, "Bob");
    ann.stdout.wait_for_line(LIMIT, |line| line == "* Bob is here.");
    bob.type_in("Hello\n");
    ann.stdout.wait_for_line(LIMIT, |line| line == "Bob: Hello");
    ann.type_in("World\n");
    bob.stdout.wait_for_line(LIMIT, |line| line == "Ann: World");
    drop(bob);
    ann.stdout.wait_for_line(LIMIT, |line| line == "* Bob has left.");
}

#[test]
#[ignore = "needs nc and telnet"]
fn nc_and_telnet_talk_to_each_other() {
    hold_a_conversation(&["nc", "127.0.0.1", "@PORT"], &["telnet", "127.0.0.1", "@PORT"]);
    hold_a_conversation(&["telnet", "127.0.0.1", "@PORT"], &["nc", "127.0.0.1", "@PORT"]);
}
