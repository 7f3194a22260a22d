"""transformers' `Trainer`, with PEFT for low-rank adapters: the loop that most people use.

Left at its defaults but for what has to be equal (rows, batches, epochs, optimizer, schedule, evaluation each epoch,
nothing saved); `options` has what the other settings change.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments, set_seed

from benchmarks.peers import Stopwatch, Tuned
from benchmarks.peers.classifier import Classifier, answerer, freeze, load_encoder, make_optimizer, tokenized


class Watch(TrainerCallback):
    """Tells a stopwatch of each step, and unfreezes what an epoch unfreezes."""

    def __init__(self, model: nn.Module, moves: Sequence[Sequence[str]]) -> None:
        self.stopwatch, self.model, self.moves = Stopwatch(), model, moves

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        freeze(self.model, self.moves[min(round(state.epoch), len(self.moves) - 1)])

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.stopwatch.began()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.stopwatch.ended()


def load(job: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """Return encoder and tokenizer; PEFT is imported where it is needed."""
    if job["lora"]:
        import peft  # noqa: F401
    return load_encoder(job["model"])


def tune(loaded: tuple[nn.Module, Any], rows: Mapping[str, Any], job: Mapping[str, Any]) -> Tuned:
    """Train as the job says; of a sweep, all its plans, and return the model that answers most of valid right."""
    encoder, tokenizer = loaded
    parts = {part: tokenized(tokenizer, rows[part], job["max_tokens"]) for part in ("train", "valid")}
    if not job["sweep"]:
        model, _, told = _train(encoder, tokenizer, parts, rows, job)
        return Tuned(answerer(model, tokenizer, job["max_tokens"]), told)
    best: tuple[float, nn.Module, Mapping[str, Any]] | None = None
    for plan in job["sweep"]["plans"]:
        model, accuracy, _ = _train(copy.deepcopy(encoder), tokenizer, parts, rows, {**job, **plan})
        if best is None or accuracy > best[0]:
            best = accuracy, model, plan
    return Tuned(answerer(best[1], tokenizer, job["max_tokens"]), {"plan": [best[2]["train"], best[2]["lr"]]})


def _train(
    encoder: nn.Module, tokenizer: Any, parts: Mapping[str, list], rows: Mapping[str, Any], job: Mapping[str, Any]
) -> tuple[nn.Module, float, dict[str, Any]]:
    """Return a tuned model, its accuracy on valid, and what the stopwatch says."""
    set_seed(job["seed"])
    options, moves = job["options"], job["moves"]
    if job["lora"]:
        import peft

        lora = peft.LoraConfig(r=job["lora"]["rank"], lora_alpha=job["lora"]["alpha"])  # at PEFT's own places
        encoder = peft.get_peft_model(encoder, lora)
    model = Classifier(encoder, len(rows["label_names"]))
    if job["lora"]:
        moves = [[n for n, _ in model.named_parameters() if "lora_" in n or n.startswith("head.")]]
    freeze(model, moves[0])
    watch = Watch(model, moves)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=job["epochs"],
            per_device_train_batch_size=job["batch_size"],
            per_device_eval_batch_size=64,
            lr_scheduler_type="linear",
            warmup_steps=job["warmup"],
            max_grad_norm=job["clip"],
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            label_names=["labels"],
            seed=job["seed"],
            bf16=options["dtype"] == "bfloat16",
            **({"train_sampling_strategy": options["sampling"]} if "sampling" in options else {}),
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=parts["train"],
            eval_dataset=parts["valid"],
            data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=options.get("pad_to_multiple_of")),
            compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
            optimizers=(make_optimizer(model, sorted(set().union(*moves)), job), None),
            callbacks=[watch],
        )
        trainer.train()
    accuracy = [entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry][-1]
    return model, accuracy, watch.stopwatch.told()
