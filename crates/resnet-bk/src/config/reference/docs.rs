//! Doc comments, read from the source files.

use std::collections::HashMap;
use std::path::Path;

/// Doc comments of the fields and variants of public types, by `Type.name`. The member's name is in
/// lower case.
pub(super) struct Docs(HashMap<String, String>);

impl Docs {
    /// Reads the sources of the configuration and of types in other crates that it contains.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut docs = Self(HashMap::new());
        for folder in ["src/config", "../resnet-bk-runtime/src"] {
            docs.read_folder(&root.join(folder));
        }
        docs.read_file(&root.join("src/numerics.rs"));
        docs
    }

    /// The first paragraph of the doc comment of a field or variant, as one line.
    ///
    /// # Panics
    /// If it has no doc comment.
    pub fn of_member(&self, name: &str, member: &str) -> &str {
        let comment = self.0.get(&format!("{name}.{}", member.to_lowercase()));
        comment.unwrap_or_else(|| panic!("{name}.{member} has no doc comment"))
    }

    fn read_folder(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder of source files") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.read_folder(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                self.read_file(&path);
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        self.read_text(&std::fs::read_to_string(path).expect("a source file"));
    }

    fn read_text(&mut self, text: &str) {
        let (mut comment, mut ended, mut renamed) = (String::new(), false, None);
        let mut of: Option<String> = None;
        for line in text.lines() {
            let code = line.trim();
            if let Some(more) = code.strip_prefix("///") {
                if more.is_empty() {
                    ended = true;
                } else if !ended {
                    comment.push_str(more.trim_end());
                }
                continue;
            }
            if code.starts_with("#[") {
                renamed = code.split("(rename = \"").nth(1).and_then(|rest| rest.split('"').next()).or(renamed);
                continue;
            }
            let declared = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "));
            if let Some(name) = declared.and_then(|rest| rest.strip_suffix(" {")) {
                of = Some(name.to_owned());
            } else if line == "}" {
                of = None;
            } else if let Some(of) = &of {
                let member = code.strip_prefix("pub ").unwrap_or(code);
                let name = member.split([':', '(', ',', ' ']).next().unwrap_or_default();
                self.keep(format!("{of}.{}", renamed.unwrap_or(name).to_lowercase()), &comment);
            }
            (comment, ended, renamed) = (String::new(), false, None);
        }
    }

    fn keep(&mut self, name: String, comment: &str) {
        if !comment.is_empty() {
            let comment = comment.trim();
            // A sentence that introduces a list is useless without the list.
            let whole = match comment.rsplit_once(". ") {
                Some((before, last)) if last.ends_with(':') => format!("{before}."),
                _ => comment.to_owned(),
            };
            self.0.entry(name).or_insert(whole);
        }
    }
}
