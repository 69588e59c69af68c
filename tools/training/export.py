"""Writes a checkpoint as a Hugging Face directory: F16 weights, vocabulary, and golden.safetensors.

    python export.py CHECKPOINT PREPARED DIR --validation DIR

The golden file holds what transformers answers, in fp32, for a few inputs and the weights as stored (rounded to F16).
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BertForPreTraining

import examples
import model as bert
import vocabulary

TOKENIZER = {
    "cls_token": "[CLS]", "do_basic_tokenize": True, "do_lower_case": False, "mask_token": "[MASK]", "never_split": None,
    "pad_token": "[PAD]", "sep_token": "[SEP]", "strip_accents": None, "tokenize_chinese_chars": True,
    "tokenizer_class": "BertTokenizer", "unk_token": "[UNK]",
}  # fmt: skip


def golden_inputs(tokenizer, validation, languages, longest):
    """Short inputs of some languages, pairs and single lines with a few [MASK]s, and one long input."""
    inputs = []
    for i, name in enumerate(languages):
        lines = (validation / f"{name}.txt").read_text(encoding="utf-8").split("\n")
        a, b = (tokenizer.encode(line, add_special_tokens=False).ids[:9] for line in lines[:2])
        ids = [examples.CLS, *a, examples.SEP]
        types = [0] * len(ids)
        if i % 3 != 2:
            ids += [*b, examples.SEP]
            types += [1] * (len(b) + 1)
        for position in range(3, len(ids) - 1, 5):
            if ids[position] > examples.MASK:
                ids[position] = examples.MASK
        inputs.append((ids, types))
    text = (validation / f"{languages[0]}.txt").read_text(encoding="utf-8").replace("\n", " ")
    ids = [examples.CLS, *tokenizer.encode(text[:4000], add_special_tokens=False).ids[: min(longest, 160) - 2], examples.SEP]
    return inputs + [(ids, [0] * len(ids))]


def export(checkpoint, vocab, directory, validation, languages=("en", "ru", "ar", "ja")):
    state = torch.load(checkpoint, weights_only=False)
    directory.mkdir(parents=True, exist_ok=True)
    if vocab.resolve() != (directory / "vocab.txt").resolve():
        shutil.copyfile(vocab, directory / "vocab.txt")
    model = BertForPreTraining(bert.config(state["size"], state["vocabulary"]))
    model.load_state_dict({name: tensor for name, tensor in state["model"].items() if name.startswith(("bert.", "cls."))})
    model.eval().half()
    # The decoder is the word embeddings: stored once.
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    save_file({k: v.contiguous() for k, v in model.state_dict().items() if k not in tied}, directory / "model.safetensors", {"format": "pt"})
    config = {"architectures": ["BertForPreTraining"], "model_type": "bert", "dtype": "float16"}
    config |= {name: getattr(model.config, name) for name in (
        "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "hidden_size", "initializer_range", "intermediate_size",
        "layer_norm_eps", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "pad_token_id", "tie_word_embeddings",
        "type_vocab_size", "vocab_size",
    )}  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    longest = model.config.max_position_embeddings
    (directory / "tokenizer_config.json").write_text(json.dumps(TOKENIZER | {"model_max_length": longest}, indent=1, sort_keys=True) + "\n")

    reference = BertForPreTraining.from_pretrained(directory, dtype=torch.float32).eval()
    stored = load_file(directory / "model.safetensors")
    assert all(torch.equal(reference.state_dict()[name], tensor.float()) for name, tensor in stored.items())
    golden = {}
    tokenizer = vocabulary.tokenizer(vocabulary.read(directory / "vocab.txt"))
    for n, (ids, types) in enumerate(golden_inputs(tokenizer, validation, languages, longest)):
        ids, types = torch.tensor([ids]), torch.tensor([types])
        with torch.no_grad():
            answer = reference(ids, token_type_ids=types, output_hidden_states=True)
            # Our own forward pass is the same function.
            hidden = bert.encode(reference, ids, types)
            assert (hidden - answer.hidden_states[-1]).abs().max() < 1e-3
        golden[f"{n}.input_ids"], golden[f"{n}.token_type_ids"] = ids[0].int(), types[0].int()
        for layer, states in enumerate(answer.hidden_states):
            golden[f"{n}.hidden.{layer}"] = states[0].contiguous()
        if len(types[0]) < 32:  # the long input's would be most of the file
            golden[f"{n}.prediction_logits"] = answer.prediction_logits[0].contiguous()
        golden[f"{n}.seq_relationship_logits"] = answer.seq_relationship_logits[0].contiguous()
    save_file(golden, directory / "golden.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--validation", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.prepared / "vocab.txt", arguments.directory, arguments.validation)


if __name__ == "__main__":
    main()
