//! A client and its server, who are connected: what one of them sends is passed on to the other.

use crate::request::reply;
use fdtask::Handle;
use fdtask::future::{self, copy, race, recv_more, send_all, sleep};
use fdtask::net::Stream;
use futures_util::future::{Either, select, try_join};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// When one end is gone, and the other takes nothing for so long of what that one had said, the rest is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// What moves is looked at in so many steps per timeout, which may so become that much longer, and never shorter.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// Moves what each sends to the other, until both ways have ended, one side has failed, or one way has ended and nothing moves
/// for as long as `patience`. Each way is a task of its own, so that one that is always busy does not keep the other waiting;
/// they are cancelled when this one ends.
pub async fn relay(scheduler: &Handle, client: Rc<Stream>, server: Rc<Stream>, patience: Duration) -> io::Result<()> {
    send_all(&client, &reply(0)).await?;
    let moves = Rc::new(Cell::new(0));
    let up = future::spawn(scheduler, pass_on(Rc::clone(&client), Rc::clone(&server), Rc::clone(&moves)));
    let down = future::spawn(scheduler, pass_on(Rc::clone(&server), Rc::clone(&client), Rc::clone(&moves)));
    let (first, other, left) = match select(up, down).await {
        Either::Left((up, down)) => (up, down, &client),
        Either::Right((down, up)) => (down, up, &server),
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
        stalled(scheduler, patience, progress).await;
        Ok(Err(ErrorKind::TimedOut.into()))
    };
    let told = race(finishing, stalling).await?;
    ended.and(told)
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

/// One way, to its end. The inner error is that `to` has reset the connection, so that it cannot even be told the end. What it
/// had said before is there for the other way.
async fn pass_on(from: Rc<Stream>, to: Rc<Stream>, moves: Rc<Cell<u64>>) -> io::Result<io::Result<()>> {
    let mut copying = pin!(copy(&from, &to));
    // Whatever resumes it is something to receive, or room to send.
    let copied = poll_fn(|cx| {
        moves.set(moves.get() + 1);
        copying.as_mut().poll(cx)
    });
    // What was connected, and is not any more, has been reset.
    let reset = |_| ErrorKind::ConnectionReset.into();
    match (copied.await, to.shutdown_send().map_err(reset)) {
        (Err(error), Ok(())) => Err(error),
        (copied, told) => Ok(copied.map(drop).and(told)),
    }
}
