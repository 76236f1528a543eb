//! Sockets: addresses, listening, accepting, connecting, receiving and sending.

#![expect(
    clippy::cast_ptr_alignment,
    reason = "a sockaddr is a view of a sockaddr_storage here, aligned for every address"
)]

use super::{POLLIN, check, check_len, poll, poll_entry};
use std::io;
use std::mem::{self, ManuallyDrop};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Apple's older systems pass over `MSG_NOSIGNAL`; Rust's runtime ignores `SIGPIPE` at start, which has the same effect. All
/// sockets that are made here are non-blocking anyway, but one that is shared with other programs may not be, so each call says
/// it.
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// A borrowed socket as the standard library knows it, for the calls that it has a wrapper for, whatever kind of socket it is.
/// (It may be a pipe, too, if it is only made non-blocking.)
fn as_std(fd: BorrowedFd<'_>) -> ManuallyDrop<TcpStream> {
    // SAFETY: it is open, because it is borrowed, and whoever owns it goes on doing so, because this is never dropped.
    ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd.as_raw_fd()) })
}

/// Receives what is there, up to the length of `buffer`. 0 is the end of the stream.
#[inline]
pub(crate) fn recv(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one exclusively borrowed slice.
    check_len(unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// Sends as much of `bytes` as the socket has room for. A peer that is gone is an `EPIPE` or an `ECONNRESET`, never a
/// signal.
#[inline]
pub(crate) fn send(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one borrowed slice, which the kernel only reads.
    check_len(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), SEND_FLAGS) })
}

/// Says that nothing more will be sent (`SHUT_WR`): the peer reads what is in flight and then the end of the stream.
pub(crate) fn shutdown_send(fd: BorrowedFd<'_>) -> io::Result<()> {
    as_std(fd).shutdown(Shutdown::Write)
}

/// How many received bytes the kernel holds that nobody has read yet.
pub(crate) fn recv_queue_bytes(fd: BorrowedFd<'_>) -> usize {
    queue_bytes(fd, libc::FIONREAD)
}

/// How many sent bytes the peer has not acknowledged yet. 0 where the system cannot tell.
pub(crate) fn send_queue_bytes(fd: BorrowedFd<'_>) -> usize {
    #[cfg(target_os = "linux")]
    return queue_bytes(fd, libc::TIOCOUTQ);
    #[cfg(target_os = "freebsd")]
    return queue_bytes(fd, libc::FIONWRITE);
    #[cfg(target_vendor = "apple")]
    return socket_option(fd, libc::SOL_SOCKET, libc::SO_NWRITE).map_or(0, |count| count as usize);
    #[cfg(not(any(target_os = "linux", target_os = "freebsd", target_vendor = "apple")))]
    {
        let _ = fd;
        0
    }
}

/// What a request is to `ioctl`: POSIX says `int`, and most systems do not follow.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_ulong;

fn queue_bytes(fd: BorrowedFd<'_>, request: Request) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: both requests write one `int` through the pointer, which is to a live `int`.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, ptr::from_mut(&mut count)) };
    if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// Makes a stream socket that listens on `address`: non-blocking, closed on exec, with `SO_REUSEADDR` (a restart does not
/// wait for old connections to time out), and the longest backlog that the system allows (it clamps the number).
///
/// With `is_shared` other sockets may listen on the same address (`SO_REUSEPORT`), if they say so, too; Linux spreads the
/// connections over them.
pub(crate) fn listen(address: SocketAddr, is_shared: bool) -> io::Result<OwnedFd> {
    let socket = stream_socket(address)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if is_shared {
        share_address(&socket)?;
    }
    set_stream_options(&socket)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` can then be listened on side by side, whatever the system's default is.
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    let address = RawAddress::from(address);
    // SAFETY: the pointer is to a live address of `len` bytes.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr(), address.len) })?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::listen(socket.as_raw_fd(), libc::c_int::MAX) })?;
    Ok(socket)
}

/// Lets other sockets listen on the address of this one, if they say so, too.
pub(crate) fn share_address(socket: &OwnedFd) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
}

/// What every stream shall have, whether it is set on itself or, once, on the listener from which Linux and the BSDs let
/// it inherit them: `SO_KEEPALIVE` (a vanished peer is noticed), `SO_OOBINLINE` (an urgent byte stays in the stream)
/// and `TCP_NODELAY` (a reply is not held back for the acknowledgement of the one before it).
pub(super) fn set_stream_options(socket: &OwnedFd) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    match set_option(socket, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1) {
        // A service manager may pass a socket of multipath TCP, which knows no urgent bytes. (A client that speaks plain TCP to
        // it can send one all the same, and that is lost from the stream.)
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        set => set?,
    }
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Starts to connect to `address`. The socket can be sent to when the attempt has ended; [`connect_error`] then says how.
pub(crate) fn start_connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = stream_socket(address)?;
    set_stream_options(&socket)?;
    let address = RawAddress::from(address);
    // SAFETY: the pointer is to a live address of `len` bytes.
    match check(unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr(), address.len) }) {
        // EINTR, too: the attempt goes on without us (POSIX), exactly as after EINPROGRESS.
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Err(error),
        _ => Ok(socket),
    }
}

/// How an attempt to connect ended (`SO_ERROR`), once the socket can be sent to.
///
/// A socket that is connected to itself counts as refused. If nobody listens on a port of this machine, the system may choose
/// that very port as the socket's own, and TCP then connects the two: it would receive what it sends, and nobody could listen on
/// the port meanwhile.
pub(crate) fn connect_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    let socket = as_std(fd);
    match (socket.take_error()?, socket.local_addr(), socket.peer_addr()) {
        (Some(error), ..) => Err(error),
        (None, Ok(own), Ok(peer)) if (own.ip(), own.port()) == (peer.ip(), peer.port()) => {
            Err(io::Error::from_raw_os_error(libc::ECONNREFUSED))
        }
        (None, _, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Fails with `ENOTSOCK` for what is not a socket.
pub(crate) fn check_socket(fd: BorrowedFd<'_>) -> io::Result<()> {
    socket_option(fd, libc::SOL_SOCKET, libc::SO_TYPE).map(drop)
}

/// The value of a socket option that is an `int`.
pub(super) fn socket_option(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let (place, len) = (ptr::from_mut(&mut value).cast(), ptr::from_mut(&mut len));
    // SAFETY: `value` and `len` are live, and `len` says how large `value` is.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place, len) })?;
    Ok(value)
}

/// Takes the next connection off the queue: non-blocking, closed on exec, with the peer's address as `accept` itself gives
/// it, because `getpeername` fails for a peer that has already reset the connection.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut address = RawAddress::empty();
    let (place, len) = (address.as_mut_ptr(), &raw mut address.len);
    #[cfg(not(target_vendor = "apple"))]
    // SAFETY: the storage and its length are live and writable, and the length says how large the storage is.
    let fd =
        check(unsafe { libc::accept4(listener.as_raw_fd(), place, len, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) })?;
    #[cfg(target_vendor = "apple")]
    // SAFETY: the same.
    let fd = check(unsafe { libc::accept(listener.as_raw_fd(), place, len) })?;
    // SAFETY: the kernel has just returned `fd` to us and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    #[cfg(target_vendor = "apple")]
    set_nonblocking_cloexec(&socket)?;
    Ok((socket, address.decode()))
}

/// Whether nobody waits to be accepted. A system that refuses to tell has not said so.
pub(crate) fn is_queue_empty(listener: BorrowedFd<'_>) -> bool {
    poll(&mut [poll_entry(listener.as_raw_fd(), POLLIN)], 0).is_ok_and(|count| count == 0)
}

fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    #[cfg(not(target_vendor = "apple"))]
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let kind = libc::SOCK_STREAM;
    // SAFETY: no pointer is passed; the call only makes a descriptor.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the kernel has just returned `fd` to us and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    #[cfg(target_vendor = "apple")]
    set_nonblocking_cloexec(&socket)?;
    Ok(socket)
}

/// Makes calls on this descriptor, and on all that share its open file, fail with `EWOULDBLOCK` where they would sleep.
pub(crate) fn set_nonblocking(socket: &OwnedFd) -> io::Result<()> {
    as_std(socket.as_fd()).set_nonblocking(true)
}

/// Makes a descriptor what all that are made here are: non-blocking, and closed on exec.
pub(super) fn set_nonblocking_cloexec(socket: &OwnedFd) -> io::Result<()> {
    set_nonblocking(socket)?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

fn set_option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a live `int` of `len` bytes.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), len) }).map(drop)
}

/// A `sockaddr` of any family, and its length.
struct RawAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddress {
    fn empty() -> RawAddress {
        // SAFETY: a `sockaddr_storage` is plain integers and byte arrays, for all of which zero is a value.
        let storage = unsafe { mem::zeroed() };
        RawAddress { storage, len: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    fn as_ptr(&self) -> *const libc::sockaddr {
        ptr::from_ref(&self.storage).cast()
    }

    fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        ptr::from_mut(&mut self.storage).cast()
    }

    /// The address as Rust spells it. Where the kernel has given none, as Apple's may for a peer that is gone already, it reads
    /// as `0.0.0.0:0`.
    fn decode(&self) -> SocketAddr {
        match libc::c_int::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that the storage, large and aligned enough for every address, holds this one.
                let v4 = unsafe { *self.as_ptr().cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into()
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that the storage, large and aligned enough for every address, holds this one.
                let v6 = unsafe { *self.as_ptr().cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into()
            }
            _ => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> RawAddress {
        let mut raw = RawAddress::empty();
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: the storage is large and aligned enough for every address, and exclusively ours.
                let place = unsafe { &mut *raw.as_mut_ptr().cast::<libc::sockaddr_in>() };
                place.sin_family = libc::AF_INET as libc::sa_family_t;
                place.sin_port = v4.port().to_be();
                place.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                raw.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                // SAFETY: the storage is large and aligned enough for every address, and exclusively ours.
                let place = unsafe { &mut *raw.as_mut_ptr().cast::<libc::sockaddr_in6>() };
                place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                place.sin6_port = v6.port().to_be();
                place.sin6_addr.s6_addr = v6.ip().octets();
                place.sin6_flowinfo = v6.flowinfo();
                place.sin6_scope_id = v6.scope_id();
                raw.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_from_the_kernels_form_as_it_was() {
        let loopback = Ipv6Addr::LOCALHOST;
        for address in [
            SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 0x1234).into(),
            SocketAddr::from(SocketAddrV6::new(loopback, 0x1234, 0, 0)),
            // Which network a link-local address is of is its scope.
            SocketAddrV6::new(loopback, 0x1234, 5, 6).into(),
        ] {
            assert_eq!(RawAddress::from(address).decode(), address);
        }
    }
}
