//! The target of a run. Recipes, `--set` and command-line options use the same rules.

use serde::{Deserialize, Serialize};

/// The baseline of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// The recipe's first model.
    Baseline,
    /// The best float model of the run.
    #[default]
    Best,
}

impl std::fmt::Display for Against {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Baseline => "the first model",
            Self::Best => "the best float model",
        })
    }
}

/// The goals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// The float model that `ratio` and `max_loss` are measured against.
    pub against: Against,
    /// Least ratio of the baseline's float32 bytes to the bytes of the artifact's weights section.
    pub ratio: Option<f64>,
    /// Largest increase of perplexity over the baseline, as a share or a percentage: 0.15 and "15%"
    /// allow 15 % more. At least 0. Above 1 it must be a percentage, such as "250%".
    pub max_loss: Option<f64>,
    /// Largest length of the artifact's file, in bytes.
    pub bytes: Option<u64>,
}

impl Target {
    /// Whether any goal is set.
    pub fn has_goals(&self) -> bool {
        self.ratio.is_some() || self.max_loss.is_some() || self.bytes.is_some()
    }
}

/// A target that nothing can reach, or that everything reaches: the field, its value, the allowed
/// values.
pub(super) type TargetFault = (&'static str, String, &'static str);

impl Target {
    /// Checks every goal that is set.
    pub(super) fn validate(&self) -> Result<(), TargetFault> {
        let fault = |field, value: String, allowed| Err((field, value, allowed));
        match *self {
            Self { ratio: Some(ratio), .. } if !(ratio.is_finite() && ratio > 0.0) => {
                fault("ratio", ratio.to_string(), "finite and above 0")
            }
            Self { max_loss: Some(loss), .. } if !(loss.is_finite() && loss >= 0.0) => {
                fault("max_loss", loss.to_string(), "finite and at least 0")
            }
            // TOML integers end here.
            Self { bytes: Some(bytes), .. } if !(1..=i64::MAX as u64).contains(&bytes) => {
                fault("bytes", bytes.to_string(), "from 1 to 9,223,372,036,854,775,807")
            }
            _ => Ok(()),
        }
    }
}

/// Parses a loss of perplexity, `15%` or `0.15`, as a share. A share above 1 was probably meant as
/// a percentage, so it is refused.
///
/// # Errors
/// What it must be, as the end of a sentence.
pub fn parse_loss(text: &str) -> Result<f64, String> {
    let form = || "a share".to_owned();
    let (number, is_percentage) = text.strip_suffix('%').map_or((text, false), |number| (number, true));
    let number: f64 = number.trim().parse().map_err(|_| form())?;
    if !number.is_finite() || number < 0.0 {
        return Err(form());
    }
    if is_percentage {
        return Ok(number / 100.0);
    }
    if number > 1.0 {
        return Err(format!("a share: {text} would be {} %", 100.0 * number));
    }
    Ok(number)
}

/// Formats a loss so that [`parse_loss`] reads it back: as a percentage if it is above 1.
pub(super) fn written_loss(loss: f64) -> toml::Value {
    if loss <= 1.0 {
        return toml::Value::Float(loss);
    }
    let percent = 100.0 * loss;
    // The product may be rounded, so the neighbors are tried too.
    let exact = [percent, percent.next_down(), percent.next_up()].into_iter().find(|number| number / 100.0 == loss);
    toml::Value::String(format!("{}%", exact.unwrap_or(percent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_a_share_or_a_percentage() {
        assert_eq!(parse_loss("15%"), Ok(0.15));
        assert_eq!(parse_loss("0.15"), Ok(0.15));
        assert_eq!(parse_loss("0"), Ok(0.0));
        assert_eq!(parse_loss("250 %"), Ok(2.5));
        assert_eq!(parse_loss("15"), Err("a share: 15 would be 1500 %".to_owned()));
        for wrong in ["-1%", "NaN", "inf", "", "%", "many"] {
            assert!(parse_loss(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_written_loss_reads_back_as_itself() {
        for text in ["0", "15%", "0.999", "100%", "100.1%", "115%", "250%", "333.3%", "1000%", "12345.678%"] {
            let loss = parse_loss(text).expect("a loss");
            let written = match written_loss(loss) {
                toml::Value::String(text) => text,
                value => value.to_string(),
            };
            assert_eq!(parse_loss(&written), Ok(loss), "{text}");
        }
    }
}
