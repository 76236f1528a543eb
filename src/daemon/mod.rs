//! The echo daemon's parts: its arguments, its journal, and how it is told to end. The protocol is the library's.

pub mod arguments;
pub mod control;
pub mod fleet;
pub mod journal;
pub mod manager;
pub mod worker;

use fdtask::reason;
use std::io;

/// Makes the line that says what the daemon cannot do, why, and what to do about it, if that is known.
pub fn cannot(what: &str) -> impl FnOnce(io::Error) -> String {
    move |error| {
        let remedy = match error.raw_os_error() {
            Some(libc::EMFILE) => "; raise the limit with 'ulimit -n'",
            Some(libc::EADDRINUSE) => "; end whoever listens there, or choose another port with --listen",
            Some(libc::EADDRNOTAVAIL) => "; choose an address of this machine, or 0.0.0.0 for all of them",
            Some(libc::EACCES) if what.starts_with("listen") => {
                "; ports below 1024 need a privilege, so choose a higher one with --listen"
            }
            _ => "",
        };
        format!("cannot {what}: {}{remedy}", reason(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_said_where_it_is_known_and_the_line_remains_one() {
        let line = |errno| cannot("listen on here")(io::Error::from_raw_os_error(errno));
        for errno in [libc::EMFILE, libc::EADDRINUSE, libc::EADDRNOTAVAIL, libc::EACCES] {
            let line = line(errno);
            assert!(line.starts_with("cannot listen on here: ") && line.matches("; ").count() == 1, "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
        assert!(!line(libc::EIO).contains(';'));
        assert!(!cannot("print")(io::Error::from_raw_os_error(libc::EACCES)).contains("ports"));
    }
}
