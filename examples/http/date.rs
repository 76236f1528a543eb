//! Dates as HTTP writes them: `Sun, 06 Nov 1994 08:49:37 GMT`.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The last second of the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

/// A second of some day. Later ones are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Date {
    year: u64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    second_of_day: u64,
}

impl Date {
    /// The date of an instant; the first or last there is for what is earlier or later.
    pub fn of(time: SystemTime) -> Date {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(SECONDS_MAX);
        let (mut day, mut year) = (seconds / 86_400, 1970);
        while day >= days_of(year) {
            day -= days_of(year);
            year += 1;
        }
        let mut month = 0;
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        Date { year, month, day: day + 1, second_of_day: seconds % 86_400 }
    }

    /// Understands the form in which dates are written today, and no older one.
    pub fn parse(text: &str) -> Option<Date> {
        let fields: Vec<&str> = text.split(' ').collect();
        let [_, day, month, year, time, "GMT"] = fields[..] else { return None };
        let time = time.split(':').map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let [hour, minute, second] = time[..] else { return None };
        let month = MONTHS.iter().position(|name| *name == month)?;
        let second_of_day = hour.checked_mul(60)?.checked_add(minute)?.checked_mul(60)?.checked_add(second)?;
        Some(Date { year: year.parse().ok()?, month, day: day.parse().ok()?, second_of_day })
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_of(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: usize) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day, second_of_day: second } = *self;
        let days =
            (1970..year).map(days_of).sum::<u64>() + (0..month).map(|month| days_of_month(year, month)).sum::<u64>();
        let weekday = DAYS[((days + day - 1) % 7) as usize];
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{weekday}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", MONTHS[month])
    }
}
