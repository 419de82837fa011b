"""The README.md of an exported model: Python that gives the same logits as the training did."""

from ..runs.saved_model import SavedModel

PAGE = """# {title}

GPT-2 with a two-class head, exported from a run of gpt2-classification-ablations: row {row}, seed {seed},
`train {flags}`. Classes: {labels}.

{reading}

```python
import torch
from transformers import {imports}

model = GPT2ForSequenceClassification.from_pretrained(".").eval()
{tokenizer}


@torch.no_grad()
def logits(text):
    ids = {encode}
{body}


shares = logits("Hello").softmax(dim=0).tolist()
print(dict(zip(model.config.id2label.values(), shares)))
```

Run it in this folder. `score.weight` is the head; transformers' head has no bias, so the trained one stands in
`transformer.ln_f.bias`: the logits are the same. {lora}
"""
BYTES = "This model was trained on bytes: a token id is the value of a UTF-8 byte, and there are no tokenizer files."


def export_readme(saved: SavedModel) -> str:
    """The page, in Markdown."""
    experiment, context = saved.experiment, saved.context
    reading, body = _reading(saved)
    if saved.tokenizer == "bytes":
        encode, tokenizer = "list(text.encode())", ""
        reading = f"{reading} {BYTES}"
    else:
        encode = "tokenizer.encode(text, add_special_tokens=False)"
        tokenizer = 'tokenizer = AutoTokenizer.from_pretrained(".")'
    if context is not None:
        encode += f"[:{context}]"
    return (
        PAGE.format(
            title=f"{experiment.model_size}: {saved.labels[0]} or {saved.labels[1]}",
            row=saved.row,
            seed=saved.seed,
            flags=" ".join(experiment.flags()),
            labels=" and ".join(f"{index} {label}" for index, label in enumerate(saved.labels)),
            reading=reading,
            imports="AutoTokenizer, GPT2ForSequenceClassification" if tokenizer else "GPT2ForSequenceClassification",
            tokenizer=tokenizer,
            encode=encode,
            body="\n".join(f"    {line}" for line in body),
            lora="LoRA's matrices are merged into the weights." if experiment.trainable_layers == "lora" else "",
        )
        .replace("\n\n\n\n", "\n\n\n")
        .replace("same. \n", "same.\n")
    )


def _reading(saved: SavedModel) -> tuple[str, list[str]]:
    """In words and in Python: what the row reads of a message."""
    experiment, context = saved.experiment, saved.context
    position, pads = experiment.pooling, context is not None and experiment.attended == "all"
    body = []
    if pads and position == "flexible":
        body.append("last = len(ids) - 1")
    if experiment.attended == "first":
        body.append("ids = ids[:1]")
    elif pads:
        body.append(f"ids += [50256] * ({context} - len(ids))")
    body.append("ids = torch.tensor([ids])")
    words = {
        "first": "the first token",
        "last": "the last position" if pads else "the last token",
        "flexible": "the last token that is not padding",
        "mean": "the mean over all positions",
    }[position]
    padding = f"Messages are cut to {context} tokens" if context is not None else "Messages are not cut"
    padding += f" and padded to {context} with token 50256, which is attended to" if pads else ", not padded"
    reading = [f"It reads {words}. {padding}."]
    if not experiment.causal:
        reading.append("It has no causal mask: a mask of zeros lets every position attend to all others.")
    if experiment.causal and position != "mean":
        body.append("return model(ids).logits[0]")
        if not pads and experiment.attended != "first":
            reading.append('`pipeline("text-classification", model=".", truncation=True)` gives the same.')
        else:
            reading.append("A pipeline does not do that: give it the ids as below, one message at a time.")
        return " ".join(reading), body
    mask = ""
    if not experiment.causal:
        body.append("everywhere = torch.zeros(1, 1, ids.shape[1], ids.shape[1])")
        mask = ", attention_mask=everywhere"
    body.append(f"hidden = model.transformer(ids{mask}).last_hidden_state[0]")
    place = {"first": "hidden[0]", "last": "hidden[-1]", "flexible": "hidden[last]", "mean": "hidden.mean(dim=0)"}
    body.append(f"return model.score({place[position]})")
    reading.append("A pipeline does not do that: call the model as below.")
    return " ".join(reading), body
