//! The command line.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Where the seed listens.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 25000);

/// More threads than any machine that this is made for has cores.
const WORKERS_MAX: usize = 256;

/// What `--help` prints.
pub const HELP: &str = "\
Usage: fdtask [OPTIONS]

Answers what it receives with GOT: and the same again.

Options:
  -l, --listen ADDR:PORT       Listen here; may be given several times. ADDR is a number:
                               an IPv4 address or an [IPv6] one; with port 0 the system
                               chooses the port [default: 0.0.0.0:25000]
      --max-connections N      Serve N clients at a time; more wait in the kernel's queue
      --idle-timeout SECONDS   Let go of a client with which nothing moves for so long
      --drain-timeout SECONDS  On SIGINT or SIGTERM, wait so long for the clients to end
                               [default: 10]
  -w, --workers N              Serve on N threads, each with a scheduler and a listener of
                               its own [default: 1]
      --poller poll|parked     How to wait: parked keeps idle clients out of the array that
                               poll(2) is handed [default: parked, on Linux]
  -q, --quiet                  Log nothing about single connections
  -h, --help                   Print this
  -V, --version                Print the version

Signals:
  SIGINT, SIGTERM   End when every client has its answers; a second one ends at once
  SIGUSR1           Print the task table to standard error
";

/// What the daemon was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    Help,
    Version,
    Serve(Config),
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub listen: Vec<SocketAddr>,
    pub quiet: bool,
    pub max_connections: Option<usize>,
    pub idle_timeout: Option<Duration>,
    pub drain_timeout: Duration,
    pub poller: PollerKind,
    pub workers: usize,
}

/// Which poller to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollerKind {
    Default,
    Poll,
    #[cfg(target_os = "linux")]
    Parked,
}

/// Understands the arguments, without the program's name.
///
/// # Errors
/// A line that says what is wrong with them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    // Whatever was typed is quoted in the answer, which is to remain one line.
    parse_all(arguments).map_err(|line| line.replace(char::is_control, "?"))
}

fn parse_all(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut config = Config {
        listen: Vec::new(),
        quiet: false,
        max_connections: None,
        idle_timeout: None,
        drain_timeout: Duration::from_secs(10),
        poller: PollerKind::Default,
        workers: 1,
    };
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let (name, attached) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let mut value = |what: &str| {
            attached.clone().or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value: {what}"))
        };
        match name {
            "--help" | "--version" | "--quiet" if attached.is_some() => return Err(format!("{name} takes no value")),
            "-h" | "--help" => return Ok(Request::Help),
            "-V" | "--version" => return Ok(Request::Version),
            "-q" | "--quiet" => config.quiet = true,
            "-l" | "--listen" => config.listen.push(address(&value("ADDR:PORT")?)?),
            "--max-connections" => config.max_connections = Some(count(name, &value("a number")?)?),
            "--idle-timeout" => config.idle_timeout = Some(positive(name, seconds(name, &value("seconds")?)?)?),
            "--drain-timeout" => config.drain_timeout = seconds(name, &value("seconds")?)?,
            "-w" | "--workers" => config.workers = workers(name, &value("a number")?)?,
            "--poller" => config.poller = poller(&value("poll or parked")?)?,
            _ if name.starts_with('-') => return Err(format!("unknown option '{argument}'")),
            _ => return Err(format!("unexpected argument '{argument}'")),
        }
    }
    Ok(Request::Serve(config))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("cannot listen on '{text}': not an address and a port, such as 127.0.0.1:25000 or [::1]:25000")
    })
}

fn workers(name: &str, text: &str) -> Result<usize, String> {
    match count(name, text)? {
        workers if workers <= WORKERS_MAX => Ok(workers),
        _ => Err(format!("{name} '{text}': at most {WORKERS_MAX}")),
    }
}

fn poller(text: &str) -> Result<PollerKind, String> {
    match text {
        "poll" => Ok(PollerKind::Poll),
        #[cfg(target_os = "linux")]
        "parked" => Ok(PollerKind::Parked),
        _ => Err(format!("--poller '{text}': not one of the pollers of this system")),
    }
}

fn count(name: &str, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("{name} '{text}': not a number of at least 1")),
    }
}

/// A number of seconds, whole or not.
fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("{name} '{text}': not a number of seconds"))
}

fn positive(name: &str, duration: Duration) -> Result<Duration, String> {
    if duration.is_zero() { Err(format!("{name} must be longer than 0 seconds")) } else { Ok(duration) }
}
