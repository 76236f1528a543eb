//! A client and its server, who are connected: what one of them sends is passed on to the other.

use crate::request::reply;
use fdtask::future::{self, copy, race, recv_more, send_all, sleep};
use fdtask::net::Stream;
use fdtask::{Handle, Notify};
use futures_util::future::{Either, select, try_join};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// When one end is gone, and the other takes nothing for so long of what that one had said, the rest is given up. It may take as
/// long until it is seen that the one is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// What moves is looked at in so many steps per timeout, which may so become that much longer, and never shorter.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// Moves what each sends to the other, until both ways have ended, one side has failed, or one way has ended and nothing moves
/// for as long as `patience`. Each way is a task of its own, so that one that is always busy does not keep the other waiting;
/// they are cancelled when this one ends.
pub async fn relay(scheduler: &Handle, client: Rc<Stream>, server: Rc<Stream>, patience: Duration) -> io::Result<()> {
    send_all(&client, &reply(0)).await?;
    let (moves, changed) = (Rc::new(Cell::new(0)), Notify::new(scheduler));
    let way = |from: &Rc<Stream>, to: &Rc<Stream>| {
        let passing_on = pass_on(Rc::clone(from), Rc::clone(to), Rc::clone(&moves), changed.clone());
        let (from, to, changed) = (Rc::clone(from), Rc::clone(to), changed.clone());
        let finding_out = async move { Ok(Ok(Err(gone(scheduler, &to, &from, &changed).await))) };
        race(future::spawn(scheduler, passing_on), finding_out)
    };
    let (up, down) = (pin!(way(&client, &server)), pin!(way(&server, &client)));
    let (first, other, left, told) = match select(up, down).await {
        Either::Left((up, down)) => (up, down, &client, &server),
        Either::Right((down, up)) => (down, up, &server, &client),
    };
    let ended = first??;
    let is_other_gone = ended.is_err();
    // What `left` still says is for nobody then, but until it is rid of it, it may take nothing.
    let dropping = async {
        let mut dropped = Vec::new();
        while is_other_gone && recv_more(left, &mut dropped).await? > 0 {
            dropped.clear();
        }
        Ok(())
    };
    let finishing = async { try_join(async { other.await? }, dropping).await.map(|(told, ())| told) };
    let patience = if is_other_gone { STALL_TIMEOUT } else { patience };
    // Nobody says that something is taken: there is room again only when much of the kernel's queue is free.
    let progress = || (moves.get(), client.send_queue_bytes() + server.send_queue_bytes());
    let stalling = async {
        let patient = async {
            stalled(scheduler, patience, progress).await;
            ErrorKind::TimedOut.into()
        };
        let less_patient = async {
            let reset = gone(scheduler, told, left, &changed).await;
            stalled(scheduler, STALL_TIMEOUT, progress).await;
            reset
        };
        Ok(Err(race(patient, less_patient).await))
    };
    ended.and(race(finishing, stalling).await?)
}

/// Comes to its end when there has been no progress for so long.
async fn stalled(scheduler: &Handle, patience: Duration, progress: impl Fn() -> (u64, usize)) {
    let (mut before, mut looks) = (progress(), 0);
    while looks < LOOKS_PER_TIMEOUT {
        sleep(scheduler, patience / LOOKS_PER_TIMEOUT).await;
        let now = progress();
        looks = if now == before { looks + 1 } else { 0 };
        before = now;
    }
}

/// Comes to its end when `to` has reset the connection, and says with what. Who waits for it is told so; but neither way does
/// when it has been sent everything, and `from` has no room for what it says.
async fn gone(scheduler: &Handle, to: &Stream, from: &Stream, changed: &Notify) -> io::Error {
    loop {
        // Nothing is stuck, and nothing will be until something moves. Connections that are silent cost no looks.
        if from.send_queue_bytes() == 0 {
            changed.notified().await;
        }
        sleep(scheduler, STALL_TIMEOUT).await;
        match to.connected() {
            // One that has said the end, and been told it, is not connected any more, and has not failed.
            Err(error) if error.kind() != ErrorKind::WouldBlock => return error,
            _ => {}
        }
    }
}

/// One way, to its end. The inner error is that `to` has reset the connection, so that it cannot even be told the end. What it
/// had said before is there for the other way.
async fn pass_on(
    from: Rc<Stream>,
    to: Rc<Stream>,
    moves: Rc<Cell<u64>>,
    changed: Notify,
) -> io::Result<io::Result<()>> {
    let mut copying = pin!(copy(&from, &to));
    // Whatever resumes it is something to receive, or room to send.
    let copied = poll_fn(|cx| {
        moves.set(moves.get() + 1);
        changed.notify();
        copying.as_mut().poll(cx)
    });
    // What was connected, and is not any more, has been reset.
    let reset = |_| ErrorKind::ConnectionReset.into();
    match (copied.await, to.shutdown_send().map_err(reset)) {
        (Err(error), Ok(())) => Err(error),
        (copied, told) => Ok(copied.map(drop).and(told)),
    }
}
