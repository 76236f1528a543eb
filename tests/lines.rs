//! A peer that sends lines without pause: whoever receives them lets the others have their turn.
//!
//! The peer is at hand here, and sends as many lines again as are taken, so its socket never runs empty, however fast the
//! machine is. It ends after a great many, so that a test in which one resume takes them all fails, and does not hang.

mod common;

use common::LIMIT;
use fdtask::future::{self, recv, send_all};
use fdtask::net::{Lines, Stream};
use fdtask::{Scheduler, Wait, task_fn};
use futures_util::FutureExt;
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// How many lines, each of them one byte, are in the socket at the beginning: more than are received at once.
const LINES_AHEAD: usize = 10_000;

/// How many lines the peer sends at a time from then on. (To the kernel, a byte that comes alone costs as much as a thousand.)
const LINES_AGAIN: usize = 1000;

/// How many lines the peer sends in all.
const LINES_ALL: usize = 200_000;

/// So many lines come without a wait in between, says [`Lines::recv`].
const LINES_PER_TURN_MAX: usize = 64;

/// So many bytes, and as many of the shortest lines, come at a time, says [`Lines::try_recv`].
const CHUNK_BYTES: usize = 4096;

/// How many turns are looked at, in which each line is at hand.
const TURNS: usize = 100;

/// A peer that sends lines as fast as they are taken.
struct Flood {
    socket: UnixStream,
    sent: usize,
    /// How many lines have been taken, for the test to see.
    taken: Rc<Cell<usize>>,
}

impl Flood {
    /// A flood that has begun, and what it floods.
    fn begin(scheduler: &Scheduler) -> (Flood, Stream) {
        let (mut socket, near) = UnixStream::pair().expect("a pair of sockets");
        socket.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
        socket.write_all(&[b'\n'; LINES_AHEAD]).expect("room");
        let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
        (Flood { socket, sent: LINES_AHEAD, taken: Rc::default() }, stream)
    }

    /// A line has been taken: sends more when there are enough of them.
    fn has_lost(&mut self, line: &[u8]) -> io::Result<()> {
        assert_eq!(line, b"\n");
        self.taken.set(self.taken.get() + 1);
        if !self.taken.get().is_multiple_of(LINES_AGAIN) || self.sent == LINES_ALL {
            return Ok(());
        }
        self.socket.write_all(&[b'\n'; LINES_AGAIN])?;
        self.sent += LINES_AGAIN;
        if self.sent == LINES_ALL {
            self.socket.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}

/// Runs some turns, and returns how many lines were taken in the fullest of them.
fn most_per_turn(scheduler: &mut Scheduler, taken: &Cell<usize>) -> usize {
    let take = |_| {
        let before = taken.get();
        scheduler.turn();
        taken.get() - before
    };
    (0..TURNS).map(take).max().unwrap_or(0)
}

/// What an example would do with its lines: nothing, or answer them.
async fn serve(stream: Stream, mut flood: Flood, is_answered: bool) -> io::Result<()> {
    let mut lines = Lines::new(1000);
    while let Some(line) = lines.recv(&stream).await? {
        if is_answered {
            send_all(&stream, b"empty\n").await?;
            // The peer reads all its answers, so there is always room for the next.
            flood.socket.read_exact(&mut [0; 6])?;
        }
        flood.has_lost(&line)?;
    }
    Ok(())
}

#[test]
fn a_bounded_number_of_lines_comes_per_turn_however_many_wait() {
    for is_answered in [false, true] {
        let mut scheduler = Scheduler::new();
        let (flood, stream) = Flood::begin(&scheduler);
        let taken = Rc::clone(&flood.taken);
        scheduler.spawn(future::task(serve(stream, flood, is_answered)));
        let most = most_per_turn(&mut scheduler, &taken);
        assert!((1..=LINES_PER_TURN_MAX).contains(&most), "{most} lines in one turn");
        // And it goes on.
        let least = TURNS * LINES_PER_TURN_MAX / 4;
        assert!(taken.get() >= least, "{} lines in {TURNS} turns", taken.get());
    }
}

#[test]
fn another_client_is_answered_while_one_floods_with_lines() {
    for is_answered in [false, true] {
        let mut scheduler = Scheduler::new();
        let (flood, stream) = Flood::begin(&scheduler);
        let taken = Rc::clone(&flood.taken);
        scheduler.spawn(future::task(serve(stream, flood, is_answered)));
        let (mut client, near) = UnixStream::pair().expect("a pair of sockets");
        client.set_nonblocking(true).expect("a socket can be non-blocking");
        let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
        scheduler.spawn(future::task(async move {
            let mut question = [0; 8];
            let len = recv(&stream, &mut question).await?;
            send_all(&stream, &question[..len]).await
        }));
        // If the flood is over too early, no turn waits for it in vain.
        scheduler.spawn(task_fn("busy", |_| Ok(Wait::Turn)));
        scheduler.turn();
        client.write_all(b"hello").expect("room");
        // The descriptors are looked at in the first turn, the task is resumed in the second.
        let answer = (0..2).find_map(|_| {
            scheduler.turn();
            let mut answer = [0; 8];
            client.read(&mut answer).ok().map(|len| answer[..len].to_vec())
        });
        assert_eq!(answer.as_deref(), Some(&b"hello"[..]), "when {} lines were taken", taken.get());
        let before = taken.get();
        scheduler.turn();
        assert!(taken.get() > before, "the flood is over, after {before} lines");
    }
}

/// What a hand-written task does: receives until there is nothing, then waits.
fn resume(lines: &mut Lines, stream: &Stream, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Wait> {
    loop {
        match lines.try_recv(stream) {
            Ok(Some(line)) => take(&line)?,
            Ok(None) => return Ok(Wait::Done),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Wait::Recv(stream.as_raw_fd())),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn a_hand_written_task_that_receives_until_it_would_block_takes_a_bounded_number_of_lines() {
    let mut scheduler = Scheduler::new();
    let (mut flood, stream) = Flood::begin(&scheduler);
    let (taken, mut lines) = (Rc::clone(&flood.taken), Lines::new(1000));
    scheduler.spawn(task_fn("lines", move |_| resume(&mut lines, &stream, |line| flood.has_lost(line))));
    let most = most_per_turn(&mut scheduler, &taken);
    assert!((1..=CHUNK_BYTES).contains(&most), "{most} lines in one turn");
    // And it never waits in vain: it ends when the peer does.
    scheduler.run();
    assert_eq!(taken.get(), LINES_ALL);
}

#[test]
fn of_a_line_that_never_ends_a_bounded_part_is_received_per_turn() {
    const LEN: usize = 100_000;
    for is_hand_written in [false, true] {
        let (mut peer, near) = UnixStream::pair().expect("a pair of sockets");
        peer.write_all(&vec![b'x'; LEN]).expect("room");
        // After the last part there is still the end, so no turn waits in vain.
        peer.shutdown(Shutdown::Write).expect("a connection can be half-closed");
        let mut scheduler = Scheduler::new();
        let stream = Rc::new(Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking"));
        let (mut lines, from) = (Lines::new(2 * LEN), Rc::clone(&stream));
        if is_hand_written {
            scheduler.spawn(task_fn("lines", move |_| resume(&mut lines, &from, |_| Ok(()))));
        } else {
            scheduler.spawn(future::task(async move { lines.recv(&from).await.map(drop) }));
        }
        let mut turns = 0;
        while stream.recv_queue_bytes() > 0 && turns < LEN {
            let before = stream.recv_queue_bytes();
            scheduler.turn();
            turns += 1;
            let received = before - stream.recv_queue_bytes();
            assert!(received <= CHUNK_BYTES, "{received} bytes in one turn");
        }
        assert_eq!(stream.recv_queue_bytes(), 0, "bytes left after {turns} turns");
    }
}

#[test]
fn who_gives_up_each_wait_for_a_line_at_once_gets_them_all_the_same() {
    // Few enough to be received at once, so that nothing is waited for but turns.
    let text: Vec<u8> = (0..800).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let (mut peer, near) = UnixStream::pair().expect("a pair of sockets");
    peer.write_all(&text).expect("room");
    let mut scheduler = Scheduler::new();
    let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    let got = Rc::new(Cell::new(Vec::new()));
    let told = Rc::clone(&got);
    scheduler.spawn(future::task(async move {
        let mut lines = Lines::new(1000);
        let mut all = lines.recv(&stream).await?.unwrap_or_default();
        // A line comes at the second attempt at the latest.
        for _ in 0..2 * 800 {
            all.extend(lines.recv(&stream).now_or_never().transpose()?.flatten().unwrap_or_default());
        }
        told.set(all);
        Ok(())
    }));
    scheduler.run();
    assert_eq!(String::from_utf8_lossy(&got.take()), String::from_utf8_lossy(&text));
}

#[test]
fn what_a_line_has_announced_is_received_behind_it_whether_it_came_with_it_or_later() {
    let (mut far, near) = UnixStream::pair().expect("a pair");
    let mut scheduler = Scheduler::new();
    let near = Stream::new(&scheduler.handle(), near).expect("a socket");
    far.write_all(b"5\nhello7\nwo").expect("room");
    let is_over = Rc::new(Cell::new(false));
    let (seen, handle) = (Rc::clone(&is_over), scheduler.handle());
    scheduler.spawn(future::task(async move {
        let mut lines = Lines::new(100);
        assert_eq!(lines.recv(&near).await?.as_deref(), Some(&b"5\n"[..]));
        let mut payload = [0; 5];
        lines.recv_exact(&near, &mut payload).await?;
        assert_eq!(&payload, b"hello");
        assert_eq!(lines.recv(&near).await?.as_deref(), Some(&b"7\n"[..]));
        handle.spawn(future::task(async move {
            far.write_all(b"nderfQUIT\nrest").expect("room");
            Ok(())
        }));
        let mut payload = [0; 7];
        lines.recv_exact(&near, &mut payload).await?;
        assert_eq!(&payload, b"wonderf");
        assert_eq!(lines.recv(&near).await?.as_deref(), Some(&b"QUIT\n"[..]));
        let error = lines.recv_exact(&near, &mut payload).await.expect_err("it ends before");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        seen.set(true);
        Ok(())
    }));
    scheduler.run();
    assert!(is_over.get());
}

#[test]
fn what_has_come_of_a_line_that_is_given_up_may_be_received_as_something_else() {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let (mut far, near) = UnixStream::pair().expect("a pair of sockets");
    let near = Stream::new(&handle, near).expect("a socket can be non-blocking");
    let received = future::spawn(&handle.clone(), async move {
        let mut lines = Lines::new(100);
        far.write_all(b"hello").expect("room");
        let given_up = future::timeout(&handle, Duration::from_millis(5), lines.recv(&near)).await;
        assert!(given_up.is_err(), "its end has not come");
        let mut payload = [0; 3];
        lines.recv_exact(&near, &mut payload).await?;
        far.write_all(b" all\nrest").expect("room");
        let line = lines.recv(&near).await?;
        drop(far);
        let rest = lines.recv(&near).await?;
        // The end has been seen by now.
        let error = lines.recv_exact(&near, &mut payload[..1]).await.expect_err("it ends before");
        lines.recv_exact(&near, &mut []).await?;
        io::Result::Ok((payload, line, rest, error.kind()))
    });
    scheduler.run();
    let received = received.try_join().expect("it has ended").expect("nobody cancels it").expect("it is received");
    let lines = [&b"lo all\n"[..], b"rest"].map(|line| Some(line.to_vec()));
    assert_eq!((&received.0, [received.1, received.2], received.3), (b"hel", lines, ErrorKind::UnexpectedEof));
}

#[test]
fn what_has_been_received_behind_a_line_can_be_taken_by_whoever_goes_on_without_lines() {
    let (mut far, near) = UnixStream::pair().expect("a pair of sockets");
    let scheduler = Scheduler::new();
    let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    let mut lines = Lines::new(100);
    far.write_all(b"5\nhel").expect("room");
    assert_eq!(lines.try_recv(&stream).expect("it is there").as_deref(), Some(&b"5\n"[..]));
    assert_eq!(lines.try_recv(&stream).expect_err("no more is there").kind(), ErrorKind::WouldBlock);
    far.write_all(b"lo7\nwonderful\nRAW\nall the").expect("room");
    let mut payload = [0; 5];
    let ahead = lines.take_ahead(payload.len());
    payload[..ahead.len()].copy_from_slice(&ahead);
    assert_eq!(stream.recv(&mut payload[ahead.len()..]).expect("it is there"), 2);
    assert_eq!(&payload, b"hello");
    // Then come lines again, and what they announce.
    assert_eq!(lines.try_recv(&stream).expect("it is there").as_deref(), Some(&b"7\n"[..]));
    assert_eq!(lines.take_ahead(7), b"wonderf");
    for line in ["ul\n", "RAW\n"] {
        assert_eq!(lines.try_recv(&stream).expect("it is there").as_deref(), Some(line.as_bytes()));
    }
    assert_eq!(lines.take_ahead(usize::MAX), b"all the");
    assert_eq!(lines.take_ahead(usize::MAX), b"");
}

#[test]
fn a_line_that_is_kept_takes_no_more_memory_than_it_is_long() {
    let (mut socket, near) = UnixStream::pair().expect("a pair of sockets");
    // More lines than are received at once, then an empty one and one without an end.
    socket.write_all(b"set key 1\n".repeat(CHUNK_BYTES / 10 + 1).as_slice()).expect("room");
    let mut scheduler = Scheduler::new();
    let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    let kept = future::spawn(&scheduler.handle(), async move {
        let (mut lines, mut kept) = (Lines::new(1000), Vec::new());
        while let Some(line) = lines.recv(&stream).await? {
            kept.push(line);
        }
        io::Result::Ok(kept)
    });
    scheduler.turn();
    scheduler.turn();
    socket.write_all(b"\nlast").expect("room");
    drop(socket);
    scheduler.run();
    let kept = kept.try_join().expect("it has ended").expect("it has not panicked").expect("nothing failed");
    assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), (CHUNK_BYTES / 10 + 1) * 10 + 5);
    // An allocator may round up.
    let room = kept.iter().map(|line| line.capacity().saturating_sub(2 * line.len()));
    assert_eq!(room.max(), Some(0), "so many bytes more than twice the line");
}

#[test]
fn a_line_that_is_too_long_comes_in_pieces_while_its_end_is_still_to_come() {
    let (mut socket, near) = UnixStream::pair().expect("a pair of sockets");
    let scheduler = Scheduler::new();
    let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    let mut lines = Lines::new(4);
    for (sent, pieces) in [("four", vec!["four"]), ("and again", vec!["and ", "agai"]), ("!\n", vec!["n!\n"])] {
        socket.write_all(sent.as_bytes()).expect("room");
        for piece in pieces {
            assert_eq!(lines.try_recv(&stream).expect("it is there").as_deref(), Some(piece.as_bytes()));
        }
        assert_eq!(lines.try_recv(&stream).expect_err("no more is there").kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn the_lines_of_a_child_come_through_a_socket_up_to_the_last() {
    let mut scheduler = Scheduler::new();
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let output = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    let mut command = Command::new("sh");
    command.args(["-c", "echo one; sleep 0.05; printf 'two\nthree'"]).stdout(OwnedFd::from(far));
    let mut child = command.spawn().expect("there is a shell");
    drop(command);
    let reading = future::spawn(&scheduler.handle(), async move {
        let (mut lines, mut all) = (Lines::new(100), Vec::new());
        while let Ok(Some(line)) = lines.recv(&output).await {
            all.push(line);
        }
        all
    });
    scheduler.run();
    assert!(child.wait().expect("it is ours").success());
    assert_eq!(
        reading.try_join().expect("it has ended").expect("it has not panicked"),
        [&b"one\n"[..], b"two\n", b"three"]
    );
}

#[test]
fn a_line_that_a_reset_has_cut_off_is_an_error_and_not_the_last_line() {
    let mut scheduler = Scheduler::new();
    let (mut far, near) = UnixStream::pair().expect("a pair of sockets");
    let stream = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    far.write_all(b"DELETE every").expect("room");
    // To close a socket in which something is unread is to reset the connection.
    stream.send(b"Hello").expect("room");
    drop(far);
    let ends = future::spawn(&scheduler.handle(), async move { Lines::new(100).recv(&stream).await });
    scheduler.run();
    let line = ends.try_join().expect("it has ended").expect("it has not panicked");
    assert_eq!(line.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}
