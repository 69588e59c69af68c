"""The reference's BertForPreTraining as the holder of the weights, and a forward pass of our own that is faster on a CPU."""

import math

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
    """A model with the reference's random weights, but for a start that spares a short training the discovery of the obvious.

    Positions start as sinusoids. In the first two layers one head attends to the token before and one to the token behind, and in
    the others query equals key, so that a token attends to its like, in the other segment too. All of it is trained like the rest.
    """
    torch.manual_seed(seed)
    model = BertForPreTraining(config(size, vocabulary_size))
    first = model.bert.encoder.layer[0].attention.self
    pairs, head = model.config.hidden_size // 2, first.attention_head_size
    # As many frequencies as a head has room for are spread evenly, which tells neighbours apart; the others tell far from near.
    near = torch.linspace(0, math.pi, head // 2 + 2)[1:-1]
    far = torch.exp(torch.linspace(0, math.log(1 / model.config.max_position_embeddings), pairs - len(near)))
    angle = torch.arange(model.config.max_position_embeddings)[:, None] * torch.cat([near, far])
    scale = model.config.initializer_range
    # What makes the score of a match about 5, whatever the widths: the normalised input has entries of size 1, half of it position.
    sharp_turn = (5 / (head**0.5 / 2)) ** 0.5
    sharp_like = (5 / (head**0.5 * scale**2 * model.config.hidden_size)) ** 0.5
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight.copy_(scale * 2**0.5 * torch.stack([angle.cos(), angle.sin()], -1).flatten(1))
        for layer in model.bert.encoder.layer[:2]:
            query, key = layer.attention.self.query.weight, layer.attention.self.key.weight
            for which, offset in enumerate((-1, 1)):
                rows = slice(which * head, (which + 1) * head)
                # Turned by an offset, a query is most like the key of the token so far away.
                cos, sin = (offset * near).cos(), (offset * near).sin()
                turn = torch.block_diag(*torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1))
                query[rows] += sharp_turn * torch.nn.functional.pad(turn, (0, query.shape[1] - head))
                key[rows] += sharp_turn * torch.eye(head, key.shape[1])
            query[2 * head :] *= sharp_like
            key[2 * head :] = query[2 * head :]
    return model


def attend(q, k, v, bias=None):
    """softmax(q kT / sqrt(d)) v as plain products: on a CPU the fused kernel's backward pass takes twice as long."""
    *_, length, width = q.shape
    q, k, v = (x.reshape(-1, length, width) for x in (q * width**-0.5, k, v))
    with torch.autocast("cpu", enabled=False):
        scores = torch.bmm(q, k.mT)
        return torch.bmm(torch.softmax(scores if bias is None else scores + bias.to(scores.dtype), -1), v)


def encode(model, ids, types, padded=False, states=None):
    """Final hidden states [batch, length, hidden]. The examples of a batch are of one length, unless said to be padded with id 0.

    The states behind each layer are appended to `states`.
    """
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
        if states is not None:
            states.append(x)
    return x


def likeness(model, state, ids, types):
    """Loss of the training-only head that tells, half way up, of which tokens the other segment holds the like.

    Whether B follows A shows in what they share, but one label a pair is little to find that out by: this is a label a token.
    """
    alike = ((ids[:, :, None] == ids[:, None]) & (types[:, :, None] != types[:, None])).any(-1)
    ordinary = ids > 4  # neither special nor masked
    return F.binary_cross_entropy_with_logits(model.likeness(state)[ordinary][:, 0].float(), alike[ordinary].float())


def predict(model, hidden, positions):
    """Scores of the vocabulary at flat `positions` only."""
    head = model.cls.predictions
    x = hidden.reshape(-1, hidden.shape[-1])[positions]
    x = head.transform.LayerNorm(F.gelu(head.transform.dense(x)))
    return F.linear(x, model.bert.embeddings.word_embeddings.weight, head.bias)


def next_sentence(model, hidden):
    return model.cls.seq_relationship(torch.tanh(model.bert.pooler.dense(hidden[:, 0])))
