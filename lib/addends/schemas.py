"""The tidy tables: what a row of each is, what columns it has, what they mean, and what they may hold.

This is the one place where the meaning of a column stands: the book's page of the data, and whoever asks a schema
(``SCHEMAS["measurements"].columns["importance"].description``), read it here. `addends.validation` checks frames
against the schemas, `addends.tables` reads and writes them.

A number is finite or explicitly missing, never infinite: the cosine of a zero vector is missing, and not 0.
"""

from __future__ import annotations

import copy

import numpy as np
import pandera.pandas as pa

from addends.checks import check_choice

INDICATORS = ("importance", "cosine", "norm_ratio", "distance")
TARGETS = ("own", "reference")
METHODS = ("sublayer", "token")
METRICS = ("bleu", "chrf", "comet")
EFFECTS = ("direct", "total")
REPLACEMENTS = ("zero", "mean", "pooled", "sentence")
SETS = ("held_out", "further")
ROWS = ("all", "within types", "permuted")
MAPS = ("own", "none", "random", "rotation", "affine", "trained")
PLACES = ("encoder", "layer")
STARTS = ("run", "untrained")
KINDS = ("attribution", "floor", "removal")
YARDSTICKS = ("mask", "embedding")
SENSES = ("size", "signed")
LINEAGES = ("chain", "hashes", "none")

_finite = pa.Check(lambda values: np.isfinite(values.astype("float64")), name="finite", error="is infinite")


def _text(meaning: str, *allowed: str) -> pa.Column:
    return pa.Column(str, pa.Check.isin(allowed) if allowed else None, coerce=True, description=meaning)


def _digest(meaning: str, nullable: bool = True) -> pa.Column:
    return pa.Column(str, nullable=nullable, coerce=True, description=meaning)


def _count(meaning: str, unit: str = "", nullable: bool = False) -> pa.Column:
    dtype = "Int64" if nullable else "int64"
    about = {"unit": unit}
    return pa.Column(dtype, pa.Check.ge(0), nullable=nullable, coerce=True, description=meaning, metadata=about)


def _flag(meaning: str) -> pa.Column:
    return pa.Column("bool", coerce=True, description=meaning)


def _number(meaning: str, unit: str = "", required: bool = True) -> pa.Column:
    about = {"unit": unit}
    return pa.Column(
        "float32", _finite, nullable=True, coerce=True, required=required, description=meaning, metadata=about
    )


def _schema(row: str, key: str, columns: dict[str, pa.Column]) -> pa.DataFrameSchema:
    """A table: what a row of it is, the columns whose values name one, and all columns."""
    own = {name: copy.deepcopy(column) for name, column in columns.items()}
    return pa.DataFrameSchema(own, unique=key.split(), strict=True, ordered=False, description=row)


_run = _text("the training run, by its name")
_step = _count("the training step at which the weights were kept", "steps")
_sentence = _text("the sentence, by its id: the file it is from, and its line")
_target = _text("which target the decoder was fed: the model's own translation or the reference", *TARGETS)
_layer = _count("the layer; 0 is what the first one reads")
_by = _text("the method of the decomposition", *METHODS)
_term = _text("the part: I, S, T, F or C by sublayer; S, T or C by token")
_tokens = _count("how many target tokens the numbers are means over, the end included", "tokens", nullable=True)
_indicators = {
    "importance": _number("<x, e> / |e|^2 of the part x in the state e: shares that sum to 1 over the terms"),
    "cosine": _number("the cosine of part and state; missing where the part is zero"),
    "norm_ratio": _number("|x| / |e|: the length of the part beside that of the state"),
    "distance": _number("|x - e|: how far the part is from the state", "units of the state"),
}
_bleu, _chrf = "BLEU of the {}, as sacreBLEU computes it", "chrF of the {}, as sacreBLEU computes it"
_nll = "negative log-likelihood of the reference"
_nats = "nats per target token"
_translations = {
    "run": _run,
    "checkpoint": _step,
    "sentence": _sentence,
    "chrf": _number(_chrf.format("sentence's translation"), "0 to 100"),
    "bleu": _number(_bleu.format("sentence's translation"), "0 to 100"),
    "nll": _number(_nll, _nats),
    "tokens": _count("the length of the model's own translation, its end included", "tokens", nullable=True),
    "comet": _number("COMET of the sentence's translation, where it was computed", required=False),
}
_placed = _count("the layer whose sublayer is replaced; missing where those of all layers are", nullable=True)
_effect = _text("direct: a part of the last state is replaced; total: what a sublayer writes is, in the pass", *EFFECTS)
_replace = _text(
    "by what: zero, or a mean over tokens at the same place, over all, or of another sentence", *REPLACEMENTS
)

SCHEMAS: dict[str, pa.DataFrameSchema] = {
    "runs": _schema(
        "one training run",
        "run",
        {
            "run": _run,
            "suite": _text("the suite that the run belongs to"),
            "block": _text("what the run is for: the part of the suite that asks one question"),
            "condition": _text("what all runs of a kind have in common: languages and number of pairs"),
            "pairs": _count("how many sentence pairs it was trained on", "pairs", nullable=True),
            "init_seed": _count("the seed of its initial weights", nullable=True),
            "order_seed": _count("the seed of the order of its training pairs", nullable=True),
            "dropout_seed": _count("the seed of its dropout masks", nullable=True),
            "languages": _text("the source languages, joined by +"),
            "layers": _count("how many layers the decoder has", "layers"),
            "dim": _count("the size of a state", "dimensions", nullable=True),
            "parameters": _count("how many weights the model has", "weights", nullable=True),
            "steps": _count("how many updates of the weights it was trained for", "steps"),
            "lineage": _text(
                "what proves where its weights come from: a chain of records from step 0 on, hashes alone, or none",
                *LINEAGES,
            ),
        },
    ),
    "quality": _schema(
        "one score of a run at a checkpoint, over a set of sentences",
        "run checkpoint set metric",
        {
            "run": _run,
            "checkpoint": _step,
            "set": _text("held_out: what everything is measured on; further: sentences for quality alone", *SETS),
            "metric": _text("which score", *METRICS, "nll"),
            "score": _number("its value over the whole set", "0 to 100; nll: nats per target token"),
        },
    ),
    "sentences": _schema(
        "one sentence of the evaluation sample",
        "sentence",
        {
            "sentence": _sentence,
            "language": _text("the language of its source side"),
            "source_tokens": _count("its length in the source", "tokens", nullable=True),
            "target_tokens": _count("the length of its reference", "tokens", nullable=True),
        },
    ),
    "translations": _schema(
        "how well a run translates a sentence at a checkpoint", "run checkpoint sentence", _translations
    ),
    "further": _schema(
        "the same as in translations, of the further sentences", "run checkpoint sentence", _translations
    ),
    "measurements": _schema(
        "what a term contributes to a sentence's states after a layer: means over the sentence's target tokens",
        "run checkpoint target sentence layer by term",
        {
            "run": _run,
            "checkpoint": _step,
            "target": _target,
            "sentence": _sentence,
            "layer": _layer,
            "by": _by,
            "term": _term,
            **_indicators,
            "tokens": _tokens,
        },
    ),
    "trajectories": _schema(
        "what a term contributes after a layer at one of many checkpoints: means over all sentences",
        "run checkpoint target layer by term",
        {
            "run": _run,
            "checkpoint": _step,
            "target": _target,
            "layer": _layer,
            "by": _by,
            "term": _term,
            **_indicators,
        },
    ),
    "training": _schema(
        "one entry of a run's training log",
        "run step",
        {
            "run": _run,
            "step": _count("the training step", "steps"),
            "loss": _number("the training loss, label smoothing included, as a mean since the entry before", _nats),
            "gradient_norm": _number("the length of the gradient at this step, before it is clipped"),
            "learning_rate": _number("the learning rate at this step"),
        },
    ),
    "manifest": _schema(
        "the record that proves where a checkpoint comes from",
        "run checkpoint",
        {
            "run": _run,
            "checkpoint": _step,
            "weights": _digest("SHA-256 of the file of weights", nullable=False),
            "optimizer": _digest("SHA-256 of the optimizer's state"),
            "scheduler": _digest("SHA-256 of the learning rate's schedule"),
            "generators": _digest("SHA-256 of the states of the random generators"),
            "batches": _digest("SHA-256 over the ids of all training pairs so far, in their order"),
            "previous": _digest("SHA-256 of the record before; empty at step 0"),
            "configuration": _digest("SHA-256 of recipe, seeds, pairs and vocabulary"),
            "model": _digest("SHA-256 of the model's config.json"),
            "tokenizer": _digest("SHA-256 of the vocabulary's pieces, in their order"),
            "processor": _digest("the processor that it was trained on"),
            "instructions": _digest("which of the processor's instructions torch used"),
            "threads": _count("threads inside an operation", "threads", nullable=True),
            "interop_threads": _count("threads between operations", "threads", nullable=True),
            "torch": _digest("the version of torch"),
            "transformers": _digest("the version of transformers"),
        },
    ),
    "token_agreement": _schema(
        "how well one number of a part tells, over tokens, what the part's replacement costs",
        "run effect replace by layer term said",
        {
            "run": _run,
            "effect": _effect,
            "replace": _replace,
            "by": _by,
            "layer": _placed,
            "term": _term,
            "said": _text(
                "what is said of the part: its share of the label's logit, or an indicator", "share", *INDICATORS
            ),
            "rho": _number("Spearman's correlation over tokens with the loss of log-probability"),
            "permuted": _number("its control: what is said is permuted over tokens of like frequency and place"),
            "tokens": _count("over how many tokens", "tokens"),
        },
    ),
    "attributions": _schema(
        "how well a method tells what single source tokens do",
        "run method yardstick sense special_tokens",
        {
            "run": _run,
            "method": _text("what gives each source token a value: parts, attention, gradients, floors, removals"),
            "kind": _text(
                "attribution; floor, which knows nothing of the model; or removal, itself an intervention", *KINDS
            ),
            "yardstick": _text(
                "how a source token is taken away: masked, or its embedding replaced by a mean", *YARDSTICKS
            ),
            "sense": _text("whether sizes are compared, or signed values", *SENSES),
            "special_tokens": _flag("whether special source tokens, such as the end, are among those ranked"),
            "agreement": _number("Spearman's correlation over a row's source tokens: the mean over rows and sentences"),
            "permuted": _number("its control: the method's values are those of another row of the sentence"),
            "rows": _count("over how many rows (target tokens)", "rows"),
            "sentences": _count("over how many sentences", "sentences"),
        },
    ),
    "run_pairs": _schema(
        "how alike the spaces of two runs are, in a layer, for a part or the whole state",
        "a b checkpoint b_checkpoint layer by term rows",
        {
            "a": _text("the one run"),
            "b": _text("the other; the same run stands beside its own checkpoint before, as a floor"),
            "checkpoint": _count("the step of the one", "steps"),
            "b_checkpoint": _count("the step of the other", "steps"),
            "layer": _layer,
            "by": _text("the method; state for the sum of all parts", *METHODS, "state"),
            "term": _text("the part; state for the sum of all of them"),
            "rows": _text("as they are, after each target type's mean is taken off, or permuted within types", *ROWS),
            "tokens": _count("how many rows (target tokens) are compared", "tokens"),
            "cka": _number(
                "debiased centred kernel alignment: 1 for spaces that differ by a rotation, shift and scale"
            ),
            "cka_se": _number("its standard error over groups of sentences"),
            "procrustes": _number("what is left after the best rotation, both sets of one size: 0 for the same space"),
            "procrustes_se": _number("its standard error over groups of sentences"),
            **{
                name: _number(f"rank agreement of the two runs over tokens in the part's {name.replace('_', ' ')}")
                for name in INDICATORS
            },
            "kl": _number("mean divergence of what the two expect next, in both directions", "nats"),
            "kl_se": _number("its standard error over sentences", "nats"),
        },
    ),
    "stitches": _schema(
        "how well one run's decoder reads another's encoder, or its later layers another's state, through a map",
        "encoder decoder place layer map start",
        {
            "encoder": _text("the run that writes what is read"),
            "decoder": _text("the run that reads it"),
            "place": _text("where they are joined: at the encoder's states, or after a layer of the decoder", *PLACES),
            "layer": _count("after which layer of the decoder; missing at the encoder", nullable=True),
            "map": _text("what carries the one's states into the other's space", *MAPS),
            "start": _text("which weights the encoder that is read has: those of the run, or untrained ones", *STARTS),
            "bleu": _number(_bleu.format("corpus"), "0 to 100"),
            "chrf": _number(_chrf.format("corpus"), "0 to 100"),
            "nll": _number(_nll, _nats),
            "explained": _number("the share of the other's variance that the map explains on sentences held out"),
            "penalty": _number("the ridge's penalty, where the map has one"),
        },
    ),
    "interventions": _schema(
        "what a sentence's reference loses when a part is replaced: means over its target tokens",
        "run sentence effect replace by layer term",
        {
            "run": _run,
            "sentence": _sentence,
            "effect": _effect,
            "replace": _replace,
            "by": _by,
            "layer": _placed,
            "term": _term,
            "logprob": _number("the change of the label's log-probability, after minus before", "nats"),
            "logit": _number("the change of the label's logit, after minus before", "nats"),
            "share": _number("the part's share of the label's logit before it is replaced", "nats"),
            **{name: _indicators[name] for name in ("importance", "cosine", "norm_ratio")},
            "tokens": _tokens,
        },
    ),
}


def key(table: str) -> list[str]:
    """The columns whose values name one row of ``table``.

    Raises
    ------
    InputError
        If there is no such table.
    """
    return list(schema_of(table).unique)


def schema_of(table: str) -> pa.DataFrameSchema:
    """The schema of ``table``; InputError if there is no such table."""
    check_choice("table", table, tuple(SCHEMAS))
    return SCHEMAS[table]
