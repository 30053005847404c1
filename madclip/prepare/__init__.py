"""Data as it comes → the `_AD` folder layout: NIfTI volumes, DICOM series, or a folder with a table of labels.

Each source makes a list of `Planned` samples (sample.py); one writer (layout.py) splits them by patient, writes them
whole or not at all, and measures what gives the label away without looking for a lesion (giveaway.py).
What this package does not know: models, shots and scores. Nothing here imports torch.
"""

from __future__ import annotations

__all__: list[str] = []
