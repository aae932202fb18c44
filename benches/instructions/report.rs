//! The table, and its comparison with a saved one.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

/// What a ratio may be before it counts as a change, where the runs do not differ by more.
const BOUND: f64 = 1.02;

/// One number, as every run found it.
pub(crate) struct Row {
    name: String,
    unit: Unit,
    values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Instructions,
    Memory,
    /// Memory that varies too much to be held to a bound.
    HugePages,
}

impl Unit {
    fn title(self) -> &'static str {
        match self {
            Self::Instructions => "instructions per request",
            Self::Memory => "resident memory, KiB",
            Self::HugePages => "the same with huge pages, no bound",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Instructions => format!("{value:.0}"),
            Self::Memory | Self::HugePages => format!("{value:.1}"),
        }
    }
}

/// Adds what one run found.
pub(crate) fn add(rows: &mut Vec<Row>, name: &str, unit: Unit, value: f64) {
    match rows.iter_mut().find(|row| row.name == name) {
        Some(row) => row.values.push(value),
        None => rows.push(Row {
            name: name.to_owned(),
            unit,
            values: vec![value],
        }),
    }
}

/// The least, the middle and the greatest of some values.
fn sorted(values: &[f64]) -> (f64, f64, f64) {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    )
}

fn spread(values: &[f64]) -> f64 {
    let (min, median, max) = sorted(values);
    (max - min) / median
}

pub(crate) fn print(rows: &[Row]) {
    for unit in [Unit::Instructions, Unit::Memory, Unit::HugePages] {
        println!(
            "{:<40} {:>10} {:>10} {:>10} {:>8}",
            unit.title(),
            "min",
            "median",
            "max",
            "spread"
        );
        for row in rows.iter().filter(|row| row.unit == unit) {
            let (min, median, max) = sorted(&row.values);
            let [min, median, max] = [min, median, max].map(|value| unit.show(value));
            let spread = 100.0 * spread(&row.values);
            println!(
                "{:<40} {min:>10} {median:>10} {max:>10} {spread:>6.2} %",
                row.name
            );
        }
        println!();
    }
}

pub(crate) fn save(rows: &[Row], file: &Path) {
    let rows: Map<String, Value> = rows
        .iter()
        .map(|row| (row.name.clone(), json!(row.values)))
        .collect();
    fs::write(file, format!("{:#}\n", Value::from(rows))).unwrap();
}

/// Prints what has changed since `file` was saved, and fails if a row is over its bound.
pub(crate) fn compare(rows: &[Row], file: &Path) -> ExitCode {
    let text = fs::read(file).unwrap();
    let mut before: Map<String, Value> = serde_json::from_slice(&text).unwrap();
    let mut over = 0;
    println!(
        "{:<40} {:>10} {:>10} {:>8} {:>8}",
        "against the saved medians", "before", "now", "ratio", "bound"
    );
    for row in rows {
        let Some(before) = before.remove(&row.name) else {
            println!("{:<40} is new", row.name);
            continue;
        };
        let before: Vec<f64> = serde_json::from_value(before).unwrap();
        let bound = BOUND.max(1.0 + spread(&before).max(spread(&row.values)));
        let [then, now] = [&before, &row.values].map(|values| sorted(values).1);
        let is_over = row.unit != Unit::HugePages && now / then > bound;
        over += usize::from(is_over);
        println!(
            "{:<40} {:>10} {:>10} {:>8.4} {bound:>8.4}{}",
            row.name,
            row.unit.show(then),
            row.unit.show(now),
            now / then,
            if is_over { "  OVER" } else { "" }
        );
    }
    for name in before.keys() {
        println!("{name:<40} is no longer measured");
    }
    if over == 0 {
        ExitCode::SUCCESS
    } else {
        println!("{over} over the bound");
        ExitCode::FAILURE
    }
}
