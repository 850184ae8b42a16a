//! Histograms of the quantizers' codes, one for each group of tensors.

use super::html::{escape, table};
use crate::printer::{Table, grouped, percent};
use resnet_bk::summary::{CodeHistogram, Summary};
use resnet_bk_runtime::internal::artifact::SizeKind;
use std::fmt::Write as _;

/// Least height of the bar of a code that occurs, in percent.
const LEAST_BAR: f64 = 1.0;
/// Most codes of a histogram whose counts are in the table.
const MOST_ROWS: usize = 63;

/// Histograms, a table of their figures, and one of their counts. Empty for a float model and for
/// summaries of older versions.
pub fn render(summary: &Summary) -> String {
    let histograms = &summary.artifact.codes;
    if histograms.is_empty() {
        return String::new();
    }
    let mut html =
        "<h2>Codes of the quantizers</h2>\n<p>How often each code occurs, from the lowest to the highest. The \
                    file stores codes by their probability, so a narrow histogram takes fewer bits.</p>\n\
                    <div class=\"histograms\">\n"
            .to_owned();
    histograms.iter().for_each(|histogram| html += &figure(histogram));
    html += "</div>\n";
    html += &table(&figures(summary), &[]);
    let counts = table(&counts(histograms), &[]);
    let _ = writeln!(html, "<details><summary>Counts of the codes</summary>{counts}</details>");
    html
}

fn name(histogram: &CodeHistogram) -> String {
    format!("{}, {} levels", histogram.part, levels(histogram))
}

fn levels(histogram: &CodeHistogram) -> u32 {
    2 * u32::from(histogram.qmax.unsigned_abs()) + 1
}

fn zeros(histogram: &CodeHistogram) -> String {
    percent(histogram.zeros as f64 / histogram.elements().max(1) as f64)
}

fn figure(histogram: &CodeHistogram) -> String {
    let (bars, most) = (histogram.counts.len(), histogram.counts.iter().copied().max().unwrap_or(0).max(1));
    let qmax = i64::from(histogram.qmax);
    let description = format!(
        "Histogram of the codes of {}: {} of {} codes are 0",
        name(histogram),
        zeros(histogram),
        grouped(histogram.elements())
    );
    let mut html = format!(
        "<figure><figcaption>{}</figcaption><svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {bars} 100\" \
         preserveAspectRatio=\"none\">",
        escape(&name(histogram)),
        escape(&description)
    );
    for (index, &count) in histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = (100.0 * count as f64 / most as f64).max(LEAST_BAR);
        let _ = write!(
            html,
            "<rect x=\"{index}\" width=\"1\" y=\"{:.2}\" height=\"{height:.2}\"><title>{}: {}</title></rect>",
            100.0 - height,
            codes(histogram, index),
            grouped(count)
        );
    }
    let _ = writeln!(
        html,
        "</svg><div class=\"ends\" aria-hidden=\"true\"><span>−{qmax}</span><span>0</span><span>{qmax}</span></div></figure>"
    );
    html
}

/// The code of a bar, or its lowest and highest one.
fn codes(histogram: &CodeHistogram, index: usize) -> String {
    let first = histogram.first_code(index);
    match histogram.codes_per_count as i64 {
        1 => first.to_string(),
        several => format!("{first} to {}", first + several - 1),
    }
}

/// Levels, elements, zeros, entropy and coded bits of each group.
fn figures(summary: &Summary) -> Table {
    let (histograms, sizes) = (&summary.artifact.codes, &summary.artifact.size_breakdown.entries);
    let mut table = Table::new(["part", "levels", "elements", "zero", "bits of entropy", "coded bits"]);
    for histogram in histograms {
        // The bytes of a part with several groups are not known by group.
        let is_alone = histograms.iter().filter(|other| other.part == histogram.part).count() == 1;
        let entry = sizes.iter().find(|entry| (&entry.part, entry.kind) == (&histogram.part, SizeKind::Codes));
        let coded = entry.filter(|_| is_alone).map(|entry| 8.0 * entry.bytes as f64 / histogram.elements() as f64);
        table.row([
            histogram.part.clone(),
            levels(histogram).to_string(),
            grouped(histogram.elements()),
            zeros(histogram),
            format!("{:.2}", histogram.entropy()),
            coded.map_or_else(String::new, |bits| format!("{bits:.2}")),
        ]);
    }
    table
}

fn counts(histograms: &[CodeHistogram]) -> Table {
    let mut table = Table::new(["tensors", "code", "elements", "share"]);
    for histogram in histograms.iter().filter(|histogram| histogram.counts.len() <= MOST_ROWS) {
        for (index, &count) in histogram.counts.iter().enumerate() {
            let share = percent(count as f64 / histogram.elements().max(1) as f64);
            table.row([name(histogram), codes(histogram, index), grouped(count), share]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;

    fn histogram(part: &str, counts: &[u64]) -> CodeHistogram {
        let middle = counts.len() / 2;
        CodeHistogram {
            part: part.to_owned(),
            qmax: middle as i16,
            codes_per_count: 1,
            counts: counts.to_vec(),
            zeros: counts[middle],
        }
    }

    #[test]
    fn a_bar_is_as_high_as_its_count() {
        let html = figure(&histogram("experts", &[5, 20, 0]));
        assert!(html.contains("<rect x=\"0\" width=\"1\" y=\"75.00\" height=\"25.00\"><title>-1: 5</title>"), "{html}");
        assert_eq!(html.matches("<rect").count(), 2);
        assert!(
            html.contains("aria-label=\"Histogram of the codes of experts, 3 levels: 80&nbsp;% of 25 codes are 0\"")
        );
    }

    #[test]
    fn coded_bits_are_those_of_a_part_with_one_group() {
        let mut summary = summary();
        assert_eq!(render(&summary), "", "a summary of an older version");
        let many = [20_000, 40_000, 20_000];
        summary.artifact.codes =
            vec![histogram("experts", &many), histogram("embedding", &many), histogram("embedding", &[1, 2, 3, 2, 1])];
        let table = figures(&summary);
        let rows = table.rows();
        assert_eq!(rows[1][4..], ["1.50".to_owned(), "2.80".to_owned()]);
        assert_eq!((rows[2][5].as_str(), rows[3][5].as_str()), ("", ""));
        assert_eq!(counts(&summary.artifact.codes).rows().len(), 1 + 3 + 3 + 5);
    }
}
