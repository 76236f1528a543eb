//! The echo server on tokio's current-thread runtime: one task a connection, its buffer inside the task.

mod common;

use std::io;

use common::PREFIX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let listener = common::listen("tokio")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            // One connection's error ends that connection and nothing else.
            tokio::spawn(async { drop(echo(stream).await) });
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut reply = common::reply_buffer();
    loop {
        let received = stream.read(&mut reply[PREFIX.len()..]).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&reply[..PREFIX.len() + received]).await?;
    }
}
