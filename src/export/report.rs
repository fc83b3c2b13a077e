//! `report.html`: what a person looks at. Self-contained, readable without a network.

use minijinja::{Environment, context};

use super::manifest::Counts;

/// One slice of the run for the throughput chart.
#[derive(Clone, Copy, Debug)]
pub struct ChunkTiming {
    /// Records of the chunk.
    pub records: u64,
    /// Seconds from its start to its commit.
    pub seconds: f64,
}

/// What the report tells.
#[derive(Debug)]
pub struct ReportFacts<'a> {
    /// `tenant/order_id`.
    pub order: String,
    /// SHA-256 of the order file.
    pub order_sha256: &'a str,
    /// RFC 3339, UTC.
    pub created: String,
    /// Rows by outcome.
    pub counts: Counts,
    /// Error classes and how many rows ended with each.
    pub errors: Vec<(String, u64)>,
    /// Order lines: line, template, mode, algorithm, rows.
    pub lines: Vec<[String; 5]>,
    /// Certificates: role, subject, last day.
    pub certificates: Vec<[String; 3]>,
    /// Chunks that this run made (a resumed run made only the rest).
    pub chunks: &'a [ChunkTiming],
    /// Profiles among their records that were read back and are what was ordered.
    pub audited: u64,
    /// Wall-clock seconds of this run.
    pub seconds: f64,
}

/// The page.
pub fn html(facts: &ReportFacts<'_>) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.add_template("report.html", include_str!("report.html"))?;
    let records: u64 = facts.chunks.iter().map(|chunk| chunk.records).sum();
    let rate = |records: u64, seconds: f64| records as f64 / seconds.max(1e-9);
    let fastest = facts.chunks.iter().map(|c| rate(c.records, c.seconds)).fold(1.0_f64, f64::max);
    let bars: Vec<_> = facts
        .chunks
        .iter()
        .enumerate()
        .map(|(i, chunk)| {
            let per_s = rate(chunk.records, chunk.seconds);
            context! { number => i + 1, records => chunk.records, per_s => per_s.round() as u64, height => (100.0 * per_s / fastest).round() }
        })
        .collect();
    let counts = &facts.counts;
    let share = |part: u64| if counts.rows == 0 { 0.0 } else { 100.0 * part as f64 / counts.rows as f64 };
    let outcomes: Vec<_> = [
        ("issued", counts.issued),
        ("refused", counts.refused),
        ("held", counts.held),
        ("cancelled", counts.cancelled),
    ]
    .into_iter()
    .map(|(name, rows)| context! { name, rows, share => share(rows) })
    .collect();
    environment.get_template("report.html")?.render(context! {
        order => &facts.order,
        order_sha256 => facts.order_sha256,
        created => &facts.created,
        rows => counts.rows,
        complete => counts.issued == counts.rows,
        outcomes,
        errors => &facts.errors,
        lines => &facts.lines,
        certificates => &facts.certificates,
        bars,
        records,
        audited => facts.audited,
        seconds => (facts.seconds * 10.0).round() / 10.0,
        per_s => rate(records, facts.seconds).round() as u64,
        version => env!("CARGO_PKG_VERSION"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_counts_and_escapes_what_came_from_outside() {
        let facts = ReportFacts {
            order: "acme/<b>PO-1".into(),
            order_sha256: "00",
            created: "2026-11-21T00:00:00Z".into(),
            counts: Counts { rows: 10, issued: 9, refused: 1, ..Counts::default() },
            errors: vec![("input".into(), 1)],
            lines: vec![],
            certificates: vec![],
            chunks: &[ChunkTiming { records: 9, seconds: 0.5 }],
            audited: 2,
            seconds: 1.0,
        };
        let page = html(&facts).unwrap();
        assert!(page.contains("&lt;b&gt;PO-1") && !page.contains("<b>PO-1"));
        assert!(page.contains("9 of 10") && page.contains("2 of them"));
    }
}
