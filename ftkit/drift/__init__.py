"""What moved: weights, representations and attention, tuned beside base; the proof that frozen stayed frozen."""

from ftkit.drift.moved import Drift, attention_shift, linear_cka, what_moved
from ftkit.drift.proof import Proof, freeze_proof, prove

__all__ = ["Drift", "Proof", "attention_shift", "freeze_proof", "linear_cka", "prove", "what_moved"]
