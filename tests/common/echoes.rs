//! One echo, three ways: the daemon's state machine, an `async fn`, and threads. Whatever is promised of an echo server is
//! tested over each that promises it, by the same test.

use super::server::{Server, ServerBuilder};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// One of the three. Only the daemon logs its connections, so a test of several does not depend on what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// The built binary.
    Daemon,
    /// `examples/echo_async.rs`.
    Async,
    /// `examples/echo_threads.rs`, which has no options.
    Threads,
}

impl Echo {
    /// Starts it on a free port of the loopback, and waits until it listens.
    #[track_caller]
    pub fn start(self, args: &[&str]) -> Server {
        let server = self.listening_on("127.0.0.1:0").args(args).spawn();
        server.address();
        server
    }

    /// How to start it on this address.
    pub fn listening_on(self, address: &str) -> ServerBuilder {
        match self {
            Echo::Daemon => Server::builder().args(["--listen", address]),
            Echo::Async => ServerBuilder::of(example("echo_async")).args(["--listen", address]),
            Echo::Threads => ServerBuilder::of(example("echo_threads")).args([address]),
        }
    }
}

/// Emits each named test for each echo that promises what it tests, as `daemon::…`, `echo_async::…`, `echo_threads::…`. A test
/// is a function of an [`Echo`].
macro_rules! over_echoes {
    ($(all_three: $($(#[$of_all:meta])* $all:ident)+;)? $(without_threads: $($(#[$of_ours:meta])* $ours:ident)+;)?) => {
        mod daemon {
            use crate::common::Echo::Daemon;
            $($($(#[$of_all])* #[test] fn $all() { super::$all(Daemon); })+)?
            $($($(#[$of_ours])* #[test] fn $ours() { super::$ours(Daemon); })+)?
        }
        mod echo_async {
            use crate::common::Echo::Async;
            $($($(#[$of_all])* #[test] fn $all() { super::$all(Async); })+)?
            $($($(#[$of_ours])* #[test] fn $ours() { super::$ours(Async); })+)?
        }
        mod echo_threads {
            $($($(#[$of_all])* #[test] fn $all() { super::$all(crate::common::Echo::Threads); })+)?
        }
    };
}
pub(crate) use over_echoes;

/// Where the binary of an example is: in a directory beside that of this test's binary, and up to date.
#[track_caller]
pub fn example(name: &str) -> PathBuf {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    let path = EXAMPLES.get_or_init(build_examples).join(name);
    assert!(path.exists(), "{} is not built; cargo build --examples", path.display());
    path
}

/// Cargo builds the examples for `cargo test`, but not if only one file of tests is asked for. A test that is run by hand
/// takes what is there.
fn build_examples() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("the test is in target/<profile>/deps");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut cargo = Command::new(cargo);
        cargo.args(["build", "--quiet", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let mut directory = profile.parent().expect("target");
        // For another system than the one that builds (`cargo test --target`), it is target/<system>.
        if let Some(system) = directory.file_name().filter(|name| name.to_string_lossy().contains("-linux-")) {
            cargo.arg("--target").arg(system);
            directory = directory.parent().expect("target");
        }
        cargo.arg("--target-dir").arg(directory);
        if profile.file_name() == Some(OsStr::new("release")) {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo is there").success(), "the examples can be built");
    }
    profile.join("examples")
}
