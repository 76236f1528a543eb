//! What an echo answers, byte for byte, and what the daemon says meanwhile (rows 29 and 33 of the faults).

mod common;

use common::{Client, Echo, LIMIT, Server, assert_idle, over_echoes, payload, payload_of};
use fdtask::net::Stream;
use fdtask::{Scheduler, Wait, task_fn};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;

over_echoes! {
    all_three:
        frames_of_every_size_come_back_byte_for_byte
        an_answer_carries_up_to_1000_bytes
        every_byte_value_comes_back_alone
        what_looks_like_telnet_or_like_an_answer_is_not_interpreted
        a_message_sent_a_byte_at_a_time_comes_back_whole;
    without_threads:
        an_urgent_byte_stays_in_its_place
        a_connection_in_urgent_mode_does_not_spin;
}

fn frames_of_every_size_come_back_byte_for_byte(echo: Echo) {
    let server = echo.start(&[]);
    for len in [1, 2, 999, 1000, 1001, 1999, 2000, 2001, 65_536, 1_000_000] {
        let bytes = payload(len, 29);
        let answers = Client::connect(server.address()).send_all_and_read_to_end(&bytes);
        assert!(payload_of(&answers) == bytes, "a frame of {len} bytes came back changed");
    }
}

fn an_answer_carries_up_to_1000_bytes(echo: Echo) {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    client.ask(&payload(999, 1));
    client.ask(&payload(1000, 2));
    // What was there when the server received is answered at once: with 1001 bytes a full answer and the one of the rest.
    let bytes = payload(1001, 3);
    client.send(&bytes);
    client.expect_answer(&bytes[..1000]);
    client.expect_answer(&bytes[1000..]);
}

fn every_byte_value_comes_back_alone(echo: Echo) {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    for byte in 0..=u8::MAX {
        client.ask(&[byte]);
    }
}

fn what_looks_like_telnet_or_like_an_answer_is_not_interpreted(echo: Echo) {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    // IAC WILL ECHO, IAC IAC, IAC AYT; line ends of every kind; text that is no UTF-8; the prefix itself.
    let texts: [&[u8]; 6] =
        [b"\xff\xfb\x01", b"\xff\xff", b"\xff\xf6", b"a\r\nb\nc\rd\0", b"\xc3\x28\xf5\x80", b"GOT:GOT:"];
    for text in texts {
        client.ask(text);
    }
}

fn a_message_sent_a_byte_at_a_time_comes_back_whole(echo: Echo) {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    let bytes = payload(3000, 7);
    for byte in &bytes {
        client.send(&[*byte]);
    }
    client.half_close();
    let answers = client.read_to_end().expect("the stream ends in order");
    assert!(payload_of(&answers) == bytes, "3000 single bytes came back changed");
}

fn an_urgent_byte_stays_in_its_place(echo: Echo) {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    client.send(b"before");
    SockRef::from(&client.stream).send_out_of_band(b"!").expect("an urgent byte can be sent");
    client.send(b"behind");
    client.half_close();
    let answers = client.read_to_end().expect("the stream ends in order");
    assert_eq!(String::from_utf8_lossy(&payload_of(&answers)), "before!behind");
}

fn a_connection_in_urgent_mode_does_not_spin(echo: Echo) {
    let server = echo.start(&[]);
    let mut client = Client::connect(server.address());
    // The last byte is urgent and stays so until something follows it.
    SockRef::from(&client.stream).send_out_of_band(b"?").expect("an urgent byte can be sent");
    client.expect_answer(b"?");
    assert_idle(&server, "a connection is in urgent mode");
    client.ask(b"and on");
}

#[test]
fn a_message_that_came_with_the_connection_is_answered_without_a_poll() {
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    far.write_all(b"first").unwrap();
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut scheduler = Scheduler::new();
    // Keeps the poller from sleeping.
    scheduler.spawn_service(task_fn("ticker", |_| Ok(Wait::Turn)));
    let mut near = Some(near);
    scheduler.spawn(task_fn("acceptor", move |cx| {
        if let Some(near) = near.take() {
            cx.spawn(fdtask::net::Echo::new(Stream::new(&cx.handle(), near)?, nobody));
        }
        Ok(Wait::Done)
    }));
    assert!(scheduler.turn(), "the connection is made in the first turn");
    assert!(scheduler.turn(), "and answered in the second");
    let mut answer = [0; 16];
    let received = far.read(&mut answer).expect("the answer is there");
    assert_eq!(&answer[..received], b"GOT:first");
}

#[test]
fn a_session_is_logged_line_by_line_as_the_seed_logs_it() {
    let server = Server::start(&[]);
    let address = server.address();
    let mut client = Client::connect(address);
    let peer = client.local_address();
    client.ask(b"Hello\n");
    client.ask(b"World\n");
    client.half_close();
    client.expect_end();
    let lines = server.stdout.wait_until("the session's lines come", LIMIT, |lines| lines.len() >= 4);
    let expected = [
        format!("Listening on {address}"),
        format!("Connection from {peer}"),
        "Connection closed".to_owned(),
        "Task done".to_owned(),
    ];
    assert_eq!(lines, expected);
    assert!(server.stderr.all().is_empty(), "{:?}", server.stderr.all());
}
