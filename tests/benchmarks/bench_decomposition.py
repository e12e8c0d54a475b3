"""How much more than a plain forward pass does a decomposition cost? Ratios, measured in one process.

    python tests/benchmarks/bench_decomposition.py [--repeats 15] [--clock process] [--output data/performance]

The model is a random Marian, 512 wide, with 6 + 6 layers; sentences are batched by 32, sorted by length. Each repeat
times the plain forward pass of the base model and every case once, in turn, so that whatever else the machine does
falls on all of them alike; the table has medians over repeats. ``--clock process`` counts this process's own CPU time.
A second table has the seconds for models of 3, 6 and 12 layers a side. ``--output`` writes both as parquet; the
book's page on performance reads them.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import MarianConfig, MarianMTModel

import addends
from addends.decomposition import measure_batch, token_importance, token_logit_shares
from addends.decomposition.indicators import of_vectors
from addends.decomposition.parts import stream
from addends.runs.training import seeded

VOCABULARY, PAD = 8000, 7999
PLAIN = "plain forward pass"
TARGETS = {  # the ratio that is aimed at, and the one that the matrix products alone would have
    "by sublayer": (1.25, 1.0),
    "by token": (2.4, 2.1),
    "both methods, one pass": (2.3, 2.1),
    "each token, last layer": (20.0, 15.0),
    "each token's importance, backward": (10.0, 6.0),
    "each token's share of a logit, backward": (10.0, 6.0),
    "each token's mean importance, backward": (2.5, 1.4),
}


def model(layers: int = 6) -> MarianMTModel:
    """A random Marian model of the published width, with a small vocabulary: the output head is never run."""
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=512,
        encoder_layers=layers,
        decoder_layers=layers,
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


def batches(count: int, size: int = 32, shortest: int = 5, longest: int = 60, seed: int = 0) -> list[addends.Batch]:
    """``count`` batches of sentences of so many tokens, sorted by length, so that little is padding."""
    generator = np.random.default_rng(seed)
    lengths = np.sort(generator.integers(shortest, longest, count * size, endpoint=True))
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


def last_layer(network, batch, **options) -> None:
    """A decomposition with the indicators of its last layer alone."""
    _, layers = stream(network, batch, check=False, **options)
    for vectors, state in layers:  # noqa: B007 - the last ones are used
        pass
    of_vectors(vectors, state)


CASES = {
    PLAIN: plain,
    "by sublayer": lambda network, batch: decomposed(network, batch, by="sublayer"),
    "by token": lambda network, batch: decomposed(network, batch, by="token"),
}
BOTH = {"both methods, one pass": lambda network, batch: measure_batch(network, batch, check=False)}
EACH = {
    PLAIN: plain,
    "each token, last layer": lambda network, batch: last_layer(network, batch, by="token", tokens="each"),
    "each token's importance, backward": lambda network, batch: token_importance(network, batch),
    "each token's share of a logit, backward": lambda network, batch: token_logit_shares(
        network, batch, batch.decoder_input_ids[..., None]
    ),
    "each token's mean importance, backward": lambda network, batch: token_importance(network, batch, mean=True),
}


def ratios(network, cases: dict[str, Callable], work: list[addends.Batch], repeats: int, clock) -> pd.DataFrame:
    """Medians of seconds over repeats, and of ratios to the plain pass of the same repeat; the first one warms up."""
    rows = []
    for repeat in range(repeats + 1):
        for case, run in cases.items():
            start = clock()
            for batch in work:
                run(network, batch)
            rows.append({"repeat": repeat, "case": case, "seconds": clock() - start})
    seconds = pd.DataFrame(rows).query("repeat > 0").pivot(index="repeat", columns="case", values="seconds")
    to_plain = seconds.div(seconds[PLAIN], axis=0)
    table = pd.DataFrame(
        {
            "seconds": seconds.median(),
            "ratio": to_plain.median(),
            "smallest": to_plain.min(),
            "largest": to_plain.max(),
            "repeats": repeats,
            "sentences": sum(len(batch.input_ids) for batch in work),
        }
    )
    return table.loc[list(cases)].reset_index()


def main() -> None:
    """Parse the command line, measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "process"), default="wall")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    about = {"threads": torch.get_num_threads(), "clock": options.clock, "machine": platform.machine()}

    network = model()
    grouped = ratios(network, CASES | BOTH, batches(options.batches), options.repeats, clock)
    each = ratios(network, EACH, batches(1, shortest=25, longest=25), max(1, options.repeats // 3), clock)
    table = pd.concat([grouped, each[each["case"] != PLAIN]], ignore_index=True)
    table["target"] = [TARGETS.get(case, (np.nan, np.nan))[0] for case in table["case"]]
    table["floor"] = [TARGETS.get(case, (np.nan, np.nan))[1] for case in table["case"]]
    print(table.round(2).to_string(), "\n")

    growth = []
    for layers in (3, 6, 12):
        frame = ratios(model(layers), CASES, batches(2, longest=30), max(1, options.repeats // 3), clock)
        growth.append(frame.assign(layers=layers, seconds_a_layer=frame["seconds"] / layers))
    growth = pd.concat(growth, ignore_index=True)
    print(growth[["layers", "case", "seconds", "seconds_a_layer", "ratio"]].round(3).to_string())
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        table.assign(**about).to_parquet(options.output / "decomposition.parquet", index=False)
        growth.assign(**about).to_parquet(options.output / "layers.parquet", index=False)


if __name__ == "__main__":
    main()
