"""How fast are crossed mixed models, against statsmodels and lme4, and how much memory do they need?

    python tests/benchmarks/bench_mixed.py [--repeats 5] [--clock process] [--output data/performance]

Two problems. 20 runs x 1,000 sentences, ``y ~ x + (1 | run) + (1 | sentence)``: addends, the sparse MixedLM of
statsmodels (a minute each time: once, unless told otherwise) and, where R has it, lme4, timed inside R. A million rows
(20 runs x 10,000 sentences x 5 checkpoints) with ``(1 | run:sentence)`` too: addends, against a fit of the same rows by
ordinary least squares in statsmodels. Each repeat runs every method once, in turn; a first round is thrown away. Timed
are the fit and the reading of its log-likelihood, coefficients, standard errors and variances. The peak of memory is
that of a process of its own that reads the large table and fits it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

from addends import mixed
from addends.tables import write_parquet

CROSSED = "y ~ x + (1 | run) + (1 | sentence)"
LARGE = "y ~ x + (1 | run) + (1 | sentence) + (1 | run:sentence)"
SCRIPT = Path(__file__).with_name("time_lme4.R")


def table(runs: int, sentences: int, checkpoints: int = 1, seed: int = 0) -> pd.DataFrame:
    """A balanced crossing with known SDs: run .5, sentence 1, run:sentence .4 (if replicated), residual .7."""
    generator = np.random.default_rng(seed)
    shape = (runs, sentences, checkpoints)
    run, sentence, checkpoint = (part.ravel() for part in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    y = generator.normal(0, 0.5, shape[:1])[run] + generator.normal(0, 1, shape[1:2])[sentence]
    if checkpoints > 1:
        y += generator.normal(0, 0.4, shape[:2])[run, sentence]
    x = generator.normal(size=len(run))
    y += 3 + 0.2 * x + generator.normal(0, 0.7, len(run))
    names = np.array([f"r{number:02}" for number in range(runs)])
    return pd.DataFrame({"run": names[run], "sentence": sentence, "checkpoint": checkpoint, "x": x, "y": y})


def by_addends(data: pd.DataFrame, formula: str) -> dict:
    fit = mixed.fit(formula, data)
    found = fit.llf, fit.params, fit.bse, fit.vcomp
    return {"run_sd": found[3].set_index("group").loc["run", "sd"]}


def by_mixedlm(data: pd.DataFrame) -> dict:
    """One group that holds all rows; runs and sentences as variance components: so statsmodels crosses factors."""
    parts = {"run": "0 + C(run)", "sentence": "0 + C(sentence)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: what it found is in the table, as run_sd
        model = smf.mixedlm("y ~ x", data, groups=np.ones(len(data)), vc_formula=parts, use_sparse=True)
        fit = model.fit(reml=True)
    found = fit.llf, fit.params, fit.bse, dict(zip(model.exog_vc.names, fit.vcomp, strict=True))
    return {"run_sd": np.sqrt(found[3]["run"])}


def by_least_squares(data: pd.DataFrame) -> dict:
    fit = smf.ols("y ~ x", data).fit()
    _ = fit.llf, fit.params, fit.bse
    return {}


def by_lme4(file: Path, formula: str, clock: str) -> dict:
    """One fit in a fresh R; the seconds are R's own."""
    answer = subprocess.run(["Rscript", str(SCRIPT), str(file), formula], capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"{SCRIPT.name} failed:\n{answer.stderr}")
    found = json.loads(answer.stdout.splitlines()[-1])
    return {"seconds": found[clock], "run_sd": found["run_sd"], "version": f"lme4 {found['lme4']}, R {found['R']}"}


def has_lme4() -> bool:
    if shutil.which("Rscript") is None:
        return False
    probe = 'quit(status = !requireNamespace("lme4", quietly = TRUE))'
    return subprocess.run(["Rscript", "-e", probe], capture_output=True).returncode == 0


def timed(methods: dict, repeats: dict[str, int], clock) -> list[dict]:
    """One row a method and repeat; each repeat runs every method that still has one to go, and a round 0 is dropped.

    A method of one repeat has no round 0: it is too slow to be run twice.
    """
    rows = []
    for repeat in range(max(repeats.values()) + 1):
        for method, run in methods.items():
            if repeat > repeats[method] or (repeat == 0 and repeats[method] == 1):
                continue
            start = clock()
            found = run()
            rows.append({"method": method, "repeat": repeat, "seconds": clock() - start} | found)
            print(f"  {method}, round {repeat}: {rows[-1]['seconds']:.3f} s", file=sys.stderr)
    return [row for row in rows if row["repeat"] > 0]


def summarised(rows: list[dict], case: str, size: int) -> pd.DataFrame:
    """Medians over repeats; ``ratio`` is to addends' median in the same case."""
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=list(dict.fromkeys([*frame.columns, "run_sd", "version"])))
    found = frame.groupby("method", sort=False).agg(
        seconds=("seconds", "median"),
        smallest=("seconds", "min"),
        largest=("seconds", "max"),
        repeats=("seconds", "size"),
        run_sd=("run_sd", "last"),
        version=("version", "last"),
    )
    found.insert(0, "ratio", found["seconds"] / found.loc["addends", "seconds"])
    return found.reset_index().assign(case=case, rows=size)


def peak() -> float:
    """The largest resident size of this process so far, in megabytes.

    On Linux from the process's own memory map: ru_maxrss would still hold what its parent had when it was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1024**2 if sys.platform == "darwin" else 1024)


def memory(file: Path, formula: str) -> dict[str, float]:
    """Megabytes at the peak of a new process, before the fit (imports and table) and after it."""
    command = [sys.executable, __file__, "--child", str(file), formula]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def child(file: str, formula: str) -> None:
    data = pd.read_parquet(file)
    before = peak()
    by_addends(data, formula)
    print(json.dumps({"megabytes_before": before, "megabytes_peak": peak()}))


def measured(options: argparse.Namespace) -> pd.DataFrame:
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        large_file, csv = Path(folder) / "large.parquet", Path(folder) / "crossed.csv"
        large = table(options.runs, options.large_sentences, options.checkpoints)
        large.to_parquet(large_file)
        size = memory(large_file, LARGE)

        data = table(options.runs, options.sentences)
        data.to_csv(csv, index=False)
        methods = {"addends": lambda: by_addends(data, CROSSED)}
        repeats = {"addends": options.repeats}
        if has_lme4():
            methods["lme4"] = lambda: by_lme4(csv, CROSSED, options.clock)
            repeats["lme4"] = options.repeats
        if options.mixedlm_repeats:
            methods["statsmodels MixedLM, sparse"] = lambda: by_mixedlm(data)
            repeats["statsmodels MixedLM, sparse"] = options.mixedlm_repeats
        crossed = summarised(timed(methods, repeats, clock), f"{options.runs} x {options.sentences}", len(data))

        methods = {
            "addends": lambda: by_addends(large, LARGE),
            "statsmodels OLS": lambda: by_least_squares(large),
        }
        rows = timed(methods, dict.fromkeys(methods, options.repeats), clock)
        big = summarised(rows, f"{options.runs} x {options.large_sentences} x {options.checkpoints}", len(large))
    big.loc[big["method"] == "addends", list(size)] = list(size.values())
    versions = {
        "addends": f"numpy {np.__version__}, scipy {importlib.metadata.version('scipy')}",
        "statsmodels MixedLM, sparse": f"statsmodels {importlib.metadata.version('statsmodels')}",
        "statsmodels OLS": f"statsmodels {importlib.metadata.version('statsmodels')}",
    }
    result = pd.concat([crossed, big], ignore_index=True)
    result["version"] = result["version"].fillna(result["method"].map(versions)).astype("str")
    lead = ["case", "rows", "method"]
    return result[[*lead, *(name for name in result if name not in lead)]].assign(
        clock=options.clock,
        threads=os.environ.get("OMP_NUM_THREADS", "default"),
        processors=os.cpu_count(),
        machine=platform.machine(),
        python=platform.python_version(),
    )


def verdicts(result: pd.DataFrame) -> list[str]:
    """What the figures are to be held against, in words; nothing fails."""
    small, large = (part.set_index("method") for _, part in result.groupby("case", sort=False))
    lines = []
    if "statsmodels MixedLM, sparse" in small.index:
        lines.append(f"MixedLM takes {small.loc['statsmodels MixedLM, sparse', 'ratio']:.0f} times as long (aim: 100)")
    if "lme4" in small.index:
        lines.append(f"lme4 takes {small.loc['lme4', 'ratio']:.2f} times as long (aim: 1 or more)")
    allowed = 3 * large.loc["statsmodels OLS", "seconds"] + 5
    lines.append(
        f"the large fit takes {large.loc['addends', 'seconds']:.2f} s (aim: at most 3 x OLS + 5 s, {allowed:.2f} s)"
    )
    lines.append(f"its process peaks at {large.loc['addends', 'megabytes_peak']:.0f} MB (aim: under 1000)")
    return lines


def main() -> None:
    """Parse the command line, measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mixedlm-repeats", type=int, default=1, help="0 leaves statsmodels' MixedLM out")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--sentences", type=int, default=1_000)
    parser.add_argument("--large-sentences", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "process"), default="wall")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("FILE", "FORMULA"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    if options.repeats < 2 or options.checkpoints < 2:
        parser.error("--repeats and --checkpoints must be 2 or more")
    result = measured(options)
    print(result.round(3).to_string(index=False))
    print(*verdicts(result), sep="\n")
    if options.output:
        print(f"Written: {write_parquet(result, options.output / 'mixed.parquet')}")


if __name__ == "__main__":
    main()
