//! Every command on good input.

use serde_json::Value;

use super::{Folder, POSITIONS, VOCAB_SIZE, floats, ids_file, mbert, mbert_reading};

#[test]
fn convert_writes_the_same_file_twice_and_tells_what_it_cost() {
    let folder = Folder::new();
    let again = folder.file("again.mbert");
    let told = mbert(&["convert", &folder.file("tiny"), "-o", &again]).ok().stdout;
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(folder.path("tiny.mbert")).unwrap());
    for part in ["quantisation error", "encoder.layer.1", "size by section", "vocabulary", &again] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    assert_eq!(folder.names(), ["again.mbert", "tiny", "tiny.mbert"]);
}

#[test]
fn convert_replaces_a_model_and_takes_text_and_ids_to_calibrate_on() {
    let folder = Folder::new();
    let before = std::fs::read(folder.path("tiny.mbert")).unwrap();
    let text = folder.write("text.txt", "the cat sat on the mat .\n\nthe mat sat on the cat .\n");
    let ids = ids_file(&folder, "ids.safetensors", &[("0.input_ids", &[2, 57, 58, 59, 3])]);
    for calibration in [["--calibrate", &text], ["--calibrate-ids", &ids]] {
        let model = folder.file("tiny.mbert");
        mbert(&["convert", &folder.file("tiny"), "-o", &model, calibration[0], calibration[1]]).ok();
        assert_ne!(std::fs::read(model).unwrap(), before, "{calibration:?}");
        let told = mbert(&["inspect", "--json", &folder.file("tiny.mbert")]).json();
        assert_eq!(told["quantization"]["smoothed"], true);
    }
}

#[test]
fn inspect_tells_the_whole_file_and_the_memory_that_sequences_need() {
    let folder = Folder::new();
    let model = folder.file("tiny.mbert");
    let told = mbert(&["inspect", "--json", &model]).json();
    assert_eq!(told["verified"], true);
    assert_eq!(told["config"]["hidden_size"], 32);
    assert_eq!(told["config"]["vocab_size"], VOCAB_SIZE);
    assert_eq!(told["provenance"]["architecture"], "BertForPreTraining");
    assert_eq!(told["provenance"]["checkpoint_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(told["self_test_cases"], 4);
    assert_eq!(told["total_bytes"], std::fs::metadata(&model).unwrap().len());
    let sections = told["sections"].as_array().unwrap();
    assert!(sections.iter().any(|section| section["kind"] == "WordEmbeddings" && section["rows"] == VOCAB_SIZE));
    let memory = told["memory"].as_array().unwrap();
    assert_eq!(memory.last().unwrap()["tokens"], POSITIONS);
    assert!(memory[0]["ram_bytes"].as_u64() < memory[1]["ram_bytes"].as_u64());

    let text = mbert(&["inspect", &model]).ok().stdout;
    for part in ["WordEmbeddings", "64 × 32", "every SHA-256 verified", "2 layers, hidden 32", "RAM in bytes"] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn fill_mask_answers_as_the_pipeline_does() {
    let folder = Folder::new();
    let answers = folder.run("fill-mask", &["--json", "The cat [MASK] on the mat."]).json();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 5);
    for answer in answers {
        let keys: Vec<_> = answer.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["score", "token", "token_str", "sequence"]);
        let (word, sequence) = (answer["token_str"].as_str().unwrap(), answer["sequence"].as_str().unwrap());
        // A continuation is joined to the word before it.
        assert!(sequence.starts_with("the cat") && sequence.ends_with("on the mat."), "{sequence}");
        assert!(sequence.contains(word.trim_start_matches("##")) || word.starts_with('['), "{word} in {sequence}");
    }
    let scores: Vec<f64> = answers.iter().map(|answer| answer["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");

    let table = folder.run("fill-mask", &["The cat [MASK] on the mat."]).ok().stdout;
    assert_eq!(table.lines().count(), 5);
    for (line, answer) in table.lines().zip(answers) {
        let sequence = answer["sequence"].as_str().unwrap();
        assert!(line.contains(answer["token_str"].as_str().unwrap()) && line.ends_with(sequence), "{line}");
    }
    let column = |line: &str| line.find("the cat").unwrap();
    let columns: Vec<_> = table.lines().map(column).collect();
    assert!(columns.iter().all(|at| *at == columns[0]), "{table}");
}

#[test]
fn scores_of_the_whole_vocabulary_add_up_to_one() {
    let folder = Folder::new();
    // More than there are tokens: all of them.
    let answers = folder.run("fill-mask", &["--json", "--top-k", "1000", "the [MASK]"]).json();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), VOCAB_SIZE);
    let sum: f64 = answers.iter().map(|answer| answer["score"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    let mut tokens: Vec<_> = answers.iter().map(|answer| answer["token"].as_u64().unwrap()).collect();
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..VOCAB_SIZE as u64));
}

#[test]
fn several_masks_give_a_list_of_lists() {
    let folder = Folder::new();
    let answers = folder.run("fill-mask", &["--json", "--top-k", "2", "[MASK] cat [MASK]"]).json();
    let masks = answers.as_array().unwrap();
    assert_eq!(masks.len(), 2);
    for answers in masks {
        assert_eq!(answers.as_array().unwrap().len(), 2);
        // As in the pipeline, the other masks can be seen, and so can the special tokens.
        let sequence = answers[0]["sequence"].as_str().unwrap();
        assert!(sequence.contains("[MASK]") && sequence.starts_with("[CLS]"), "{sequence}");
    }
}

#[test]
fn special_tokens_are_shown_when_asked_for() {
    let folder = Folder::new();
    let answers = folder.run("fill-mask", &["--json", "--special-tokens", "the [MASK]"]).json();
    let sequence = answers[0]["sequence"].as_str().unwrap();
    assert!(sequence.starts_with("[CLS] the") && sequence.ends_with("[SEP]"), "{sequence}");
}

#[test]
fn targets_restrict_the_answers_and_keep_their_scores() {
    let folder = Folder::new();
    let all = folder.run("fill-mask", &["--json", "--top-k", "64", "the [MASK] sat"]).json();
    let score = |token: &str| -> f64 {
        let found = all.as_array().unwrap().iter().find(|answer| answer["token_str"] == token);
        found.unwrap()["score"].as_f64().unwrap()
    };
    let run = folder.run("fill-mask", &["--json", "--targets", "cat,mat,cats", "the [MASK] sat"]).ok();
    assert!(run.stderr.contains("cats") && run.stderr.contains("first token"), "{}", run.stderr);
    let answers: Value = serde_json::from_str(&run.stdout).unwrap();
    let mut found: Vec<_> = answers.as_array().unwrap().iter().map(|a| a["token_str"].as_str().unwrap()).collect();
    assert_eq!(answers[0]["score"].as_f64().unwrap(), score(found[0]));
    found.sort_unstable();
    // "cats" is replaced by its first token, which is there already.
    assert_eq!(found, ["cat", "mat"]);
}

#[test]
fn next_sentence_gives_a_verdict_with_its_probability() {
    let folder = Folder::new();
    let told = folder.run("next-sentence", &["--json", "the cat", "sat on the mat"]).json();
    let [is_next, is_not_next] = [0, 1].map(|i| told["logits"][i].as_f64().unwrap());
    assert_eq!(told["is_next"], is_next > is_not_next);
    let expected = 1.0 / (1.0 + (is_not_next - is_next).exp());
    assert!((told["probability"].as_f64().unwrap() - expected).abs() < 1e-12);
    let other = folder.run("next-sentence", &["--json", "sat on the mat", "the cat"]).json();
    assert_ne!(other["logits"], told["logits"]);
    let text = folder.run("next-sentence", &["the cat", "sat on the mat"]).ok().stdout;
    assert!(text.contains("follow") && text.contains("probability"), "{text}");
}

#[test]
fn tokenize_gives_ids_tokens_and_byte_offsets_line_by_line() {
    let folder = Folder::new();
    let model = folder.file("tiny.mbert");
    let input = "The cät\n\nçats.\r\nend".as_bytes();
    let lines = mbert_reading(&["tokenize", "--model", &model, "--json"], input).ok().stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["tokens"], serde_json::json!(["[CLS]", "the", "cat", "[SEP]"]));
    assert_eq!(lines[0]["ids"], serde_json::json!([2, 57, 58, 3]));
    assert_eq!(lines[0]["offsets"], serde_json::json!([[0, 0], [0, 3], [4, 8], [0, 0]]));
    assert_eq!(lines[1]["ids"], serde_json::json!([2, 3]));
    assert_eq!(lines[2]["tokens"], serde_json::json!(["[CLS]", "cat", "##s", ".", "[SEP]"]));
    assert_eq!(lines[3]["tokens"], serde_json::json!(["[CLS]", "e", "##n", "##d", "[SEP]"]));
    let text = mbert_reading(&["tokenize", "--model", &model], b"the cat").ok().stdout;
    assert_eq!(text, "[CLS]:2 the:57 cat:58 [SEP]:3\n");
}

#[test]
fn features_have_the_names_and_shapes_of_the_golden_files() {
    let folder = Folder::new();
    let out = folder.file("out.safetensors");
    folder.run("features", &["the cat", "on", "-o", &out]).ok();
    let last = floats(&out);
    assert_eq!(last.keys().collect::<Vec<_>>(), ["0.hidden.2", "1.hidden.2"]);
    assert_eq!((&last["0.hidden.2"].0, &last["1.hidden.2"].0), (&vec![4, 32], &vec![3, 32]));

    folder.run("features", &["--layers", "all", "the cat", "-o", &out]).ok();
    let all = floats(&out);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["0.hidden.0", "0.hidden.1", "0.hidden.2"]);
    assert_eq!(all["0.hidden.2"], last["0.hidden.2"]);

    let ids = ids_file(&folder, "ids.safetensors", &[("7.input_ids", &[2, 57, 58, 3]), ("7.token_type_ids", &[0; 4])]);
    folder.run("features", &["--ids", &ids, "-o", &out]).ok();
    let of_ids = floats(&out);
    assert_eq!(of_ids.keys().collect::<Vec<_>>(), ["7.hidden.2", "7.prediction_logits", "7.seq_relationship_logits"]);
    assert_eq!(of_ids["7.hidden.2"], last["0.hidden.2"]);
    assert_eq!(of_ids["7.prediction_logits"].0, [4, VOCAB_SIZE]);
    assert_eq!(of_ids["7.seq_relationship_logits"].0, [2]);
}

#[test]
fn features_are_pooled_in_every_way() {
    let folder = Folder::new();
    let out = folder.file("out.safetensors");
    let pooled = |pool: &str| {
        folder.run("features", &["--pool", pool, "the cat", "-o", &out]).ok();
        floats(&out)
    };
    let tokens = pooled("none")["0.hidden.2"].1.clone();
    assert_eq!(pooled("cls")["0.hidden.2"], (vec![32], tokens[..32].to_vec()));
    let (shape, mean) = pooled("mean")["0.hidden.2"].clone();
    assert_eq!(shape, [32]);
    for (channel, mean) in mean.into_iter().enumerate() {
        let exact = tokens.iter().skip(channel).step_by(32).sum::<f32>() / 4.0;
        assert!((mean - exact).abs() < 1e-5);
    }
    let pooler = pooled("pooler");
    assert_eq!(pooler.keys().collect::<Vec<_>>(), ["0.pooler_output"]);
    assert!(pooler["0.pooler_output"].1.iter().all(|value| value.abs() <= 1.0));
}

#[test]
fn trace_hash_is_the_same_for_all_kernels_and_packings_and_differs_between_texts() {
    let folder = Folder::new();
    let packed = folder.file("packed.mbert");
    mbert(&["convert", &folder.file("tiny"), "-o", &packed, "--target", "x86-64-avx512vnni"]).ok();
    let trace = |model: &str, kernels: &[&str], text: &str| {
        let arguments = [&["fill-mask", "--json", "--trace-hash", "--model", model], kernels, &[text]].concat();
        mbert(&arguments).json()["trace_sha256"].as_str().unwrap().to_owned()
    };
    let model = folder.file("tiny.mbert");
    let native = trace(&model, &[], "the [MASK]");
    assert_eq!(native.len(), 64);
    for model in [&model, &packed] {
        assert_eq!(trace(model, &[], "the [MASK]"), native);
        assert_eq!(trace(model, &["--kernels", "scalar"], "the [MASK]"), native);
    }
    assert_ne!(trace(&model, &[], "on [MASK]"), native);
    let run = mbert(&["fill-mask", "--kernels", "scalar", "--model", &packed, "the [MASK]"]).ok();
    assert!(run.stderr.contains("repacking for scalar"), "{}", run.stderr);

    let line = |text: &str| text.lines().find_map(|line| line.strip_prefix("trace ").map(str::to_owned)).unwrap();
    assert_eq!(line(&folder.run("fill-mask", &["--trace-hash", "the [MASK]"]).ok().stdout), native);
    let tokenize = ["tokenize", "--trace-hash", "--model", &model];
    let hidden = line(&mbert_reading(&tokenize, b"the cat\n").ok().stdout);
    let out = folder.file("out.safetensors");
    let features = line(&folder.run("features", &["--trace-hash", "the cat", "-o", &out]).ok().stdout);
    assert_eq!(features, format!("0 {hidden}"), "both hash the hidden states alone");
    assert_eq!(line(&folder.run("next-sentence", &["--trace-hash", "the", "cat"]).ok().stdout).len(), 64);
}

#[test]
fn compare_ends_with_one_where_the_bar_is_missed() {
    let folder = Folder::new();
    let text = folder.write("text.txt", "the cat sat on the mat .\n\nsat on\n");
    let tiny = folder.file("tiny");
    let compare = |more: &[&str]| folder.run("compare", &[&["--checkpoint", &tiny, "--text", &text], more].concat());
    let told = compare(&["--json", "--min-cosine", "0.99"]).json();
    assert_eq!(told["tokens"], 13);
    assert_eq!(told["layers"].as_array().unwrap().len(), 3);
    assert!(told["layers"][2]["mean_cosine"].as_f64().unwrap() > 0.999);
    assert_eq!(told["masked_lm"]["positions"], 13);
    assert_eq!(told["next_sentence"]["sequences"], 2);
    let table = compare(&[]).ok().stdout;
    assert!(table.contains("mean cosine") && table.contains("worst input"), "{table}");
    let missed = compare(&["--min-cosine", "1.1"]);
    assert_eq!(missed.code, 1, "{}", missed.stderr);
    assert!(missed.stderr.contains("lower than 1.1"), "{}", missed.stderr);
    compare(&["--min-cosine", "NaN"]).refused(&["--min-cosine", "not a number"]);
    let ids = ids_file(&folder, "ids.safetensors", &[("0.input_ids", &[2, 57, 3])]);
    assert_eq!(folder.run("compare", &["--checkpoint", &tiny, "--ids", &ids, "--json"]).json()["tokens"], 3);
}
