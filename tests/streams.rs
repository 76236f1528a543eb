//! What the library adds to a bare socket: lines, exact lengths, copying, closing without a reset.

mod common;

use common::{LIMIT, eventually};
use fdtask::future::{self, copy, linger, recv, recv_exact, recv_more, send_all};
use fdtask::net::{Acceptor, Lines, Listener, Stream};
use fdtask::{Handle, Scheduler, Wait, task_fn};
use socket2::{Domain, SockRef, Socket, Type};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Both ends of a connection; nothing on the first waits longer than [`LIMIT`].
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (far, _) = listener.accept().expect("one has connected");
    near.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    near.set_write_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    near.set_nodelay(true).expect("TCP can do without a delay");
    (near, far)
}

/// Runs one future with these sockets, to its end, and returns what it says.
fn run<T: 'static, F, const COUNT: usize>(
    sockets: [TcpStream; COUNT],
    what: impl FnOnce(Handle, [Stream; COUNT]) -> F + 'static,
) -> T
where
    F: Future<Output = T> + 'static,
{
    let mut scheduler = Scheduler::new();
    let outcome = Rc::new(RefCell::new(None));
    let (handle, told) = (scheduler.handle(), Rc::clone(&outcome));
    let streams = sockets.map(|socket| Stream::new(&handle, socket).expect("a socket can be non-blocking"));
    let future = what(handle, streams);
    scheduler.spawn(future::task(async move {
        *told.borrow_mut() = Some(future.await);
        Ok(())
    }));
    scheduler.run();
    outcome.borrow_mut().take().expect("the future has ended")
}

#[test]
fn a_socket_that_nobody_has_made_non_blocking_keeps_nobody_waiting() {
    let (told, heard) = mpsc::channel();
    // On a thread of its own: if it sleeps in a call that it should not sleep in, it does so for ever.
    thread::spawn(move || {
        let (near, far) = UnixStream::pair().expect("a pair of sockets");
        let mut scheduler = Scheduler::new();
        let handle = scheduler.handle();
        scheduler.spawn(future::task(async move {
            let stream = Stream::new(&handle, near)?;
            let early = stream.recv(&mut [0; 5]).map_err(|error| error.kind());
            let mut far = far;
            handle.spawn(task_fn("peer", move |_| far.write_all(b"hello").map(|()| Wait::Done)));
            let mut words = [0; 5];
            recv_exact(&stream, &mut words).await?;
            let _ = told.send((early, words));
            Ok(())
        }));
        scheduler.run();
    });
    let outcome = heard.recv_timeout(LIMIT).expect("nobody is kept waiting");
    assert_eq!(outcome, (Err(ErrorKind::WouldBlock), *b"hello"));
}

#[test]
fn a_hand_written_task_connects_a_stream_and_is_told_how_that_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut outcomes = Vec::new();
    for listener in [Some(listener), None] {
        let mut scheduler = Scheduler::new();
        let stream = Stream::connect(&scheduler.handle(), address).expect("an attempt can begin");
        let (outcome, mut has_waited) = (Rc::new(RefCell::new(None)), false);
        let told = Rc::clone(&outcome);
        scheduler.spawn(task_fn("client", move |_| {
            if !std::mem::replace(&mut has_waited, true) {
                return Ok(Wait::Send(stream.as_raw_fd()));
            }
            *told.borrow_mut() = Some(stream.connected().map_err(|error| error.kind()));
            Ok(Wait::Done)
        }));
        scheduler.run();
        outcomes.push(outcome.take().expect("the task has ended"));
        drop(listener);
    }
    assert_eq!(outcomes, [Ok(()), Err(ErrorKind::ConnectionRefused)]);
}

/// All the lines of at most eight bytes.
async fn lines_of(stream: Stream) -> io::Result<Vec<String>> {
    let (mut lines, mut all) = (Lines::new(8), Vec::new());
    while let Some(line) = lines.recv(&stream).await? {
        all.push(String::from_utf8_lossy(&line).into_owned());
    }
    assert!(lines.recv(&stream).await?.is_none(), "the end is the end");
    Ok(all)
}

const TEXT: &[u8] = b"one\n\ntwo\r\n1234567\n12345678\n123456789abcdefgh\nlast";
const LINES: [&str; 10] =
    ["one\n", "\n", "two\r\n", "1234567\n", "12345678", "\n", "12345678", "9abcdefg", "h\n", "last"];

#[test]
fn lines_come_whole_and_long_ones_in_pieces_however_they_arrive() {
    for piece in [1, 2, 3, 7, TEXT.len()] {
        let (mut near, far) = pair();
        let sender = thread::spawn(move || {
            for bytes in TEXT.chunks(piece) {
                near.write_all(bytes).expect("the task receives");
                thread::yield_now();
            }
        });
        assert_eq!(run([far], |_, [stream]| lines_of(stream)).expect("an orderly end"), LINES, "in pieces of {piece}");
        sender.join().expect("the sender had no trouble");
    }
}

#[test]
fn more_lines_than_are_received_at_once_all_come_in_order() {
    let (mut near, far) = pair();
    let text = (0..20_000).map(|number| format!("{number}\n")).collect::<Vec<_>>().concat();
    let sent = text.clone();
    let sender = thread::spawn(move || near.write_all(sent.as_bytes()).expect("the task receives"));
    assert_eq!(run([far], |_, [stream]| lines_of(stream)).expect("an orderly end").concat(), text);
    sender.join().expect("the sender had no trouble");
}

#[test]
fn a_hand_written_task_is_told_to_wait_for_the_rest_of_a_line() {
    let (mut near, far) = pair();
    let mut scheduler = Scheduler::new();
    let all = Rc::new(RefCell::new(Vec::new()));
    let (mut lines, told) = (Lines::new(8), Rc::clone(&all));
    near.write_all(b"on").expect("the task receives");
    let stream = Stream::new(&scheduler.handle(), far).expect("a socket can be non-blocking");
    let mut near = Some(near);
    scheduler.spawn(task_fn("lines", move |_| {
        loop {
            match lines.try_recv(&stream) {
                Ok(Some(line)) => told.borrow_mut().push(String::from_utf8_lossy(&line).into_owned()),
                Ok(None) => return Ok(Wait::Done),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Some(mut near) = near.take() {
                        assert_eq!(told.borrow().len(), 0);
                        near.write_all(&TEXT[2..]).expect("the task receives");
                    }
                    return Ok(Wait::Recv(stream.as_raw_fd()));
                }
                Err(error) => return Err(error),
            }
        }
    }));
    scheduler.run();
    assert_eq!(*all.borrow(), LINES);
}

#[test]
fn an_exact_length_is_received_and_not_a_byte_more() {
    let (mut near, far) = pair();
    near.write_all(b"he").expect("the task receives");
    let (head, rest, missing) = run([far], move |_, [stream]| async move {
        let (mut head, mut rest) = ([0; 4], [0; 4]);
        let the_rest_comes_later = async {
            while stream.recv_queue_bytes() > 0 {
                future::next_turn().await;
            }
            near.write_all(b"adrest").expect("the task receives");
            near.shutdown(Shutdown::Write).expect("a connection can be half-closed");
        };
        let (received, ()) = futures_util::future::join(recv_exact(&stream, &mut head), the_rest_comes_later).await;
        received.expect("four bytes come");
        recv_exact(&stream, &mut []).await.expect("nothing is always there");
        recv_exact(&stream, &mut rest).await.expect("four more are there");
        (head, rest, recv_exact(&stream, &mut [0]).await)
    });
    assert_eq!((&head, &rest), (b"head", b"rest"));
    assert_eq!(missing.map_err(|error| error.kind()), Err(ErrorKind::UnexpectedEof));
}

#[test]
fn what_comes_is_appended_to_what_is_there_up_to_the_end() {
    let (mut near, far) = pair();
    let sent: Vec<u8> = (0..100_000_u32).map(|index| (index / 251) as u8).collect();
    let expected = [b"before", &sent[..]].concat();
    let sender = thread::spawn(move || near.write_all(&sent).expect("the task receives"));
    let received = run([far], |_, [stream]| async move {
        let mut bytes = b"before".to_vec();
        loop {
            let len = bytes.len();
            match recv_more(&stream, &mut bytes).await? {
                0 => return io::Result::Ok(bytes),
                received => assert_eq!(bytes.len(), len + received),
            }
        }
    });
    assert!(received.expect("an orderly end") == expected, "something is lost or out of order");
    sender.join().expect("the sender had no trouble");
}

#[test]
fn a_copy_is_whole_and_its_source_waits_while_the_other_end_does_not_read() {
    let ((mut source, from), (mut sink, to)) = (pair(), pair());
    let bytes: Vec<u8> = (0..64 << 20).map(|index: u32| (index / 251) as u8).collect();
    let (sent, is_sent) = (bytes.clone(), &AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(move || {
            source.write_all(&sent).expect("the copy goes on");
            is_sent.store(true, Ordering::SeqCst);
        });
        let reader = scope.spawn(move || {
            // Nothing is read until the sender has had the time to send all of it, if somebody would take it.
            thread::sleep(Duration::from_millis(300));
            assert!(!is_sent.load(Ordering::SeqCst), "somebody keeps what nobody reads");
            let mut received = Vec::new();
            sink.read_to_end(&mut received).map(|_| received)
        });
        let copied = run([from, to], |_, [from, to]| async move { copy(&from, &to).await });
        assert_eq!(copied.expect("an orderly end"), bytes.len() as u64);
        assert!(
            reader.join().expect("no panic").expect("an orderly end") == bytes,
            "something is lost or out of order"
        );
    });
}

#[test]
fn last_words_arrive_although_the_peer_goes_on_sending() {
    let (mut near, far) = pair();
    near.write_all(&vec![7; 100_000]).expect("the kernel receives");
    let peer = thread::spawn(move || {
        let mut words = Vec::new();
        near.read_to_end(&mut words).expect("the end, and no reset");
        near.write_all(&vec![7; 1_000_000]).expect("somebody receives");
        words
    });
    let begin = Instant::now();
    run([far], |_, [stream]| async move {
        send_all(&stream, b"No.").await?;
        linger(&stream, LIMIT).await
    })
    .expect("an orderly end");
    assert_eq!(peer.join().expect("no reset"), b"No.");
    assert!(begin.elapsed() < LIMIT, "it ends when the peer has closed");
}

#[test]
fn a_peer_that_never_closes_is_not_waited_for_and_one_that_resets_is_gone() {
    let patience = Duration::from_millis(300);
    let (mut near, far) = pair();
    let begin = Instant::now();
    run([far], move |_, [stream]| async move { linger(&stream, patience).await }).expect("patience is no error");
    assert!(begin.elapsed() >= patience);
    assert_eq!(near.read(&mut [0]).expect("the end, and no reset"), 0);
    let (near, far) = pair();
    SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
    drop(near);
    run([far], |_, [stream]| async move { linger(&stream, LIMIT).await }).expect("it has closed, too");
}

#[test]
fn a_reset_is_an_error_to_whoever_receives_and_not_the_end() {
    let reset = || {
        let (near, far) = pair();
        SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
        far
    };
    let outcomes = [
        run([reset()], |_, [stream]| async move { recv(&stream, &mut [0]).await }),
        run([reset()], |_, [stream]| async move { recv_more(&stream, &mut Vec::new()).await }),
        run([reset(), pair().1], |_, [from, to]| async move { copy(&from, &to).await.map(|copied| copied as usize) }),
    ];
    assert_eq!(outcomes.map(|outcome| outcome.map_err(|error| error.kind())), [Err(ErrorKind::ConnectionReset); 3]);
}

#[test]
fn what_is_awaited_of_a_stream_holds_no_buffer_meanwhile() {
    /// Much less than any buffer: it is part of the memory of each connection.
    const FUTURE_BYTES_MAX: usize = 1000;
    let scheduler = Scheduler::new();
    let [near, far] = <[_; 2]>::from(UnixStream::pair().expect("a pair of sockets"))
        .map(|socket| Stream::new(&scheduler.handle(), socket).expect("it is a socket"));
    let lines = || Lines::new(1000);
    let sizes = [
        ("linger", size_of_val(&linger(&near, LIMIT))),
        ("copy", size_of_val(&copy(&near, &far))),
        ("recv_more", size_of_val(&recv_more(&near, &mut Vec::new()))),
        ("recv_exact", size_of_val(&recv_exact(&near, &mut []))),
        ("Lines::recv", size_of_val(&lines().recv(&near))),
        ("Lines::recv_exact", size_of_val(&lines().recv_exact(&near, &mut []))),
    ];
    assert!(sizes.iter().all(|(_, size)| *size < FUTURE_BYTES_MAX), "{sizes:?}");
}

#[test]
fn diagnostics_tell_what_tasks_report_and_how_they_fail() {
    let (mut near, far) = UnixStream::pair().expect("a pair of sockets");
    near.set_nonblocking(true).expect("a socket can be non-blocking");
    let mut scheduler = Scheduler::new();
    scheduler.observe(fdtask::Diagnostics::new(&scheduler.handle(), "test", far.into()));
    scheduler.spawn(task_fn("peaceful", |_| Ok(Wait::Done)));
    scheduler.spawn(task_fn("careless", |cx| {
        cx.report("this is not good");
        Err(io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error()))
    }));
    scheduler.spawn(task_fn("reckless", |_| panic!("no way")));
    let mut text = Vec::new();
    let expected = "test: this is not good\ntest: careless: Connection refused\ntest: reckless panicked: no way\n";
    eventually("three lines come", LIMIT, || {
        scheduler.turn();
        // What is not there yet will be.
        let _ = near.read_to_end(&mut text);
        text.len() >= expected.len()
    });
    assert_eq!(String::from_utf8_lossy(&text), expected);
}

#[test]
fn an_urgent_byte_stays_in_its_place_on_a_connection_of_our_own_making() {
    // row 33 of the faults, the other way round: the socket is one that has connected.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("one connects");
        peer.write_all(b"before").expect("room");
        SockRef::from(&peer).send_out_of_band(b"!").expect("room for a byte");
        peer.write_all(b"after").expect("room");
    });
    let received = run([], move |handle, []| async move {
        let stream = future::timeout(&handle, LIMIT, future::connect(&handle, address)).await.expect("in time")?;
        let mut received = Vec::new();
        while future::timeout(&handle, LIMIT, recv_more(&stream, &mut received)).await.expect("in time")? > 0 {}
        io::Result::Ok(received)
    });
    server.join().expect("it has sent all");
    assert_eq!(received.expect("the connection is in order"), b"before!after");
}

#[test]
fn what_is_accepted_or_connected_has_the_options_that_a_connection_should_have() {
    // rows 30 and 33 of the faults: a peer that vanishes is noticed, and an urgent byte stays in the stream.
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let options_of = |stream: &Stream| {
        let socket = SockRef::from(stream);
        [socket.keepalive(), socket.out_of_band_inline(), socket.tcp_nodelay()].map(Result::ok)
    };
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    let client = Stream::connect(&handle, listener.address()).expect("it listens");
    assert_eq!(options_of(&client), [Some(true); 3]);
    let options = Rc::new(Cell::new(None));
    let seen = Rc::clone(&options);
    scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, move |stream, _| {
        seen.set(Some(options_of(&stream)));
        handle.stop();
        task_fn("nothing", |_| Ok(Wait::Done))
    }));
    scheduler.run();
    assert_eq!(options.take(), Some([Some(true); 3]));
    drop(client);
}

#[test]
fn a_stream_of_what_is_no_socket_is_refused_at_once() {
    let scheduler = Scheduler::new();
    let (near, _far) = io::pipe().expect("a pipe");
    let error = Stream::new(&scheduler.handle(), near).expect_err("a pipe is no socket");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOTSOCK.raw_os_error()));
}

#[test]
fn a_socket_that_has_met_itself_is_not_connected() {
    let scheduler = Scheduler::new();
    let itself = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    itself.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    itself.connect(&itself.local_addr().expect("it is bound")).expect("TCP lets a socket connect to itself");
    let itself = Stream::new(&scheduler.handle(), itself).expect("a socket can be non-blocking");
    assert_eq!(itself.connected().map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
    // Those that have no addresses are two all the same.
    let (near, _far) = UnixStream::pair().expect("a pair of sockets");
    let near = Stream::new(&scheduler.handle(), near).expect("a socket can be non-blocking");
    assert!(near.connected().is_ok());
}
