//! The measured window: nothing counts while the server warms up, then everything does, then it is over.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

use super::target;
use crate::sample::Sample;

/// A round trip longer than this counts as this long.
const ROUND_TRIP_NS_MAX: u64 = 60_000_000_000;

/// Three significant digits of a round trip are kept, in memory that is there from the beginning.
const HISTOGRAM_DIGITS: u8 = 3;

/// What is measured of one server.
pub struct Window {
    pid: u32,
    warm: Duration,
    measured: Duration,
    state: State,
    units: u64,
    round_trips: Histogram<u64>,
    /// How long the pieces were together, of a load that is measured in pieces, and what CPU they took.
    pieces_ns: u64,
    pieces_cpu_ns: u64,
    sample: Sample,
}

/// A part of a load that counts, between others that do not.
pub struct Piece {
    since: Instant,
    cpu_before: u64,
}

enum State {
    /// The connections are being opened.
    New,
    /// The load runs, nothing counts until then.
    Warming(Instant),
    /// Everything counts: since when, and what CPU the server had used by then.
    Measuring(Instant, u64),
    /// The sample is complete.
    Over,
}

impl Window {
    /// A window over the process `pid`, `measured` long, that opens `warm` after its first turn.
    pub fn new(pid: u32, warm: Duration, measured: Duration) -> Result<Self> {
        let round_trips = Histogram::new_with_bounds(1, ROUND_TRIP_NS_MAX, HISTOGRAM_DIGITS)?;
        Ok(Window {
            pid,
            warm,
            measured,
            state: State::New,
            units: 0,
            round_trips,
            pieces_ns: 0,
            pieces_cpu_ns: 0,
            sample: Sample::default(),
        })
    }

    /// One round trip was completed.
    pub fn record(&mut self, took: Duration) {
        self.units += 1;
        self.round_trips.saturating_record(took.as_nanos() as u64);
    }

    /// `units` were carried that have no round trip of their own.
    pub fn add(&mut self, units: u64) {
        self.units += units;
    }

    /// To be called once a turn of the load's loop; true when the window is over.
    pub fn turn(&mut self, now: Instant) -> Result<bool> {
        match self.state {
            State::New => self.state = State::Warming(now + self.warm),
            State::Warming(until) if now >= until => {
                self.units = 0;
                self.round_trips.reset();
                self.state = State::Measuring(Instant::now(), target::cpu_ns(self.pid)?);
            }
            State::Measuring(since, cpu_before) if now >= since + self.measured => {
                self.close(since, cpu_before)?;
                self.state = State::Over;
            }
            _ => {}
        }
        Ok(matches!(self.state, State::Over))
    }

    /// The process whose window it is.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// For a load that is measured in pieces, instead of [`turn`](Window::turn): one of them begins.
    pub fn begin_piece(&self) -> Result<Piece> {
        Ok(Piece { since: Instant::now(), cpu_before: target::cpu_ns(self.pid)? })
    }

    /// A piece in which so many `units` were carried has ended; true when the window is over, which is when the pieces are as
    /// long together as it is. Those of the time to warm up do not count.
    pub fn end_piece(&mut self, piece: Piece, units: u64) -> Result<bool> {
        let took = piece.since.elapsed();
        if !self.warm.is_zero() {
            self.warm = self.warm.saturating_sub(took);
            return Ok(false);
        }
        self.units += units;
        self.pieces_ns += took.as_nanos() as u64;
        self.pieces_cpu_ns += target::cpu_ns(self.pid)? - piece.cpu_before;
        let is_over = self.pieces_ns >= self.measured.as_nanos() as u64;
        if is_over {
            self.complete(self.pieces_ns, self.pieces_cpu_ns)?;
        }
        Ok(is_over)
    }

    fn close(&mut self, since: Instant, cpu_before: u64) -> Result<()> {
        let cpu_ns = target::cpu_ns(self.pid)? - cpu_before;
        self.complete(since.elapsed().as_nanos() as u64, cpu_ns)
    }

    fn complete(&mut self, window_ns: u64, cpu_ns: u64) -> Result<()> {
        if self.units == 0 {
            bail!("nothing was answered in the whole window");
        }
        if cpu_ns == 0 {
            bail!("process {} used no CPU: is it a wrapper, which should `exec` the server?", self.pid);
        }
        let at = |quantile| if self.round_trips.is_empty() { 0 } else { self.round_trips.value_at_quantile(quantile) };
        self.sample = Sample {
            units: self.units,
            window_ns,
            cpu_ns,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: at(1.0),
            rss_kib: target::rss_kib(self.pid)?,
            threads: target::threads(self.pid)?,
        };
        Ok(())
    }

    /// What it came to, once it is over.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_used_no_cpu_is_not_the_server() {
        let mut sleeping = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        // It may still be on its way to sleep.
        let refused = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            let mut window = Window::new(sleeping.id(), Duration::ZERO, Duration::ZERO).unwrap();
            while matches!(window.state, State::New | State::Warming(_)) {
                window.turn(Instant::now()).unwrap();
            }
            window.record(Duration::from_millis(1));
            window.turn(Instant::now()).is_err_and(|error| error.to_string().contains("used no CPU"))
        });
        sleeping.kill().unwrap();
        sleeping.wait().unwrap();
        assert!(refused);
    }
}
