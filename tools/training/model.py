"""The reference's BertForPreTraining as the holder of the weights, and a forward pass of our own that is faster on a CPU."""

import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForPreTraining

SIZES = {
    "small": dict(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, max_position_embeddings=512),
    "tiny": dict(hidden_size=96, num_hidden_layers=2, num_attention_heads=3, intermediate_size=384, max_position_embeddings=256),
}


def config(size, vocabulary_size):
    return BertConfig(
        vocab_size=vocabulary_size, type_vocab_size=2, hidden_act="gelu", pad_token_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES[size],
    )  # fmt: skip


def create(size, vocabulary_size, seed=0):
    torch.manual_seed(seed)
    model = BertForPreTraining(config(size, vocabulary_size))
    # In the first two layers a query starts out equal to its key, at half of the heads and somewhat larger: a token then looks at
    # its like, in the other segment too, and the next-sentence task need not discover this by luck.
    with torch.no_grad():
        for layer in model.bert.encoder.layer[:2]:
            attention = layer.attention.self
            half = attention.attention_head_size * max(1, attention.num_attention_heads // 2)
            attention.query.weight[:half] *= 1.7
            attention.key.weight[:half] = attention.query.weight[:half]
    return model


def attend(q, k, v, bias=None):
    """softmax(q kT / sqrt(d)) v as plain products: on a CPU the fused kernel's backward pass takes twice as long."""
    *_, length, width = q.shape
    q, k, v = (x.reshape(-1, length, width) for x in (q * width**-0.5, k, v))
    with torch.autocast("cpu", enabled=False):
        scores = torch.bmm(q, k.mT)
        return torch.bmm(torch.softmax(scores if bias is None else scores + bias.to(scores.dtype), -1), v)


def encode(model, ids, types, padded=False):
    """Final hidden states [batch, length, hidden]. The examples of a batch are of one length, unless said to be padded with id 0."""
    bert = model.bert
    batch, length = ids.shape
    embeddings = bert.embeddings
    x = embeddings.word_embeddings(ids) + embeddings.position_embeddings.weight[:length] + embeddings.token_type_embeddings(types)
    x = embeddings.LayerNorm(x)
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.bfloat16)
    heads = model.config.num_attention_heads
    bias = torch.where(ids == 0, -1e4, 0.0)[:, None].repeat_interleave(heads, 0) if padded else None
    for layer in bert.encoder.layer:
        attention = layer.attention
        parts = (attention.self.query, attention.self.key, attention.self.value)
        qkv = F.linear(x, torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        q, k, v = qkv.view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v, bias).view(batch, heads, length, -1).transpose(1, 2).reshape(batch, length, -1)
        x = attention.output.LayerNorm(x + attention.output.dense(mixed))
        x = layer.output.LayerNorm(x + layer.output.dense(F.gelu(layer.intermediate.dense(x))))
    return x


def predict(model, hidden, positions):
    """Scores of the vocabulary at flat `positions` only."""
    head = model.cls.predictions
    x = hidden.reshape(-1, hidden.shape[-1])[positions]
    x = head.transform.LayerNorm(F.gelu(head.transform.dense(x)))
    return F.linear(x, model.bert.embeddings.word_embeddings.weight, head.bias)


def next_sentence(model, hidden):
    return model.cls.seq_relationship(torch.tanh(model.bert.pooler.dense(hidden[:, 0])))
