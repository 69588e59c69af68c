//! What is refused, and how that is told: by name, place or number.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{QUERY, WORD_EMBEDDINGS, assert_dir_refused, assert_refused, tiny, tokenizer_json, with_config};

// The directory and `config.json`.

#[test]
fn absent_directory_is_refused() {
    assert_dir_refused(Path::new("/absent/checkpoint"), &["/absent/checkpoint is not a directory"]);
}

#[test]
fn absent_config_is_refused() {
    let mut source = tiny();
    source.config = Value::Null;
    assert_refused(&source, &["config.json is absent"]);
}

#[test]
fn malformed_json_is_refused_with_its_place() {
    for (name, content) in [
        ("config.json", "{\"vocab_size\":\n 84,, }"),
        ("tokenizer_config.json", "{\n\"do_lower_case\" true}"),
        ("special_tokens_map.json", "[\n1]"),
        ("tokenizer.json", "{\n\"added_tokens\": []}"),
    ] {
        let mut source = tiny();
        source.files.insert(name.into(), content.into());
        assert_refused(&source, &[name, "line"]);
    }
}

#[test]
fn lone_surrogate_in_json_is_refused_with_its_place() {
    for (name, content) in [
        ("config.json", r#"{"_name_or_path": "\ud800"}"#),
        ("tokenizer_config.json", r#"{"mask_token": "\ud800"}"#),
        ("tokenizer.json", r#"{"model": {"vocab": {"\udc00": 0}}}"#),
    ] {
        let mut source = tiny();
        source.files.insert(name.into(), content.into());
        assert_refused(&source, &[name, "hex escape", "line 1 column"]);
    }
}

#[test]
fn model_that_is_not_the_encoder_of_bert_is_refused() {
    for (field, value, expected) in [
        ("model_type", json!("roberta"), "model_type is \"roberta\""),
        ("position_embedding_type", json!("relative_key"), "position_embedding_type is \"relative_key\""),
        ("is_decoder", json!(true), "is_decoder is true"),
        ("add_cross_attention", json!(true), "add_cross_attention is true"),
        ("hidden_act", json!("silu"), "hidden_act is \"silu\"; supported are gelu"),
    ] {
        assert_refused(&with_config(field, value), &["config.json", expected]);
    }
}

#[test]
fn geometry_out_of_range_is_refused_with_its_field() {
    for (field, value) in [
        ("hidden_size", json!(70_000)),
        ("hidden_size", json!(-1)),
        ("num_hidden_layers", json!(0)),
        ("num_attention_heads", json!(5)),
        ("layer_norm_eps", json!(-1.0)),
    ] {
        assert_refused(&with_config(field, value), &["config.json", field]);
    }
}

// The vocabulary.

#[test]
fn absent_vocabulary_is_refused() {
    let mut source = tiny();
    source.vocabulary.clear();
    assert_refused(&source, &["neither vocab.txt nor tokenizer.json"]);
}

#[test]
fn vocabulary_of_another_size_is_refused_with_both_numbers() {
    let mut source = tiny();
    source.vocabulary.pop();
    assert_refused(&source, &["has 63 tokens", "vocab_size in config.json is 64"]);
    source.vocabulary.extend(["one", "two"].map(Into::into));
    assert_refused(&source, &["has 65 tokens", "vocab_size in config.json is 64"]);
}

#[test]
fn vocabulary_that_is_not_utf8_is_refused_with_its_line() {
    let mut source = tiny();
    source.files.insert("vocab.txt".into(), b"[PAD]\n[UNK]\n\xff\xfe\n".into());
    assert_refused(&source, &["vocab.txt", "line 3 is not UTF-8"]);
}

#[test]
fn token_with_two_ids_is_refused() {
    let mut source = tiny();
    source.vocabulary[30] = "a".into();
    assert_refused(&source, &["\"a\" twice, as id 5 and as id 30"]);
}

#[test]
fn missing_special_token_is_refused_by_name() {
    let mut source = tiny();
    source.vocabulary[4] = "other".into();
    assert_refused(&source, &["no [MASK]", "mask_token"]);
}

#[test]
fn flags_and_tokens_of_a_wrong_kind_are_refused() {
    for (field, expected) in [("do_lower_case", "do_lower_case in"), ("mask_token", "mask_token is 3")] {
        let mut source = tiny();
        source.tokenizer_config[field] = json!(3);
        assert_refused(&source, &[expected]);
    }
}

#[test]
fn tokenizer_json_that_is_not_the_one_of_bert_is_refused() {
    for (pointer, value, expected) in [
        ("/model/type", json!("BPE"), "its model is BPE"),
        ("/model/continuing_subword_prefix", json!("@@"), "\"@@\""),
        ("/model/vocab", json!([]), "not a map"),
        ("/model/vocab/a", json!(-1), "not a number"),
        ("/model/vocab/a", json!(6), "share the id 6"),
        ("/model/vocab/a", json!(99), "no token has the id 5"),
        ("/added_tokens/0/id", json!(3), "share the id 3"),
    ] {
        let mut source = tiny();
        let mut tokenizer = tokenizer_json(&source);
        *tokenizer.pointer_mut(pointer).unwrap() = value;
        source.files.insert("tokenizer.json".into(), tokenizer.to_string().into());
        source.vocabulary.clear();
        assert_refused(&source, &["tokenizer.json", expected]);
    }
}

// The weights.

#[test]
fn absent_weights_are_refused() {
    let mut source = tiny();
    source.tensors.clear();
    assert_refused(&source, &["neither model.safetensors nor"]);
}

#[test]
fn pickled_weights_are_refused_with_the_way_to_convert_them() {
    let mut source = tiny();
    source.tensors.clear();
    source.files.insert("pytorch_model.bin".into(), b"PK".into());
    assert_refused(&source, &["pytorch_model.bin", "safe_serialization=True"]);
}

#[test]
fn weights_cut_or_garbled_anywhere_in_the_header_are_refused() {
    let mut source = tiny();
    let whole = source.safetensors(|_| true);
    let header_bytes = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for len in (0..header_bytes).step_by(97).chain([header_bytes, whole.len() - 1]) {
        source.files.insert("model.safetensors".into(), whole[..len].into());
        assert_refused(&source, &["model.safetensors is not a whole safetensors file"]);
    }
    for index in (0..header_bytes).step_by(61) {
        let mut garbled = whole.clone();
        garbled[index] ^= 0x80;
        source.files.insert("model.safetensors".into(), garbled);
        assert_refused(&source, &["model.safetensors"]);
    }
}

#[test]
fn missing_tensor_is_refused_by_name() {
    let source = tiny();
    for name in source.tensors.keys() {
        let mut source = tiny();
        source.tensors.remove(name);
        assert_refused(&source, &[name.strip_prefix("bert.").unwrap_or(name), "is missing from", "model.safetensors"]);
    }
}

#[test]
fn misshapen_tensor_is_refused_with_both_shapes() {
    let mut source = tiny();
    source.tensors.get_mut(QUERY).unwrap().shape = vec![16, 64];
    assert_refused(&source, &[QUERY, "[16, 64]", "[32, 32]", "model.safetensors"]);
}

#[test]
fn tensor_of_integers_is_refused_with_its_type() {
    let mut source = tiny();
    source.tensors.get_mut(QUERY).unwrap().dtype = Dtype::I32;
    assert_refused(&source, &[QUERY, "I32", "supported are F32, F16, BF16"]);
}

#[test]
fn nan_and_infinity_are_refused_with_their_place() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut source = tiny();
        source.tensors.get_mut(QUERY).unwrap().bytes[4 * 777..][..4].copy_from_slice(&value.to_le_bytes());
        assert_refused(&source, &[QUERY, "NaN or infinite at index 777", "model.safetensors"]);
    }
}

#[test]
fn untied_decoder_is_refused() {
    let mut source = tiny();
    let mut decoder = source.tensors[WORD_EMBEDDINGS].clone();
    decoder.bytes[0] ^= 1;
    source.tensors.insert("cls.predictions.decoder.weight".into(), decoder);
    assert_refused(&source, &["cls.predictions.decoder.weight", "only a decoder tied to the word embeddings"]);
}

#[test]
fn tensor_under_two_names_is_refused() {
    let mut source = tiny();
    let query = source.tensors[QUERY].clone();
    source.tensors.insert(QUERY.trim_start_matches("bert.").into(), query);
    assert_refused(&source, &[QUERY, "are both"]);
}

#[test]
fn index_that_lies_about_its_shards_is_refused() {
    for (shard, expected) in
        [("../model-1.safetensors", "not the name of a file beside it"), ("model-1.safetensors", "does not")]
    {
        let mut source = tiny();
        let bytes = source.safetensors(|name| name != QUERY);
        let map: BTreeMap<&String, &str> = source.tensors.keys().map(|name| (name, shard)).collect();
        let index = json!({"weight_map": map}).to_string().into_bytes();
        source.tensors.clear();
        source.files.insert("model-1.safetensors".into(), bytes);
        source.files.insert("model.safetensors.index.json".into(), index);
        assert_refused(&source, &["model.safetensors.index.json is malformed", expected]);
    }
}
