"""The pre-flight check: can this model be decomposed, how exactly, and at what cost?

Whether a model is supported is decided on its own weights, in float64, and not by its name: by the proofs of
`addends.decomposition.proofs`, and by its sums,

    error = max_t ||sum_k x_k - e|| / ||e||   <=   limit = bound(dtype) * max(1, sum_k ||x_k|| / ||e||)

with the bounds of `addends.decomposition.exactness`. In the type that the model is in, the same error says how far
rounding goes there.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends.decomposition.ambient import check_model, undisturbed
from addends.decomposition.architecture import Architecture
from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import Batch, inputs_of, positions
from addends.decomposition.by_token import terms_of as terms_by_token
from addends.decomposition.capture import capture
from addends.decomposition.exactness import BOUNDS, cancellation, check_sum, relative_gap
from addends.decomposition.parts import stream
from addends.decomposition.record import AttentionSublayer, Capture
from addends.decomposition.translation import encode_or_translate
from addends.errors import AddendsError, UnsupportedModelError
from addends.tables import METHODS

LARGEST_COPY = 4 * 2**30  # bytes: a model whose copy in float64 is larger is copied only when asked for
REPEATS = 3


def preflight(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    translation: Mapping | None = None,
    float64: bool | None = None,
) -> pd.DataFrame:
    """Try everything on a few sentences, and say in a table what works, how exactly, and what it costs.

    What fails is a row with the reason and what to do, never an error.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them. The model is left as it is.
    sources, targets : sequence of str
        A few sentences, as for `encode`; without targets, an encoder-decoder translates.
    translation : mapping, optional
        Options for `translate`, such as those that `set_languages` returns.
    float64 : bool, optional
        Whether to decide on a copy of the model in float64 (on the CPU). By default where it takes at most 4 GiB.

    Returns
    -------
    DataFrame
        One row a check: check, result (to be read), passed (missing where there is nothing to pass), detail (the reason
        of a failure and what to do), value and limit (the numbers behind the result, missing where there are none:
        relative errors, counts, seconds, MiB).
    """
    try:
        check_model(model)
    except AddendsError as error:
        failed = _failed("forward pass", error)
        return _table([_unsupported(failed), failed])
    size = _row("parameters", _count(model), detail=_where(model), value=sum(p.numel() for p in model.parameters()))
    try:
        row = architecture_of(model.config)
    except AddendsError as error:
        failed = _failed("family", error)
        return _table([_unsupported(failed), failed, size])
    rows = [_family(row), size]
    try:
        batch = encode_or_translate(model, tokenizer, sources, targets, **(translation or {}))
    except Exception as error:  # whatever it is, by a tokenizer or a model of any making: the reader is to see it
        failed = _failed("sentences", error)
        return _table([_unsupported(failed), *rows, failed])
    rows.append(_sentences(model, batch))
    try:
        record = capture(model, batch)
    except Exception as error:
        failed = _failed("forward pass", error)
        return _table([_unsupported(failed), *rows, failed])
    rows += _shape(record)
    own = [_exact(model, batch, by) for by in METHODS]
    wide = [] if model.dtype == torch.float64 else _in_float64(model, batch, float64)
    verdict = _verdict(row, own, wide)
    return _table([verdict, *rows, *own, *wide, *_seconds(model, batch, record.row), *_memory(record, batch)])


def require_supported(checks: pd.DataFrame) -> None:
    """Refuse a model that `preflight` does not support, in the words of the row that failed.

    Raises
    ------
    UnsupportedModelError
    """
    verdict = checks.iloc[0]
    if verdict["passed"]:
        return
    failed = checks[checks["passed"].eq(False) & checks["check"].ne(verdict["check"])].iloc[0]
    raise UnsupportedModelError(f"The pre-flight check says no: {failed['check']}: {failed['detail']}")


def _row(
    check: str,
    result: str,
    passed: bool | None = None,
    detail: str = "",
    value: float | None = None,
    limit: float | None = None,
) -> dict:
    return {"check": check, "result": result, "passed": passed, "detail": detail, "value": value, "limit": limit}


def _table(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.astype({"passed": "boolean", "value": float, "limit": float})


def _failed(check: str, error: Exception, result: str = "no") -> dict:
    if isinstance(error, AddendsError):
        return _row(check, result, False, str(error))
    first = (str(error).splitlines() or ["no message"])[0].rstrip(".")
    return _row(
        check,
        result,
        False,
        f"{type(error).__name__}: {first}. Does the model run on these sentences without addends? If so, its row of "
        "the architectures table does not describe it, or addends does not foresee what it does.",
    )


def _unsupported(failed: dict) -> dict:
    return _row("supported", "no", False, f"See the row {failed['check']!r}.")


def _verdict(row: Architecture, own: list[dict], wide: list[dict]) -> dict:
    """The first row: supported or not. Float64 decides where it was tried, else the type that the model is in."""
    tried = [each for each in wide if each["passed"] is not None]
    decisive = tried or own
    for each in decisive:
        if not each["passed"]:
            return _unsupported(each)
    decided = decisive[0]["check"].rpartition(", ")[2]
    detail = f"Row {row.model_type!r}: the parts sum to the states on the model's own weights, decided in {decided}."
    refused = [each["check"] for each in own if not each["passed"]]
    if refused:
        detail += f" In its own type `decompose` refuses it: see the row {refused[0]!r}."
    return _row("supported", "yes", True, detail)


def _family(row: Architecture) -> dict:
    what = "decoder-only" if row.kind == "decoder" else row.kind
    terms = f"terms {', '.join(row.terms)} by sublayer, {'S, T, C' if row.encoder else 'T, C'} by token"
    return _row(
        "family",
        f"{row.model_type}, {what}",
        True,
        f"{terms}; {row.stack.norm}-norm. Row {row.model_type!r} of the table.",
    )


def _sentences(model: PreTrainedModel, batch: Batch) -> dict:
    longest = max(batch.input_ids.shape[1], batch.mask.shape[1])
    limit = positions(model)
    room = "no limit on length" if limit is None else f"the model has {limit} positions"
    return _row("sentences", str(len(batch)), True, f"at most {longest} tokens; {room}", longest, limit)


def _shape(record: Capture) -> list[dict]:
    main = record.main
    dim = main.states[0].shape[-1]
    attentions = [sublayer for sublayer in main.layers[0] if isinstance(sublayer, AttentionSublayer)]
    heads = attentions[0].heads if attentions else 0
    decomposed = "of the decoder" if record.row.kind == "encoder-decoder" else "of the stack"
    numbers = (
        ("layers", len(main.layers), decomposed),
        ("dim", dim, "of a state"),
        ("heads", heads, "of an attention"),
    )
    return [_row(name, str(number), detail=detail, value=number) for name, number, detail in numbers]


def _exact(model: PreTrainedModel, batch: Batch, by: str) -> dict:
    """The check of `decompose`, with its numbers: the largest error, and the limit of the token that has it."""
    check = f"exact by {by}, {str(model.dtype).removeprefix('torch.')}"
    bound, error, ratio = BOUNDS.get(model.dtype, float("nan")), 0.0, 1.0
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            for number, (vectors, state) in enumerate(stream(model, batch, by, check=False)[1]):
                gap = relative_gap(vectors, state)[batch.mask]  # (token,)
                worst = int(gap.nan_to_num(torch.inf).argmax())
                if not float(gap[worst]) <= error:
                    error = float(gap[worst])
                    ratio = max(1.0, float(cancellation(vectors, state)[batch.mask][worst]))
                check_sum(vectors, state, batch.mask, number, model)
        except Exception as failure:
            return {**_failed(check, failure), "value": error or None, "limit": bound * ratio}
    said = [str(warning.message) for warning in warned if "parts sum to the states" in str(warning.message)]
    detail = f"limit {bound:.0e} x {ratio:.1f}, which is max(1, sum |x_k| / |e|)"
    return _row(check, f"error {error:.1e}", True, said[-1] if said else detail, error, bound * ratio)


def _in_float64(model: PreTrainedModel, batch: Batch, wanted: bool | None) -> list[dict]:
    """Both methods on a copy of the model in float64; rows that say so where none was made."""
    checks = [f"exact by {by}, float64" for by in METHODS]
    needed = 8 * sum(p.numel() for p in model.parameters())
    if wanted is False or (wanted is None and needed > LARGEST_COPY):
        why = (
            f"A copy in float64 takes {needed / 2**30:.1f} GiB: pass float64=True to make it. Until then the type that "
            "the model is in decides, and small faults of a row can hide in its rounding."
        )
        return [_row(check, "not tried", detail=why) for check in checks]
    try:
        with undisturbed(model.base_model):  # no thread's hooks are to be copied
            twin: Any = copy.deepcopy(model)
        twin = twin.to("cpu", torch.float64)
    except Exception as error:
        return [{**_failed(check, error, "not tried"), "passed": None} for check in checks]
    return [_exact(twin, batch.to("cpu"), by) for by in METHODS]


def _seconds(model: PreTrainedModel, batch: Batch, row: Architecture) -> list[dict]:
    """Medians of a few passes over these sentences, after the first ones."""
    inputs = inputs_of(row, model, batch)

    def forward() -> None:
        with torch.no_grad():
            model.base_model(**inputs)

    plain = _median(forward, model.device)
    rows = [
        _row("seconds, forward pass", f"{plain:.3f}", detail="the model alone, without its output head", value=plain)
    ]
    for by in METHODS:
        check = f"seconds, by {by}"
        try:
            taken = _median(lambda by=by: deque(stream(model, batch, by, check=False)[1], maxlen=0), model.device)
        except Exception as error:
            rows.append(_failed(check, error, "not timed"))
            continue
        rows.append(_row(check, f"{taken:.3f}", detail=f"{taken / plain:.1f} x the forward pass", value=taken))
    return rows


def _median(work: Callable, device: torch.device) -> float:
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        if device.type != "cpu":  # work on an accelerator is queued: wait for it
            torch.accelerator.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _memory(record: Capture, batch: Batch) -> list[dict]:
    """What the parts of all layers take while `decompose` puts them together: each layer's, copied, and all stacked."""
    state = record.main.states[0]
    one, layers = state.nbytes / 2**20, len(record.main.states)  # MiB of one term of one layer
    cases = {
        "by sublayer": len(record.row.terms),
        "by token": len(terms_by_token(record)),
        "by token, each": len(terms_by_token(record, "each")),
    }
    rows = []
    for name, terms in cases.items():
        shape = f"layer {layers}, term {terms}, sentence {len(batch)}, position {state.shape[1]}, dim {state.shape[2]}"
        peak = one * terms * (2 * layers + 1)
        rows.append(
            _row(
                f"MiB, parts {name}",
                f"{peak:.1f}",
                detail=f"{one * terms * layers:.1f} once made ({shape}); `measure` holds {one * terms:.1f}",
                value=peak,
            )
        )
    return rows


def _count(model: PreTrainedModel) -> str:
    number = sum(p.numel() for p in model.parameters())
    for size, name in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return str(number)


def _where(model: PreTrainedModel) -> str:
    stored = sum(p.nbytes for p in model.parameters()) / 2**20
    return f"{str(model.dtype).removeprefix('torch.')} on {model.device}, {stored:.1f} MiB"
