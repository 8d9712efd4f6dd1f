"""A tiny BERT, trained from nothing with Transformers, that says whether a row of letters has an "a"."""

import argparse

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.001)
args = parser.parse_args()

torch.manual_seed(0)
rows = torch.randint(0, 12, (400, 6))
data = [{"input_ids": row, "labels": int((row == 0).any())} for row in rows]
config = BertConfig(
    vocab_size=12, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
)
arguments = TrainingArguments(
    "output", num_train_epochs=4, learning_rate=args.lr, per_device_train_batch_size=50,
    eval_strategy="epoch", save_strategy="epoch", save_total_limit=1, use_cpu=True,
    report_to=[], disable_tqdm=True, logging_strategy="epoch",
)
trainer = Trainer(
    BertForSequenceClassification(config),
    arguments,
    train_dataset=data[:300],
    eval_dataset=data[300:],
)
trainer.train()
