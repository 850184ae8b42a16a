//! What a run can be repeated and recognized by: environment and fingerprints.

use super::html::escape;
use resnet_bk::summary::Summary;
use std::fmt::Write as _;

/// The environment and the fingerprints of text and artifact.
pub fn render(summary: &Summary) -> String {
    let (environment, text) = (&summary.environment, &summary.corpus.fingerprint);
    let mut facts = vec![
        ("version", format!("resnet-bk {}", environment.version)),
        ("processor", environment.processor.clone()),
        ("threads", environment.threads.to_string()),
        ("processes", environment.processes.to_string()),
        ("device", environment.gpu.clone().unwrap_or_else(|| "cpu".to_owned())),
        ("products of the head", environment.precision.clone()),
    ];
    let hashes = [
        ("training text", &text.train),
        ("held-out text", &text.valid),
        ("vocabulary", &text.vocabulary),
        ("tokenizer", &text.tokenizer),
        ("model.rbk", &summary.artifact.sha256),
    ];
    let known = hashes.into_iter().filter(|(_, hash)| !hash.is_empty());
    facts.extend(known.map(|(name, hash)| (name, format!("SHA-256 {hash}"))));
    let mut html = "<h2>Environment and fingerprints</h2>\n<dl class=\"hashes\">\n".to_owned();
    for (name, fact) in facts {
        let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", escape(&fact));
    }
    html + "</dl>\n"
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;

    #[test]
    fn unknown_fingerprints_are_left_out() {
        let mut summary = summary();
        let html = render(&summary);
        assert!(html.contains("<dt>vocabulary</dt><dd>SHA-256 3333") && !html.contains("model.rbk"), "{html}");
        summary.artifact.sha256 = "abc".to_owned();
        assert!(render(&summary).contains("<dt>model.rbk</dt><dd>SHA-256 abc</dd>"));
    }
}
