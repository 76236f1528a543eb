//! Every single round, for whoever wants to calculate differently.

use std::fmt::Write;

use super::Record;
use crate::sample::Sample;

/// The file. No field holds a comma or a quote, except perhaps a label, which is quoted.
pub fn text(records: &[Record]) -> String {
    let mut text = format!("scenario,round,position,server,{}\n", Sample::FIELDS.join(","));
    for record in records {
        let values: Vec<String> = record.sample.values().iter().map(u64::to_string).collect();
        let server = record.server.replace('"', "\"\"");
        let Record { scenario, round, position, .. } = record;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{scenario},{},{},\"{server}\",{}", round + 1, position + 1, values.join(","));
    }
    text
}
