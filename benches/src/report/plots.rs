//! The plots, as SVG: what a message costs, and what memory a server takes, against how many connections are open.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::stats::spread;
use super::{Results, Role};
use crate::sample::Sample;
use crate::scenario::Workload;

const SIZE: (u32, u32) = (1000, 600);
/// To the right of the plot, where no line can run through it.
const LEGEND_WIDTH: u32 = 190;
/// The active connections of the series that are plotted; the rest of a point's connections are idle.
const ACTIVE: usize = 16;

/// More than either axis will ever have.
const LABELS_MAX: usize = 40;
/// Dark enough for white paper, and as far from each other as so many can be.
const COLOURS: [(u8, u8, u8); 14] = [
    (200, 20, 40),
    (0, 90, 180),
    (30, 140, 60),
    (230, 120, 0),
    (120, 40, 160),
    (0, 150, 160),
    (150, 90, 40),
    (220, 60, 160),
    (90, 110, 0),
    (60, 60, 70),
    (100, 150, 230),
    (180, 150, 0),
    (250, 110, 100),
    (120, 200, 120),
];

/// The lines of a plot: a server's name, what it is, its points.
type Lines = Vec<(String, Role, Vec<(f64, f64)>)>;

/// Draws both, if there are two points to draw a line through.
pub fn draw(results: &Results<'_>, directory: &Path) -> Result<()> {
    let cost = lines(results, Sample::cpu_us);
    let memory = lines(results, |sample| sample.rss_kib as f64 * 1024.0 / 1e6);
    let about = "16 of the connections are active, all others idle";
    let path = directory.join("cost-against-connections.svg");
    plot(&path, &format!("CPU a message ({about})"), "server CPU a message, µs", &cost)?;
    let path = directory.join("memory-against-connections.svg");
    plot(&path, &format!("Memory ({about})"), "resident memory, MB", &memory)
}

fn lines(results: &Results<'_>, figure: fn(&Sample) -> f64) -> Lines {
    let mut lines = Lines::new();
    for server in results.servers {
        let mut points = Vec::new();
        for scenario in results.scenarios {
            let Workload::Echo { active: ACTIVE, idle } = scenario.workload else { continue };
            if let Some(spread) = spread(&results.figures(scenario.name, &server.name, figure)) {
                points.push(((ACTIVE + idle) as f64, spread.median));
            }
        }
        if points.len() > 1 {
            lines.push((server.name.clone(), server.role, points));
        }
    }
    lines
}

/// A drawing area on an SVG in memory.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn plot(path: &Path, title: &str, y_title: &str, lines: &Lines) -> Result<()> {
    if lines.is_empty() {
        // The plot of an earlier run would seem to be this one's.
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        };
    }
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(title, ("sans-serif", 22))?;
    let (left, right) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
    axes(&left, y_title, lines)?;
    legend(&right, lines)?;
    root.present()?;
    Ok(())
}

fn axes(area: &Area<'_>, y_title: &str, lines: &Lines) -> Result<()> {
    let points = || lines.iter().flat_map(|(_, _, points)| points);
    let around = |values: &mut dyn Iterator<Item = f64>| {
        let (min, max) = values.fold((f64::MAX, f64::MIN), |(min, max), value| (min.min(value), max.max(value)));
        (min * 0.8)..(max * 1.25)
    };
    let xs = around(&mut points().map(|point| point.0));
    let ys = around(&mut points().map(|point| point.1));
    let mut chart = ChartBuilder::on(area).margin(12).x_label_area_size(48).y_label_area_size(64).build_cartesian_2d(
        xs.log_scale().with_key_points(measured_at(lines)),
        ys.clone().log_scale().with_key_points(round_numbers(ys)),
    )?;
    chart
        .configure_mesh()
        .x_desc("connections open")
        .y_desc(y_title)
        .x_labels(LABELS_MAX)
        .y_labels(LABELS_MAX)
        .x_label_formatter(&|x| thousands(*x))
        .y_label_formatter(&|y| thousands(*y))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .draw()?;
    // The subject last, so that it is on top.
    for (at, (_, role, points)) in lines.iter().enumerate().rev() {
        let style = style(at, *role);
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        chart.draw_series(points.iter().map(|&point| marker(at, point, style)))?;
    }
    Ok(())
}

/// The connections at which something was measured: these are the labels of the axis.
fn measured_at(lines: &Lines) -> Vec<f64> {
    let mut at: Vec<f64> = lines.iter().flat_map(|(_, _, points)| points.iter().map(|point| point.0)).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    at
}

/// 1, 2, 3, 5, 7 and their multiples by ten: a logarithmic axis with its powers of ten alone would have one or two labels.
fn round_numbers(range: std::ops::Range<f64>) -> Vec<f64> {
    let powers = (-3..7).map(|power| 10_f64.powi(power));
    powers
        .flat_map(|power| [1.0, 2.0, 3.0, 5.0, 7.0].map(|digit| digit * power))
        .filter(|number| range.contains(number))
        .collect()
}

/// Names the lines in the order in which they end, the highest first.
fn legend(area: &Area<'_>, lines: &Lines) -> Result<()> {
    const LINE_HEIGHT: i32 = 26;
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let end = |at: &usize| lines[*at].2.last().map_or((0.0, 0.0), |&(x, y)| (x, y));
    order.sort_by(|a, b| end(b).1.total_cmp(&end(a).1));
    for (place, at) in order.into_iter().enumerate() {
        let (name, role, _) = &lines[at];
        let style = style(at, *role);
        let y = 24 + LINE_HEIGHT * place as i32;
        area.draw(&PathElement::new([(0, y), (28, y)], style))?;
        area.draw(&marker(at, (14, y), style))?;
        let weight = if *role == Role::Subject { FontStyle::Bold } else { FontStyle::Normal };
        area.draw(&Text::new(name.clone(), (36, y - 8), ("sans-serif", 16).into_font().style(weight)))?;
    }
    Ok(())
}

/// Thick for what the plot is about, grey for the floor, a colour for each library.
fn style(at: usize, role: Role) -> ShapeStyle {
    let (red, green, blue) = COLOURS[at % COLOURS.len()];
    let colour = RGBColor(red, green, blue);
    match role {
        Role::Subject => colour.stroke_width(4),
        Role::Bare => RGBColor(140, 140, 140).stroke_width(2),
        _ => colour.stroke_width(2),
    }
}

/// A filled or an open circle: lines of like colours still differ.
fn marker<Coord>(at: usize, point: Coord, style: ShapeStyle) -> Circle<Coord, i32> {
    const RADIUS: i32 = 4;
    Circle::new(point, RADIUS, if at.is_multiple_of(2) { style.filled() } else { style.stroke_width(2) })
}

/// `10,000`, and decimals only where there is nothing else.
fn thousands(number: f64) -> String {
    if number < 10.0 {
        return format!("{}", (number * 10.0).round() / 10.0);
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0.5, 7.0, 16.0, 1016.0, 10_000.0].map(thousands), ["0.5", "7", "16", "1,016", "10,000"]);
    }
}
