//! What does not go out whole, because the socket has little room and its reader is slow, goes out in pieces: all of them, each
//! once, in order.

#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{self, copy, recv, send_all, send_all_while_taken, task};
use fdtask::net::Stream;
use fdtask::{Context, Scheduler, Wait, task_fn};
use futures_util::future::join;
use limited::within_limit;
use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

type Awaited = Pin<Box<dyn Future<Output = io::Result<u64>>>>;

/// How much is sent: many times what the socket has room for.
const BYTES: usize = 200_000;

/// How long a peer may take nothing.
const PATIENCE: Duration = Duration::from_millis(200);

fn bytes() -> Vec<u8> {
    (0..BYTES).map(|index| (index / 251 + index) as u8).collect()
}

/// Two ends of a connection that has as little room as the system allows.
fn narrow() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    SockRef::from(&near).set_send_buffer_size(1).expect("as small as it gets");
    near.set_nonblocking(true).expect("non-blocking");
    far.set_nonblocking(true).expect("non-blocking");
    (near, far)
}

/// Receives a little in every other turn, and whatever comes, up to its end or one byte too many.
async fn read_slowly(stream: Stream) -> io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), [0; 777]);
    while all.len() <= BYTES {
        match recv(&stream, &mut buffer).await? {
            0 => break,
            received => all.extend_from_slice(&buffer[..received]),
        }
        future::next_turn().await;
    }
    Ok(all)
}

/// Asserts that all arrives of what `send` sends on a narrow stream, and that it says so.
fn arrives_by(send: fn(&Context<'_>, Stream) -> Awaited) {
    let mut scheduler = Scheduler::new();
    let (received, says) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(None)));
    let (mut ends, place, told) = (Some(narrow()), Rc::clone(&received), Rc::clone(&says));
    scheduler.spawn(task_fn("start", move |cx| {
        if let Some((near, far)) = ends.take() {
            let (near, far, place) =
                (Stream::new(&cx.handle(), near)?, Stream::new(&cx.handle(), far)?, Rc::clone(&place));
            let (sending, told) = (send(cx, near), Rc::clone(&told));
            cx.spawn(task(async move {
                told.replace(Some(sending.await?));
                Ok(())
            }));
            cx.spawn(task(async move {
                let all = read_slowly(far).await?;
                place.replace(Some(all));
                Ok(())
            }));
        }
        Ok(Wait::Done)
    }));
    scheduler.run();
    assert_eq!(says.take(), Some(BYTES as u64), "what the sender says");
    let received = received.take().expect("the reader has come to an end");
    let right = received.iter().zip(bytes()).take_while(|(one, other)| *one == other).count();
    assert_eq!((right, received.len()), (BYTES, BYTES), "how many are right, and how many have arrived");
}

#[test]
fn what_is_sent_to_a_slow_reader_arrives_whole_and_once() {
    within_limit(|| arrives_by(|_, to| Box::pin(async move { send_all(&to, &bytes()).await.map(|()| BYTES as u64) })));
    within_limit(|| {
        arrives_by(|_, to| {
            Box::pin(async move { send_all_while_taken(&to, &bytes(), PATIENCE * 100).await.map(|()| BYTES as u64) })
        });
    });
}

/// Asserts what comes of [`send_all_while_taken`] when there is no room and the peer takes a little from time to time, or
/// nothing; returns how long that took.
fn has_no_room_and(peer_reads: bool, expected: Result<(), ErrorKind>) -> Duration {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let (near, far) = UnixStream::pair().expect("a pair");
    let near = Stream::new(&handle, near).expect("a socket can be non-blocking");
    let far = Stream::new(&handle, far).expect("a socket can be non-blocking");
    // In small pieces, so that each one that is taken is out of the queue.
    while near.send(&[0; 1000]).is_ok() {}
    let sending = future::spawn(&handle, async move {
        let begin = Instant::now();
        let sent = send_all_while_taken(&near, b"the last piece", PATIENCE).await;
        (sent.map_err(|error| error.kind()), begin.elapsed())
    });
    scheduler.spawn_service(task(async move {
        loop {
            future::sleep(&handle, PATIENCE / 20).await;
            // When the queue is empty there is nothing to receive.
            let _ = peer_reads.then(|| far.recv(&mut [0; 1000]));
        }
    }));
    scheduler.run();
    let (outcome, took) = sending.try_join().expect("it has ended").expect("nobody has cancelled it");
    assert_eq!(outcome, expected, "after {took:?}");
    took
}

#[test]
fn a_peer_that_takes_something_all_the_time_is_waited_for_and_one_that_takes_nothing_is_not() {
    within_limit(|| {
        let took = has_no_room_and(true, Ok(()));
        assert!(took > PATIENCE * 2, "there was room after {took:?}, so this has tested nothing");
        let took = has_no_room_and(false, Err(ErrorKind::TimedOut));
        assert!(took >= PATIENCE, "it lost its patience after {took:?}");
    });
}

#[test]
fn what_is_copied_to_a_slow_reader_arrives_whole_and_once() {
    within_limit(|| {
        arrives_by(|cx, to| {
            let (mut source, near) = UnixStream::pair().expect("a pair");
            near.set_nonblocking(true).expect("non-blocking");
            let from = Stream::new(&cx.handle(), near).expect("a socket can be non-blocking");
            Box::pin(async move {
                let writing = future::blocking(move || source.write_all(&bytes()));
                let (copied, written) = join(copy(&from, &to), writing).await;
                written??;
                copied
            })
        });
    });
}
