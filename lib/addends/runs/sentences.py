"""The sentences of a suite: those it is measured on, those it is trained on, and the vocabulary they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from addends.runs.suite import Run, Suite

if TYPE_CHECKING:
    from transformers import MarianTokenizer


def held_out(suite: Suite) -> pd.DataFrame:
    """The evaluation sentences, the same in every run and checkpoint: columns sentence, language, source, target."""
    return suite.held_out()


def further(suite: Suite) -> pd.DataFrame | None:
    """Further sentences, which serve quality alone, with the same columns; None where the suite has none."""
    return suite.further() if suite.further else None


def training_pairs(suite: Suite, run: Run) -> pd.DataFrame:
    """The training pairs of a run, with the same columns, disjoint from the evaluation sentences."""
    return suite.pairs(run)


def tokenizer(suite: Suite, folder: Path) -> MarianTokenizer:
    """The suite's tokenizer, trained on its training sides where ``folder`` holds none."""
    return suite.tokenizer(folder)
