//! How connections end in order: everything is answered first (rows 9 and 25 of the faults).

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, Echo, LIMIT, Server, over_echoes, payload, payload_of};
use faults::assert_recovers_within;
use fdtask::net::{self, Acceptor, Listener, Stream};
use fdtask::{Context, Scheduler, Task, Wait, task_fn};
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

over_echoes! {
    all_three:
        a_half_closed_client_gets_every_reply_then_fin
        a_client_may_half_close_after_any_number_of_bytes
        a_client_that_half_closed_and_reads_late_gets_every_reply_then_fin;
}

/// What breaks the promise is a server that does not end the stream, or does so when something else happens: that takes for
/// ever, and a machine that is busy with other things does not.
const FIN_LIMIT: Duration = Duration::from_secs(2);

/// The promise itself.
const FIN_BAR: Duration = Duration::from_millis(100);

/// Sends `bytes`, half-closes, reads to the end, and expects every answer and then the end. Returns how long that took.
fn half_close_after(server: &Server, bytes: &[u8]) -> Duration {
    let mut client = Client::connect(server.address());
    client.send(bytes);
    client.half_close();
    let begin = Instant::now();
    client.stream.set_read_timeout(Some(FIN_LIMIT)).expect("a limit that is not zero can be set");
    let answers = client.read_to_end();
    let answers = answers.unwrap_or_else(|error| panic!("after {} bytes, instead of the end: {error}", bytes.len()));
    let elapsed = begin.elapsed();
    assert!(elapsed < FIN_LIMIT, "the end of the stream came after {elapsed:?}");
    assert!(payload_of(&answers) == bytes, "of {} bytes not all came back", bytes.len());
    elapsed
}

fn a_half_closed_client_gets_every_reply_then_fin(echo: Echo) {
    let server = echo.start(&[]);
    let times: Vec<Duration> = (0..10).map(|_| half_close_after(&server, &payload(3500, 9))).collect();
    assert_recovers_within(FIN_BAR, "the end of the stream", &times);
}

fn a_client_may_half_close_after_any_number_of_bytes(echo: Echo) {
    let server = echo.start(&[]);
    for len in [0, 1, 999, 1000, 1001, 2000, 3000, 50_000] {
        half_close_after(&server, &payload(len, 9));
    }
}

fn a_client_that_half_closed_and_reads_late_gets_every_reply_then_fin(echo: Echo) {
    let server = echo.start(&[]);
    let mut client = Client::connect_with_small_buffers(server.address());
    let bytes = payload(12_000_000, 99);
    // Nothing is read until nothing more can be sent: the server then has an answer that it cannot send.
    let sent = client.send_until_stuck(&bytes);
    let answers = client.send_all_and_read_to_end(&bytes[sent..]);
    assert!(payload_of(&answers) == bytes, "of twelve million bytes not all came back");
}

/// Receives until the end or an error, and tells both what came and how it ended.
struct Sink {
    stream: Stream,
    bytes: Vec<u8>,
    told: mpsc::Sender<(Vec<u8>, io::Result<()>)>,
}

impl Task for Sink {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        let result = match self.stream.recv(&mut cx.scratch()[..100]) {
            Ok(0) => Ok(()),
            Ok(received) => {
                self.bytes.extend_from_slice(&cx.scratch()[..received]);
                return Ok(Wait::Recv(self.stream.as_raw_fd()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Wait::Recv(self.stream.as_raw_fd()));
            }
            Err(error) => Err(error),
        };
        let _ = self.told.send((std::mem::take(&mut self.bytes), result));
        cx.stop();
        Ok(Wait::Done)
    }
}

#[test]
fn data_that_came_before_a_reset_is_received_before_the_error() {
    let bytes = payload(350, 25);
    let (told, heard) = mpsc::channel();
    let (listening, address) = mpsc::channel();
    let (reset, proceed) = mpsc::channel();
    let server = thread::spawn(move || {
        let mut scheduler = Scheduler::new();
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        listening.send(listener.address()).expect("somebody wants to know");
        let acceptor = Acceptor::new(&scheduler.handle(), listener, move |stream, _| Sink {
            stream,
            bytes: Vec::new(),
            told: told.clone(),
        });
        scheduler.spawn(acceptor);
        // Data and reset are both there before the first look, so the descriptor fires with everything at once.
        proceed.recv_timeout(LIMIT).expect("the client resets");
        scheduler.run();
    });
    let mut client = Client::connect(address.recv_timeout(LIMIT).expect("the server listens"));
    client.send(&bytes);
    client.reset();
    reset.send(()).expect("the server waits");
    let (received, end) = heard.recv_timeout(LIMIT).expect("the task ends");
    assert!(received == bytes, "{} of {} bytes were received before the reset", received.len(), bytes.len());
    let error = end.expect_err("a reset is no end of the stream");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    server.join().expect("the server does not panic");
}

/// Asks on one end of a connection whenever it is resumed, and takes the answers, until the other end has had enough.
struct Insatiable {
    stream: Stream,
    asked: Rc<Cell<usize>>,
    has_ended: bool,
}

impl Task for Insatiable {
    fn resume(&mut self, cx: &mut Context<'_>) -> io::Result<Wait> {
        // More than is answered in one resume.
        self.asked.set(self.asked.get() + self.stream.send(&[b'?'; 4_000]).unwrap_or(0));
        self.has_ended |= matches!(self.stream.recv(cx.scratch()), Ok(0));
        Ok(if self.has_ended { Wait::Done } else { Wait::Turn })
    }
}

#[test]
fn a_client_that_never_pauses_is_answered_up_to_a_limit_when_a_drain_has_begun() {
    let (near, far) = UnixStream::pair().expect("two sockets");
    let asked = Rc::new(Cell::new(0));
    let mut scheduler = Scheduler::new();
    let (mut sockets, counter) = (Some((near, far)), Rc::clone(&asked));
    scheduler.spawn(task_fn("both", move |cx| {
        if let Some((near, far)) = sockets.take() {
            let handle = cx.handle();
            let (client, server) = (Stream::new(&handle, near)?, Stream::new(&handle, far)?);
            cx.spawn(net::Echo::new(server, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))));
            cx.spawn(Insatiable { stream: client, asked: Rc::clone(&counter), has_ended: false });
        }
        Ok(Wait::Done)
    }));
    while asked.get() < 100_000 {
        assert!(scheduler.turn());
    }
    let before = asked.get();
    scheduler.handle().drain(Instant::now() + LIMIT);
    scheduler.run();
    // What lay in the socket counts beside what is allowed for.
    let most = before + net::DRAIN_BYTES_MAX + 1_000_000;
    assert!(asked.get() < most, "{} bytes were asked, {before} of them before", asked.get());
}
