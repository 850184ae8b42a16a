//! Text, tables and pictures as parts of a page.

use super::canvas::Png;
use super::page::Drawing;
use super::palette::{hex, stage_color};
use crate::printer::Table;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use resnet_bk::summary::StageSummary;
use std::fmt::Write as _;

/// Text that is no markup; units stay with their numbers.
pub fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    text.replace(" %", "&nbsp;%")
}

/// A table that scrolls by itself where the page is too narrow. Columns of words are flush left,
/// those with numbers flush right.
pub fn table(table: &Table, stages: &[StageSummary]) -> String {
    let mut html = "<div class=\"wide\" tabindex=\"0\"><table>\n".to_owned();
    let has_numbers = |column: usize| {
        let starts_with_number =
            |row: &Vec<String>| row[column].starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c));
        table.rows()[1..].iter().any(starts_with_number)
    };
    let columns = table.rows()[0].len();
    let classes: Vec<&str> =
        (0..columns).map(|column| if column > 0 && has_numbers(column) { "" } else { " class=\"words\"" }).collect();
    for (index, row) in table.rows().iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let swatch = if column == 0 { swatch(cell, stages) } else { String::new() };
            format!("<{tag}{}>{swatch}{}</{tag}>", classes[column], escape(cell))
        });
        let _ = writeln!(html, "<tr>{}</tr>", cells.collect::<String>());
    }
    html + "</table></div>\n"
}

/// The color that a stage has in the pictures, where the cell names one.
fn swatch(cell: &str, stages: &[StageSummary]) -> String {
    let named = |stage: &&StageSummary| cell == format!("{} {}", stage.stage, stage.kind);
    stages.iter().find(named).map_or(String::new(), |stage| {
        format!("<span class=\"swatch\" style=\"background:{}\"></span>", hex(stage_color(stage.stage)))
    })
}

/// A picture: the narrow one on a phone.
pub fn picture(drawing: &Drawing, description: &str) -> String {
    let data = |png: &Png| format!("data:image/png;base64,{}", STANDARD.encode(&png.file));
    let (wide, narrow) = (&drawing.wide, &drawing.narrow);
    format!(
        "<picture class=\"card\"><source media=\"(max-width: 640px)\" width=\"{}\" height=\"{}\" srcset=\"{}\">\
         <img alt=\"{}\" width=\"{}\" height=\"{}\" src=\"{}\"></picture>\n",
        narrow.width,
        narrow.height,
        data(narrow),
        escape(description),
        wide.width,
        wide.height,
        data(wide),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;
    use crate::tables;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<b a=\"x\"> & co, 5 %"), "&lt;b a=&quot;x&quot;&gt; &amp; co, 5&nbsp;%");
    }

    #[test]
    fn words_are_flush_left_and_numbers_flush_right() {
        let mut rows = Table::new(["stage", "used", "reason"]);
        rows.row(["3".into(), "3.1 %".into(), "rarely used".into()]);
        let html = table(&rows, &[]);
        assert!(
            html.contains("<td class=\"words\">3</td><td>3.1&nbsp;%</td><td class=\"words\">rarely used</td>"),
            "{html}"
        );
    }

    #[test]
    fn each_stage_of_the_table_has_its_swatch() {
        let summary = summary();
        let html = table(&tables::stages(&summary), &summary.stages);
        assert_eq!(html.matches("class=\"swatch\"").count(), summary.stages.len());
        for stage in &summary.stages {
            let cell = format!("background:{}\"></span>{} {}<", hex(stage_color(stage.stage)), stage.stage, stage.kind);
            assert!(html.contains(&cell), "{cell} in {html}");
        }
    }
}
