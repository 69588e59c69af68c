//! What works without any file: the built-in models answer where no model is named.

use mbert_tests::DOCUMENTS;
use mbert_tests::models::{built_in, built_in_directory};
use serde_json::{Value, json};

use super::{Folder, floats, mbert, mbert_reading};
use mbert::built_in::BuiltIn;

const QUESTION: &str = "Paris ist die [MASK] von Frankreich.";

#[test]
fn every_command_answers_without_a_model_as_with_the_small_one() {
    let folder = Folder::new();
    let model = folder.write("model.mbert", built_in(BuiltIn::Small));
    let out = folder.file("out.safetensors");
    for arguments in [
        &["fill-mask", "--trace-hash", QUESTION][..],
        &["next-sentence", "--trace-hash", "She opened the window.", "The birds were singing."],
        &["features", "--trace-hash", "Paris", "-o", &out],
        &["tokenize", "--trace-hash"],
        &["demo"],
        &["demo", "--json"],
        &["eval", "mlm", "--text", DOCUMENTS],
    ] {
        let run = |more: &[&str]| mbert_reading(&[arguments, more].concat(), "Größe 東京\n".as_bytes()).ok();
        let without = run(&[]);
        assert_eq!(without.stderr, "", "{arguments:?}");
        for name in [&model, "small"] {
            assert_eq!(run(&["--model", name]).stdout, without.stdout, "{arguments:?}");
        }
        if arguments[0] != "tokenize" {
            assert_ne!(run(&["--model", "tiny"]).stdout, without.stdout, "{arguments:?}");
        }
    }
    let inspected = mbert(&["inspect", "--json"]).json();
    assert_eq!(inspected, mbert(&["inspect", "--json", &model]).json());
    assert_eq!(inspected["provenance"]["model_name"], "small");
}

#[test]
fn built_in_models_are_written_like_checkpoints_and_always_the_same() {
    let folder = Folder::new();
    let path = folder.file("new.mbert");
    for model in BuiltIn::ALL {
        mbert(&["convert", model.name(), "-o", &path]).ok();
        assert!(std::fs::read(&path).unwrap() == built_in(model), "{}", model.name());
    }
}

#[test]
fn file_named_like_a_built_in_model_is_reached_by_its_path() {
    let folder = Folder::new();
    let path = folder.write("small", std::fs::read(folder.path("tiny.mbert")).unwrap());
    let architecture = |path: &str| mbert(&["inspect", "--json", path]).json()["config"]["hidden_size"].clone();
    assert_eq!(architecture(&path), 32);
    assert_eq!(architecture("small"), 256);
}

#[test]
fn best_tokens_are_those_of_the_reference() {
    let folder = Folder::new();
    let out = folder.file("out.safetensors");
    for model in BuiltIn::ALL {
        let golden = built_in_directory(model).join("golden.safetensors");
        let golden = golden.to_str().unwrap();
        mbert(&["features", "--model", model.name(), "--ids", golden, "-o", &out]).ok();
        let (found, expected) = (floats(&out), floats(golden));
        let (mut same, mut positions) = (0, 0);
        for (name, (shape, expected)) in expected.iter().filter(|(name, _)| name.ends_with("prediction_logits")) {
            for (found, expected) in found[name].1.chunks(shape[1]).zip(expected.chunks(shape[1])) {
                let best = |logits: &[f32]| (0..shape[1]).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
                // Another best token is within what quantisation may move.
                same += usize::from(best(found) == best(expected));
                positions += 1;
            }
        }
        println!("{}: same best token at {same} of {positions} positions", model.name());
        assert!(positions > 0 && same * 10 >= positions * 9, "{}: {same} of {positions}", model.name());
    }
}

#[test]
fn demo_fills_and_judges_in_a_dozen_scripts() {
    let page = mbert(&["demo"]).ok().stdout;
    let told = mbert(&["demo", "--json"]).json();
    let filled = told["fill_mask"].as_array().unwrap();
    assert!(filled.len() >= 12);
    for entry in filled {
        let answers = entry["answers"].as_array().unwrap();
        assert_eq!(answers.len(), 3);
        let best = answers[0]["token_str"].as_str().unwrap();
        for part in [entry["language"].as_str().unwrap(), entry["text"].as_str().unwrap(), best] {
            assert!(page.contains(part), "{part:?} is not in: {page}");
        }
        assert!(answers[0]["score"].as_f64() >= answers[2]["score"].as_f64());
    }
    for pair in told["next_sentence"].as_array().unwrap() {
        assert_eq!(pair["is_next"], pair["probability"].as_f64().unwrap() > 0.5);
        assert!(page.contains(pair["pair"].as_str().unwrap()));
    }
    // Any other model can be shown too, without pairs where it cannot judge them; not one that cannot fill in.
    let folder = Folder::new();
    let encoder = folder.encoder();
    mbert(&["demo", "--model", &encoder]).refused(&["no masked-LM head"]);
}

#[test]
fn eval_measures_a_checkpoint_without_a_model() {
    let measured = |more: &[&str]| -> Value {
        mbert(&[&["eval", "mlm", "--json", "--text", DOCUMENTS, "--checkpoint", "tiny"], more].concat()).json()
    };
    let told = measured(&[]);
    assert_eq!(told, measured(&["--model", "tiny"]));
    let keys: Vec<_> = told[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["file", "masked", "accuracy", "loss", "fp32_accuracy", "fp32_loss", "agreement"]);
    assert_eq!(told[0]["file"], json!(DOCUMENTS));
    let number = |key: &str| told[0][key].as_f64().unwrap();
    assert!(number("agreement") > 0.8 && (number("loss") - number("fp32_loss")).abs() < 0.1, "{told}");
    mbert(&["eval", "mlm", "--text", DOCUMENTS, "--checkpoint", "tiny", "--model", "small"]).refused(&["differ"]);
}
