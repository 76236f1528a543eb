//! The command line.

use fdtask::poller::{self, Poller};
use std::ffi::OsString;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Where the seed listens.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 25000);

/// More threads than any machine that this is made for has cores.
const WORKERS_MAX: usize = 256;

/// More seconds than anybody waits, and few enough to be added to any instant.
const SECONDS_MAX: u32 = u32::MAX;

/// The values of `--poller`.
const POLLERS: &str = if cfg!(target_os = "linux") { "poll or parked" } else { "poll" };

/// What `--help` prints.
pub const HELP: &str = "\
Usage: fdtask [OPTIONS]

Answers what it receives with GOT: and the same again.

Options:
  -l, --listen ADDR:PORT       Listen here; may be given several times. ADDR is numeric,
                               IPv4 or [IPv6]; with port 0 the system chooses the port
                               [default: 0.0.0.0:25000]
      --max-connections N      Serve at most N clients at a time, over all workers; others
                               wait in the kernel's queue [default: what 'ulimit -n' allows]
      --idle-timeout SECONDS   Disconnect a client after so long without a byte in either
                               direction; 0.5 is half a second [default: never]
      --drain-timeout SECONDS  After SIGINT or SIGTERM, wait at most so long for clients to
                               hang up, then cut off those that are left [default: 10]
  -w, --workers N              Serve on N threads, at most 256, each with a scheduler and
                               a listener of its own [default: 1]
      --poller poll|parked     How to wait: parked keeps idle clients out of the array that
                               is handed to poll(2) [default: parked on Linux, else poll]
  -q, --quiet                  Do not log single connections, nor their errors
  -h, --help                   Print this
  -V, --version                Print the version

Signals:
  SIGINT, SIGTERM   End when every client has its answers and has hung up, or the drain
                    timeout is over; a second one ends at once
  SIGUSR1           Print the task table to standard error

Exit status:
  0  it ended as it was told to, even if it had to cut clients off
  1  something failed, and a line on standard error says what
  2  wrong usage
";

/// What the daemon was asked to do.
pub enum Request {
    Help,
    Version,
    Serve(Config),
}

/// How to serve.
#[derive(Clone)]
pub struct Config {
    pub listen: Vec<SocketAddr>,
    pub quiet: bool,
    pub max_connections: Option<usize>,
    pub idle_timeout: Option<Duration>,
    pub drain_timeout: Duration,
    pub poller: MakePoller,
    pub workers: usize,
}

/// Makes the poller of one worker.
type MakePoller = fn() -> Box<dyn Poller>;

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
        poller: poller::default_poller,
        workers: 1,
    };
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    let mut grouped = None;
    while let Some(argument) = grouped.take().or_else(|| arguments.next()) {
        let (name, attached) = split(&argument);
        let mut value = |what: &str| {
            attached
                .map(str::to_owned)
                .or_else(|| arguments.next())
                .ok_or_else(|| format!("{name} needs a value: {what}"))
        };
        match name {
            "--help" | "--version" | "--quiet" if attached.is_some() => return Err(format!("{name} takes no value")),
            "-h" | "--help" => return Ok(Request::Help),
            "-V" | "--version" => return Ok(Request::Version),
            "-q" | "--quiet" => {
                config.quiet = true;
                grouped = attached.map(|others| format!("-{others}"));
            }
            "-l" | "--listen" => config.listen.push(address(&value("ADDR:PORT")?)?),
            "--max-connections" => config.max_connections = Some(count(name, &value("a number")?, usize::MAX)?),
            "--idle-timeout" => config.idle_timeout = Some(positive(name, seconds(name, &value("seconds")?)?)?),
            "--drain-timeout" => config.drain_timeout = seconds(name, &value("seconds")?)?,
            "-w" | "--workers" => config.workers = count(name, &value("a number")?, WORKERS_MAX)?,
            "--poller" => config.poller = make_poller(&value(POLLERS)?)?,
            _ if name.starts_with('-') => return Err(format!("unknown option '{argument}'")),
            _ => return Err(format!("unexpected argument '{argument}'")),
        }
    }
    Ok(Request::Serve(config))
}

/// The option, and what is attached to it: the value in `--workers=2` and in `-w2`, the other options in `-qw2`. What is
/// attached to a single letter does not begin with a hyphen: `-q-help` is no option.
fn split(argument: &str) -> (&str, Option<&str>) {
    if argument.starts_with("--") {
        return argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
    }
    match argument.split_at_checked(2) {
        Some((name, attached)) if name.starts_with('-') && !matches!(attached.as_bytes(), [] | [b'-', ..]) => {
            (name, Some(attached))
        }
        _ => (argument, None),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("cannot listen on '{text}': not a numeric address and a port, such as 127.0.0.1:25000 or [::1]:25000")
    })
}

fn make_poller(text: &str) -> Result<MakePoller, String> {
    match text {
        "poll" => Ok(|| Box::new(poller::Poll::new())),
        #[cfg(target_os = "linux")]
        "parked" => Ok(|| Box::new(poller::Parked::new())),
        _ => Err(format!("--poller '{text}': this system has {POLLERS}")),
    }
}

fn count(name: &str, text: &str, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > max => Err(format!("{name} '{text}': at most {max}")),
        // The language takes a sign before a number, but a count has none.
        Ok(count) if count > 0 && !text.starts_with('+') => Ok(count),
        _ => Err(format!("{name} '{text}': not a number of at least 1")),
    }
}

fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    decimal_seconds(text).ok_or_else(|| format!("{name} '{text}': not a number of seconds, at most {SECONDS_MAX}"))
}

/// A decimal number of seconds, whole or not. What is finer than a nanosecond is cut off.
fn decimal_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let append = |sum: u32, digit: u8| sum.checked_mul(10)?.checked_add((digit - b'0').into());
    let seconds = whole.bytes().try_fold(0, append)?;
    let nanoseconds = fraction.bytes().chain(iter::repeat(b'0')).take(9).try_fold(0, append)?;
    Some(Duration::new(seconds.into(), nanoseconds))
}

fn positive(name: &str, duration: Duration) -> Result<Duration, String> {
    if duration.is_zero() {
        Err(format!("{name} must be longer than 0 seconds; leave it out for none"))
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_help_that_there_is() {
        assert!(include_str!("../../README.md").contains(HELP));
    }

    #[test]
    fn seconds_are_read_to_the_nanosecond() {
        let cases = [
            ("0", 0, 0),
            ("10", 10, 0),
            ("007", 7, 0),
            ("5.", 5, 0),
            (".5", 0, 500_000_000),
            ("0.05", 0, 50_000_000),
            ("1.25", 1, 250_000_000),
            ("2.123456789", 2, 123_456_789),
            ("2.1234567899", 2, 123_456_789),
            ("0.0000000009", 0, 0),
            ("4294967295.999999999", u32::MAX.into(), 999_999_999),
        ];
        for (text, seconds, nanoseconds) in cases {
            assert_eq!(decimal_seconds(text), Some(Duration::new(seconds, nanoseconds)), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_decimal_number_of_seconds_is_refused() {
        let texts = ["", ".", "-1", "+1", "1.-5", "1.5.0", "1,5", "1e3", " 1", "1s", "inf", "NaN", "4294967296"];
        for text in texts {
            assert_eq!(decimal_seconds(text), None, "{text:?}");
        }
    }
}
