//! Pickles that were not written by torch.

use super::build::{Tensor, archive_of, model_tensors, number, pickle_of, rebuild, unicode};
use super::{changed, in_memory, refused};

/// A checkpoint with this pickle and the storages of the tiny model.
fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    archive_of(pickle, &model_tensors()).bytes()
}

#[track_caller]
fn refused_pickle(body: &[u8], part: &str) {
    refused(&with_pickle(&[b"\x80\x02", body].concat()), part);
}

#[test]
fn code_is_refused_by_its_name_and_place() {
    let system = [&b"cposix\nsystem\n("[..], &unicode("touch /tmp/x"), b"tR."].concat();
    refused_pickle(
        &system,
        "byte 2 of its pickle: global \"posix.system\" is not one of a checkpoint; nothing of it was run",
    );
    for global in [
        "builtins\neval",
        "__builtin__\ngetattr",
        "torch\nload",
        "torch._utils\n_rebuild_parameter",
        "collections\nOrderedDict.x",
    ] {
        let (module, name) = global.split_once('\n').expect("two lines");
        refused_pickle(format!("c{global}\n.").as_bytes(), &format!("global \"{module}.{name}\""));
    }
    // A storage's class only by its own module, and only as a class.
    refused_pickle(b"cos\nFloatStorage\n.", "global \"os.FloatStorage\"");
    refused_pickle(b"ctorch\nFloatStorage\nK\x01\x85R.", "a known global is called with other arguments");
}

#[test]
fn unknown_opcodes_are_refused_by_their_name() {
    for (opcode, name) in [
        (&b"\x93"[..], "STACK_GLOBAL (0x93)"),
        (b"\x81", "NEWOBJ (0x81)"),
        (b"\x92", "NEWOBJ_EX (0x92)"),
        (b"(ios\nsystem\n", "INST (0x69)"),
        (b"o", "OBJ (0x6f)"),
        (b"\x82\x01", "EXT1 (0x82)"),
        (b"Px\n", "PERSID (0x50)"),
        (b"2", "DUP (0x32)"),
        (b"\xff", "0xff"),
    ] {
        refused_pickle(opcode, &format!("opcode {name} is not one of a checkpoint"));
    }
    refused(&with_pickle(b"\x80\x04."), "byte 0 of its pickle: the pickle has protocol 4");
}

#[test]
fn operands_that_are_not_there_are_errors() {
    for (body, part) in [
        (&b"."[..], "the stack has too few values"),
        (b"(.", "the stack has too few values"),
        (b"K\x01(R.", "the stack has too few values"),
        (b"t.", "there is no mark on the stack"),
        (b"h\x05.", "the memo has no number 5"),
        (b"K\x01(K\x01u.", "a key of a dictionary has no value"),
        (b"K\x01(K\x01K\x02u.", "what is filled is not a dictionary"),
        (b"K\x01K\x02a.", "what is appended to is not a list"),
        (b"K\x01Q.", "must be tuples"),
        (b")Q.", "a persistent id is not that of a storage"),
        (b"X\xff\xff\xff\xff", "the pickle is cut short"),
        (b"X\x01\0\0\0\xff.", "a text is not UTF-8"),
        (b"\x8a\x09123456789.", "an integer has 9 bytes"),
        (b"K\x01.K", "the pickle goes on after its end"),
        (b"K\x01.", "it has no tensor `token_embedding.weight`"),
    ] {
        refused_pickle(body, part);
    }
}

#[test]
fn a_dictionary_that_holds_itself_is_no_model() {
    let cyclic = [&b"}q\x00"[..], &unicode("model_state_dict"), b"h\x00s."].concat();
    refused_pickle(&cyclic, "it has no tensor `token_embedding.weight`");
    let list = [&b"]q\x00h\x00a."[..]].concat();
    refused_pickle(&list, "it has no tensor `token_embedding.weight`");
}

#[test]
fn tensors_must_fit_their_storages() {
    let name = "model.lm_head.weight";
    let view = |sizes: &[usize], strides: &[usize], offset: u8| {
        changed(name, |tensor| {
            (tensor.sizes, tensor.strides, tensor.offset) = (sizes.to_vec(), strides.to_vec(), offset)
        })
    };
    let huge = i64::MAX as usize;
    refused(&view(&[3, 3], &[2, 1], 0), "leave a storage of 6 elements");
    refused(&view(&[3, 2], &[2, 1], 1), "leave a storage of 6 elements");
    refused(&view(&[huge, huge], &[huge, huge], 0), "leave a storage of 6 elements");
    refused(&view(&[huge, huge], &[0, 0], 0), "it has more elements than its storage of 6");
    refused(&view(&[7], &[0], 0), "it has more elements than its storage of 6");
    refused(&view(&[3, 2], &[2], 0), "it has 2 sizes, but 1 strides");
    refused(&view(&[1; 9], &[1; 9], 0), "a tensor has more than 8 dimensions");
    refused(&view(&[0, huge, huge], &[1, 1, 1], 0), "lm_head.weight has the sizes [0, ");
    refused(&view(&[1, 2], &[huge, 1], 0), "lm_head.weight has the sizes [1, 2]");
    refused(
        &changed(name, |tensor| tensor.class = "DoubleStorage"),
        "storage \"21\" has 24 bytes, but its 6 elements take 8 bytes each",
    );
    let negative = [&unicode("x")[..], b"}K\x00J\xff\xff\xff\xff\x85."].concat();
    refused_pickle(&negative, "it has no tensor");
}

#[test]
fn negative_sizes_are_refused() {
    let tensor = &model_tensors()[0];
    let mut call = rebuild(tensor, "0");
    // The sizes (3, 2): K 3 becomes a negative number.
    let at = call.windows(5).position(|bytes| bytes == b"(K\x03K\x02").expect("the sizes");
    call.splice(at + 1..at + 3, *b"J\xff\xff\xff\xff");
    refused_pickle(&[&call[..], b"."].concat(), "offset, sizes and strides of a tensor must be numbers from 0 on");
}

#[test]
fn tensors_that_share_a_storage_cannot_take_more_than_the_file() {
    let tensors = vec![Tensor::new("model.token_embedding.weight", &[1_000], &[0.0; 1_000])];
    let call = rebuild(&tensors[0], "0");
    let entries: Vec<u8> = (0..100).flat_map(|index| [unicode(&format!("{index}")), call.clone()].concat()).collect();
    let pickle = [&b"\x80\x02}("[..], &entries, b"u."].concat();
    refused(&archive_of(&pickle, &tensors).bytes(), "its tensors take 400000 bytes, but the file has ");
}

#[test]
fn a_long_tuple_is_not_copied_for_each_tensor() {
    let tensor = &model_tensors()[0];
    let long = [&b"("[..], &number(1).repeat(10_000), b"tq\x07"].concat();
    let mut call = rebuild(tensor, "0");
    let at = call.windows(6).position(|bytes| bytes == b"(K\x03K\x02t").expect("the sizes");
    call.splice(at..at + 6, *b"h\x07");
    refused_pickle(&[&long[..], &call, b"."].concat(), "a tensor has more than 8 dimensions");
}

#[test]
fn every_cut_and_every_changed_byte_gives_an_error_or_a_model() {
    let tensors = model_tensors();
    let pickle = pickle_of(&tensors, Some("model_state_dict"));
    for length in 0..pickle.len() {
        in_memory(&with_pickle(&pickle[..length])).expect_err("cut short");
    }
    for index in 0..pickle.len() {
        for byte in *b"\0\x01\xff(.tuebRQcqhX}])K" {
            let mut changed = pickle.clone();
            changed[index] = byte;
            let _ = in_memory(&with_pickle(&changed));
        }
    }
}
