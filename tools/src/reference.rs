//! The float32 reference: BERT wired from candle-nn's layers, with every hidden state kept.
//!
//! It states what the model means, so it favours accuracy over speed: erf in full precision, and layer norms in two passes,
//! because the variance as E\[x²\] − E\[x\]² loses digits where a few channels are large, as they are in BERT.
//! One sequence at a time, without padding and so without a mask.

use anyhow::{Context, Result, ensure};
use candle_core::{D, Device, Tensor};
use candle_nn::{Embedding, Linear, Module as _, ops};
use mbert_runtime::config::{BertConfig, HiddenAct};

use crate::convert::checkpoint::{Checkpoint, Module};

/// A BERT in float32.
pub struct ReferenceBert {
    config: BertConfig,
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    embeddings_layer_norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Option<Linear>,
    masked_lm: Option<MaskedLm>,
    seq_relationship: Option<Linear>,
}

/// What [`ReferenceBert::forward`] gives.
#[derive(Clone, Debug)]
pub struct ReferenceOutput {
    /// Hidden states, each `[seq_len, hidden_size]`, row-major: 0 behind the embeddings' layer norm, then one a layer.
    pub hidden: Vec<Vec<f32>>,
    /// `[hidden_size]`, where the model has a pooler.
    pub pooled: Option<Vec<f32>>,
    /// "B follows A", then "B is random", where the model has the next-sentence head.
    pub seq_relationship_logits: Option<[f32; 2]>,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_layer_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_layer_norm: LayerNorm,
}

struct MaskedLm {
    dense: Linear,
    layer_norm: LayerNorm,
    decoder: Linear,
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    fn forward(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        ops::layer_norm_slow(input, &self.weight, &self.bias, self.eps)
    }
}

impl ReferenceBert {
    /// Decodes all weights of a checkpoint to float32.
    ///
    /// # Errors
    ///
    /// If memory for them cannot be had.
    pub fn load(checkpoint: &Checkpoint) -> Result<Self> {
        let tensor = |name: &str| -> Result<Tensor> {
            let tensor = checkpoint.tensor(name)?;
            Ok(Tensor::from_vec(tensor.to_vec(), tensor.shape(), &Device::Cpu)?)
        };
        let hidden_size = usize::from(checkpoint.config.hidden_size);
        let embedding = |module: Module| -> Result<_> { Ok(Embedding::new(tensor(&module.weight())?, hidden_size)) };
        let linear =
            |module: Module| -> Result<_> { Ok(Linear::new(tensor(&module.weight())?, Some(tensor(&module.bias())?))) };
        let layer_norm = |module: Module| -> Result<_> {
            let eps = checkpoint.layer_norm_eps as f32;
            Ok(LayerNorm { weight: tensor(&module.weight())?, bias: tensor(&module.bias())?, eps })
        };
        let layer = |index: usize| -> Result<_> {
            Ok(Layer {
                query: linear(Module::Query(index))?,
                key: linear(Module::Key(index))?,
                value: linear(Module::Value(index))?,
                attention_output: linear(Module::AttentionOutput(index))?,
                attention_layer_norm: layer_norm(Module::AttentionLayerNorm(index))?,
                intermediate: linear(Module::Intermediate(index))?,
                output: linear(Module::Output(index))?,
                output_layer_norm: layer_norm(Module::OutputLayerNorm(index))?,
            })
        };
        let word_embeddings = embedding(Module::WordEmbeddings)?;
        let masked_lm = || -> Result<_> {
            Ok(MaskedLm {
                dense: linear(Module::TransformDense)?,
                layer_norm: layer_norm(Module::TransformLayerNorm)?,
                // The decoder shares the memory of the word embeddings.
                decoder: Linear::new(word_embeddings.embeddings().clone(), Some(tensor(&Module::Decoder.bias())?)),
            })
        };
        let heads = checkpoint.heads;
        Ok(Self {
            config: checkpoint.config,
            position_embeddings: embedding(Module::PositionEmbeddings)?,
            token_type_embeddings: embedding(Module::TokenTypeEmbeddings)?,
            embeddings_layer_norm: layer_norm(Module::EmbeddingsLayerNorm)?,
            layers: (0..usize::from(checkpoint.config.num_hidden_layers)).map(layer).collect::<Result<_>>()?,
            pooler: heads.pooler.then(|| linear(Module::Pooler)).transpose()?,
            masked_lm: heads.masked_lm.then(masked_lm).transpose()?,
            seq_relationship: heads.next_sentence.then(|| linear(Module::SeqRelationship)).transpose()?,
            word_embeddings,
        })
    }

    /// Runs the encoder, the pooler and the next-sentence head on one sequence, special tokens included.
    ///
    /// # Errors
    ///
    /// If the sequence is empty or longer than the model's positions, an id or a token type is out of range, or their
    /// numbers differ.
    pub fn forward(&self, input_ids: &[u32], token_type_ids: &[u8]) -> Result<ReferenceOutput> {
        self.check_input(input_ids, token_type_ids)?;
        let token_types: Vec<u32> = token_type_ids.iter().map(|&id| id.into()).collect();
        let positions: Vec<u32> = (0..input_ids.len() as u32).collect();
        let look_up = |embedding: &Embedding, ids: &[u32]| embedding.forward(&Tensor::new(ids, &Device::Cpu)?);
        let sum = ((look_up(&self.word_embeddings, input_ids)?
            + look_up(&self.token_type_embeddings, &token_types)?)?
            + look_up(&self.position_embeddings, &positions)?)?;

        let mut state = self.embeddings_layer_norm.forward(&sum)?;
        let mut hidden = vec![values(&state)?];
        for layer in &self.layers {
            state = self.layer(layer, &state)?;
            hidden.push(values(&state)?);
        }

        let pooled = match &self.pooler {
            Some(pooler) => Some(pooler.forward(&state.narrow(0, 0, 1)?)?.tanh()?),
            None => None,
        };
        let seq_relationship_logits = match (&self.seq_relationship, &pooled) {
            (Some(head), Some(pooled)) => values(&head.forward(pooled)?)?.try_into().ok(),
            _ => None,
        };
        Ok(ReferenceOutput { hidden, pooled: pooled.as_ref().map(values).transpose()?, seq_relationship_logits })
    }

    /// Logits of the masked-LM head, `[rows, vocab_size]`, for rows of the last hidden state, `[rows, hidden_size]`.
    ///
    /// # Errors
    ///
    /// If the model has no such head, or `hidden_rows` is not whole rows.
    pub fn prediction_logits(&self, hidden_rows: &[f32]) -> Result<Vec<f32>> {
        let head = self.masked_lm.as_ref().context("the model has no masked-LM head")?;
        let hidden_size = usize::from(self.config.hidden_size);
        ensure!(
            !hidden_rows.is_empty() && hidden_rows.len().is_multiple_of(hidden_size),
            "{} values are not whole rows of {hidden_size}",
            hidden_rows.len()
        );
        let rows = Tensor::from_slice(hidden_rows, (hidden_rows.len() / hidden_size, hidden_size), &Device::Cpu)?;
        let transformed = head.layer_norm.forward(&self.activation(&head.dense.forward(&rows)?)?)?;
        values(&head.decoder.forward(&transformed)?)
    }

    fn check_input(&self, input_ids: &[u32], token_type_ids: &[u8]) -> Result<()> {
        let BertConfig { vocab_size, type_vocab_size, max_position_embeddings, .. } = self.config;
        let count = input_ids.len();
        ensure!(count > 0, "the sequence has no tokens; give at least one id");
        ensure!(
            count <= usize::from(max_position_embeddings),
            "the sequence has {count} tokens, but the model {max_position_embeddings} positions; shorten the text"
        );
        ensure!(
            token_type_ids.len() == count,
            "there are {count} input_ids, but {} token_type_ids",
            token_type_ids.len()
        );
        if let Some(position) = input_ids.iter().position(|&id| id >= vocab_size) {
            anyhow::bail!(
                "input id {} at position {position}: ids run from 0 to {}",
                input_ids[position],
                vocab_size - 1
            );
        }
        if let Some(position) = token_type_ids.iter().position(|&id| id >= type_vocab_size) {
            let id = token_type_ids[position];
            anyhow::bail!("token type {id} at position {position}: types run from 0 to {}", type_vocab_size - 1);
        }
        Ok(())
    }

    fn layer(&self, layer: &Layer, input: &Tensor) -> candle_core::Result<Tensor> {
        let context = self.attention(layer, input)?;
        let attended = layer.attention_layer_norm.forward(&(layer.attention_output.forward(&context)? + input)?)?;
        let intermediate = self.activation(&layer.intermediate.forward(&attended)?)?;
        layer.output_layer_norm.forward(&(layer.output.forward(&intermediate)? + &attended)?)
    }

    /// `[seq_len, hidden_size]` to the same: all heads side by side, before the output projection.
    fn attention(&self, layer: &Layer, input: &Tensor) -> candle_core::Result<Tensor> {
        let (seq_len, hidden_size) = input.dims2()?;
        let head_dim = self.config.head_dim();
        let by_head = |projection: &Linear| {
            projection
                .forward(input)?
                .reshape((seq_len, hidden_size / head_dim, head_dim))?
                .transpose(0, 1)?
                .contiguous()
        };
        let (query, key, value) = (by_head(&layer.query)?, by_head(&layer.key)?, by_head(&layer.value)?);
        let scores = (query.matmul(&key.t()?)? / (head_dim as f64).sqrt())?;
        let probabilities = ops::softmax(&scores, D::Minus1)?;
        probabilities.matmul(&value)?.transpose(0, 1)?.reshape((seq_len, hidden_size))
    }

    fn activation(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        match self.config.hidden_act {
            HiddenAct::Gelu => input.gelu_erf(),
            HiddenAct::GeluNew | HiddenAct::GeluPytorchTanh => input.gelu(),
            HiddenAct::Relu => input.relu(),
        }
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}
