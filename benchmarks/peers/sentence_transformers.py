"""sentence-transformers' trainer. It has no loss for classes alone, so a triplet loss, then a logistic head."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import BatchAllTripletLoss
from sentence_transformers.training_args import BatchSamplers
from sklearn.linear_model import LogisticRegression
from transformers import set_seed

from benchmarks.peers import Tuned


def load(job: Mapping[str, Any]) -> SentenceTransformer:
    """Return the model."""
    model = SentenceTransformer(job["model"], device="cpu", local_files_only=True)
    model.max_seq_length = job["max_tokens"]
    return model


def tune(model: SentenceTransformer, rows: Mapping[str, Any], job: Mapping[str, Any]) -> Tuned:
    """Tune all weights so that texts of a class lie together, then fit the head."""
    set_seed(job["seed"])
    told = {part: Dataset.from_dict({"sentence": rows[part]["texts"], "label": rows[part]["labels"]})
            for part in ("train", "valid")}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=job["epochs"],
            per_device_train_batch_size=job["batch_size"],
            per_device_eval_batch_size=64,
            learning_rate=job["lr"],
            weight_decay=job["weight_decay"],
            lr_scheduler_type="linear",
            warmup_steps=job["warmup"],
            max_grad_norm=job["clip"],
            batch_sampler=BatchSamplers.GROUP_BY_LABEL,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            seed=job["seed"],
        )
        SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=told["train"],
            eval_dataset=told["valid"],
            loss=BatchAllTripletLoss(model),
        ).train()
    head = LogisticRegression(max_iter=1000)
    head.fit(model.encode(rows["train"]["texts"], show_progress_bar=False), rows["train"]["labels"])
    return Tuned(lambda texts: head.predict(model.encode(list(texts), show_progress_bar=False)).tolist(), {})
