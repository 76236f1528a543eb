//! A client and its server, who are connected: what one of them sends is passed on to the other.

use crate::reply;
use fdtask::Handle;
use fdtask::future::{self, JoinHandle, copy, race, recv_more, send_all, sleep};
use fdtask::net::Stream;
use futures_util::future::{Either, select, try_join};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

/// When one end is gone, and the other takes nothing for so long of what that one had said, the rest is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Moves what each sends to the other, until both ways have ended or one side has failed. Each way is a task of its own, so
/// that one that is always busy does not keep the other waiting; they are cancelled when this one ends.
pub async fn relay(scheduler: &Handle, client: Rc<Stream>, server: Rc<Stream>) -> io::Result<()> {
    send_all(&client, &reply(0)).await?;
    let up = future::spawn(scheduler, pass_on(Rc::clone(&client), Rc::clone(&server)));
    let down = future::spawn(scheduler, pass_on(Rc::clone(&server), Rc::clone(&client)));
    let (first, other, gone, left) = match select(up, down).await {
        Either::Left((up, down)) => (up, down, server, client),
        Either::Right((down, up)) => (down, up, client, server),
    };
    match first?? {
        Ok(()) => other.await??,
        Err(failure) => finish(scheduler, other, &gone, &left).await.and(Err(failure)),
    }
}

/// One way, to its end. The inner error is that `to` has reset the connection, so that it cannot even be told the end. What it
/// had said before is there for the other way.
async fn pass_on(from: Rc<Stream>, to: Rc<Stream>) -> io::Result<io::Result<()>> {
    // What was connected, and is not any more, has been reset.
    let reset = |_| ErrorKind::ConnectionReset.into();
    match (copy(&from, &to).await, to.shutdown_send().map_err(reset)) {
        (Err(error), Ok(())) => Err(error),
        (copied, told) => Ok(copied.and(told)),
    }
}

/// Lets the other way, from the end that is gone to the one that is left, come to its end, as long as something moves.
async fn finish(
    scheduler: &Handle,
    way: JoinHandle<io::Result<io::Result<()>>>,
    gone: &Stream,
    left: &Stream,
) -> io::Result<()> {
    // What that end still says is for nobody, but until it is rid of it, it may take nothing.
    let dropping = async {
        let mut dropped = Vec::new();
        while recv_more(left, &mut dropped).await? > 0 {
            dropped.clear();
        }
        Ok(())
    };
    let stalling = async {
        loop {
            // Nobody says that something is taken: there is room again only when much of the kernel's queue is free.
            let queued = || gone.recv_queue_bytes() + left.send_queue_bytes();
            let before = queued();
            sleep(scheduler, STALL_TIMEOUT).await;
            if queued() == before {
                return Ok(());
            }
        }
    };
    race(async { try_join(async { way.await? }, dropping).await.map(drop) }, stalling).await
}
