//! `mbert eval` on good and on bad input, with the seeded model.

use serde_json::Value;

use super::{Folder, mbert};

const LINES: &str = "the cat sat on the mat .\n\n  \nthe mat sat on a cat , zebra\nfix my jowl .\n";
const DOCUMENTS: &str = "the cat sat\non the mat\nzebra\n\na mat sat on\nthe cat\n";

/// The JSON of a run without the names of its files.
fn measured(folder: &Folder, task: &str, files: &[&str], more: &[&str]) -> Value {
    let mut told = folder.run("eval", &[&[task, "--json", "--text"], files, more].concat()).json();
    for object in told.as_array_mut().unwrap() {
        object.as_object_mut().unwrap().remove("file");
    }
    told
}

#[test]
fn masks_depend_on_the_seed_and_on_the_text_alone() {
    let folder = Folder::new();
    let tiny = folder.file("tiny");
    let (text, other) = (folder.write("text.txt", LINES), folder.write("other.txt", LINES.repeat(2)));
    let told = |files: &[&str], more: &[&str]| measured(&folder, "mlm", files, more);
    let first = told(&[&text], &[]);
    // Three lines of 7, 13 and 12 tokens.
    assert_eq!(first[0]["masked"], 1 + 2 + 2);
    assert!(first[0]["fp32_loss"].is_null() && first[0]["agreement"].is_null());
    assert_eq!(told(&[&text], &["--seed", "0", "--kernels", "scalar"]), first);
    assert_ne!(told(&[&text], &["--seed", "1"])[0]["loss"], first[0]["loss"]);
    let both = told(&[&other, &text], &[]);
    assert_eq!(both[1], first[0], "another file changes nothing");
    assert_eq!(both[0]["masked"], 10);

    // The float model sees the same masks, so it is about as surprised.
    let beside = told(&[&text], &["--checkpoint", &tiny]);
    assert_eq!((&beside[0]["accuracy"], &beside[0]["loss"]), (&first[0]["accuracy"], &first[0]["loss"]));
    let loss = |key: &str| beside[0][key].as_f64().unwrap();
    assert!((loss("loss") - loss("fp32_loss")).abs() < 0.02, "{beside}");
    assert!(beside[0]["agreement"].as_f64().unwrap() >= 0.8);
}

#[test]
fn table_has_a_row_for_each_file_and_their_mean() {
    let folder = Folder::new();
    let (one, other, tiny) =
        (folder.write("one.txt", LINES), folder.write("other.txt", "the cat\n"), folder.file("tiny"));
    let table = folder.run("eval", &["mlm", "--text", &one, &other, "--checkpoint", &tiny]).ok().stdout;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    for part in ["masked", "accuracy", "loss", "perplexity", "fp32", "agreement"] {
        assert!(lines[0].contains(part), "{part:?} is not in: {table}");
    }
    assert!(
        lines[1].contains("one.txt") && lines[2].contains("other.txt") && lines[3].contains("mean of 2"),
        "{table}"
    );
    let alone = folder.run("eval", &["mlm", "--text", &one]).ok().stdout;
    assert!(alone.lines().count() == 2 && !alone.contains("fp32"), "{alone}");
}

#[test]
fn long_lines_are_cut_to_the_positions_of_the_model() {
    let folder = Folder::new();
    let text = folder.write("long.txt", "the cat ".repeat(10_000));
    // Of 40 positions, 38 are ordinary tokens.
    assert_eq!(measured(&folder, "mlm", &[&text], &[])[0]["masked"], 6);
}

#[test]
fn next_sentence_is_asked_of_every_sentence_that_has_one() {
    let folder = Folder::new();
    let tiny = folder.file("tiny");
    let text = folder.write("documents.txt", DOCUMENTS);
    let told = measured(&folder, "next-sentence", &[&text], &["--checkpoint", &tiny]);
    assert_eq!((&told[0]["pairs"], &told[0]["agreement"]), (&3.into(), &1.0.into()));
    let loss = |key: &str| told[0][key].as_f64().unwrap();
    assert!((loss("loss") - loss("fp32_loss")).abs() < 0.02, "{told}");
    assert_eq!(measured(&folder, "next-sentence", &[&text], &["--checkpoint", &tiny]), told);
    let table = folder.run("eval", &["next-sentence", "--text", &text]).ok().stdout;
    assert!(table.contains("pairs") && !table.contains("perplexity"), "{table}");
    let lines = folder.write("lines.txt", "the cat\nsat on\n");
    folder.run("eval", &["next-sentence", "--text", &lines]).refused(&["lines.txt", "one document", "blank lines"]);
}

#[test]
fn text_that_cannot_be_measured_is_refused_by_name() {
    let folder = Folder::new();
    let (good, absent) = (folder.write("good.txt", LINES), folder.file("absent.txt"));
    for (name, content, part) in [
        ("empty.txt", &b""[..], "no text"),
        ("blank.txt", b"\n \n", "no text"),
        ("latin1.txt", b"the c\xE4t", "not UTF-8 at byte 5"),
        ("unknown.txt", "東京\n".as_bytes(), "no token to predict"),
    ] {
        let path = folder.write(name, content);
        folder.run("eval", &["mlm", "--text", &good, &path]).refused(&[name, part]);
    }
    folder.run("eval", &["mlm", "--text", &absent]).refused(&["cannot read", "absent.txt", "No such file"]);
    folder.run("eval", &["mlm"]).refused(&["--text"]);
    folder.run("eval", &["poetry", "--text", &good]).refused(&["poetry", "mlm", "next-sentence"]);
    folder.run("eval", &["mlm", "--text", &good, "--checkpoint", &absent]).refused(&["absent.txt", "not a directory"]);
}

#[test]
fn models_without_the_head_are_refused() {
    let folder = Folder::new();
    let (encoder, text) = (folder.encoder(), folder.write("documents.txt", DOCUMENTS));
    mbert(&["eval", "mlm", "--model", &encoder, "--text", &text]).refused(&["no masked-LM head"]);
    mbert(&["eval", "next-sentence", "--model", &encoder, "--text", &text]).refused(&["no next-sentence head"]);
    // The geometry is that of the model, the heads are not.
    let arguments = ["mlm", "--checkpoint", &folder.file("encoder"), "--text", &text];
    folder.run("eval", &arguments).refused(&["no masked-LM head"]);
}
