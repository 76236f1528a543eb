//! Nobody keeps the others waiting: not a client that floods, not a storm of connects (rows 20 and 21 of the faults).
//!
//! Nothing here is timed: the machine may be busy. What is counted is what goes before somebody who asks for little: turn by
//! turn in this process, and in whole servers, which the kernel stops in the call that answers.

mod common;

use common::{Client, Echo, LIMIT, Signal, eventually, need_descriptors, over_echoes, payload};
use fdtask::net::{ACCEPTS_PER_RESUME_MAX, Acceptor, CHUNKS_PER_RESUME_MAX, ECHO_PREFIX, Listener, RECV_CHUNK_BYTES};
use fdtask::{Scheduler, Wait, task_fn};
use std::cell::Cell;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// An echo server in this process, of which each turn is taken by hand.
struct ByHand {
    scheduler: Scheduler,
    address: SocketAddr,
    accepted: Rc<Cell<usize>>,
}

impl ByHand {
    fn new() -> ByHand {
        let mut scheduler = Scheduler::new();
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = listener.address();
        // A turn ends with a poll, which only looks, and does not sleep, when there is a task that is always ready.
        scheduler.spawn(task_fn("always ready", |_| Ok(Wait::Turn)));
        let accepted = Rc::new(Cell::new(0));
        let count = Rc::clone(&accepted);
        scheduler.spawn(Acceptor::new(&scheduler.handle(), listener, move |stream, peer| {
            count.set(count.get() + 1);
            fdtask::net::Echo::new(stream, peer)
        }));
        ByHand { scheduler, address, accepted }
    }

    /// A client that has been accepted and answered once.
    fn connect(&mut self) -> Client {
        let mut client = Client::connect(self.address);
        client.send(b"first");
        while waiting_bytes(&client) == 0 {
            self.scheduler.turn();
        }
        client.expect_answer(b"first");
        client
    }
}

/// How many bytes (up to 64 KiB) wait to be received by the client.
fn waiting_bytes(client: &Client) -> usize {
    client.stream.set_nonblocking(true).expect("a socket can be non-blocking");
    let count = client.stream.peek(&mut vec![0; 65_536]).unwrap_or(0);
    client.stream.set_nonblocking(false).expect("a socket can be blocking");
    count
}

/// Within how many turns something must have happened that takes two. More than two, because the kernel may deliver what
/// is sent on the loopback a little later.
const TURNS_MAX: usize = 10;

#[test]
fn a_bounded_part_of_a_stream_is_answered_per_turn_and_less_of_it_the_more_tasks_are_ready() {
    for (others, chunks) in [(0, CHUNKS_PER_RESUME_MAX), (64, 1)] {
        let mut server = ByHand::new();
        let mut pinger = server.connect();
        let mut flooder = server.connect();
        for _ in 0..others {
            server.scheduler.spawn(task_fn("ready", |_| Ok(Wait::Turn)));
        }
        flooder.send(&payload(50 * RECV_CHUNK_BYTES, 20));
        pinger.send(b"ping");
        let mut turns = 0;
        while waiting_bytes(&pinger) == 0 {
            assert!(turns < TURNS_MAX, "not answered after {turns} turns");
            server.scheduler.turn();
            turns += 1;
            let answered = waiting_bytes(&flooder);
            let fair = turns * chunks * (ECHO_PREFIX.len() + RECV_CHUNK_BYTES);
            assert!(answered <= fair, "the flood got {answered} bytes in {turns} turns beside {others} others");
        }
        pinger.expect_answer(b"ping");
    }
}

#[test]
fn a_stream_that_is_alone_does_not_pay_for_a_turn_with_each_chunk() {
    const CHUNKS: usize = 32;
    let mut server = ByHand::new();
    let mut streamer = server.connect();
    streamer.send(&payload(CHUNKS * RECV_CHUNK_BYTES, 21));
    let mut turns = 0;
    // With what stands before each chunk, the answers are longer than that.
    while waiting_bytes(&streamer) < CHUNKS * RECV_CHUNK_BYTES {
        assert!(turns < CHUNKS / 2, "{turns} turns for {CHUNKS} chunks");
        server.scheduler.turn();
        turns += 1;
    }
}

#[test]
fn a_bounded_number_of_connections_is_accepted_per_turn_however_many_wait() {
    need_descriptors(2_000);
    let mut server = ByHand::new();
    let mut pinger = server.connect();
    let before = server.accepted.get();
    let storm: Vec<Client> = (0..300).map(|_| Client::connect(server.address)).collect();
    pinger.send(b"ping");
    let mut turns = 0;
    while waiting_bytes(&pinger) == 0 {
        assert!(turns < TURNS_MAX, "not answered after {turns} turns");
        server.scheduler.turn();
        turns += 1;
        let accepted = server.accepted.get() - before;
        assert!(accepted <= turns * ACCEPTS_PER_RESUME_MAX as usize, "{accepted} accepted in {turns} turns");
    }
    pinger.expect_answer(b"ping");
    // All of them get in, and soon: the bound is no rationing.
    while server.accepted.get() < before + storm.len() {
        let so_far = server.accepted.get();
        assert!(turns < 100, "{} of {} accepted after {turns} turns", so_far - before, storm.len());
        server.scheduler.turn();
        turns += 1;
        // Nor does the bound grow with the storm for ever.
        let accepted = server.accepted.get() - so_far;
        assert!(accepted <= ACCEPTS_PER_RESUME_MAX as usize, "{accepted} accepted in one turn");
    }
}

#[cfg(target_os = "linux")]
over_echoes! {
    without_threads:
        few_chunks_of_one_who_floods_are_answered_before_a_client_that_pings
        few_of_a_storm_are_accepted_before_a_client_that_pings_is_answered;
}

/// So often a client pings. The server goes on each time where the answer to the ping before has stopped it.
#[cfg(target_os = "linux")]
const PINGS: usize = 10;

#[cfg(target_os = "linux")]
fn few_chunks_of_one_who_floods_are_answered_before_a_client_that_pings(echo: Echo) {
    /// Those of one resume, and of another if the ping is found one turn later.
    const BYTES_MAX: usize = 2 * CHUNKS_PER_RESUME_MAX * (ECHO_PREFIX.len() + RECV_CHUNK_BYTES);

    let server = echo.start(&[]);
    let [mut flooder, mut pinger] = [(); 2].map(|()| {
        let mut client = Client::connect(server.address());
        client.ask(b"first");
        client
    });
    server.pause();
    flooder.send_until_stuck(&payload(16 << 20, 20));
    let mut answered = Vec::new();
    for number in 1..=PINGS {
        pinger.send(b"ping");
        if number == PINGS {
            // It is the same in a drain.
            server.signal(Signal::TERM);
        }
        server.go_on_until_it_sends_to(&pinger.stream);
        pinger.expect_answer(b"ping");
        flooder.stream.set_nonblocking(true).expect("a socket can be non-blocking");
        let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
        while let Ok(len @ 1..) = flooder.stream.read(&mut buffer) {
            bytes += len;
        }
        answered.push(bytes);
    }
    assert!(answered.iter().all(|bytes| *bytes <= BYTES_MAX), "so many bytes before each ping: {answered:?}");
    assert!(answered.iter().any(|bytes| *bytes > 0), "the flood is answered, too: {answered:?}");
}

#[cfg(target_os = "linux")]
fn few_of_a_storm_are_accepted_before_a_client_that_pings_is_answered(echo: Echo) {
    /// So many connect at once.
    const STORM: usize = 100;
    /// Those of one resume, and of another if the ping is found one turn later.
    const ACCEPTED_MAX: usize = 2 * ACCEPTS_PER_RESUME_MAX as usize;

    need_descriptors(PINGS as u64 * STORM as u64 + 100);
    let server = echo.start(&[]);
    let mut pinger = Client::connect(server.address());
    pinger.ask(b"first");
    let (open, mut storm, mut accepted) = (server.open_sockets(), Vec::new(), Vec::new());
    for _ in 0..PINGS {
        server.pause();
        let before = storm.len();
        storm.extend((0..STORM).map(|_| Client::connect(server.address())));
        pinger.send(b"ping");
        server.go_on_until_it_sends_to(&pinger.stream);
        pinger.expect_answer(b"ping");
        accepted.push(server.open_sockets() - open - before);
        server.go_on();
        eventually("all are accepted", LIMIT, || server.open_sockets() == open + storm.len());
    }
    assert!(accepted.iter().all(|count| *count <= ACCEPTED_MAX), "so many before each ping: {accepted:?}");
}
