//! The first of two futures.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Waits for whichever of two futures is ready first, and drops the other. If both are ready, `first` wins.
///
/// ```
/// use fdtask::net::Stream;
/// use fdtask::{Handle, future};
/// use std::io;
/// use std::time::Duration;
///
/// /// Pings until the other end says something.
/// async fn ping(scheduler: Handle, stream: Stream) -> io::Result<()> {
///     let pinging = async {
///         loop {
///             future::send_all(&stream, b"ping\n").await?;
///             future::sleep(&scheduler, Duration::from_secs(1)).await;
///         }
///     };
///     future::race(future::readable(&stream), pinging).await
/// }
/// ```
pub async fn race<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => second.as_mut().poll(cx),
    })
    .await
}
