//! Completions, man pages and versions.

mod common;

use common::{resnet_bk, stderr, stdout, text};
use std::process::{Command, Stdio};

/// The output of another program; `None` if it is not installed.
fn other(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    assert!(output.status.success(), "{program}: {}", stderr(&output));
    assert_eq!(stderr(&output), "", "{program}");
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn shells_accept_their_completions() {
    let place = tempfile::tempdir().expect("a folder");
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = stdout(&resnet_bk(&["completions", shell]), 0);
        for word in ["compress", "dry-run", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        let path = place.path().join(shell);
        std::fs::write(&path, script).expect("written");
        other(shell, &[check, text(&path)]);
    }
    let complete = format!(
        "source {}; COMP_WORDS=(resnet-bk comp); COMP_CWORD=1; _resnet__bk resnet-bk comp resnet-bk; echo ${{COMPREPLY[@]}}",
        place.path().join("bash").display()
    );
    if let Some(completed) = other("bash", &["-c", &complete]) {
        assert_eq!(completed, "compress completions\n");
    }
    assert_eq!(resnet_bk(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn there_is_a_man_page_for_each_subcommand() {
    let place = tempfile::tempdir().expect("a folder");
    let out = place.path().join("man1");
    stdout(&resnet_bk(&["man", "--out", text(&out)]), 0);
    let help = stdout(&resnet_bk(&["--help"]), 0);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Longer descriptions go on in the next line.
    let commands = commands.filter(|line| !line.starts_with("   "));
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 11 && commands.contains(&"report"), "{commands:?}");
    for command in commands.into_iter().filter(|&command| command != "help") {
        let page = out.join(format!("resnet-bk-{command}.1"));
        let source = std::fs::read_to_string(&page).expect("a page");
        assert!(source.contains(".TH resnet-bk-") && source.contains(".SH OPTIONS"), "{command}: {source}");
        if let Some(shown) = other("groff", &["-man", "-ww", "-Tutf8", text(&page)]) {
            assert!(shown.contains("resnet-bk"), "{command}");
        }
    }
    let page = std::fs::read_to_string(out.join("resnet-bk-compress.1")).expect("a page");
    assert!(page.contains("\\-\\-dry\\-run"), "{page}");
    // Its own pages are replaced, also those of another version.
    let older = page.replace("compress \"", "compress 0.1.0\"");
    std::fs::write(out.join("resnet-bk-compress.1"), older).expect("written");
    stdout(&resnet_bk(&["man", "--out", text(&out)]), 0);
    assert_eq!(std::fs::read_to_string(out.join("resnet-bk-compress.1")).expect("a page"), page);
    // A page of somebody else is kept, and nothing else is written.
    let other = place.path().join("other");
    std::fs::create_dir(&other).expect("a folder");
    std::fs::write(other.join("resnet-bk.1"), ".TH RESNET-BK 1\n").expect("written");
    let refused = resnet_bk(&["man", "--out", text(&other)]);
    let errors = stderr(&refused);
    assert!(errors.contains("resnet-bk.1 exists, and man replaces no file but its own pages\n\nhint: "), "{errors}");
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(std::fs::read_dir(&other).expect("a folder").count(), 1);
    let refused = resnet_bk(&["man", "--out", text(&out.join("resnet-bk.1"))]);
    assert!(stderr(&refused).contains("\n\nhint: ") && refused.status.code() == Some(2), "{}", stderr(&refused));
}

#[test]
fn the_long_version_says_commit_processor_and_device() {
    let short = stdout(&resnet_bk(&["-V"]), 0);
    assert_eq!(short, concat!("resnet-bk ", env!("CARGO_PKG_VERSION"), "\n"));
    let long = stdout(&resnet_bk(&["--version"]), 0);
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[0], short.trim_end());
    let commit = lines[1].strip_prefix("commit     ").expect("a commit");
    assert!(commit == "unknown" || (commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())));
    assert!(lines[2].starts_with("processor  ") && lines[3].starts_with("device     cpu ("), "{long}");
}
