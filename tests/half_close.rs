//! How connections end in order: everything is answered first (FAULTS rows 9 and 25).

mod common;

use common::{Client, Echo, LIMIT, Server, over_echoes, payload, payload_of};
use fdtask::net::{Acceptor, Listener, Stream};
use fdtask::{Context, Scheduler, Task, Wait};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

over_echoes! {
    all_three:
        a_half_closed_client_gets_every_reply_then_fin
        a_client_may_half_close_after_any_number_of_bytes
        a_client_that_half_closed_and_reads_late_gets_every_reply_then_fin;
}

/// The promise is 100 ms. What breaks it is a server that does not end the stream, or does so when something else happens:
/// that takes for ever, and a machine that is busy with other things does not.
const FIN_LIMIT: Duration = Duration::from_secs(2);

/// Sends `bytes`, half-closes, reads to the end, and expects every answer and then the end, soon.
fn half_close_after(server: &Server, bytes: &[u8]) {
    let mut client = Client::connect(server.address());
    client.send(bytes);
    client.half_close();
    let begin = Instant::now();
    client.stream.set_read_timeout(Some(FIN_LIMIT)).expect("a limit that is not zero can be set");
    let answers = client.read_to_end();
    let answers = answers.unwrap_or_else(|error| panic!("after {} bytes, instead of the end: {error}", bytes.len()));
    assert!(begin.elapsed() < FIN_LIMIT, "the end of the stream came after {:?}", begin.elapsed());
    assert!(payload_of(&answers) == bytes, "of {} bytes not all came back", bytes.len());
}

fn a_half_closed_client_gets_every_reply_then_fin(echo: Echo) {
    let server = echo.start(&[]);
    half_close_after(&server, &payload(3500, 9));
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
