//! What a client asks for, and what it is answered.

use fdtask::Handle;
use fdtask::future::{self, recv_exact, send_all, timeout};
use fdtask::net::Stream;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// How long one address of the target may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What whoever does not speak SOCKS5 is told. Most of them are browsers that take this for an HTTP proxy.
const NOT_SOCKS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nThis is a SOCKS5 proxy.\n";

/// What RFC 1928 calls a reply; 0 is the good one. (It has room for an address that CONNECT does not need.)
pub fn reply(code: u8) -> Vec<u8> {
    vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// Which host and port the client wants to talk to; or what it is answered instead.
pub async fn request(client: &Stream) -> io::Result<Result<(String, u16), Vec<u8>>> {
    let [version, count] = receive(client).await?;
    if version != 5 {
        return Ok(Err(NOT_SOCKS.to_vec()));
    }
    let mut methods = vec![0; count.into()];
    recv_exact(client, &mut methods).await?;
    if !methods.contains(&0) {
        // 0 is "no authentication", and there is no other here.
        return Ok(Err(vec![5, 0xff]));
    }
    send_all(client, &[5, 0]).await?;
    let [version, command, _, address_type] = receive(client).await?;
    let host = match (version, command, address_type) {
        (5, 1, 1) => Ipv4Addr::from(receive::<4>(client).await?).to_string(),
        (5, 1, 4) => Ipv6Addr::from(receive::<16>(client).await?).to_string(),
        (5, 1, 3) => {
            let [len] = receive(client).await?;
            let mut name = vec![0; len.into()];
            recv_exact(client, &mut name).await?;
            // What is not text is not the name of anything, and will not be found.
            String::from_utf8_lossy(&name).into_owned()
        }
        (5, 1, _) => return Ok(Err(reply(8))),
        (5, _, _) => return Ok(Err(reply(7))),
        _ => return Ok(Err(reply(1))),
    };
    Ok(Ok((host, u16::from_be_bytes(receive(client).await?))))
}

/// Receives so many bytes, and not one more: what follows may be for the server.
async fn receive<const LEN: usize>(client: &Stream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    recv_exact(client, &mut bytes).await?;
    Ok(bytes)
}

/// The addresses of the host. One that is given by its address has no other, and needs no thread, of which slow names may have
/// taken all that the system allows.
async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    future::blocking(move || {
        // If no descriptor is left, the system says of any name that there is no such host.
        drop(File::open("/dev/null")?);
        Ok((host.as_str(), port).to_socket_addrs().map_or(Vec::new(), Vec::from_iter))
    })
    .await?
}

/// Connects to the first address of the host that answers.
pub async fn connect(scheduler: &Handle, host: String, port: u16) -> Result<Stream, Vec<u8>> {
    let Ok(addresses) = look_up(host, port).await else { return Err(reply(1)) };
    let mut refused = reply(4);
    for address in addresses {
        let connecting = timeout(scheduler, CONNECT_TIMEOUT, future::connect(scheduler, address));
        refused = match connecting.await.unwrap_or_else(|late| Err(late.into())) {
            Ok(server) => return Ok(server),
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable => reply(3),
            Err(error) if matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::TimedOut) => reply(4),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => reply(5),
            Err(_) => reply(1),
        }
    }
    Err(refused)
}
