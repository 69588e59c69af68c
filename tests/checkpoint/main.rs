//! Checkpoints in every form that Hugging Face writes, and one test for each way in which one can be refused.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use mbert::convert::checkpoint::{Checkpoint, Module};
use mbert::reference::ReferenceBert;
use mbert_runtime::config::HiddenAct;
use mbert_tests::tiny_checkpoint::{TinyCheckpoint, TinyTensor};
use safetensors::Dtype;
use serde_json::{Value, json};

const WORD_EMBEDDINGS: &str = "bert.embeddings.word_embeddings.weight";
const QUERY: &str = "bert.encoder.layer.1.attention.self.query.weight";

fn tiny() -> TinyCheckpoint {
    TinyCheckpoint::new(1)
}

fn opened(checkpoint: &TinyCheckpoint) -> Checkpoint {
    Checkpoint::open(checkpoint.write().path()).unwrap()
}

/// Opens what must be refused; every one of `expected` must be in the chain of causes.
fn assert_refused(checkpoint: &TinyCheckpoint, expected: &[&str]) {
    assert_dir_refused(checkpoint.write().path(), expected);
}

fn assert_dir_refused(dir: &Path, expected: &[&str]) {
    let Err(error) = Checkpoint::open(dir) else { panic!("accepted, although it should be refused: {expected:?}") };
    let chain = format!("{error:#}");
    for part in expected {
        assert!(chain.contains(part), "{part:?} is not in: {chain}");
    }
}

fn with_config(field: &str, value: Value) -> TinyCheckpoint {
    let mut checkpoint = tiny();
    checkpoint.config[field] = value;
    checkpoint
}

/// `tokenizer.json` with the tokens of `vocab.txt`.
fn tokenizer_json(checkpoint: &TinyCheckpoint) -> Value {
    let ids: BTreeMap<&String, usize> =
        checkpoint.vocabulary.iter().enumerate().map(|(id, token)| (token, id)).collect();
    json!({
        "normalizer": {"type": "BertNormalizer", "lowercase": false, "strip_accents": false, "handle_chinese_chars": false},
        "added_tokens": [{"id": 0, "content": "[PAD]", "special": true}],
        "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": ids},
    })
}

fn renamed(checkpoint: &mut TinyCheckpoint, rename: impl Fn(&str) -> String) {
    checkpoint.tensors =
        std::mem::take(&mut checkpoint.tensors).into_iter().map(|(name, t)| (rename(&name), t)).collect();
}

// What is accepted.

#[test]
fn plain_checkpoint_is_read_whole_and_without_a_note() {
    let source = tiny();
    let checkpoint = opened(&source);
    assert_eq!(checkpoint.notes, [""; 0]);
    assert_eq!(checkpoint.architecture, "BertForPreTraining");
    assert_eq!(checkpoint.licence, "unknown");
    assert_eq!(checkpoint.vocabulary, source.vocabulary);
    assert!(checkpoint.heads.pooler && checkpoint.heads.masked_lm && checkpoint.heads.next_sentence);
    let tokenizer = checkpoint.tokenizer;
    let ids = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id];
    assert_eq!((ids, tokenizer.mask_token_id), ([0, 1, 2, 3], 4));
    let bytes: Vec<u8> =
        checkpoint.tensor(&Module::Query(1).weight()).unwrap().to_vec().iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(bytes, source.tensors[QUERY].bytes);
}

#[test]
fn names_without_prefix_and_old_layer_norm_names_give_the_same_tensors() {
    let expected = opened(&tiny());
    let mut old = tiny();
    renamed(&mut old, |name| {
        name.replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta")
            .replace("bert.", "")
    });
    let old = opened(&old);
    for module in Module::all(&expected.config, &expected.heads) {
        for (name, _) in module.tensors(&expected.config) {
            assert_eq!(old.tensor(&name).unwrap().to_vec(), expected.tensor(&name).unwrap().to_vec(), "{name}");
        }
    }
}

#[test]
fn half_precision_weights_are_decoded() {
    let expected = opened(&tiny()).tensor(&Module::WordEmbeddings.weight()).unwrap().to_vec();
    for (dtype, tolerance) in [(Dtype::F16, 2e-4), (Dtype::BF16, 2e-3)] {
        let mut half = tiny();
        for tensor in half.tensors.values_mut() {
            let values = tensor.bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four));
            tensor.bytes = values
                .flat_map(|value| match dtype {
                    Dtype::F16 => f16::from_f32(value).to_le_bytes(),
                    _ => bf16::from_f32(value).to_le_bytes(),
                })
                .collect();
            tensor.dtype = dtype;
        }
        let found = opened(&half).tensor(&Module::WordEmbeddings.weight()).unwrap().to_vec();
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= tolerance), "{dtype:?}");
    }
}

#[test]
fn shards_give_the_same_tensors_as_one_file() {
    let mut source = tiny();
    let expected = opened(&source).tensor(&Module::Query(1).weight()).unwrap().to_vec();
    let in_first = |name: &str| name.contains("encoder");
    let shard = |name: &str| if in_first(name) { "model-1.safetensors" } else { "model-2.safetensors" };
    let map: BTreeMap<&String, &str> = source.tensors.keys().map(|name| (name, shard(name))).collect();
    let index = json!({"metadata": {}, "weight_map": map}).to_string().into_bytes();
    let shards = [source.safetensors(in_first), source.safetensors(|name| !in_first(name))];
    source.tensors.clear();
    source.files.insert("model.safetensors.index.json".into(), index);
    for (number, bytes) in shards.into_iter().enumerate() {
        source.files.insert(format!("model-{}.safetensors", number + 1), bytes);
    }
    assert_eq!(opened(&source).tensor(&Module::Query(1).weight()).unwrap().to_vec(), expected);

    source.files.remove("model-2.safetensors");
    assert_refused(&source, &["cannot open", "model-2.safetensors"]);
}

#[test]
fn tied_decoder_and_both_names_of_its_bias_are_accepted() {
    let mut source = tiny();
    let tensor = |name: &str| source.tensors[name].clone();
    let (weight, bias) = (tensor(WORD_EMBEDDINGS), tensor("cls.predictions.bias"));
    source.tensors.insert("cls.predictions.decoder.weight".into(), weight);
    source.tensors.insert("cls.predictions.decoder.bias".into(), bias);
    assert!(opened(&source).notes.is_empty());
    source.tensors.remove("cls.predictions.bias");
    assert!(opened(&source).tensor(&Module::Decoder.bias()).is_ok());
}

#[test]
fn encoder_alone_is_accepted_with_its_buffer_of_position_ids() {
    let mut source = with_config("architectures", json!(["BertModel"]));
    source.tensors.retain(|name, _| !name.starts_with("cls.") && !name.contains("pooler"));
    let position_ids = TinyTensor { dtype: Dtype::I64, shape: vec![1, 2], bytes: vec![0; 16] };
    source.tensors.insert("bert.embeddings.position_ids".into(), position_ids);
    let checkpoint = opened(&source);
    assert!(!checkpoint.heads.pooler && !checkpoint.heads.masked_lm && !checkpoint.heads.next_sentence);
    assert!(checkpoint.notes.is_empty());
}

#[test]
fn head_of_another_class_is_named_as_dropped() {
    let mut source = with_config("architectures", json!(["BertForTokenClassification"]));
    source.tensors.retain(|name, _| !name.starts_with("cls."));
    source.tensors.insert("classifier.bias".into(), TinyTensor::f32(&[3], &[0.0; 3]));
    source.tensors.insert("classifier.weight".into(), TinyTensor::f32(&[3, 32], &[0.0; 96]));
    let notes = opened(&source).notes;
    assert_eq!(
        notes,
        ["BertForTokenClassification: classifier.bias, classifier.weight dropped; the encoder is converted"]
    );
}

#[test]
fn absent_fields_of_the_config_take_the_defaults_of_transformers() {
    let mut source = tiny();
    for field in ["hidden_act", "layer_norm_eps", "type_vocab_size", "architectures", "model_type"] {
        source.config.as_object_mut().unwrap().remove(field);
    }
    let checkpoint = opened(&source);
    assert_eq!(checkpoint.config.hidden_act, HiddenAct::Gelu);
    assert_eq!(checkpoint.layer_norm_eps, 1e-12);
    assert_eq!(checkpoint.config.type_vocab_size, 2);
    assert_eq!(checkpoint.notes.len(), 2, "{:?}", checkpoint.notes);
}

#[test]
fn every_supported_activation_is_read() {
    for activation in [HiddenAct::Gelu, HiddenAct::GeluNew, HiddenAct::GeluPytorchTanh, HiddenAct::Relu] {
        assert_eq!(opened(&with_config("hidden_act", json!(activation.name()))).config.hidden_act, activation);
    }
}

#[test]
fn without_tokenizer_config_the_defaults_are_taken_and_noted() {
    let mut source = tiny();
    source.tokenizer_config = Value::Null;
    let checkpoint = opened(&source);
    assert!(checkpoint.tokenizer.do_lower_case && checkpoint.tokenizer.tokenize_chinese_chars);
    assert_eq!(checkpoint.tokenizer.strip_accents, None);
    let notes = checkpoint.notes.join("\n");
    assert!(notes.contains("tokenizer_config.json is absent") && notes.contains("do_lower_case true"), "{notes}");
    assert!(notes.contains("mask_token [MASK]"), "{notes}");
}

#[test]
fn tokenizer_json_gives_vocabulary_and_flags_where_it_is_alone() {
    let mut source = tiny();
    let vocabulary = source.vocabulary.clone();
    source.files.insert("tokenizer.json".into(), tokenizer_json(&source).to_string().into());
    source.tokenizer_config = Value::Null;
    source.vocabulary.clear();
    let checkpoint = opened(&source);
    assert_eq!(checkpoint.vocabulary, vocabulary);
    let tokenizer = checkpoint.tokenizer;
    assert!(!tokenizer.do_lower_case && !tokenizer.tokenize_chinese_chars);
    assert_eq!(tokenizer.strip_accents, Some(false));
}

#[test]
fn special_tokens_are_looked_up_under_the_names_that_the_files_give() {
    let mut source = tiny();
    source.vocabulary.swap(4, 20);
    source.vocabulary[7] = "<pad>".into();
    source.tokenizer_config.as_object_mut().unwrap().remove("pad_token");
    source.tokenizer_config["mask_token"] = json!({"content": "[MASK]", "lstrip": true});
    source.files.insert("special_tokens_map.json".into(), r#"{"pad_token": {"content": "<pad>"}}"#.into());
    let tokenizer = opened(&source).tokenizer;
    assert_eq!((tokenizer.pad_token_id, tokenizer.mask_token_id), (7, 20));
}

#[test]
fn licence_is_read_from_the_model_card_and_name_from_the_config() {
    let mut source = with_config("_name_or_path", json!("someone/a-bert"));
    source.files.insert("README.md".into(), "---\nlicense: apache-2.0\n---\n".into());
    let checkpoint = opened(&source);
    assert_eq!((checkpoint.model_name.as_str(), checkpoint.licence.as_str()), ("someone/a-bert", "apache-2.0"));
}

#[test]
fn hash_depends_on_weights_and_config_and_not_on_the_directory() {
    let hash = |source: &TinyCheckpoint| {
        let dir = source.write();
        Checkpoint::open(dir.path()).unwrap().sha256().unwrap()
    };
    let mut other = tiny();
    other.tensors.get_mut(QUERY).unwrap().bytes[0] ^= 1;
    assert_eq!(hash(&tiny()), hash(&tiny()));
    assert_ne!(hash(&tiny()), hash(&other));
    assert_ne!(hash(&tiny()), hash(&with_config("layer_norm_eps", json!(1e-9))));
}

// What is refused: the directory and `config.json`.

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

// The reference on such a checkpoint.

#[test]
fn both_names_of_the_tanh_form_compute_the_same_and_nearly_what_erf_does() {
    let last = |activation: HiddenAct| {
        let model = ReferenceBert::load(&opened(&with_config("hidden_act", json!(activation.name())))).unwrap();
        model.forward(&[2, 5, 9, 4, 3], &[0; 5]).unwrap().hidden.pop().unwrap()
    };
    let erf = last(HiddenAct::Gelu);
    let worst = |other: &[f32]| erf.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let tanh = last(HiddenAct::GeluNew);
    assert_eq!(tanh, last(HiddenAct::GeluPytorchTanh));
    assert!((1e-6..5e-3).contains(&worst(&tanh)), "{}", worst(&tanh));
    assert!(worst(&last(HiddenAct::Relu)) > 0.02);
}

#[test]
fn sequences_that_the_model_cannot_read_are_refused_by_the_reference() {
    let model = ReferenceBert::load(&opened(&tiny())).unwrap();
    for (input_ids, token_type_ids, expected) in [
        (vec![], vec![], "no tokens"),
        (vec![5; 41], vec![0; 41], "41 tokens, but the model 40 positions"),
        (vec![5, 64], vec![0; 2], "input id 64 at position 1"),
        (vec![5, 6], vec![0, 2], "token type 2 at position 1"),
        (vec![5, 6], vec![0], "2 input_ids, but 1 token_type_ids"),
    ] {
        let error = model.forward(&input_ids, &token_type_ids).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(model.forward(&[2, 5, 3], &[0; 3]).is_ok());
    assert!(model.prediction_logits(&[0.0; 31]).is_err());
}
