//! Continuations of held-out text: the text itself, the best float model and the artifact, side by
//! side.

use super::html::escape;
use resnet_bk::summary::{Continuations, Summary};
use std::fmt::Write as _;

/// The samples. Empty if the summary has none.
pub fn render(summary: &Summary) -> String {
    let Some(continuations) = summary.continuations.as_ref().filter(|all| !all.samples.is_empty()) else {
        return String::new();
    };
    let Continuations { baseline, temperature, top_k, seed, samples } = continuations;
    let mut html = format!(
        "<h2>Sample continuations</h2>\n<p>Lines of the held-out text, continued with the same seeds (from {seed}) at \
         temperature {temperature} from the {top_k} most probable words. First is how the text itself goes on.</p>\n"
    );
    let names = ["the text", &format!("best float model: {baseline}"), "model.rbk"].map(escape);
    for sample in samples {
        let _ = writeln!(html, "<section class=\"sample\"><h3>{} …</h3>", escape(&sample.prompt));
        for (name, text) in names.iter().zip([&sample.text, &sample.baseline, &sample.artifact]) {
            let lines = escape(text.trim()).replace('\n', "<br>");
            let _ = writeln!(html, "<div><h4>{name}</h4><p>… {lines}</p></div>");
        }
        html += "</section>\n";
    }
    html
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;
    use resnet_bk::summary::Continuation;

    #[test]
    fn samples_are_escaped_and_named() {
        let mut summary = summary();
        assert_eq!(render(&summary), "");
        let [prompt, text, baseline, artifact] = ["I saw <unk>", "a & b\nc", "the sea", "a dog"].map(str::to_owned);
        summary.continuations = Some(Continuations {
            baseline: "1 train".to_owned(),
            temperature: 0.8,
            top_k: 40,
            seed: 1,
            samples: vec![Continuation { prompt, text, baseline, artifact }],
        });
        let html = render(&summary);
        assert!(html.contains("<h3>I saw &lt;unk&gt; …</h3>") && html.contains("a &amp; b<br>c"), "{html}");
        assert!(html.contains("<h4>best float model: 1 train</h4><p>… the sea</p>"), "{html}");
    }
}
