"""SetFit: a logistic head on frozen sentence vectors, or contrastive tuning of the body and then the head.

Its default draws pairs of all rows until each was drawn (hundreds of thousands here, hours on two cores). Contrastive
tuning is therefore stopped when it has read as many texts as the other tools read in their epochs; the rest is its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, disable_progress_bars
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression
from transformers import set_seed

from benchmarks.peers import Tuned

PAIRS = 16  # its default batch size, in pairs


def load(job: Mapping[str, Any]) -> SetFitModel:
    """Return body and head."""
    body = SentenceTransformer(job["model"], device="cpu", local_files_only=True)
    body.max_seq_length = job["max_tokens"]
    return SetFitModel(model_body=body, model_head=LogisticRegression(max_iter=1000))


def tune(model: SetFitModel, rows: Mapping[str, Any], job: Mapping[str, Any]) -> Tuned:
    """Fit the head; where everything is tuned, the body first."""
    set_seed(job["seed"])
    disable_progress_bars()
    train, told = rows["train"], {}
    if job["train"] == "all":
        n_texts = job["epochs"] * len(train["texts"])
        told = {"texts_read": n_texts, "pairs": n_texts // 2}
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                batch_size=PAIRS,
                max_steps=max(1, n_texts // (2 * PAIRS)),
                body_learning_rate=job["lr"],
                max_length=job["max_tokens"],
                report_to="none",
                save_strategy="no",
                show_progress_bar=False,
                seed=job["seed"],
            )
            dataset = Dataset.from_dict({"text": train["texts"], "label": train["labels"]})
            trainer = Trainer(model=model, args=arguments, train_dataset=dataset)
            trainer.st_trainer.args.use_cpu = True
            trainer.train()
    else:
        model.fit(train["texts"], train["labels"], num_epochs=1, show_progress_bar=False)
    return Tuned(lambda texts: [int(i) for i in model.predict(list(texts), show_progress_bar=False)], told)
