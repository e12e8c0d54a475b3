"""Where does the time of `addends.measure` go, and does its memory grow with the corpus?

    python tests/benchmarks/bench_measure.py [--sentences 500 1000 2000] [--output data/performance]

The model of bench_decomposition, both methods, made-up sentences of 5 to 25 words. Each corpus is measured in a process
of its own, whose largest resident memory is read at the end; the time inside the model and the decomposition is what
passes between asking `streams` for a layer and having it, the indicators' beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_decomposition import PAD, VOCABULARY, model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import addends
from addends.decomposition import measure_batch

MIB = 2**20


def tokenizer() -> PreTrainedTokenizerFast:
    """One id a word: "w1", "w2", ... and an end of sentence."""
    words = {"</s>": 0, **{f"w{number}": number for number in range(1, VOCABULARY - 1)}, "<pad>": PAD}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="<pad>")


def corpus(count: int, seed: int = 0) -> list[str]:
    """Sentences of 5 to 25 words."""
    generator = np.random.default_rng(seed)
    return [
        " ".join(f"w{word}" for word in generator.integers(1, VOCABULARY - 1, length))
        for length in generator.integers(5, 25, count, endpoint=True)
    ]


class Timed:
    """Counts the seconds spent in what it wraps."""

    def __init__(self):
        self.seconds = 0.0

    def function(self, wrapped):
        def timed(*args, **options):
            start = time.perf_counter()
            result = wrapped(*args, **options)
            self.seconds += time.perf_counter() - start
            return result

        return timed

    def streams(self, wrapped):
        start = self.function(wrapped)

        def timed(*args, **options):
            methods = start(*args, **options)
            while (found := self.function(lambda: next(methods, None))()) is not None:
                method, terms, layers = found
                yield method, terms, iter(self.function(lambda layers=layers: next(layers, None)), None)

        return timed


def one(count: int) -> dict:
    """Measure a corpus of this size in this process."""
    network, words = model(), tokenizer()
    sources, targets = corpus(count), corpus(count, seed=1)
    addends.measure(network, words, sources[:32], targets[:32], progress=False)  # warms up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    inside, indicators = Timed(), Timed()
    module = sys.modules[measure_batch.__module__]
    module.streams, module.of_vectors = inside.streams(module.streams), indicators.function(module.of_vectors)
    start = time.perf_counter()
    frame = addends.measure(network, words, sources, targets, progress=False)
    seconds = time.perf_counter() - start
    return {
        "sentences": count,
        "seconds": seconds,
        "seconds_a_sentence": seconds / count,
        "inside": inside.seconds / seconds,
        "indicators": indicators.seconds / seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB,
        "before_mib": before / MIB,
        "table_mib": frame.memory_usage(deep=True).sum() / MIB,
        "rows": len(frame),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


def main() -> None:
    """Parse the command line, measure each size in a process of its own, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    rows = []
    for count in options.sentences:
        command = [sys.executable, __file__, "--one", str(count)]
        rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    table = pd.DataFrame(rows)
    print(table.round(4).to_string())
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        table.to_parquet(options.output / "measure.parquet", index=False)


if __name__ == "__main__":
    main()
