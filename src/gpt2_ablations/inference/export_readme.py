"""The README.md of an exported model: Python code that gives the logits of the training run."""

from ..runs.saved_model import SavedModel
from ..settings.constants import PAD_TOKEN

PAGE = """# {title}

GPT-2 with a two-class head, exported from a run of gpt2-classification-ablations: row {row}, seed {seed},
`{command}`. Classes: {labels}.

{notes}

```python
import torch
from transformers import {imports}

{load}


@torch.no_grad()
def logits(text):
    ids = {encode}
{body}


probabilities = logits("Hello").softmax(dim=0).tolist()
print(dict(zip(model.config.id2label.values(), probabilities)))
```

Run the code in this folder, with `pip install torch transformers`. `score.weight` is the head. The head of transformers
has no bias, so the trained bias is part of `transformer.ln_f.bias`; the logits are the same.{lora}
"""
MODEL = "GPT2ForSequenceClassification"


def export_readme(saved: SavedModel) -> str:
    """Return the page, in Markdown."""
    experiment, context = saved.experiment, saved.context
    notes, body = _instructions(saved)
    imports, load = MODEL, f'model = {MODEL}.from_pretrained(".").eval()'
    if saved.tokenizer == "bytes":
        encode = "list(text.encode())"
    else:
        encode = "tokenizer.encode(text, add_special_tokens=False)"
        imports = f"AutoTokenizer, {MODEL}"
        load += '\ntokenizer = AutoTokenizer.from_pretrained(".")'
    if context is not None:
        encode += f"[:{context}]"
    return PAGE.format(
        title=f"{experiment.model_size}: {saved.labels[0]} or {saved.labels[1]}",
        row=saved.row,
        seed=saved.seed,
        command=" ".join(["train", *experiment.flags()]),
        labels=" and ".join(f"{index} {label}" for index, label in enumerate(saved.labels)),
        notes=" ".join(notes),
        imports=imports,
        load=load,
        encode=encode,
        body="\n".join(f"    {line}" for line in body),
        lora=" LoRA's matrices are merged into the weights." if experiment.trainable_layers == "lora" else "",
    )


def why_no_pipeline(saved: SavedModel) -> str | None:
    """Why a `pipeline` of transformers gives other labels than the training run; None if it gives the same."""
    experiment = saved.experiment
    if saved.tokenizer == "bytes":
        return "it has no tokenizer: its tokens are bytes"
    if experiment.average_embeddings:
        return "it classifies the mean over positions"
    if not experiment.causal:
        return "it has no causal mask"
    if experiment.attended == "first":
        return "it classifies the first token"
    if saved.context is not None and experiment.computes_padding:
        return f"it classifies the last of {saved.context} positions, padding included"
    return None


def _instructions(saved: SavedModel) -> tuple[list[str], list[str]]:
    """Return how the row classifies a text: as sentences, and as lines of Python that follow `ids = ...`."""
    experiment, context, pooling = saved.experiment, saved.context, saved.experiment.pooling
    padded = context is not None and experiment.computes_padding
    notes = [
        {
            "first": "The head classifies the output at the first token.",
            "last": f"The head classifies the output at the last {'position' if padded else 'token'}.",
            "flexible": "The head classifies the output at the last token that is not padding.",
            "mean": "The head classifies the mean of the outputs at all positions.",
            "mean_of_real": "The head classifies the mean of the outputs at all tokens that are not padding.",
        }[pooling]
    ]
    if context is None:
        notes.append("Texts are neither cut nor padded.")
    elif padded:
        notes.append(
            f"Texts are cut to {context} tokens and padded to {context} tokens with token {PAD_TOKEN}."
            + (" No position attends to padding." if experiment.masks_padding else " Padding is attended to.")
        )
    else:
        notes.append(f"Texts are cut to {context} tokens and not padded.")
    if not experiment.causal:
        notes.append("The model has no causal mask: with a mask of zeros, every position attends to all positions.")
    if saved.tokenizer == "bytes":
        notes.append(
            "The model was trained on bytes: a token id is the value of a UTF-8 byte, and there are no tokenizer files."
        )

    body = []
    if padded and (experiment.masks_padding or pooling in ("flexible", "mean_of_real")):
        body.append("n = len(ids)")
    if experiment.attended == "first":
        body.append("ids = ids[:1]")
    elif padded:
        body.append(f"ids += [{PAD_TOKEN}] * ({context} - len(ids))")
    body.append("ids = torch.tensor([ids])")
    mask = ""
    if not experiment.causal:
        body.append("mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1])")
        if experiment.masks_padding:
            body.append("mask[..., n:] = -torch.inf")
    elif experiment.masks_padding:
        body.append("mask = (torch.arange(ids.shape[1]) < n)[None].long()")
    if not experiment.causal or experiment.masks_padding:
        mask = ", attention_mask=mask"
    if experiment.causal and not experiment.average_embeddings:
        # transformers itself pools the right position of these ids.
        body.append(f"return model(ids{mask}).logits[0]")
        if why_no_pipeline(saved) is None:
            notes.append('`pipeline("text-classification", model=".", truncation=True)` gives the same result.')
        else:
            notes.append("A `pipeline` does not do this. Pass the ids as below, one text at a time.")
        return notes, body
    body.append(f"hidden = model.transformer(ids{mask}).last_hidden_state[0]")
    pooled = {
        "first": "hidden[0]",
        "last": "hidden[-1]",
        "flexible": "hidden[n - 1]",
        "mean": "hidden.mean(dim=0)",
        "mean_of_real": "hidden[:n].mean(dim=0)",
    }
    body.append(f"return model.score({pooled[pooling]})")
    notes.append("A `pipeline` does not do this. Call the model as below.")
    return notes, body
