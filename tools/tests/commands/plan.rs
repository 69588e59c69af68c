//! What is told of a board before anything is flashed.

use std::path::Path;

use mbert_runtime::cost::{forward_bytes, masked_lm_bytes, pooler_bytes};
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{memory_bytes, memory_bytes_in_passes};
use serde_json::{Value, json};

use super::{Folder, mbert};
use mbert_tests::tiny_checkpoint::TinyCheckpoint;

fn plan(arguments: &[&str]) -> Value {
    mbert(&[&["plan", "--json"], arguments].concat()).json()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn a_plan_adds_up_and_tells_what_the_runtime_needs_and_reads() {
    let folder = Folder::new();
    let (path, blob) = (folder.file("tiny.mbert"), std::fs::read(folder.path("tiny.mbert")).unwrap());
    let model = Model::open(&blob[..]).unwrap();
    let config = model.config();
    let plan = plan(&[&path, "--board", "mps2-an385", "--tokens", "16", "--masks", "2"]);
    assert_eq!(number(&plan["model_bytes"]), blob.len() as u64);
    assert_eq!(plan["model_bytes_are_exact"], true);
    assert_eq!(number(&plan["workspace_bytes"]), memory_bytes(config, 16) as u64);
    assert_eq!((&plan["passes"], &plan["tokens"]), (&json!(1), &json!(16)));
    let sum = |names: &[&str]| names.iter().map(|name| number(&plan[*name])).sum::<u64>();
    let ram = ["workspace_bytes", "stack_bytes", "static_bytes", "program_in_ram_bytes", "ram_left_bytes"];
    assert_eq!(sum(&ram), number(&plan["ram_bytes"]));
    assert_eq!(sum(&["code_bytes", "flash_left_bytes"]), 4 << 20);
    assert!(number(&plan["code_bytes"]) > 50_000 && number(&plan["stack_bytes"]) > 1000);

    let read = forward_bytes(config, 16, 1);
    let expected = [read + masked_lm_bytes(config), read + pooler_bytes(config, true), read];
    let answers = plan["answers"].as_array().unwrap();
    let names: Vec<_> = answers.iter().map(|answer| answer["question"].as_str().unwrap()).collect();
    assert_eq!(names, ["fill-mask", "next-sentence", "features"]);
    for (answer, expected) in answers.iter().zip(expected) {
        assert_eq!(number(&answer["model_bytes_read"]), expected);
        let of_parts = answer["parts"].as_array().unwrap().iter().map(|part| number(&part["instructions"]));
        let (sum, whole) = (of_parts.sum::<u64>(), number(&answer["instructions"]));
        assert!(whole > 0 && sum.abs_diff(whole) < 100, "{sum} for {whole}");
        assert!(number(&answer["longest_step"]["instructions"]) < whole);
        // At 25 MHz and one cycle an instruction, from a memory without waiting.
        let seconds = answer["seconds"].as_f64().unwrap();
        assert!((seconds * 25e6 - whole as f64).abs() < 1000.0, "{seconds} s for {whole}");
    }
    // Two masks take two products a weight.
    let units = |answer: &Value| {
        let parts = answer["parts"].as_array().unwrap();
        let decoder = parts.iter().find(|part| part["part"] == "decoder").unwrap();
        number(&decoder["units"]["decoder_mac"])
    };
    assert_eq!(units(&answers[0]), 2 * u64::from(config.vocab_size) * u64::from(config.hidden_size));
}

#[test]
fn without_a_length_the_longest_is_planned_and_one_token_more_is_refused() {
    let folder = Folder::new();
    let model = folder.file("tiny.mbert");
    let board = ["--board", "lm3s6965evb", "--ram", "26000"];
    let longest = plan(&[&[&model[..]], &board[..]].concat());
    let tokens = number(&longest["longest_tokens"]);
    assert_eq!(number(&longest["tokens"]), tokens);
    assert!(tokens > number(&longest["longest_tokens_in_one_pass"]) && number(&longest["passes"]) > 1, "{longest}");
    let one_more = (tokens + 1).to_string();
    let refused = mbert(&[&["plan", &model, "--tokens", &one_more], &board[..]].concat());
    refused.refused(&[
        "lm3s6965evb",
        "26,000",
        &format!("for {one_more} tokens"),
        &format!("shorten to {tokens} tokens"),
    ]);

    // The passes are those that the runtime will choose in that much memory.
    let blob = std::fs::read(&model).unwrap();
    let model = Model::open(&blob[..]).unwrap();
    let (tokens, passes) = (tokens as usize, number(&longest["passes"]) as usize);
    let bytes = |passes| memory_bytes_in_passes(model.config(), tokens, passes) as u64;
    assert_eq!(number(&longest["workspace_bytes"]), bytes(passes));
    assert!(bytes(passes - 1) > bytes(passes) + number(&longest["ram_left_bytes"]));
    let read = forward_bytes(model.config(), tokens, passes);
    assert_eq!(number(&longest["answers"][2]["model_bytes_read"]), read);
    assert!(read > forward_bytes(model.config(), tokens, 1));
}

#[test]
fn what_cannot_fit_is_refused_with_the_numbers_and_advice() {
    let folder = Folder::new();
    let model = folder.file("tiny.mbert");
    mbert(&["plan", "small", "--board", "raspberry-pi-pico-2"]).refused(&[
        "7,0",
        "there are 1,8",
        "tiny",
        "QSPI flash",
    ]);
    mbert(&["plan", &model, "--board", "mps2-an385", "--tokens", "41"]).refused(&[
        "41",
        "40 positions",
        "shorten to 40",
    ]);
    mbert(&["plan", &model, "--board", "mps2-an385", "--ram", "9000"]).refused(&["1 token", "9,000", "smaller model"]);
    mbert(&["plan", &model, "--board", "mps2-an999"]).refused(&["mps2-an999", "mps2-an385", "boards.toml"]);
    let eight = ["plan", &model, "--board", "mps2-an385", "--tokens", "8", "--masks"];
    mbert(&[&eight[..], &["7"]].concat()).refused(&["8 tokens", "7 masks", "fewer"]);
    mbert(&[&eight[..], &["6"]].concat()).ok();
    mbert(&["plan", &model, "--board", "mps2-an385", "--tokens", "0"]).refused(&["'0'", "from 1 on"]);
    // A row of 4,096 channels does not fit the window of eight blocks.
    let wide = json!({ "model_type": "bert", "hidden_size": 4096, "num_attention_heads": 64, "num_hidden_layers": 1 });
    let wide = folder.write("wide.json", wide.to_string());
    mbert(&["plan", &wide, "--board", "lm3s6965evb"]).refused(&["window", "8,192", "5,120", "blocks"]);
    let broken = folder.write("broken.json", "{");
    mbert(&["plan", &broken, "--board", "mps2-an385"]).refused(&["broken.json", "not the JSON"]);
    let other = folder.write("other.json", r#"{"model_type": "gpt2"}"#);
    mbert(&["plan", &other, "--board", "mps2-an385"]).refused(&["other.json", "gpt2"]);
    mbert(&["plan", &folder.file("absent"), "--board", "mps2-an385"]).refused(&["absent"]);
}

#[test]
fn a_checkpoint_is_planned_for_before_it_is_converted_or_has_weights() {
    let folder = Folder::new();
    let exact = std::fs::metadata(folder.path("tiny.mbert")).unwrap().len();
    let planned = |model: &str| {
        let plan = plan(&[model, "--board", "mps2-an385", "--tokens", "9"]);
        assert_eq!(plan["model_bytes_are_exact"], false);
        plan
    };
    let with_weights = planned(&folder.file("tiny"));
    assert!(number(&with_weights["model_bytes"]).abs_diff(exact) < 1000, "{with_weights} for {exact} bytes");
    let of_blob = plan(&[&folder.file("tiny.mbert"), "--board", "mps2-an385", "--tokens", "9"]);
    assert_eq!(with_weights["answers"], of_blob["answers"]);

    std::fs::remove_file(folder.path("tiny/model.safetensors")).unwrap();
    assert_eq!(planned(&folder.file("tiny"))["model_bytes"], with_weights["model_bytes"]);
    let config = folder.path("tiny/config.json");
    let alone = planned(config.to_str().unwrap());
    assert_eq!(alone["answers"], of_blob["answers"]);
    let text = mbert(&["plan", config.to_str().unwrap(), "--board", "mps2-an385"]).ok().stdout;
    assert!(text.contains("estimated: the vocabulary, which is not there"), "{text}");

    // The weights of an encoder alone have no heads; without them, its class has none either.
    let mut encoder = TinyCheckpoint::new(1);
    encoder.config["architectures"] = json!(["BertModel"]);
    encoder.tensors.retain(|name, _| !name.starts_with("cls.") && !name.contains("pooler"));
    encoder.write_to(&folder.path("encoder"));
    for _ in 0..2 {
        let answers = planned(&folder.file("encoder"))["answers"].clone();
        assert_eq!((answers.as_array().unwrap().len(), &answers[0]["question"]), (1, &json!("features")));
        let _ = std::fs::remove_file(folder.path("encoder/model.safetensors"));
    }
}

#[test]
fn built_in_models_are_estimated_to_the_kilobyte_from_their_directories() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for name in ["small", "tiny"] {
        let bytes = |model: &str| number(&plan(&[model, "--board", "mps3-an547", "--tokens", "8"])["model_bytes"]);
        let directory = models.join(name);
        let (exact, estimated) = (bytes(name), bytes(directory.to_str().unwrap()));
        assert!(exact.abs_diff(estimated) < 1000, "{name}: {estimated} for {exact}");
    }
}

#[test]
fn a_slow_or_streamed_model_takes_time_of_its_own() {
    let folder = Folder::new();
    let model = folder.file("tiny.mbert");
    let seconds = |answer: &Value, name: &str| answer[name].as_f64().unwrap();
    for board in ["lm3s6965evb", "nrf5340-dk"] {
        let answer = &plan(&[&model, "--board", board, "--tokens", "8"])["answers"][0];
        assert!(number(&answer["transferred_bytes"]) >= number(&answer["model_bytes_read"]));
        let (compute, transfer) = (seconds(answer, "compute_seconds"), seconds(answer, "transfer_seconds"));
        assert!(transfer > 0.0);
        assert!((seconds(answer, "seconds") - compute - transfer).abs() < 1e-9, "nothing is fetched ahead there");
    }
    // A machine without a clock has no time, and its text says so.
    let virt = &plan(&[&model, "--board", "riscv32-virt", "--tokens", "8"])["answers"][0];
    assert_eq!((&virt["seconds"], number(&virt["instructions"]) > 0), (&Value::Null, true));
}

#[test]
fn boards_are_listed_with_what_fits_them() {
    let folder = Folder::new();
    let boards = mbert(&["boards", "--json"]).json();
    let find = |boards: &Value, name: &str| -> Value {
        boards.as_array().unwrap().iter().find(|board| board["name"] == name).unwrap().clone()
    };
    let pico = find(&boards, "raspberry-pi-pico-2");
    assert_eq!(
        (&pico["fits"], &pico["status"], &pico["longest_tokens"]),
        (&json!(false), &json!("not-built"), &Value::Null)
    );
    assert!(pico["misfit"].as_str().unwrap().contains("tiny"));
    let tiny = mbert(&["boards", "--json", "--model", &folder.file("tiny.mbert")]).json();
    for board in tiny.as_array().unwrap() {
        assert_eq!((&board["fits"], &board["longest_tokens"]), (&json!(true), &json!(40)), "{board}");
    }
    let text = mbert(&["boards"]).ok().stdout;
    for board in boards.as_array().unwrap() {
        assert!(text.contains(board["name"].as_str().unwrap()));
    }
    assert!(text.contains("does not fit") && text.contains("up to 512 tokens") && text.contains("runs in QEMU"));
}

/// The number behind a key of a linker script: `LENGTH = 4M`.
fn length(script: &str, region: &str) -> Option<u64> {
    let line = script.lines().find(|line| line.trim_start().starts_with(&format!("{region} :")))?;
    let length = line.split("LENGTH = ").nth(1)?.trim();
    let (digits, unit) = length.split_at(length.len() - 1);
    let unit = if unit == "M" { 1 << 20 } else { 1 << 10 };
    Some(digits.parse::<u64>().unwrap() * unit)
}

#[test]
fn every_board_with_firmware_is_listed_with_the_memory_and_target_it_is_built_for() {
    let boards = mbert(&["boards", "--json"]).json();
    let firmware = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware");
    let mut found = 0;
    for entry in std::fs::read_dir(firmware).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(script) = std::fs::read_to_string(folder.join("memory.x")) else { continue };
        let name = folder.file_name().unwrap().to_str().unwrap();
        let board = boards.as_array().unwrap().iter().find(|board| board["name"] == name);
        let board = board.unwrap_or_else(|| panic!("{name} is not in firmware/boards.toml"));
        assert_eq!(board["ram_bytes"].as_u64(), length(&script, "RAM"), "{name}");
        assert_eq!(board["flash_bytes"].as_u64(), length(&script, "FLASH"), "{name}");
        let config = std::fs::read_to_string(folder.join(".cargo/config.toml")).unwrap();
        assert!(config.contains(&format!("target = {}", board["target"])), "{name}");
        found += 1;
    }
    assert!(found >= 7, "{found} boards have firmware");
}
