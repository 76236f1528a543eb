//! The echo server with a control port, which shows what the server is doing to whoever runs it.
//!
//! ```text
//! terminal 1: cargo run --example control_port -- 127.0.0.1:25000 25001
//! terminal 2: nc localhost 25000
//! terminal 3: telnet localhost 25001
//! ```
//! Type `ps` in terminal 3: the table of live tasks has an `echo 127.0.0.1:…` for terminal 2, a `control 127.0.0.1:…`
//! for the session that asks, and `(this task)` for what looks them all up. `help` shows the other commands; whatever else
//! you type is refused.
//!
//! The port is on the loopback only. A socket in the file system is for the same user only: give `./control` in place of
//! `25001` in terminal 1, and `nc -U ./control` in terminal 3 talks to it.
//!
//! This file is the two ports, and `session.rs` what is said at the second one.

mod session;

use fdtask::future;
use fdtask::net::{Acceptor, DESCRIPTORS_RETRY, Echo, Limit, Listener, Stream, raise_descriptor_limit};
use fdtask::{Diagnostics, Scheduler, Task, Wait, reason, task_fn};
use session::{Tables, session, tables};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::{fs, os::fd::AsRawFd, rc::Rc};

/// How many clients there may be at a time. Fewer, if the system does not allow so many descriptors beside those of the
/// sessions and of the program itself: who wants to know why there are none left must still get in.
const CLIENTS_MAX: usize = 4096;
const OWN_DESCRIPTORS: usize = 16;
/// How many sessions there may be at a time.
const SESSIONS_MAX: usize = 16;

/// What [`Acceptor`] is for TCP: accepts from a Unix socket at `path`.
fn unix_acceptor(path: &str, tables: Tables) -> io::Result<impl Task + use<>> {
    // A program that is gone may have left its socket there. (What is no socket refuses connections, too, and is not ours.)
    if fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    // Until then, the umask alone has said who may connect. Whoever came so early is turned away.
    while listener.accept().is_ok() {}
    let sessions = Rc::new(()); // Each of them has a clone.
    Ok(task_fn("unix acceptor", move |cx| {
        let has_place = Rc::strong_count(&sessions) <= SESSIONS_MAX;
        match has_place.then(|| listener.accept().and_then(|(socket, _)| Stream::new(&cx.handle(), socket))) {
            Some(Ok(stream)) => {
                let (session, place) = (session(cx.handle(), stream, tables.clone()), Rc::clone(&sessions));
                let session = async move { session.await.map(|()| drop(place)) };
                cx.spawn(future::task(session).named("unix control"));
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            // There is no place, or most likely no descriptor left.
            _ => return Ok(Wait::Until(cx.now() + DESCRIPTORS_RETRY)),
        }
        Ok(Wait::Recv(listener.as_raw_fd()))
    }))
}

fn serve(address: SocketAddr, control: &str) -> io::Result<()> {
    let mut scheduler = Scheduler::new();
    let handle = scheduler.handle();
    scheduler.observe(Diagnostics::to_stderr(&handle, "control_port")?);
    let listener = Listener::bind(address)?;
    // A server whose standard output nobody reads serves all the same.
    let _ = writeln!(io::stdout(), "Listening on {}", listener.address());
    let reserved = OWN_DESCRIPTORS + SESSIONS_MAX;
    let room = raise_descriptor_limit(reserved + CLIENTS_MAX)?.saturating_sub(reserved);
    let acceptor = Acceptor::new(&handle, listener, Echo::new);
    scheduler.spawn(acceptor.with_limit(Some(Limit::new(room.clamp(1, CLIENTS_MAX)))));
    let tables = tables(&handle);
    if let Ok(port) = control.parse() {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, port).into())?;
        let _ = writeln!(io::stdout(), "Controlled on {}", listener.address());
        let acceptor = Acceptor::new(&scheduler.handle(), listener, move |stream, peer| {
            future::task(session(handle.clone(), stream, tables.clone())).named(format!("control {peer}"))
        });
        scheduler.spawn(acceptor.with_limit(Some(Limit::new(SESSIONS_MAX))));
    } else {
        scheduler.spawn(unix_acceptor(control, tables)?);
        let _ = writeln!(io::stdout(), "Controlled on {control}");
    }
    scheduler.run();
    Ok(())
}

fn arguments() -> Option<(SocketAddr, String)> {
    let mut arguments = std::env::args_os().skip(1).map(|text| text.into_string().ok());
    let (address, control) = (arguments.next()??.parse().ok()?, arguments.next()??);
    let is_usable = control.contains('/') || control.parse::<u16>().is_ok();
    (is_usable && arguments.next().is_none()).then_some((address, control))
}

fn main() -> ExitCode {
    let Some((address, control)) = arguments() else {
        let _ = writeln!(io::stderr(), "usage: control_port ADDRESS:PORT CONTROL_PORT|./SOCKET");
        return ExitCode::from(2);
    };
    let Err(error) = serve(address, &control) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "control_port: cannot listen on {address} and {control:?}: {}", reason(&error));
    ExitCode::FAILURE
}
