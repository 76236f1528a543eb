//! The table of each scenario, with what a reader needs to judge it.

use std::fmt::Write;
use std::fs;

use super::stats::{self, Spread};
use super::{Measured, Results, Role};
use crate::sample::Sample;
use crate::scenario::{Scenario, Unit, Workload};

const NOTHING: &str = "–";

/// The file.
pub fn text(results: &Results<'_>) -> String {
    let mut text = String::from("# What an echo server costs\n\n");
    preface(&mut text, results);
    for scenario in results.scenarios {
        table(&mut text, results, scenario);
    }
    memory(&mut text, results);
    text
}

fn preface(text: &mut String, results: &Results<'_>) {
    let environment = results.environment;
    let nodelay = if environment.nodelay { "" } else { " not" };
    let _ = writeln!(
        text,
        "{}; {}. {} interleaved rounds of {} s after {} s of load; the peers do{nodelay} set TCP_NODELAY.\n\n\
         Medians, with the lowest and the highest round in brackets. The ratios are medians too, of each round's figure to the\n\
         same round's figure of the library that is best by its median; below 1.00 is better for CPU, above 1.00 for the rate.\n\
         `epoll` and `poll` are C on the bare system calls: a floor, not libraries.\n",
        machine(),
        environment.cores,
        environment.rounds,
        environment.seconds,
        environment.warm_seconds
    );
    let versions: Vec<String> =
        results.servers.iter().map(|server| format!("{} ({})", server.name, server.version)).collect();
    let _ = writeln!(text, "Servers: {}.\n", versions.join(", "));
}

/// The kernel and the processor.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    format!("Linux {}, {model}, {} cores", kernel.trim(), cpus.matches("processor\t").count())
}

/// One server's row, before it is text.
struct Row<'a> {
    server: &'a Measured,
    samples: Vec<Sample>,
}

impl Row<'_> {
    fn figures(&self, figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(figure).collect()
    }
}

fn table(text: &mut String, results: &Results<'_>, scenario: &Scenario) {
    let rows: Vec<Row<'_>> = results
        .servers
        .iter()
        .map(|server| Row { server, samples: results.samples(scenario.name, &server.name) })
        .filter(|row| !row.samples.is_empty())
        .collect();
    if rows.is_empty() {
        return;
    }
    let unit = scenario.workload.unit();
    let cheapest = reference(&rows, Role::Library, Sample::cpu_us, true);
    let floor = reference(&rows, Role::Bare, Sample::cpu_us, true);
    let fastest = reference(&rows, Role::Library, Sample::rate, false);
    let name = |row: Option<&Row<'_>>| row.map_or(NOTHING.to_owned(), |row| row.server.name.clone());
    let _ = writeln!(text, "## {}: {}\n", scenario.name, scenario.about);
    let _ = writeln!(
        text,
        "| server | CPU µs/{} | ÷ best library ({}) | ÷ bare C ({}) | {} | ÷ best library ({}) | p50 µs | p99 µs | p99.9 µs | server busy | RSS MB |",
        unit.name(),
        name(cheapest),
        name(floor),
        rate_heading(unit),
        name(fastest),
    );
    let _ = writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|");
    for row in &rows {
        let cells = cells(row, unit, cheapest, floor, fastest);
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push('\n');
    too_many(text, results, scenario);
}

fn cells(
    row: &Row<'_>,
    unit: Unit,
    cheapest: Option<&Row<'_>>,
    floor: Option<&Row<'_>>,
    fastest: Option<&Row<'_>>,
) -> Vec<String> {
    let emphasis = if row.server.role == Role::Subject { "**" } else { "" };
    let ratio = |to: Option<&Row<'_>>, figure: fn(&Sample) -> f64| {
        to.and_then(|to| stats::ratios(&row.figures(figure), &to.figures(figure)))
            .map_or(NOTHING.to_owned(), |spread| with_range(spread, 2))
    };
    let rate = |sample: &Sample| match unit {
        // So many thousand bytes a second are a thousandth of that in MB.
        Unit::Kilobyte => sample.rate() / 1e3,
        _ => sample.rate(),
    };
    vec![
        format!("{emphasis}{}{emphasis}", row.server.name),
        range(&row.figures(Sample::cpu_us), 2),
        ratio(cheapest, Sample::cpu_us),
        ratio(floor, Sample::cpu_us),
        range(&row.figures(rate), 0),
        ratio(fastest, Sample::rate),
        latency(row, |sample| sample.p50_ns),
        latency(row, |sample| sample.p99_ns),
        latency(row, |sample| sample.p999_ns),
        median(&row.figures(|sample| sample.busy() * 100.0), 0, " %"),
        median(&row.figures(|sample| sample.rss_kib as f64 * 1024.0 / 1e6), 1, ""),
    ]
}

fn rate_heading(unit: Unit) -> &'static str {
    match unit {
        Unit::Message => "messages/s",
        Unit::Connection => "connections/s",
        Unit::Kilobyte => "MB/s each way",
    }
}

/// The row of a role that is best by its median.
fn reference<'a, 'b>(
    rows: &'a [Row<'b>],
    role: Role,
    figure: impl Fn(&Sample) -> f64,
    lowest: bool,
) -> Option<&'a Row<'b>> {
    let candidates: Vec<&Row<'b>> = rows.iter().filter(|row| row.server.role == role).collect();
    let figures: Vec<Vec<f64>> = candidates.iter().map(|row| row.figures(&figure)).collect();
    stats::best(&figures, lowest).map(|at| candidates[at])
}

fn too_many(text: &mut String, results: &Results<'_>, scenario: &Scenario) {
    let connections = scenario.workload.connections();
    for server in results.servers.iter().filter(|server| server.connections_max < connections) {
        let (name, most) = (&server.name, server.connections_max);
        let _ = writeln!(text, "{name}: not measured, it cannot hold more than {most} connections.\n");
    }
}

fn with_range(spread: Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

fn range(figures: &[f64], digits: usize) -> String {
    stats::spread(figures).map_or(NOTHING.to_owned(), |spread| with_range(spread, digits))
}

fn median(figures: &[f64], digits: usize, unit: &str) -> String {
    stats::spread(figures).map_or(NOTHING.to_owned(), |spread| format!("{:.digits$}{unit}", spread.median))
}

fn latency(row: &Row<'_>, figure: impl Fn(&Sample) -> u64) -> String {
    let figures: Vec<f64> = row.figures(|sample| figure(sample) as f64 / 1e3);
    if figures.iter().all(|&figure| figure == 0.0) { NOTHING.to_owned() } else { median(&figures, 1, "") }
}

/// What one more idle connection takes, from the most idle ones and none.
fn memory(text: &mut String, results: &Results<'_>) {
    let few = Workload::Echo { active: 16, idle: 0 };
    let many = Workload::Echo { active: 16, idle: 10_000 };
    let find = |workload| results.scenarios.iter().find(|scenario| scenario.workload == workload);
    let (Some(few), Some(many)) = (find(few), find(many)) else { return };
    let between = (many.workload.connections() - few.workload.connections()) as f64;
    let bytes = |sample: &Sample| sample.rss_kib as f64 * 1024.0;
    let mut rows = String::new();
    for server in results.servers {
        let median = |scenario: &Scenario| stats::spread(&results.figures(scenario.name, &server.name, bytes));
        let (Some(few), Some(many)) = (median(few), median(many)) else { continue };
        let each = (many.median - few.median) / between;
        let (few, many) = (few.median / 1e6, many.median / 1e6);
        let _ = writeln!(rows, "| {} | {few:.1} | {many:.1} | {each:.0} |", server.name);
    }
    if !rows.is_empty() {
        text.push_str("## Memory of an idle connection (the process's, not the kernel's)\n\n");
        text.push_str("| server | RSS MB, 16 connections | RSS MB, 10,016 connections | bytes a connection |\n|---|---|---|---|\n");
        text.push_str(&rows);
    }
}
