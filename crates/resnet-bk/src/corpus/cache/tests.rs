//! Tests with small texts on disk, as if they were large.

use super::*;
use crate::corpus::{CorpusError, Encoded, cached_vocabulary, encode, folder, repeated_lines};
use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer, Vocabulary};
use std::fs::File;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const TRAIN: &str = "the cat sat on the mat today\n\nthe dog sat on a log today , <unk>\nno\n";
const VALID: &str = "the cat sat on the mat today\na bird sat on the log now\n";

/// A corpus folder and a cache folder.
struct Place {
    corpus: TempDir,
    cache: TempDir,
}

/// Counts warnings.
#[derive(Default)]
struct Warnings(Vec<String>);

impl Observer for Warnings {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Warning { message } => self.0.push(message.clone()),
            other => panic!("{other:?}"),
        }
    }
}

/// Everything that is kept of a text.
#[derive(Debug, PartialEq)]
struct Made {
    vocabulary: Vocabulary,
    train: Encoded,
    valid: Encoded,
    repeated: f64,
}

impl Place {
    fn new() -> Self {
        let new = || tempfile::tempdir().expect("a temporary folder");
        let place = Self { corpus: new(), cache: new() };
        place.write("train.txt", TRAIN);
        place.write("valid.txt", VALID);
        place
    }

    /// Writes a text that was last modified a minute ago, so that later changes show.
    fn write(&self, name: &str, text: &str) {
        let path = self.corpus.path().join(name);
        std::fs::write(&path, text).expect("written");
        let file = File::options().append(true).open(path).expect("a file");
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("a time");
    }

    fn cache(&self) -> Cache {
        Cache::at(self.cache.path())
    }

    fn make(&self, cache: &Cache, size: usize, limit: Option<usize>) -> (Made, Vec<String>) {
        let mut warnings = Warnings::default();
        let corpus = folder::load(self.corpus.path(), 0).expect("a corpus");
        let (pretokenizer, blank_lines) = (Pretokenizer::Whitespace, BlankLines::Dropped);
        let vocabulary =
            cached_vocabulary(&corpus.train, size, pretokenizer, blank_lines, cache, &mut warnings).expect("words");
        let made = Made {
            train: encode(&corpus.train, &vocabulary, limit, cache, &mut warnings).expect("tokens"),
            valid: encode(&corpus.valid, &vocabulary, None, cache, &mut warnings).expect("tokens"),
            repeated: repeated_lines(&corpus.train, &corpus.valid, cache, &mut warnings).expect("a share"),
            vocabulary,
        };
        (made, warnings.0)
    }

    /// What is made of the texts, without and with the cache, which must be equal.
    fn agree(&self) -> Made {
        let (expected, _) = self.make(&Cache::disabled(), 100, None);
        let (made, warnings) = self.make(&self.cache(), 100, None);
        assert_eq!(made, expected);
        assert_eq!(warnings, [""; 0]);
        made
    }

    /// The entries of a kind with their paths.
    fn entries(&self, kind: &str, extension: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.cache.path().join(kind)).into_iter().flatten().flatten();
        files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == extension)).collect()
    }

    /// Replaces the words of the vocabulary's entry, so that it shows where that entry is used.
    fn mark_vocabulary(&self) {
        let [path] = &self.entries("vocabulary", "json")[..] else { panic!("one entry") };
        let key = Key { kind: "vocabulary", hash: path.file_stem().expect("a name").to_string_lossy().into_owned() };
        write(self.cache.path(), &key, &vec!["<unk>", "<eos>", "marked"]).expect("written");
    }

    fn uses_the_marked_vocabulary(&self) -> bool {
        self.make(&self.cache(), 100, None).0.vocabulary.words().contains(&"marked".to_owned())
    }
}

#[cfg(all(unix, not(target_os = "macos")))]
#[test]
fn the_folder_is_named_by_the_environment() {
    let folder = |own: Option<&str>, xdg: Option<&str>| {
        let folder = folder_by(|name| match name {
            "RESNET_BK_CACHE" => own.map(PathBuf::from),
            "XDG_CACHE_HOME" => xdg.map(PathBuf::from),
            other => panic!("{other} is not asked for"),
        });
        folder.expect("a folder")
    };
    assert_eq!(folder(Some("here"), Some("/caches")), Path::new("here"));
    assert_eq!(folder(None, Some("/caches")), Path::new("/caches/resnet-bk"));
    for invalid in [None, Some("relative")] {
        assert!(folder(None, invalid).ends_with(".cache/resnet-bk"), "{invalid:?}");
    }
}

#[test]
fn a_second_start_equals_the_first_and_does_not_read_the_text() {
    let place = Place::new();
    let first = place.agree();
    assert_eq!(first.train.tokens[..], first.vocabulary.encode(TRAIN)[..]);
    assert_eq!((first.train.unknown, first.repeated), (1, 0.5));
    assert!(first.train.tokens.are_mapped() && first.valid.tokens.are_mapped());
    assert_eq!(place.agree(), first);
    assert_eq!(place.entries("tokens", "ids").len(), 2);
    place.mark_vocabulary();
    assert!(place.uses_the_marked_vocabulary());
}

#[test]
fn a_text_in_memory_needs_no_cache() {
    let place = Place::new();
    let corpus = folder::load(place.corpus.path(), u64::MAX).expect("a corpus");
    let mut warnings = Warnings::default();
    let words = |cache: &Cache, warnings: &mut Warnings| {
        cached_vocabulary(&corpus.train, 9, Pretokenizer::Words, BlankLines::Kept, cache, warnings).expect("words")
    };
    let vocabulary = words(&place.cache(), &mut warnings);
    let tokens = encode(&corpus.train, &vocabulary, None, &place.cache(), &mut warnings).expect("tokens").tokens;
    assert_eq!(tokens[..], vocabulary.encode(TRAIN)[..]);
    assert!(!tokens.are_mapped());
    assert_eq!(fs::read_dir(place.cache.path()).expect("a folder").count(), 0);
}

#[test]
fn a_changed_text_is_read_again() {
    let place = Place::new();
    let first = place.agree();
    // Of the same length, with the same time of modification to a few milliseconds.
    place.write("train.txt", &TRAIN.replace("cat", "cow"));
    let second = place.agree();
    assert_ne!(second.vocabulary, first.vocabulary);
    assert_eq!(second.repeated, 0.0);
    place.write("valid.txt", &VALID.replace("cat", "cow"));
    assert_eq!(place.agree().repeated, 0.5);
}

#[test]
fn other_settings_are_other_entries() {
    let place = Place::new();
    place.agree();
    for (size, limit) in [(5, None), (100, Some(6)), (100, Some(0)), (5, Some(1_000))] {
        for _ in 0..2 {
            let (made, _) = place.make(&place.cache(), size, limit);
            assert_eq!(made, place.make(&Cache::disabled(), size, limit).0, "{size} words, limit {limit:?}");
            let all = made.vocabulary.encode(TRAIN);
            assert_eq!(made.train.tokens[..], all[..all.len().min(limit.unwrap_or(usize::MAX))]);
        }
    }
    let corpus = folder::load(place.corpus.path(), 0).expect("a corpus");
    let words = |pretokenizer, blank_lines| {
        cached_vocabulary(&corpus.train, 100, pretokenizer, blank_lines, &place.cache(), &mut Warnings::default())
            .expect("words")
    };
    assert_ne!(
        words(Pretokenizer::Words, BlankLines::Dropped).words(),
        words(Pretokenizer::Whitespace, BlankLines::Dropped).words()
    );
    assert_eq!(words(Pretokenizer::Whitespace, BlankLines::Kept).blank_lines(), BlankLines::Kept);
}

#[test]
fn a_damaged_entry_is_made_again() {
    type Damage = fn(&mut Vec<u8>);
    let damage: [(&str, Damage); 5] = [
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", Vec::clear),
        ("longer", |bytes| bytes.extend_from_slice(&[0; 4])),
        ("one bit flipped", |bytes| *bytes.last_mut().expect("bytes") ^= 1),
        ("another version", |bytes| {
            if let Some(at) = bytes.windows(8).position(|part| part == b"cache 1 ") {
                bytes[at + 6] = b'2';
            } else {
                bytes.clear();
            }
        }),
    ];
    for (kind, extension) in [("tokens", "ids"), ("tokens", "json"), ("vocabulary", "json"), ("repeated-lines", "json")]
    {
        for (name, damage) in &damage {
            let place = Place::new();
            let first = place.agree();
            let paths = place.entries(kind, extension);
            assert!(!paths.is_empty(), "{kind} {extension}");
            let undamaged: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("an entry")).collect();
            for path in &paths {
                let mut bytes = fs::read(path).expect("an entry");
                damage(&mut bytes);
                // Not in place: the ids are mapped.
                fs::remove_file(path).and_then(|()| fs::write(path, bytes)).expect("written");
            }
            assert_eq!(place.agree(), first, "{kind}.{extension} {name}");
            let repaired: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("an entry")).collect();
            assert_eq!(repaired, undamaged, "{kind}.{extension} {name}");
        }
    }
}

#[test]
fn an_entry_of_another_version_or_key_is_not_used() {
    let place = Place::new();
    place.agree();
    place.mark_vocabulary();
    assert!(place.uses_the_marked_vocabulary());
    let path = &place.entries("vocabulary", "json")[0];
    let marked = fs::read_to_string(path).expect("an entry");
    let (header, _) = marked.split_once('\n').expect("a header");
    assert!(header.starts_with("resnet-bk cache 1 "), "{header}");
    let hash = path.file_stem().expect("a name").to_string_lossy().into_owned();
    for other in [
        marked.replace("resnet-bk cache 1 ", "resnet-bk cache 2 "),
        marked.replace("resnet-bk cache 1 ", "another program 1 "),
        marked.replace(&hash, &sha256(b"another key")),
    ] {
        assert_ne!(other, marked);
        fs::write(path, other).expect("written");
        assert!(!place.uses_the_marked_vocabulary());
        place.mark_vocabulary();
    }
}

#[test]
fn writers_at_the_same_time_leave_one_whole_entry() {
    let place = Place::new();
    place.write("train.txt", &TRAIN.repeat(3_000));
    let (expected, _) = place.make(&Cache::disabled(), 100, None);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let (made, warnings) = place.make(&place.cache(), 100, None);
                    assert_eq!(made, expected);
                    assert_eq!(warnings, [""; 0]);
                }
            });
        }
    });
    assert_eq!(place.entries("tokens", "ids").len(), 2);
    let all = fs::read_dir(place.cache.path().join("tokens")).expect("a folder").count();
    assert_eq!(all, 4, "no unfinished file is left");
}

#[test]
fn a_cache_that_cannot_be_written_gives_one_warning() {
    let place = Place::new();
    // A file in the place of the folder stands for a disk that is read-only or full: permissions
    // do not stop a superuser.
    let blocked = place.cache.path().join("blocked");
    fs::write(&blocked, "a file").expect("written");
    for folder in [blocked.clone(), blocked.join("below")] {
        let (made, warnings) = place.make(&Cache::at(&folder), 100, None);
        assert_eq!(made, place.make(&Cache::disabled(), 100, None).0);
        assert!(!made.train.tokens.are_mapped());
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        let expected = format!("the cache {} cannot be written (", folder.display());
        assert!(warning.starts_with(&expected), "{warning}");
    }
    assert_eq!(fs::read_to_string(blocked).expect("a file"), "a file");
}

#[cfg(unix)]
#[test]
fn a_read_only_cache_folder_still_gives_what_is_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let first = place.agree();
    let set = |mode| {
        for folder in [place.cache.path().to_owned(), place.cache.path().join("tokens")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("set");
        }
    };
    set(0o555);
    let (second, warnings) = place.make(&place.cache(), 100, None);
    assert_eq!((&second, warnings.len()), (&first, 0));
    assert!(second.train.tokens.are_mapped());
    // A superuser may write all the same. The result is the same in any case.
    let (limited, warnings) = place.make(&place.cache(), 100, Some(3));
    set(0o755);
    assert_eq!(limited.train.tokens[..], first.train.tokens[..3]);
    assert!(warnings.len() <= 1, "{warnings:?}");
    assert_eq!(limited.train.tokens.are_mapped(), warnings.is_empty());
}

#[test]
fn errors_of_the_text_are_errors_and_leave_no_entry() {
    let place = Place::new();
    let (made, _) = place.make(&Cache::disabled(), 100, None);
    let path = place.corpus.path().join("train.txt");
    std::fs::write(&path, b"a\n\xFF\n").expect("written");
    let file = File::options().append(true).open(&path).expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("a time");
    let corpus = folder::load(place.corpus.path(), 0).expect("not read yet");
    let mut warnings = Warnings::default();
    let read = encode(&corpus.train, &made.vocabulary, None, &place.cache(), &mut warnings);
    assert!(matches!(read, Err(CorpusError::NotUtf8 { line: 2, offset: 2, .. })), "{read:?}");
    assert_eq!(warnings.0, [""; 0]);
    assert_eq!(fs::read_dir(place.cache.path().join("tokens")).expect("a folder").count(), 0);
}

#[test]
fn a_text_that_was_written_just_now_is_not_kept() {
    let place = Place::new();
    std::fs::write(place.corpus.path().join("train.txt"), TRAIN).expect("written");
    let (made, _) = place.make(&place.cache(), 100, None);
    assert_eq!(made, place.make(&Cache::disabled(), 100, None).0);
    assert!(!made.train.tokens.are_mapped() && made.valid.tokens.are_mapped());
    assert!(place.entries("vocabulary", "json").is_empty());
}

#[test]
fn abandoned_files_are_deleted_and_those_of_a_writer_stay() {
    let place = Place::new();
    let folder = place.cache.path().join("tokens");
    fs::create_dir_all(&folder).expect("a folder");
    let [abandoned, written, young] = ["a", "b", "c"].map(|name| folder.join(format!(".unfinished-{name}")));
    let old = SystemTime::now() - Duration::from_secs(3_600);
    let create = |path: &Path, time| {
        let file = File::create(path).expect("a file");
        file.set_modified(time).expect("a time");
        file
    };
    drop(create(&abandoned, old));
    let writer = create(&written, old);
    writer.lock().expect("a lock");
    drop(create(&young, SystemTime::now()));
    place.agree();
    assert_eq!([abandoned, written, young].map(|path| path.exists()), [false, true, true]);
}
