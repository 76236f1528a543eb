//! Where things are: the two packages, their binaries, what is built for the peers.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The directories the runner works with.
pub struct Places {
    /// The main package.
    pub main_package: PathBuf,
    /// This package.
    pub package: PathBuf,
    /// This package's binaries.
    pub binaries: PathBuf,
    /// What is built for the peers that are not written in Rust.
    pub peers: PathBuf,
}

impl Places {
    /// Finds them, and makes the one that only we use.
    pub fn find() -> Result<Self> {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        // Whatever this program was built as, what is measured, and what measures, is built with `--release`.
        let own = env::current_exe()?;
        let target = own.parent().and_then(Path::parent).context("this program is in no target directory")?;
        let (binaries, peers) = (target.join("release"), target.join("peers"));
        fs::create_dir_all(&peers).with_context(|| peers.display().to_string())?;
        let main_package = package.parent().context("this package is not inside the main one")?.to_owned();
        Ok(Places { main_package, package, binaries, peers })
    }

    /// The cargo that started us, or the one in the path.
    pub fn cargo() -> Command {
        Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// A source file of a peer.
    pub fn source(&self, name: &str) -> PathBuf {
        self.package.join("servers").join(name)
    }

    /// Where cargo puts the daemon when it builds the main package.
    pub fn fdtask(&self) -> PathBuf {
        let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        // A relative one begins where that cargo was started.
        self.main_package.join(target).join("release/fdtask")
    }

    /// The load client.
    pub fn load_client(&self) -> PathBuf {
        self.binaries.join("fdtask-load")
    }
}

/// A path as an argument of a command.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
