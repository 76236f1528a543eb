//! The echo server on smol: a local executor on one thread, its buffer inside the task.

mod common;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use common::{PREFIX, RECV_BYTES_MAX};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor};

fn main() -> io::Result<()> {
    let listener = Async::<TcpListener>::new(common::listen("smol")?)?;
    let executor = Rc::new(LocalExecutor::new());
    let spawner = Rc::clone(&executor);
    smol::block_on(executor.run(async move {
        loop {
            let (stream, _) = listener.accept().await?;
            // One connection's error ends that connection and nothing else.
            spawner.spawn(async { drop(echo(stream).await) }).detach();
        }
    }))
}

async fn echo(mut stream: Async<TcpStream>) -> io::Result<()> {
    let mut reply = common::reply_buffer();
    let mut received = 0;
    loop {
        // A receive that got less than it asked for took all there was. `read` alone would receive once more, to be told that
        // there is nothing, before it waits.
        if received < RECV_BYTES_MAX {
            stream.readable().await?;
        }
        received = stream.read(&mut reply[PREFIX.len()..]).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&reply[..PREFIX.len() + received]).await?;
    }
}
