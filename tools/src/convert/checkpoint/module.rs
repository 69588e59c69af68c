//! The modules of BERT, and the one canonical name of each of their tensors.
//!
//! A canonical name is the name in a checkpoint of `BertForPreTraining`, without `bert.` and with today's `LayerNorm`
//! words: `encoder.layer.0.attention.self.query.weight`. The decoder of the masked-LM head owns only a bias, named
//! `cls.predictions.bias`: its weight is the word embeddings.

use mbert_runtime::config::BertConfig;
use mbert_runtime::format::manifest::Heads;

/// A module that owns tensors. The number is that of the encoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// `[vocab_size, hidden_size]`, no bias.
    WordEmbeddings,
    /// `[max_position_embeddings, hidden_size]`, no bias.
    PositionEmbeddings,
    /// `[type_vocab_size, hidden_size]`, no bias.
    TokenTypeEmbeddings,
    /// Layer norm behind the sum of the three embeddings.
    EmbeddingsLayerNorm,
    /// Linear, hidden to hidden.
    Query(usize),
    /// Linear, hidden to hidden.
    Key(usize),
    /// Linear, hidden to hidden.
    Value(usize),
    /// Linear, hidden to hidden: the output projection of attention.
    AttentionOutput(usize),
    /// Layer norm behind attention and its residual.
    AttentionLayerNorm(usize),
    /// Linear, hidden to intermediate.
    Intermediate(usize),
    /// Linear, intermediate to hidden.
    Output(usize),
    /// Layer norm behind the feed-forward part and its residual.
    OutputLayerNorm(usize),
    /// Linear, hidden to hidden; tanh follows.
    Pooler,
    /// Linear, hidden to hidden; the activation follows.
    TransformDense,
    /// Layer norm behind it.
    TransformLayerNorm,
    /// Weight tied to the word embeddings, bias `[vocab_size]`.
    Decoder,
    /// Linear, hidden to 2.
    SeqRelationship,
}

impl Module {
    /// All modules of a model, in the order of the data flow.
    pub fn all(config: &BertConfig, heads: &Heads) -> Vec<Self> {
        let mut modules =
            vec![Self::WordEmbeddings, Self::PositionEmbeddings, Self::TokenTypeEmbeddings, Self::EmbeddingsLayerNorm];
        for layer in 0..usize::from(config.num_hidden_layers) {
            modules.extend([Self::Query(layer), Self::Key(layer), Self::Value(layer), Self::AttentionOutput(layer)]);
            modules.extend([Self::AttentionLayerNorm(layer), Self::Intermediate(layer)]);
            modules.extend([Self::Output(layer), Self::OutputLayerNorm(layer)]);
        }
        if heads.pooler {
            modules.push(Self::Pooler);
        }
        if heads.masked_lm {
            modules.extend([Self::TransformDense, Self::TransformLayerNorm, Self::Decoder]);
        }
        if heads.next_sentence {
            modules.push(Self::SeqRelationship);
        }
        modules
    }

    /// Canonical name of the weight. That of [`Module::Decoder`] is that of [`Module::WordEmbeddings`].
    pub fn weight(self) -> String {
        match self {
            Self::Decoder => Self::WordEmbeddings.weight(),
            _ => self.prefix() + ".weight",
        }
    }

    /// Canonical name of the bias. The embeddings have none: no checkpoint has a tensor of that name.
    pub fn bias(self) -> String {
        self.prefix() + ".bias"
    }

    /// The tensors it owns: canonical name and shape.
    pub fn tensors(self, config: &BertConfig) -> Vec<(String, Vec<usize>)> {
        let vocab = config.vocab_size as usize;
        let hidden = usize::from(config.hidden_size);
        let intermediate = usize::from(config.intermediate_size);
        let embedding = |rows| vec![(self.weight(), vec![rows, hidden])];
        let linear = |outputs, inputs| vec![(self.weight(), vec![outputs, inputs]), (self.bias(), vec![outputs])];
        match self {
            Self::WordEmbeddings => embedding(vocab),
            Self::PositionEmbeddings => embedding(usize::from(config.max_position_embeddings)),
            Self::TokenTypeEmbeddings => embedding(usize::from(config.type_vocab_size)),
            Self::EmbeddingsLayerNorm
            | Self::AttentionLayerNorm(_)
            | Self::OutputLayerNorm(_)
            | Self::TransformLayerNorm => vec![(self.weight(), vec![hidden]), (self.bias(), vec![hidden])],
            Self::Query(_)
            | Self::Key(_)
            | Self::Value(_)
            | Self::AttentionOutput(_)
            | Self::Pooler
            | Self::TransformDense => linear(hidden, hidden),
            Self::Intermediate(_) => linear(intermediate, hidden),
            Self::Output(_) => linear(hidden, intermediate),
            Self::Decoder => vec![(self.bias(), vec![vocab])],
            Self::SeqRelationship => linear(2, hidden),
        }
    }

    fn prefix(self) -> String {
        let layer = |layer: usize, module: &str| format!("encoder.layer.{layer}.{module}");
        match self {
            Self::WordEmbeddings => "embeddings.word_embeddings".into(),
            Self::PositionEmbeddings => "embeddings.position_embeddings".into(),
            Self::TokenTypeEmbeddings => "embeddings.token_type_embeddings".into(),
            Self::EmbeddingsLayerNorm => "embeddings.LayerNorm".into(),
            Self::Query(index) => layer(index, "attention.self.query"),
            Self::Key(index) => layer(index, "attention.self.key"),
            Self::Value(index) => layer(index, "attention.self.value"),
            Self::AttentionOutput(index) => layer(index, "attention.output.dense"),
            Self::AttentionLayerNorm(index) => layer(index, "attention.output.LayerNorm"),
            Self::Intermediate(index) => layer(index, "intermediate.dense"),
            Self::Output(index) => layer(index, "output.dense"),
            Self::OutputLayerNorm(index) => layer(index, "output.LayerNorm"),
            Self::Pooler => "pooler.dense".into(),
            Self::TransformDense => "cls.predictions.transform.dense".into(),
            Self::TransformLayerNorm => "cls.predictions.transform.LayerNorm".into(),
            Self::Decoder => "cls.predictions".into(),
            Self::SeqRelationship => "cls.seq_relationship".into(),
        }
    }
}

/// The canonical form of a name found in a checkpoint.
pub(super) fn canonical_name(found: &str) -> String {
    let name = found.strip_prefix("bert.").unwrap_or(found);
    if name == "cls.predictions.decoder.bias" {
        return Module::Decoder.bias();
    }
    if let Some(module) = name.strip_suffix("LayerNorm.gamma") {
        return format!("{module}LayerNorm.weight");
    }
    if let Some(module) = name.strip_suffix("LayerNorm.beta") {
        return format!("{module}LayerNorm.bias");
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_prefixed_names_get_one_canonical_form() {
        for (found, expected) in [
            ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
            ("encoder.layer.3.output.LayerNorm.beta", "encoder.layer.3.output.LayerNorm.bias"),
            ("cls.predictions.decoder.bias", "cls.predictions.bias"),
            ("cls.predictions.bias", "cls.predictions.bias"),
            ("pooler.dense.weight", "pooler.dense.weight"),
        ] {
            assert_eq!(canonical_name(found), expected);
        }
    }
}
