//! A stream that is asked whether its connection has failed, by somebody who does not wait for it.

mod common;

use common::{LIMIT, eventually};
use fdtask::Scheduler;
use fdtask::net::Stream;
use socket2::SockRef;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// Both ends of a connection, of which one is a stream.
fn pair(scheduler: &Scheduler) -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (far, _) = listener.accept().expect("one has connected");
    (Stream::new(&scheduler.handle(), near).expect("a socket"), far)
}

/// What the stream says when it is not connected any more.
#[track_caller]
fn failure(stream: &Stream) -> ErrorKind {
    let mut failure = None;
    eventually("it is not connected", LIMIT, || {
        failure = stream.connected().err();
        failure.is_some()
    });
    failure.expect("it has been told").kind()
}

#[test]
fn a_reset_is_told_once_and_what_came_before_it_can_still_be_received() {
    for has_said_the_end in [false, true] {
        let scheduler = Scheduler::new();
        let (near, mut far) = pair(&scheduler);
        far.write_all(b"last words").expect("the other end receives");
        if has_said_the_end {
            near.shutdown_send().expect("a connection can be half-closed");
        }
        assert!(near.connected().is_ok());
        SockRef::from(&far).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
        drop(far);
        assert_eq!(failure(&near), ErrorKind::ConnectionReset);
        assert_eq!(failure(&near), ErrorKind::WouldBlock);
        let mut words = [0; 99];
        assert_eq!(near.recv(&mut words).expect("what came before"), b"last words".len());
        assert_eq!(near.recv(&mut words).expect("the reset has been told"), 0);
    }
}

#[test]
fn a_connection_of_which_both_ends_have_said_the_end_has_not_failed() {
    let scheduler = Scheduler::new();
    let (near, far) = pair(&scheduler);
    near.shutdown_send().expect("a connection can be half-closed");
    far.shutdown(Shutdown::Write).expect("a connection can be half-closed");
    assert_eq!(failure(&near), ErrorKind::WouldBlock);
}
