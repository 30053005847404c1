"""What a checkpoint can do, measured on test images it never saw. docs/evaluation.md says how each figure is computed.

reading → a model's answers, chunk by chunk → ranking (images) and pixels (histograms)
        → bootstrap (by patient) → result → summary, tables, plots, cases
"""

from __future__ import annotations

from madclip.evaluation.evaluate import evaluate
from madclip.evaluation.result import Evaluation
from madclip.evaluation.runs import evaluate_all, summary_lines

__all__ = ["Evaluation", "evaluate", "evaluate_all", "summary_lines"]
