//! `examples/proxy` and `examples/socks5`: what becomes of a connection when one of its ends is gone and the other is
//! stuck, when one has said all and the other says nothing, and when the system is short of memory for a while.

mod common;
#[path = "common/examples.rs"]
mod examples;
#[path = "common/strace.rs"]
mod strace;

use common::{LIMIT, Server, ServerBuilder, assert_idle, eventually, uninterrupted, while_steady};
use examples::connect;
use fdtask::{Scheduler, net::Stream};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use strace::Strace;

/// How long one end may take nothing when the other is gone, in both of the examples.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// A machine that stands still for so long may make an end late that takes or says something from time to time.
const STEADY: Duration = Duration::from_millis(300);

/// The listener.
const OWN_SOCKETS: usize = 1;

/// What each end lets its kernel hold.
const END_BUFFER_BYTES: usize = 256 << 10;

/// What is lost at most of what an end has sent, when it resets the connection: what its own kernel holds, counted generously.
const LOST_BYTES_MAX: usize = 4 * END_BUFFER_BYTES;

/// What a slow end reads at a time.
const READ_BYTES: usize = 16_384;

/// Far more than all the buffers of the kernel on the way hold together.
const FLOOD_BYTES_MAX: usize = 256 << 20;

/// A proxy, and the two ends of a connection through it. Neither has read anything, and there is room for nothing more.
struct Stuck {
    proxy: Server,
    /// The end that is about to reset its connection.
    going: TcpStream,
    /// How much it has sent.
    sent: usize,
    staying: TcpStream,
}

/// A proxy, and the client and the server of a connection through it.
#[track_caller]
fn connected(example: &str, seconds: Option<&str>) -> (Server, TcpStream, TcpStream) {
    let target = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = target.local_addr().expect("a bound socket has an address");
    let builder = ServerBuilder::of(common::example(example)).args(["127.0.0.1:0"]);
    let is_socks = example == "socks5";
    let builder = if is_socks { builder } else { builder.args([address.to_string()]) };
    let proxy = builder.args(seconds).spawn();
    let mut client = connect(proxy.address());
    if is_socks {
        let request = [&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1][..], &address.port().to_be_bytes()].concat();
        client.write_all(&request).expect("the proxy receives");
        client.read_exact(&mut [0; 12]).expect("a method and a reply");
    }
    let (server, _) = target.accept().expect("the proxy connects");
    (proxy, client, server)
}

/// A proxy, the end of a connection through it that has said all, and the other one, which has been told so.
#[track_caller]
fn half_closed(example: &str, seconds: Option<&str>, is_client_going: bool) -> (Server, TcpStream, TcpStream) {
    let (proxy, client, server) = connected(example, seconds);
    let (going, mut staying) = if is_client_going { (client, server) } else { (server, client) };
    going.shutdown(Shutdown::Write).expect("a connection can be half-closed");
    going.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    staying.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    assert_eq!(uninterrupted(|| staying.read(&mut [0])).expect("the end is passed on"), 0);
    (proxy, going, staying)
}

impl Stuck {
    fn new(example: &str, is_client_going: bool) -> Stuck {
        let (proxy, client, server) = connected(example, None);
        let (mut going, mut staying) = if is_client_going { (client, server) } else { (server, client) };
        flood(&mut staying);
        let sent = flood(&mut going);
        staying.set_write_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        staying.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        Stuck { proxy, going, sent, staying }
    }

    /// Returns how much was sent before, the end that stays, and the proxy.
    fn reset(self) -> (usize, TcpStream, Server) {
        SockRef::from(&self.going).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
        (self.sent, self.staying, self.proxy)
    }
}

/// After so many bytes an end says the same again.
const PERIOD_BYTES: usize = 251 * 256;

/// The first bytes of what an end says.
fn words(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 251) as u8).collect()
}

/// Sends until there is no room any more. Returns how much that was.
#[track_caller]
fn flood(stream: &mut TcpStream) -> usize {
    let socket = SockRef::from(&*stream);
    socket.set_send_buffer_size(END_BUFFER_BYTES / 2).expect("SO_SNDBUF can be set");
    socket.set_recv_buffer_size(END_BUFFER_BYTES / 2).expect("SO_RCVBUF can be set");
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a limit that is not zero can be set");
    // Made in advance: the proxy's patience begins when it has no room any more, and the end that goes on reads only after this.
    let period = words(2 * PERIOD_BYTES);
    let mut sent = 0;
    loop {
        match uninterrupted(|| stream.write(&period[sent % PERIOD_BYTES..])) {
            Ok(len) => sent += len,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return sent;
            }
        }
        assert!(sent < FLOOD_BYTES_MAX, "the proxy has taken {sent} bytes that nobody reads");
    }
}

/// Reads [`READ_BYTES`] every now and then, for so long or until it has so many bytes, and returns them. A machine that makes it
/// late does not make it slower: with less than this, the kernel says for seconds that there is no room yet.
#[track_caller]
fn read_slowly(stream: &mut TcpStream, time: Duration, most: usize) -> Vec<u8> {
    const PAUSE: Duration = Duration::from_millis(50);
    let (begin, mut received) = (Instant::now(), Vec::new());
    while begin.elapsed() < time && received.len() < most {
        let due = READ_BYTES * (begin.elapsed().as_millis() / PAUSE.as_millis()) as usize;
        while received.len() < due.min(most) {
            let mut part = [0; READ_BYTES];
            match uninterrupted(|| stream.read(&mut part)).expect("there is more, or the end") {
                0 => return received,
                len => received.extend_from_slice(&part[..len]),
            }
        }
        thread::sleep(PAUSE);
    }
    received
}

/// Does this with both examples, once for each end that can be gone, all at the same time.
fn with_each(check: impl Fn(&str, bool) + Sync) {
    let check = &check;
    thread::scope(|scope| {
        for example in ["proxy", "socks5"] {
            for is_client_going in [true, false] {
                let named = thread::Builder::new().name(format!("{example}, client is going: {is_client_going}"));
                named.spawn_scoped(scope, move || check(example, is_client_going)).expect("a thread can be started");
            }
        }
    });
}

#[track_caller]
fn assert_is_all(received: &[u8], sent: usize) {
    assert!(received == words(received.len()), "something is missing or out of order");
    assert!(sent - received.len() <= LOST_BYTES_MAX, "{} of {sent} bytes", received.len());
}

#[test]
fn what_was_said_before_a_reset_arrives_though_the_reset_is_found_first_by_who_sends() {
    /// More than one of the examples moves at a time, and less than the proxy's kernel takes for it.
    const BYTES: usize = 48 << 10;

    with_each(|example, is_client_going| {
        let (proxy, client, server) = connected(example, None);
        let (mut going, mut staying) = if is_client_going { (client, server) } else { (server, client) };
        // The proxy has more for the end that goes than that takes, and so sends again as soon as it is gone.
        flood(&mut staying);
        proxy.pause();
        going.write_all(&words(BYTES)).expect("there is room");
        let scheduler = Scheduler::new();
        let sent = Stream::new(&scheduler.handle(), going.try_clone().expect("a descriptor")).expect("a socket");
        eventually("all of it is in the proxy's kernel", LIMIT, || sent.send_queue_bytes() == 0);
        drop(scheduler);
        drop(sent);
        SockRef::from(&going).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
        drop(going);
        proxy.go_on();
        staying.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        let mut received = Vec::new();
        staying.read_to_end(&mut received).expect("the end, and no reset");
        assert!(received == words(BYTES), "{} of {BYTES} bytes", received.len());
        // And whoever runs the proxy is told that something went wrong.
        let lines = proxy.stderr.wait_until("it is said", LIMIT, |lines| !lines.is_empty());
        assert!(lines.len() == 1 && lines[0].ends_with(": Connection reset by peer"), "{lines:?}");
    });
}

#[test]
fn what_was_said_before_a_reset_arrives_though_the_other_end_sends_before_it_reads() {
    while_steady(STEADY, || {
        with_each(|example, is_client_going| {
            let (sent, mut staying, _proxy) = Stuck::new(example, is_client_going).reset();
            // Nobody wants this any more, but whoever sends it does not know, and reads nothing before.
            staying.write_all(&vec![1; 4_000_000]).expect("the proxy receives");
            let mut received = Vec::new();
            staying.read_to_end(&mut received).expect("the end, and no reset");
            assert_is_all(&received, sent);
        });
    });
}

#[test]
fn what_was_said_before_a_reset_arrives_at_an_end_that_takes_it_slowly() {
    while_steady(STEADY, || {
        with_each(|example, is_client_going| {
            let (sent, mut staying, _proxy) = Stuck::new(example, is_client_going).reset();
            let mut received = read_slowly(&mut staying, STALL_TIMEOUT * 3 / 2, usize::MAX);
            staying.read_to_end(&mut received).expect("the end, and no reset");
            assert_is_all(&received, sent);
        });
    });
}

#[test]
fn a_connection_of_which_one_end_is_gone_and_the_other_takes_nothing_is_given_up_and_that_is_said() {
    with_each(|example, is_client_going| {
        let (_, _staying, proxy) = Stuck::new(example, is_client_going).reset();
        // A client may take some time to close its connection.
        let own = if is_client_going { OWN_SOCKETS } else { OWN_SOCKETS + 1 };
        eventually("the proxy has closed what it can", LIMIT, || proxy.open_sockets() <= own);
        if is_client_going {
            proxy.stderr.wait_for_line(LIMIT, |line| line.ends_with(": Connection reset by peer"));
        }
    });
}

#[test]
fn a_reset_is_seen_though_there_is_nothing_to_send_to_that_end_and_no_room_for_what_it_said() {
    for is_half_closed in [false, true] {
        with_each(|example, is_client_going| {
            let (proxy, client, server) = connected(example, None);
            let (mut going, staying) = if is_client_going { (client, server) } else { (server, client) };
            if is_half_closed {
                staying.shutdown(Shutdown::Write).expect("a connection can be half-closed");
                going.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
                assert_eq!(uninterrupted(|| going.read(&mut [0])).expect("the end is passed on"), 0);
            }
            flood(&mut going);
            SockRef::from(&going).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
            drop(going);
            // A client may take some time to close its connection.
            let own = if is_client_going { OWN_SOCKETS } else { OWN_SOCKETS + 1 };
            eventually("the proxy has closed what it can", LIMIT, || proxy.open_sockets() <= own);
            proxy.stderr.wait_for_line(LIMIT, |line| line.ends_with(": Connection reset by peer"));
        });
    }
}

#[test]
fn a_connection_that_is_open_both_ways_and_merely_stuck_is_not_given_up() {
    with_each(|example, is_client_stuck| {
        let (proxy, client, server) = connected(example, Some("1"));
        let (mut stuck, mut other) = if is_client_stuck { (client, server) } else { (server, client) };
        let sent = flood(&mut other);
        // Nothing must happen, for longer than it takes to see that an end is gone, and to give up the rest.
        thread::sleep(STALL_TIMEOUT * 5 / 2);
        assert_idle(&proxy, "a connection is stuck");
        stuck.write_all(b"x").expect("the proxy receives");
        other.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        assert_eq!(uninterrupted(|| other.read(&mut [0])).expect("what the other end says"), 1);
        drop(other);
        let mut received = Vec::new();
        stuck.read_to_end(&mut received).expect("the end, and no reset");
        assert!(received == words(sent), "{} of {sent} bytes", received.len());
        assert_eq!(proxy.stderr.all(), [""; 0]);
    });
}

#[test]
fn an_end_that_has_reset_the_connection_after_its_last_word_is_called_by_that_name() {
    with_each(|example, is_client_going| {
        let (proxy, going, staying) = half_closed(example, None, is_client_going);
        // The proxy finds the other end of the stream when there is nobody any more to pass it on to.
        proxy.pause();
        SockRef::from(&going).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
        drop((going, staying));
        proxy.go_on();
        let line = proxy.stderr.wait_for_line(LIMIT, |_| true);
        assert!(line.ends_with(": connection reset"), "{line}");
    });
}

#[test]
fn a_half_closed_connection_in_which_nothing_moves_is_given_up_after_the_time_that_was_said() {
    with_each(|example, is_client_going| {
        let begin = Instant::now();
        let (proxy, _going, _staying) = half_closed(example, Some("1"), is_client_going);
        eventually("the proxy has closed both connections", LIMIT, || proxy.open_sockets() <= OWN_SOCKETS);
        assert!(begin.elapsed() >= Duration::from_secs(1), "given up after {:?}", begin.elapsed());
        proxy.stderr.wait_for_line(LIMIT, |line| line.ends_with(": timed out"));
    });
}

#[test]
fn a_half_closed_connection_in_which_something_moves_now_and_then_lives_on_until_its_end() {
    while_steady(STEADY, || {
        with_each(|example, is_client_going| {
            let (proxy, mut going, mut staying) = half_closed(example, Some("2"), is_client_going);
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(5) {
                staying.write_all(b"x").expect("the proxy receives");
                let heard = uninterrupted(|| going.read(&mut [0]));
                assert_eq!(heard.expect("what the other end says"), 1, "after {:?}", begin.elapsed());
                // This is what makes it rare.
                thread::sleep(Duration::from_millis(200));
            }
            drop(staying);
            assert_eq!(uninterrupted(|| going.read(&mut [0])).expect("the end, and no reset"), 0);
            drop(going);
            eventually("the proxy has closed both connections", LIMIT, || proxy.open_sockets() <= OWN_SOCKETS);
            assert_eq!(proxy.stderr.all(), [""; 0]);
        });
    });
}

#[test]
fn a_half_closed_connection_lives_on_as_long_as_its_last_words_are_taken_from_the_kernel_s_queue() {
    while_steady(STEADY, || {
        with_each(|example, is_client_going| {
            let (proxy, mut going, mut staying) = half_closed(example, Some("2"), is_client_going);
            // All that stops it is the end that has said all, which reads too little to make room for more.
            let sent = flood(&mut staying);
            let mut received = read_slowly(&mut going, Duration::from_secs(6), sent - READ_BYTES);
            drop(staying);
            going.read_to_end(&mut received).expect("the end, and no reset");
            assert!(received == words(sent), "{} of {sent} bytes", received.len());
            eventually("nothing is left of it", LIMIT, || proxy.open_sockets() <= OWN_SOCKETS + 1);
            assert_eq!(proxy.stderr.all(), [""; 0]);
        });
    });
}

#[test]
fn a_silent_connection_that_is_open_both_ways_is_not_given_up() {
    // Whoever is stopped and continued, with all others on the machine, is woken by that, however short it is.
    while_steady(STEADY / 10, || {
        with_each(|example, _| {
            let (proxy, client, server) = connected(example, Some("1"));
            // Nothing must happen, for longer than it takes to give up one that is half-closed. What has moved is looked after
            // once.
            thread::sleep(STALL_TIMEOUT * 3 / 2);
            let before = proxy.usage().wakeups;
            thread::sleep(STALL_TIMEOUT * 7 / 6);
            assert_eq!(proxy.usage().wakeups, before, "nobody looks after what is silent");
            for (mut from, mut to) in [(&client, &server), (&server, &client)] {
                to.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
                from.write_all(b"x").expect("the proxy receives");
                assert_eq!(uninterrupted(|| to.read(&mut [0])).expect("what the other end says"), 1);
            }
            assert_eq!(proxy.stderr.all(), [""; 0]);
        });
    });
}

#[test]
#[ignore = "needs strace"]
fn a_call_that_fails_for_now_is_made_again_and_not_all_the_time() {
    // Some twenty at once, and then forty a second: both ways are tried before each pause of a tenth, and behind it. A spin is
    // thousands.
    const CALLS_AT_ONCE_MAX: u128 = 30;
    const CALLS_PER_SECOND_MAX: u128 = 50;
    for example in ["proxy", "socks5"] {
        for (call, error) in
            ["recvfrom", "sendto"].iter().flat_map(|call| ["EAGAIN", "EINTR", "ENOMEM", "ENOBUFS"].map(|e| (call, e)))
        {
            let (proxy, mut client, mut server) = connected(example, None);
            let strace = Strace::attach(&proxy, call, &format!("{call}:error={error}"));
            let begin = Instant::now();
            client.write_all(b"question").expect("the kernel has room");
            strace.wait_until_injected();
            // For so long it goes on failing.
            thread::sleep(Duration::from_millis(500));
            let calls = strace.calls().len();
            let time = begin.elapsed();
            strace.detach(&proxy);
            let calls_max = CALLS_AT_ONCE_MAX + time.as_millis() * CALLS_PER_SECOND_MAX / 1000;
            assert!(calls as u128 <= calls_max, "{example}, {call}, {error}: {calls} calls in {time:?}");
            let mut heard = [0; 8];
            server.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
            server.read_exact(&mut heard).unwrap_or_else(|failed| panic!("{example}, {call}, {error}: {failed}"));
            assert_eq!(&heard, b"question");
            server.write_all(b"answers!").expect("the proxy receives");
            client.read_exact(&mut heard).expect("what the server says");
            assert_eq!(&heard, b"answers!");
            assert_eq!(proxy.stderr.all(), [""; 0], "{example}, {call}, {error}");
        }
    }
}
