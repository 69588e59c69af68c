//! Every command on bad input: the exit status is 2, and the message tells what, where and what to do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Folder, ids_file, mbert, mbert_reading};
use mbert_tests::tiny_checkpoint::TinyCheckpoint;

#[test]
fn text_without_mask_is_refused() {
    let folder = Folder::new();
    for text in ["the cat", "", "[mask]"] {
        folder.run("fill-mask", &[text]).refused(&["no [MASK]", "write [MASK]"]);
        folder.run("fill-mask", &["--json", text]).refused(&["no [MASK]"]);
    }
}

#[test]
fn too_long_a_text_is_refused_with_both_numbers() {
    let folder = Folder::new();
    let text = "the cat ".repeat(300) + "[MASK]";
    let out = folder.file("out.safetensors");
    folder.run("fill-mask", &[&text]).refused(&["603", "40", "shorten"]);
    folder.run("next-sentence", &[&text, "the cat"]).refused(&["606", "40", "shorten"]);
    folder.run("features", &["the", &text, "-o", &out]).refused(&["text 1", "603", "40"]);
    assert!(!folder.path("out.safetensors").exists());
    let tokenize = ["tokenize", "--trace-hash", "--model", &folder.file("tiny.mbert")];
    mbert_reading(&tokenize, format!("the\n{text}\n").as_bytes()).refused(&["line 2", "603", "40"]);
}

#[test]
fn six_hundred_tokens_for_512_positions_are_refused() {
    let folder = Folder::new();
    let mut checkpoint = TinyCheckpoint::new(1);
    checkpoint.config["max_position_embeddings"] = json!(512);
    let positions = checkpoint.tensors.get_mut("bert.embeddings.position_embeddings.weight").unwrap();
    let row = positions.bytes[..4 * 32].to_vec();
    (positions.shape[0], positions.bytes) = (512, row.repeat(512));
    checkpoint.write_to(&folder.path("long"));
    let model = folder.file("long.mbert");
    mbert(&["convert", &folder.file("long"), "-o", &model]).ok();
    let text = |words: usize| "[MASK] ".to_owned() + &"cat ".repeat(words);
    mbert(&["fill-mask", "--model", &model, &text(597)]).refused(&["600 tokens", "512"]);
    mbert(&["fill-mask", "--model", &model, &text(510)]).refused(&["513 tokens", "512"]);
    mbert(&["fill-mask", "--model", &model, &text(509)]).ok();
}

#[test]
fn ten_megabytes_of_text_are_answered_or_refused_at_once() {
    let folder = Folder::new();
    let start = Instant::now();
    let long = "the cat ".repeat(1_250_000);
    let text = folder.write("long.txt", &long);
    let model = folder.file("tiny.mbert");
    mbert_reading(&["tokenize", "--trace-hash", "--model", &model], long.as_bytes())
        .refused(&["line 1", "2500002", "40"]);
    let tokens = mbert_reading(&["tokenize", "--model", &model], long.as_bytes()).ok().stdout;
    assert_eq!(tokens.split(' ').count(), 2_500_002);
    // Comparison and calibration read as much of a line as the model has positions.
    let compared = folder.run("compare", &["--checkpoint", &folder.file("tiny"), "--text", &text, "--json"]).json();
    assert_eq!(compared["tokens"], 40);
    assert!(compared["worst"]["input"].as_str().unwrap().len() <= 1000);
    mbert(&["convert", &folder.file("tiny"), "-o", &model, "--calibrate", &text]).ok();
    assert!(start.elapsed() < Duration::from_secs(60), "took {:?}", start.elapsed());
}

#[test]
fn empty_text_is_refused_where_there_is_nothing_to_answer() {
    let folder = Folder::new();
    for content in ["", "\n  \n\n"] {
        let text = folder.write("empty.txt", content);
        let tiny = folder.file("tiny");
        folder.run("compare", &["--checkpoint", &tiny, "--text", &text]).refused(&["empty.txt", "no text"]);
        let out = folder.file("new.mbert");
        mbert(&["convert", &tiny, "-o", &out, "--calibrate", &text]).refused(&["empty.txt", "no text"]);
    }
    assert_eq!(mbert_reading(&["tokenize", "--model", &folder.file("tiny.mbert")], b"").ok().stdout, "");
    // Two special tokens are a sequence.
    folder.run("features", &["", "-o", &folder.file("out.safetensors")]).ok();
}

#[test]
fn ids_out_of_range_are_refused_with_their_place() {
    let folder = Folder::new();
    let out = folder.file("out.safetensors");
    let tiny = folder.file("tiny");
    let refused = |tensors: &[(&str, &[i32])], parts: &[&str]| {
        let ids = ids_file(&folder, "ids.safetensors", tensors);
        folder.run("features", &["--ids", &ids, "-o", &out]).refused(parts);
        folder.run("compare", &["--checkpoint", &tiny, "--ids", &ids]).refused(parts);
        mbert(&["convert", &tiny, "-o", &folder.file("new.mbert"), "--calibrate-ids", &ids]).refused(&[]);
    };
    refused(&[("0.input_ids", &[2, 64, 3])], &["id 64", "at position 1", "6"]);
    refused(&[("0.input_ids", &[2, 3]), ("5.input_ids", &[2, 3, i32::MAX])], &["5", "2147483647", "position 2"]);
    refused(&[("0.input_ids", &[2, -1, 3])], &["ids.safetensors", "0.input_ids", "-1"]);
    refused(&[("0.input_ids", &[2, 3]), ("0.token_type_ids", &[0, 2])], &["token type", "2 at position 1"]);
    refused(&[("0.input_ids", &[2, 3]), ("0.token_type_ids", &[0, 300])], &["0.token_type_ids", "300"]);
    refused(&[("0.input_ids", &[2, 3]), ("0.token_type_ids", &[0])], &["2 ids", "has 1"]);
    refused(&[("0.inputs", &[2, 3])], &["ids.safetensors", "0.input_ids"]);
    assert_eq!(folder.names(), ["ids.safetensors", "tiny", "tiny.mbert"]);
}

#[test]
fn too_many_ids_are_refused_for_features_and_comparison() {
    let folder = Folder::new();
    let ids = ids_file(&folder, "ids.safetensors", &[("3.input_ids", &[4; 41])]);
    let (out, tiny) = (folder.file("out.safetensors"), folder.file("tiny"));
    folder.run("features", &["--ids", &ids, "-o", &out]).refused(&["3", "41", "40"]);
    folder.run("compare", &["--checkpoint", &tiny, "--ids", &ids]).refused(&["3", "41", "40"]);
}

#[test]
fn text_with_invalid_utf8_is_refused_with_its_place() {
    let folder = Folder::new();
    let text = folder.write("latin1.txt", b"the cat\nna\xEFve\n");
    let (tiny, out) = (folder.file("tiny"), folder.file("new.mbert"));
    folder.run("compare", &["--checkpoint", &tiny, "--text", &text]).refused(&["latin1.txt", "not UTF-8", "byte 10"]);
    mbert(&["convert", &tiny, "-o", &out, "--calibrate", &text]).refused(&["latin1.txt", "not UTF-8", "byte 10"]);
    let tokenize = ["tokenize", "--model", &folder.file("tiny.mbert")];
    mbert_reading(&tokenize, b"the cat\nna\xEFve\n").refused(&["line 2", "not UTF-8", "byte 2"]);
    mbert_reading(&tokenize, b"\xED\xA0\x80").refused(&["line 1", "not UTF-8", "byte 0"]);
    std::fs::write(folder.path("tiny/vocab.txt"), b"[PAD]\n\xFF\n").unwrap();
    mbert(&["convert", &tiny, "-o", &out]).refused(&["vocab.txt", "UTF-8"]);
    assert!(!folder.path("new.mbert").exists());
}

#[test]
fn lone_surrogates_in_json_are_refused_with_the_file() {
    let files = [("config.json", "hidden_act"), ("tokenizer_config.json", "unk_token")];
    for ((name, field), surrogate) in files.into_iter().zip([r"\ud800", r"\udc00"]) {
        let folder = Folder::new();
        let path = format!("tiny/{name}");
        let mut value: Value = serde_json::from_slice(&std::fs::read(folder.path(&path)).unwrap()).unwrap();
        value[field] = "LONE".into();
        folder.write(&path, value.to_string().replace("LONE", surrogate));
        mbert(&["convert", &folder.file("tiny"), "-o", &folder.file("new.mbert")]).refused(&[
            name,
            "download it again",
            "hex escape",
            "line 1",
        ]);
        assert!(!folder.path("new.mbert").exists());
    }
}

#[test]
fn broken_checkpoints_are_refused_and_nothing_is_written() {
    let folder = Folder::new();
    let refused = |edit: &dyn Fn(&mut TinyCheckpoint), parts: &[&str]| {
        let mut checkpoint = TinyCheckpoint::new(1);
        edit(&mut checkpoint);
        let broken = folder.path("broken");
        checkpoint.write_to(&broken);
        mbert(&["convert", broken.to_str().unwrap(), "-o", &folder.file("new.mbert")]).refused(parts);
        std::fs::remove_dir_all(broken).unwrap();
        assert_eq!(folder.names(), ["tiny", "tiny.mbert"]);
    };
    const QUERY: &str = "bert.encoder.layer.1.attention.self.query.weight";
    refused(&|checkpoint| checkpoint.config = json!(null), &["config.json"]);
    refused(&|checkpoint| drop(checkpoint.vocabulary.pop()), &["vocab", "63", "64"]);
    refused(&|checkpoint| drop(checkpoint.tensors.remove(QUERY)), &["query.weight"]);
    refused(
        &|checkpoint| checkpoint.tensors.get_mut(QUERY).unwrap().shape = vec![16, 64],
        &["query.weight", "16", "32"],
    );
    for value in [f32::NAN, f32::INFINITY] {
        let edit = |checkpoint: &mut TinyCheckpoint| {
            checkpoint.tensors.get_mut(QUERY).unwrap().bytes[400..404].copy_from_slice(&value.to_le_bytes());
        };
        refused(&edit, &["query.weight"]);
    }
    refused(&|checkpoint| drop(checkpoint.files.insert("config.json".into(), b"{".into())), &["config.json"]);
}

#[test]
fn missing_files_are_named() {
    let folder = Folder::new();
    let (absent, tiny, out) = (folder.file("absent"), folder.file("tiny"), folder.file("new.mbert"));
    mbert(&["convert", &absent, "-o", &out]).refused(&["absent"]);
    mbert(&["convert", &tiny, "-o", &out, "--calibrate", &absent]).refused(&["absent"]);
    mbert(&["convert", &tiny, "-o", &out, "--calibrate-ids", &absent]).refused(&["absent"]);
    mbert(&["inspect", &absent]).refused(&["absent"]);
    for arguments in [
        &["fill-mask", "--model", &absent, "[MASK]"][..],
        &["next-sentence", "--model", &absent, "a", "b"],
        &["tokenize", "--model", &absent],
        &["features", "--model", &absent, "a", "-o", &out],
        &["compare", "--model", &absent, "--checkpoint", &tiny, "--text", &absent],
    ] {
        mbert(arguments).refused(&["cannot open", "absent", "No such file"]);
    }
    folder.run("compare", &["--checkpoint", &absent, "--text", &absent]).refused(&["absent"]);
    folder.run("compare", &["--checkpoint", &tiny, "--text", &absent]).refused(&["absent"]);
    folder.run("features", &["--ids", &absent, "-o", &out]).refused(&["absent"]);
    assert_eq!(folder.names(), ["tiny", "tiny.mbert"]);
}

#[test]
fn files_that_are_no_model_are_refused_by_name() {
    let folder = Folder::new();
    let model = std::fs::read(folder.path("tiny.mbert")).unwrap();
    let mut flipped = model.clone();
    flipped[model.len() / 2] ^= 1;
    for (name, bytes, part) in [
        ("empty.mbert", &[][..], "empty.mbert"),
        ("short.mbert", &model[..1000], "copy"),
        ("flipped.mbert", &flipped, "damaged"),
        ("text.mbert", &[b'x'; 1000], "not a .mbert model"),
    ] {
        let path = folder.write(name, bytes);
        mbert(&["inspect", &path]).refused(&[name, part]);
        mbert(&["fill-mask", "--model", &path, "[MASK]"]).refused(&[name, part]);
    }
    mbert(&["inspect", &folder.file("tiny")]).refused(&["tiny", "is a directory", "name a file"]);
}

#[test]
fn heads_that_a_model_has_not_are_named() {
    let folder = Folder::new();
    let encoder = folder.encoder();
    let out = folder.file("out.safetensors");
    mbert(&["fill-mask", "--model", &encoder, "the [MASK]"]).refused(&["no masked-LM head"]);
    mbert(&["next-sentence", "--model", &encoder, "the", "cat"]).refused(&["no next-sentence head"]);
    mbert(&["features", "--model", &encoder, "--pool", "pooler", "the", "-o", &out]).refused(&["no pooler"]);
    assert!(!folder.path("out.safetensors").exists());
}

#[test]
fn model_and_checkpoint_that_differ_are_refused() {
    let folder = Folder::new();
    let text = folder.write("text.txt", "the cat");
    let mut other = TinyCheckpoint::new(1);
    other.config["hidden_act"] = json!("relu");
    other.write_to(&folder.path("other"));
    let arguments = ["--checkpoint", &folder.file("other"), "--text", &text];
    folder.run("compare", &arguments).refused(&["differ", "converted from"]);
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let folder = Folder::new();
    folder.run("fill-mask", &["--top-k", "0", "[MASK]"]).refused(&["top-k"]);
    folder.run("fill-mask", &["--kernels", "abacus", "[MASK]"]).refused(&["abacus", "scalar"]);
    folder.run("fill-mask", &["--targets", " ", "[MASK]"]).refused(&["no target"]);
    folder.run("features", &["-o", &folder.file("out")]).refused(&["TEXT"]);
    mbert(&["bake"]).refused(&["bake"]);
    mbert(&[]).refused(&["Usage"]);
}
