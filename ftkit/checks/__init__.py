"""Looks for the coded findings in data, runs and results, and says what it looked for and what it found.

A check never changes anything and never stops a run: it hands back a `Checked`, or a record of its own whose
`findings` say the same. What a code means, `ft.explain` tells.
"""

from ftkit.checks.checked import Checked, check_baselines, check_comparison, check_data, token_lengths
from ftkit.checks.curves import read_curve
from ftkit.checks.labels import flip_labels, label_issues
from ftkit.checks.personal import personal_data

__all__ = ["Checked", "check_baselines", "check_comparison", "check_data", "flip_labels", "label_issues"]
__all__ += ["personal_data", "read_curve", "token_lengths"]
