//! What the service manager is told, as `sd_notify(3)` describes it: when the daemon is ready and when it is stopping.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Client, LIMIT, Server, ServerBuilder, Signal, assert_idle, uninterrupted};
use faults::{descriptors, served};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A name that no other test, and no other run of this one, uses.
fn unique_name(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("fdtask-test-{}-{}-{what}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The service manager's end of `NOTIFY_SOCKET`, at a path of the file system, which is removed in the end.
struct Manager {
    socket: UnixDatagram,
    path: Option<PathBuf>,
}

impl Manager {
    fn at_path() -> (Manager, String) {
        let path = std::env::temp_dir().join(unique_name("notify"));
        let socket = UnixDatagram::bind(&path).expect("a path of our own is free");
        let name = path.to_str().expect("a path of our own is text").to_owned();
        (Manager::new(socket, Some(path)), name)
    }

    fn abstract_name() -> (Manager, String) {
        let name = unique_name("notify");
        let address = UnixAddress::from_abstract_name(&name).expect("a short name is a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a name of our own is free");
        (Manager::new(socket, None), format!("@{name}"))
    }

    fn new(socket: UnixDatagram, path: Option<PathBuf>) -> Manager {
        socket.set_read_timeout(Some(LIMIT)).expect("a timeout can be set");
        Manager { socket, path }
    }

    /// The next message, a variable a line.
    #[track_caller]
    fn receive(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let len = uninterrupted(|| self.socket.recv(&mut message)).expect("the daemon tells its manager something");
        String::from_utf8_lossy(&message[..len]).lines().map(str::to_owned).collect()
    }

    /// Whether there is a message now.
    fn has_message(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket can be made non-blocking");
        let has_message = self.socket.recv(&mut [0; 4096]).is_ok();
        self.socket.set_nonblocking(false).expect("a socket can be made blocking");
        has_message
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing is lost if it is gone.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[track_caller]
fn expect_ready_and_stopping(manager: &Manager, name: &str) {
    let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", name).spawn();
    let message = manager.receive();
    assert!(message.contains(&"READY=1".to_owned()), "{message:?}");
    let mut clients = served(server.address(), 3);
    assert!(!manager.has_message(), "it is told once");
    server.signal(Signal::TERM);
    let message = manager.receive();
    assert!(message.contains(&"STOPPING=1".to_owned()), "{message:?}");
    for client in &mut clients {
        client.expect_end();
    }
    assert!(server.is_running(), "it tells that it is stopping when it begins to, not when it has");
    drop(clients);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
    assert!(!manager.has_message(), "it is told once");
}

#[test]
fn the_manager_is_told_when_it_is_ready_and_when_it_is_stopping() {
    let (manager, name) = Manager::at_path();
    expect_ready_and_stopping(&manager, &name);
}

#[test]
fn a_manager_with_an_abstract_name_is_told_the_same() {
    let (manager, name) = Manager::abstract_name();
    expect_ready_and_stopping(&manager, &name);
}

#[test]
fn it_is_ready_when_it_can_be_connected_to_and_told_to_end() {
    for _ in 0..20 {
        let (manager, name) = Manager::abstract_name();
        let args = ["--listen", "127.0.0.1:0"];
        let mut server = Server::builder().args(args).env("NOTIFY_SOCKET", &name).spawn();
        assert!(manager.receive().contains(&"READY=1".to_owned()));
        // Whoever has been told so may at once connect (here: find the listening socket), and end the daemon in order.
        assert!(descriptors(&server).iter().any(|(_, file)| file.starts_with("socket:")));
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
    }
}

/// What fills the queue of a manager that has no time.
const FILLER: &str = "x";

fn fill(manager: &Manager) {
    let filler = UnixDatagram::unbound().expect("a socket can be made");
    filler.set_nonblocking(true).expect("a socket can be made non-blocking");
    while filler.send_to(FILLER.as_bytes(), manager.path.as_ref().expect("it has a path")).is_ok() {}
}

#[test]
fn a_manager_that_has_no_time_is_told_when_it_has() {
    let (manager, name) = Manager::at_path();
    let tell_late = |server: &Server, news: &str| {
        server.stderr.wait_for_line(LIMIT, |line| line.contains("manager"));
        assert_idle(server, "its manager has no time");
        let message = std::iter::repeat_with(|| manager.receive()).find(|message| *message != [FILLER]);
        assert_eq!(message.as_deref(), Some(&[news.to_owned()][..]));
    };
    fill(&manager);
    let mut server = Server::builder().args(["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", &name).spawn();
    let mut clients = served(server.address(), 3);
    tell_late(&server, "READY=1");
    fill(&manager);
    server.signal(Signal::TERM);
    clients.iter_mut().for_each(Client::expect_end);
    tell_late(&server, "STOPPING=1");
    drop(clients);
    assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
}

#[test]
#[ignore = "needs strace"]
fn a_manager_that_cannot_be_told_for_want_of_memory_is_told_when_there_is_some() {
    for error in ["ENOBUFS", "ENOMEM"] {
        let (manager, name) = Manager::at_path();
        let inject = format!("inject=sendto:error={error}:when=1");
        let tracer = ["-D", "-f", "-o", "/dev/null", "-e", &inject];
        let daemon = [env!("CARGO_BIN_EXE_fdtask"), "--listen", "127.0.0.1:0"];
        let server = ServerBuilder::of("strace").args(tracer).args(daemon).env("NOTIFY_SOCKET", &name);
        let mut server = server.spawn();
        assert_eq!(manager.receive(), ["READY=1"], "after {error}");
        server.stderr.wait_for_line(LIMIT, |line| line.contains("manager"));
        server.signal(Signal::TERM);
        assert_eq!(manager.receive(), ["STOPPING=1"]);
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0));
    }
}

#[test]
fn a_manager_that_is_not_there_or_does_not_listen_costs_a_line_and_no_service() {
    let (full, full_name) = Manager::at_path();
    fill(&full);
    for name in [full_name.as_str(), "/nowhere/to/be/found", "@fdtask-test-nobody"] {
        let args = ["--listen", "127.0.0.1:0"];
        let mut server = Server::builder().args(args).env("NOTIFY_SOCKET", name).spawn();
        served(server.address(), 3);
        let line = server.stderr.wait_for_line(LIMIT, |line| line.contains("manager"));
        assert!(line.starts_with("fdtask: "), "{line}");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(LIMIT).code(), Some(0), "with {name}: {:?}", server.stderr.all());
    }
}

#[test]
fn an_empty_notify_socket_is_none() {
    let server = Server::builder().args(["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", "").spawn();
    served(server.address(), 3);
    assert_eq!(server.stderr.all(), [""; 0]);
}
