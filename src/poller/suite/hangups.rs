//! Hang-ups and errors: rule 5 of the contract, and rows 4 and 25 of the faults.

use super::*;
use rustix::net::sockopt::set_socket_linger;
use std::net::{TcpListener, TcpStream};

/// The sides that can be watched, as sets.
const SIDES: [&[Side]; 3] = [&[Side::Recv], &[Side::Send], &[Side::Recv, Side::Send]];

/// What fires when `sides` are watched and both are concerned.
fn fired(fd: RawFd, sides: &[Side]) -> Vec<Fired> {
    sides.iter().map(|side| ready(fd, *side)).collect()
}

/// Watches `sides` of `fd`, which is idle, lets it be idle for as long as its life says, hangs it up, and looks at what
/// fires: each side that is watched, in every wait, and nothing once it is not.
fn fires_each_side(mut rig: Rig, fd: &impl AsRawFd, sides: &[Side], life: Life, hang_up: impl FnOnce()) {
    let number = fd.as_raw_fd();
    for side in sides {
        rig.watch(fd, *side, life);
    }
    rig.idle(life.idle_waits);
    hang_up();
    assert_eq!(rig.take(), fired(number, sides), "{sides:?}, {life:?}");
    rig.assert_asleep();
    for round in 0..64 {
        for side in sides {
            rig.watch(fd, *side, life);
        }
        assert_eq!(rig.look(), fired(number, sides), "{sides:?}, {life:?}, round {round}");
        if round % 2 == 0 {
            rig.unwatch_fired(&fired(number, sides));
        }
    }
    rig.unwatch_fired(&fired(number, sides));
    rig.assert_asleep();
    rig.poller.forget(number);
}

fn every_case(mut case: impl FnMut(&[Side], Life)) {
    for sides in SIDES {
        for life in LIVES {
            case(sides, life);
        }
    }
}

pub(super) fn a_peer_that_is_gone_fires_whichever_side_is_watched(rig: &dyn Fn() -> Rig) {
    every_case(|sides, life| {
        let (near, far) = pair();
        fill(&near);
        fires_each_side(rig(), &near, sides, life, || drop(far));
    });
}

pub(super) fn a_hang_up_alone_fires(rig: &dyn Fn() -> Rig) {
    every_case(|sides, life| {
        // Linux says POLLHUP and nothing else about a pipe that nobody writes to any more.
        let (reader, writer) = io::pipe().expect("a pipe");
        fires_each_side(rig(), &reader, sides, life, || drop(writer));
    });
}

pub(super) fn an_error_alone_fires(rig: &dyn Fn() -> Rig) {
    every_case(|sides, life| {
        // Linux says POLLERR and nothing else about a full pipe that nobody reads any more.
        let (reader, writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("a pipe can be non-blocking");
        fill(&writer);
        fires_each_side(rig(), &writer, sides, life, || drop(reader));
    });
}

pub(super) fn a_reset_fires_both_sides_and_the_data_is_still_there(rig: &dyn Fn() -> Rig) {
    every_case(|sides, life| {
        let (near, mut far) = tcp_pair();
        fill(&near);
        let number = near.as_raw_fd();
        let mut rig = rig();
        for side in sides {
            rig.watch(&near, *side, life);
        }
        rig.idle(life.idle_waits);
        far.write_all(b"first").expect("room");
        set_socket_linger(&far, Some(Duration::ZERO)).expect("a socket can linger");
        drop(far);
        // TCP on loopback delivers in the sender's own call, but nothing promises that.
        let end = Instant::now() + LIMIT;
        loop {
            let both = rig.wait(Patience::Until(end));
            if both == fired(number, sides) {
                break;
            }
            assert!(Instant::now() < end, "only {both:?} has fired of {sides:?}, {life:?}");
        }
        rig.unwatch_fired(&fired(number, sides));
        rig.assert_asleep();
        let mut buffer = [0; 16];
        let received = rustix::io::read(&near, &mut buffer).expect("the data comes before the reset");
        assert_eq!(&buffer[..received], b"first");
    });
}

pub(super) fn the_end_of_the_stream_can_be_received(rig: &dyn Fn() -> Rig) {
    for life in LIVES {
        let (mut rig, (near, far)) = (rig(), pair());
        fill(&near);
        rig.watch(&near, Side::Recv, life);
        rig.leave_idle(&near, Side::Send, life);
        far.shutdown(std::net::Shutdown::Write).expect("a connected socket");
        assert_eq!(rig.take(), [recv(near.as_raw_fd())], "{life:?}: half-closed, and still no room");
        rig.assert_asleep();
        drain(&far);
        assert_eq!(rig.take(), [send(near.as_raw_fd())], "{life:?}");
    }
}

pub(super) fn a_hang_up_that_nobody_watches_for_wakes_nobody(rig: &dyn Fn() -> Rig) {
    every_case(|sides, life| {
        let (mut rig, (near, far)) = (rig(), pair());
        fill(&near);
        for side in sides {
            rig.watch(&near, *side, life);
        }
        rig.idle(life.idle_waits);
        for side in sides {
            rig.unwatch(&near, *side);
        }
        drop(far);
        rig.assert_asleep();
        rig.idle(life.idle_waits);
        rig.assert_asleep();
        rig.watch(&near, sides[0], life);
        assert_eq!(rig.take(), fired(near.as_raw_fd(), &sides[..1]), "{sides:?}, {life:?}: watched again");
    });
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let far = TcpStream::connect(listener.local_addr().expect("a bound socket")).expect("a listener");
    let (near, _) = listener.accept().expect("a connection");
    near.set_nonblocking(true).expect("a socket can be non-blocking");
    (near, far)
}
