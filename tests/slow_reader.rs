//! A client that sends and does not read: what it sends stays in the kernel, in order, until it reads (row 8 of the faults).

mod common;

use common::{Client, Echo, assert_idle, over_echoes, payload, payload_of};
use std::thread;

over_echoes! {
    all_three:
        a_client_that_sends_24_mb_before_it_reads_loses_nothing_and_costs_nothing
        #[ignore = "takes longer than its little sister, and proves the same"]
        a_client_that_sends_64_mb_before_it_reads_loses_nothing_and_costs_nothing
        many_clients_that_do_not_read_cost_nothing_and_lose_nothing;
}

fn a_client_that_sends_24_mb_before_it_reads_loses_nothing_and_costs_nothing(echo: Echo) {
    send_then_read(echo, 24_000_000);
}

fn a_client_that_sends_64_mb_before_it_reads_loses_nothing_and_costs_nothing(echo: Echo) {
    send_then_read(echo, 64_000_000);
}

fn send_then_read(echo: Echo, len: usize) {
    let server = echo.start(&[]);
    let mut bystander = Client::connect(server.address());
    bystander.ask(b"here");
    let mut client = Client::connect(server.address());
    client.ask(b"here");
    let before = server.usage().resident_bytes;

    let bytes = payload(len, 8);
    let sent = client.send_until_stuck(&bytes);
    assert_idle(&server, "a client does not read");
    bystander.ask(b"and you?");
    let parked = server.usage().resident_bytes;

    let answers = client.send_all_and_read_to_end(&bytes[sent..]);
    assert!(payload_of(&answers) == bytes, "of {len} bytes not all came back in order");
    bystander.ask(b"still here");
    let after = server.usage().resident_bytes;
    for (what, resident_bytes) in [("while the client did not read", parked), ("when it had read", after)] {
        let growth = resident_bytes.saturating_sub(before);
        assert!(growth < 1 << 20, "{what}, the server's memory had grown by {growth} bytes");
    }
}

fn many_clients_that_do_not_read_cost_nothing_and_lose_nothing(echo: Echo) {
    let server = echo.start(&[]);
    let mut bystander = Client::connect(server.address());
    let bytes = payload(12_000_000, 88);
    let mut clients: Vec<_> = (0..6).map(|_| Client::connect_with_small_buffers(server.address())).collect();
    // One thread each, because being stuck is found out by waiting.
    let sent: Vec<usize> = thread::scope(|scope| {
        let senders: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(|| client.send_until_stuck(&bytes))).collect();
        senders.into_iter().map(|sender| sender.join().expect("a client can send")).collect()
    });
    assert_idle(&server, "six clients do not read");
    bystander.ask(b"here");
    for (client, sent) in clients.iter_mut().zip(sent) {
        client.half_close();
        let answers = client.read_to_end().expect("the stream ends in order");
        assert!(payload_of(&answers) == bytes[..sent], "of {sent} bytes not all came back in order");
    }
}
