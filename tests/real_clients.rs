//! The seed's session, held by the clients that people use.
//!
//! Ignored by default, because not every machine has them. `cargo test --test real_clients -- --ignored` runs these tests.

mod common;

use common::{Echo, LIMIT, Lines, over_echoes};
use std::io::Write;
use std::process::{Child, Command, Stdio};

over_echoes! {
    all_three:
        #[ignore = "needs nc"]
        nc_shows_what_the_seed_shows
        #[ignore = "needs telnet"]
        telnet_shows_what_the_seed_shows
        #[ignore = "needs socat"]
        socat_shows_what_the_seed_shows
        #[ignore = "needs a Python that still has telnetlib (up to 3.12)"]
        python_s_telnetlib_shows_what_the_seed_shows;
}

/// A client program, which is ended with this guard.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Types the seed's session into `command`, which must connect to the address behind `@`, and expects that what the program
/// prints is what the seed prints, behind what the program itself says (such as telnet's `Trying 127.0.0.1...`).
#[track_caller]
fn hold_the_session_of_the_seed(echo: Echo, command: &[&str]) {
    let server = echo.start(&[]);
    let address = server.address();
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let args = command[1..].iter().map(|arg| arg.replace("@IP", &ip).replace("@PORT", &port));
    let mut program = Command::new(command[0]);
    program.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = Program(program.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", command[0])));
    let mut keyboard = program.0.stdin.take().expect("standard input is a pipe");
    let screen = Lines::read_from(program.0.stdout.take().expect("standard output is a pipe"));
    for (typed, shown) in [("Hello\n", "GOT:Hello"), ("World\n", "GOT:World")] {
        keyboard.write_all(typed.as_bytes()).expect("the program reads its standard input");
        screen.wait_for_line(LIMIT, |line| line.trim_end_matches('\r') == shown);
    }
    let answers = screen.all().iter().filter(|line| line.contains("GOT:")).count();
    assert_eq!(answers, 2, "{:?}", screen.all());
    drop(keyboard);
    drop(program);
    if echo != Echo::Daemon {
        return;
    }
    // The server has seen one client come and go.
    let lines = server.stdout.wait_until("the client is gone", LIMIT, |lines| lines.len() >= 4);
    assert!(lines[1].starts_with("Connection from 127.0.0.1:"), "{lines:?}");
    assert_eq!(lines[2..], ["Connection closed", "Task done"]);
}

fn nc_shows_what_the_seed_shows(echo: Echo) {
    hold_the_session_of_the_seed(echo, &["nc", "@IP", "@PORT"]);
}

fn telnet_shows_what_the_seed_shows(echo: Echo) {
    hold_the_session_of_the_seed(echo, &["telnet", "@IP", "@PORT"]);
}

fn socat_shows_what_the_seed_shows(echo: Echo) {
    hold_the_session_of_the_seed(echo, &["socat", "STDIO", "TCP4:@IP:@PORT"]);
}

fn python_s_telnetlib_shows_what_the_seed_shows(echo: Echo) {
    hold_the_session_of_the_seed(echo, &["python3", "-m", "telnetlib", "@IP", "@PORT"]);
}
