"""How much more than a plain forward pass does a decomposition cost? Ratios, measured in one process.

    python tests/benchmarks/bench_decomposition.py [--repeats 7] [--clock process] [--output data/performance.parquet]

The model is a random Marian with 6 + 6 layers, 512 wide; sentences are batched by 32, sorted by length. Each repeat
times the plain forward pass of the base model and every method once, in turn, so that whatever else the machine does
falls on all of them alike; the table has medians over repeats. ``--clock process`` counts this process's own CPU time.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import MarianConfig, MarianMTModel

import addends
from addends.decomposition.indicators import of_vectors
from addends.decomposition.parts import stream
from addends.runs.training import seeded

VOCABULARY, PAD = 8000, 7999


def model() -> MarianMTModel:
    """A random Marian model of the published size, with a small vocabulary: the output head is never run."""
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        max_position_embeddings=256,
        activation_function="swish",
        init_std=512**-0.5,
        pad_token_id=PAD,
        eos_token_id=0,
        decoder_start_token_id=PAD,
    )
    with seeded(0):
        return MarianMTModel(config).eval()


def batches(count: int, size: int = 32, seed: int = 0) -> list[addends.Batch]:
    """``count`` batches of sentences of 5 to 60 tokens, sorted by length, so that little is padding."""
    generator = np.random.default_rng(seed)
    lengths = np.sort(generator.integers(5, 60, count * size))
    made = []
    for chunk in lengths.reshape(count, size):
        ids = torch.from_numpy(generator.integers(1, VOCABULARY - 1, (2, size, chunk.max())))
        mask = torch.arange(chunk.max())[None] < torch.from_numpy(chunk)[:, None]
        made.append(addends.Batch(ids[0], mask.long(), ids[1], mask))
    return made


def plain(network, batch) -> None:
    """The forward pass that every ratio is to."""
    with torch.no_grad():
        network.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            use_cache=False,
        )


def decomposed(network, batch, **options) -> None:
    """A decomposition with its indicators, layer by layer, as `addends.measure` does it."""
    _, layers = stream(network, batch, check=False, **options)
    for vectors, state in layers:
        of_vectors(vectors, state)


CASES = {
    "plain forward pass": plain,
    "by sublayer, with indicators": lambda network, batch: decomposed(network, batch, by="sublayer"),
    "by token, three groups independently": lambda network, batch: decomposed(network, batch, by="token"),
    "by token inside measure, constant by subtraction": lambda network, batch: decomposed(
        network, batch, by="token", subtract=True
    ),
}


def table(repeats: int, count: int, clock) -> pd.DataFrame:
    """Medians of seconds over repeats, and of ratios to the plain pass of the same repeat."""
    network, work = model(), batches(count)
    rows = []
    for repeat in range(repeats + 1):
        for case, run in CASES.items():
            start = clock()
            for batch in work:
                run(network, batch)
            rows.append({"repeat": repeat, "case": case, "seconds": clock() - start})
    seconds = pd.DataFrame(rows).query("repeat > 0").pivot(index="repeat", columns="case", values="seconds")
    ratios = seconds.div(seconds["plain forward pass"], axis=0)
    return pd.DataFrame(
        {
            "seconds": seconds.median(),
            "ratio": ratios.median(),
            "smallest": ratios.min(),
            "largest": ratios.max(),
            "repeats": repeats,
        }
    ).loc[list(CASES)]


def main() -> None:
    """Parse the command line, measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--clock", choices=("wall", "process"), default="wall")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    result = table(options.repeats, options.batches, clock)
    result = result.assign(threads=torch.get_num_threads(), clock=options.clock, machine=platform.machine())
    print(result.round(2).to_string())
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        result.reset_index().to_parquet(options.output, index=False)


if __name__ == "__main__":
    main()
