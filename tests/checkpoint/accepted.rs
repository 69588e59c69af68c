//! Every form of a checkpoint is read, and what is missing or dropped is noted.

use std::collections::BTreeMap;

use half::{bf16, f16};
use mbert::convert::checkpoint::{Checkpoint, Module};
use mbert_runtime::config::HiddenAct;
use mbert_tests::tiny_checkpoint::{TinyCheckpoint, TinyTensor};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{QUERY, WORD_EMBEDDINGS, assert_refused, opened, tiny, tokenizer_json, with_config};

fn renamed(checkpoint: &mut TinyCheckpoint, rename: impl Fn(&str) -> String) {
    checkpoint.tensors =
        std::mem::take(&mut checkpoint.tensors).into_iter().map(|(name, t)| (rename(&name), t)).collect();
}

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
