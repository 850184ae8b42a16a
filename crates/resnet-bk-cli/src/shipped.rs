//! The models that are compiled into the command, each with its card. They lie in `models/`, beside the
//! teacher, whose file is as long as the rest of the command.

use crate::failure::Failure;
use std::path::{Component, Path};

/// A model that is compiled in.
pub struct Shipped {
    /// Its name, as the MODEL argument.
    pub name: &'static str,
    /// The artifact.
    pub bytes: &'static [u8],
    /// The model card, in Markdown.
    pub card: &'static str,
}

/// A model of `models/`: its file and its card.
macro_rules! shipped {
    ($name:literal) => {
        Shipped {
            name: $name,
            bytes: include_bytes!(concat!("../../../models/", $name, ".rbk")),
            card: include_str!(concat!("../../../models/", $name, ".md")),
        }
    };
}

/// All shipped models.
static MODELS: [Shipped; 5] =
    [shipped!("demo"), shipped!("hundredfold"), shipped!("pocket"), shipped!("small"), shipped!("tiny")];

impl Shipped {
    /// The notice that the license of the text asks for: the card's line that begins with `> `.
    pub fn notice(&self) -> &'static str {
        self.card.lines().find_map(|line| line.strip_prefix("> ")).unwrap_or(self.name)
    }
}

/// The shipped model that an argument names. `None` if the argument is the path of a file: there is
/// such a file, or it has a folder or an extension.
///
/// # Errors
/// If it can only be a name, and no shipped model has it.
pub fn find(argument: &Path) -> Result<Option<&'static Shipped>, Failure> {
    let is_name = matches!(argument.components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
    if !is_name || argument.extension().is_some() || argument.exists() {
        return Ok(None);
    }
    match MODELS.iter().find(|model| Path::new(model.name) == argument) {
        Some(model) => Ok(Some(model)),
        None => Err(Failure::new(
            format!("there is no file {0}, and no shipped model {0}", argument.display()),
            format!(
                "shipped models: {}; or pass an artifact (RUN/model.rbk) or a checkpoint \
                 (RUN/NN-stage/model.safetensors)",
                MODELS.each_ref().map(|model| model.name).join(", ")
            ),
        )),
    }
}

/// Whether an argument names a shipped model, but there is a file or folder of that name here.
pub fn is_hidden_by(argument: &Path) -> bool {
    argument.exists() && MODELS.iter().any(|model| Path::new(model.name) == argument)
}

#[cfg(test)]
mod tests {
    use super::*;
    use resnet_bk_runtime::internal::artifact::Artifact;
    use std::collections::BTreeSet;

    #[test]
    fn the_folder_has_the_files_of_every_model_and_no_others() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        let found = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let found: BTreeSet<String> = found.map(|name| name.to_string_lossy().into_owned()).collect();
        let files =
            MODELS.iter().flat_map(|model| ["rbk", "md"].map(|extension| format!("{}.{extension}", model.name)));
        let others = ["README.md", "teacher.md", "teacher.rbk"].map(str::to_owned);
        assert_eq!(found, files.chain(others).collect());
    }

    #[test]
    fn every_model_loads_and_has_a_notice() {
        for model in &MODELS {
            Artifact::from_bytes(model.bytes).expect(model.name);
            assert!(model.notice().starts_with(&format!("{}: ", model.name)), "{}", model.notice());
        }
    }

    #[test]
    fn only_a_name_without_a_file_is_looked_up() {
        let found = |argument: &str| find(Path::new(argument)).map(|model| model.map(|model| model.name));
        assert_eq!(found("demo").ok(), Some(Some("demo")));
        for path in ["./demo", "runs/demo", "demo.rbk", "/demo", "", "..", "src"] {
            assert_eq!(found(path).ok(), Some(None), "{path}");
        }
        let unknown = found("pokcet").expect_err("no such model");
        assert!(unknown.to_string().contains("no shipped model pokcet"), "{unknown}");
    }
}
