//! What one run of one server under one scenario came to, and the line that carries it from the load client to the runner.

use anyhow::{Context, Result};

/// Defines the sample once, with its line: `name=value`, separated by blanks.
macro_rules! sample {
    ($($(#[$about:meta])* $field:ident),* $(,)?) => {
        /// The figures of one measured window.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Sample { $($(#[$about])* pub $field: u64,)* }

        impl Sample {
            /// The names of the figures, in the order of [`Sample::values`].
            pub const FIELDS: &[&str] = &[$(stringify!($field)),*];

            /// The figures, in the order of [`Sample::FIELDS`].
            pub fn values(&self) -> Vec<u64> {
                vec![$(self.$field),*]
            }

            /// Reads what [`Sample::to_line`] wrote.
            pub fn from_line(line: &str) -> Result<Self> {
                Ok(Sample { $($field: field(line, stringify!($field))?,)* })
            }
        }
    };
}

sample! {
    /// Messages answered, connections closed, or thousands of bytes carried.
    units,
    /// How long the window was.
    window_ns,
    /// User and system time of all threads of the server in the window.
    cpu_ns,
    /// Half of the round trips took at most this long; 0 where a scenario has none.
    p50_ns,
    /// 99% of them.
    p99_ns,
    /// 99.9% of them.
    p999_ns,
    /// The longest of them.
    max_ns,
    /// Resident memory of the server at the end of the window, all connections open.
    rss_kib,
    /// How many threads the server had.
    threads,
}

impl Sample {
    /// Server CPU a unit, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.units as f64
    }

    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.units as f64 * 1e9 / self.window_ns as f64
    }

    /// How much of the window the server was running, over 1 with several threads on several cores.
    pub fn busy(&self) -> f64 {
        self.cpu_ns as f64 / self.window_ns as f64
    }

    /// The line that carries it.
    pub fn to_line(&self) -> String {
        let pairs: Vec<String> =
            Self::FIELDS.iter().zip(self.values()).map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(" ")
    }
}

fn field(line: &str, name: &str) -> Result<u64> {
    line.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
        .with_context(|| format!("the load client's line has no {name}: {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_survives_its_line() {
        let sample = Sample { units: 3, window_ns: 2_000, cpu_ns: 1_000, rss_kib: 7, ..Sample::default() };
        assert_eq!(Sample::from_line(&sample.to_line()).unwrap(), sample);
        assert!(Sample::from_line("units=3").is_err());
    }
}
