//! What does not go out whole, because the socket has little room and its reader is slow, goes out in pieces: all of them, each
//! once, in order.

#[path = "common/limited.rs"]
mod limited;

use fdtask::future::{self, copy, recv, send_all, task};
use fdtask::net::Stream;
use fdtask::{Context, Scheduler, Wait, task_fn};
use futures_util::future::join;
use limited::within_limit;
use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;

type Awaited = Pin<Box<dyn Future<Output = io::Result<u64>>>>;

/// How much is sent: many times what the socket has room for.
const BYTES: usize = 200_000;

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
