"""The findings: what the tables say of the paper's claims, in effects with intervals and in asserted sentences.

On the way of the data: evidence (the tables that the findings rest on, read once), effects (of each claim, with the
verdict of its rule), headlines (each sentence with its numbers and the assertion that holds it), distortions (copies of
the evidence in which runs, sentences or signs are changed: no assertion may hold in all of them).

This room imports the statistics, the replication, crossed and the ground floor. It needs neither torch nor
transformers. The first page takes its names from here.
"""

from addends.findings.distortions import DISTORTIONS, distorted
from addends.findings.effects import answers, board
from addends.findings.evidence import Evidence, read_evidence
from addends.findings.headlines import HEADLINES, Headline, checked

__all__ = [
    "DISTORTIONS",
    "HEADLINES",
    "Evidence",
    "Headline",
    "answers",
    "board",
    "checked",
    "distorted",
    "read_evidence",
]
