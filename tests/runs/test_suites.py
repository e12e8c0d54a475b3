"""The suites: those that are shipped are what they were, and a file in which something is wrong is refused by line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import re
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from addends.errors import DataError, InputError
from addends.runs import SUITES, Block, Condition, Run, Seeds, read_suite, sentences, training, workfolder
from addends.runs.corpora import normal_form
from addends.runs.suite import MadeUpCorpus, Sample, Vocabulary
from addends.runs.suite_file import FOLDER
from addends.runs.toy import corpus as toy

ROOT = Path(__file__).parents[2]
# What the two suites were when their tables were made: names, steps, and digests of everything that weights come from.
AS_PUBLISHED = json.loads((Path(__file__).parent / "suites_as_published.json").read_text())
TOY, EUROPEAN, FACTORIAL = read_suite("toy"), read_suite("european"), read_suite("toy_factorial")
BLOCK = TOY.blocks[0]
ALL = pytest.mark.parametrize("suite", [TOY, EUROPEAN, FACTORIAL], ids=lambda suite: suite.name)
PUBLISHED = pytest.mark.parametrize("suite", [TOY, EUROPEAN], ids=lambda suite: suite.name)


# --- what is shipped ---


@PUBLISHED
def test_blocks_runs_and_steps_are_those_that_were_published(suite):
    then = AS_PUBLISHED[suite.name]
    now = [
        {
            "name": block.name,
            "sentence_checkpoints": list(block.sentence_checkpoints),
            "own_checkpoints": list(block.own_checkpoints),
            "runs": [run.name for run in block.runs],
        }
        for block in suite.blocks
    ]
    assert now == then["blocks"]
    for name in ("keep_states", "further_checkpoints"):
        assert list(getattr(suite, name)) == then[name]


@PUBLISHED
def test_the_record_of_every_run_is_that_which_was_published(suite):
    then, nothing = AS_PUBLISHED[suite.name], SimpleNamespace(get_vocab=dict)
    for run in suite.runs:
        pairs, digest = then["pairs"][run.name]
        record = workfolder.training_record(suite, run, pd.DataFrame(columns=["sentence", "source", "target"]), nothing)
        record |= {"pairs": pairs, "pairs_sha256": digest, "vocabulary_sha256": then["vocabulary_sha256"]}
        text = json.dumps(record, sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest() == then["records_sha256"][run.name], run.name


@PUBLISHED
def test_the_rows_of_the_tables_are_what_the_suite_says(suite):
    files = sorted((ROOT / "data" / suite.name / "runs").glob("*.parquet"))
    assert len(files) >= 3
    for file in files:
        (row,) = pd.read_parquet(file).to_dict("records")
        said = workfolder.description(suite, suite.run(file.stem))
        assert {name: row[name] for name in said} == said


def test_the_toy_suite_reads_the_sentences_and_the_vocabulary_that_were_published(tmp_path):
    then, run = AS_PUBLISHED["toy"], TOY.runs[1]
    record = workfolder.training_record(
        TOY, run, sentences.training_pairs(TOY, run), sentences.tokenizer(TOY, tmp_path / "vocabulary")
    )
    assert [record["pairs"], record["pairs_sha256"]] == then["pairs"][run.name]
    assert record["vocabulary_sha256"] == then["vocabulary_sha256"]
    assert workfolder.measuring_record(TOY) == then["measuring"]


@pytest.mark.slow
def test_the_european_suite_reads_the_sentences_that_were_published(data_folder):
    then = AS_PUBLISHED["european"]
    assert workfolder.measuring_record(EUROPEAN) == then["measuring"]
    for name in ("fra-10000-i31-o31", "fra-i23-o21", "fra+deu+pol+bul+cmn-i51-o51"):
        pairs = sentences.training_pairs(EUROPEAN, EUROPEAN.run(name))
        assert [len(pairs), workfolder.sentences_sha256(pairs)] == then["pairs"][name]


def test_the_suites_that_are_shipped_are_read_by_name_and_by_path():
    assert SUITES == ("european", "toy", "toy_factorial")
    for name in SUITES:
        assert read_suite(name) == read_suite(FOLDER / f"{name}.yaml") == read_suite(str(FOLDER / f"{name}.yaml"))
        assert read_suite(name).name == name


@ALL
def test_names_give_seeds(suite):
    assert len(suite.runs) >= 3
    for run in suite.runs:
        masks = f"-d{run.seeds.dropout}" if run.seeds.dropout != run.seeds.order else ""
        assert run.name == f"{run.condition.name}-i{run.seeds.init}-o{run.seeds.order}{masks}"


@PUBLISHED
def test_independent_runs_share_no_seed(suite):
    for seed in ("init", "order", "dropout"):
        runs = next(block.runs for block in suite.blocks if block.name == "independent")
        assert len({getattr(run.seeds, seed) for run in runs}) == len(runs)


@ALL
def test_sentences_are_measured_at_the_end_and_at_neighbours_of_the_end(suite):
    last = suite.recipe.steps
    for block in suite.blocks:
        assert set(block.sentence_checkpoints) <= set(suite.recipe.checkpoints)
        assert block.sentence_checkpoints[-1] == block.own_checkpoints[-1] == last
        assert block.sentence_checkpoints[-2] >= 0.9 * last
        assert block.sentence_checkpoints[0] <= 0.35 * last or suite == FACTORIAL


@ALL
def test_models_are_small(suite, tokenizer):
    model = training.new_model(suite.recipe, tokenizer, 1)
    fixed = model.model.shared.weight.numel()
    parameters = model.num_parameters(only_trainable=True) - fixed + suite.vocabulary.pieces * suite.recipe.dim
    assert parameters < (10_000_000 / 4 if suite == EUROPEAN else 1_000_000)  # shipped: under 10 MB of float32


@ALL
def test_a_suite_can_be_sent_to_another_process_and_hashed(suite):
    again = pickle.loads(pickle.dumps(suite))
    assert again == suite
    assert hash(again) == hash(suite)


def test_the_toy_suite_has_three_runs_of_four_checkpoints():
    assert len(TOY.runs) == 3
    assert len(TOY.recipe.checkpoints) == 4
    assert TOY.blocks[0].sentence_checkpoints == TOY.recipe.checkpoints


def test_the_european_suite_has_about_forty_checkpoints_three_of_them_at_the_end():
    recipe, steps = EUROPEAN.recipe, EUROPEAN.blocks[-1].sentence_checkpoints
    assert 36 <= len(recipe.checkpoints) <= 44
    assert recipe.checkpoints[-3:] == tuple(round(share * recipe.steps) for share in (0.95, 0.975, 1))
    assert len(steps) == 5
    assert steps[-3:] == recipe.checkpoints[-3:]


def test_the_european_blocks_ask_what_they_are_for():
    blocks = {block.name: block.runs for block in EUROPEAN.blocks}
    assert list(blocks) == ["factorial", "sizes", "languages", "independent"]
    crossing, masks = blocks["factorial"][:16], blocks["factorial"][16:]
    assert {(run.seeds.init, run.seeds.order) for run in crossing} == set(product(range(21, 25), repeat=2))
    assert all(run.seeds.order == run.seeds.dropout for run in crossing)
    assert [run.name for run in masks] == [f"fra-i{seed}-o{seed}-d{100 + seed}" for seed in range(21, 25)]
    sizes = pd.DataFrame([(run.seeds.init, run.condition.pairs or 0) for run in blocks["sizes"]])
    assert set(sizes.itertuples(index=False, name=None)) == set(product(range(31, 35), (10_000, 40_000, 0)))
    languages = [(len(run.condition.languages), run.seeds.init) for run in blocks["languages"]]
    assert languages == [*((4, seed) for seed in range(41, 46)), *((5, seed) for seed in range(51, 56))]
    assert [run.seeds.init for run in blocks["independent"]] == list(range(1, 21))


def test_the_toy_factorial_crosses_five_starts_with_five_courses_and_has_a_floor():
    (block,) = FACTORIAL.blocks
    crossing, masks = block.runs[:25], block.runs[25:]
    assert {(run.seeds.init, run.seeds.order) for run in crossing} == set(product(range(1, 6), repeat=2))
    assert all(run.seeds.order == run.seeds.dropout for run in crossing)
    assert [dataclasses.astuple(run.seeds) for run in masks] == [(seed, seed, 100 + seed) for seed in range(1, 6)]
    assert FACTORIAL.recipe == TOY.recipe
    assert (block.sentence_checkpoints, block.own_checkpoints) == ((950, 1000), (1000,))


def test_further_made_up_sentences_share_no_side_with_anything_else(monkeypatch):
    split = toy.split

    def repeats(language: str, train: int, *rest):
        """Events of which some recur, which is rare among so few: later ones say what a training pair says."""
        pairs, held_out = split(language, train, *rest)
        if train > 300:
            pairs.loc[310:330, "target"] = [f"{target} !" for target in pairs.loc[10:30, "target"]]
            pairs.loc[340:350, "source"] = pairs.loc[360, "source"]
        return pairs, held_out

    monkeypatch.setattr(toy, "split", repeats)
    suite = dataclasses.replace(FACTORIAL, corpus=MadeUpCorpus(("ora", "ore"), 300, 6), further=Sample("ora", 200))
    further = sentences.further(suite)
    assert len(further) == 200
    run = Run("both", Condition(("ora", "ore")), Seeds(1, 1, 1))
    others = pd.concat([sentences.training_pairs(suite, run), sentences.held_out(suite)])
    for side in ("source", "target"):
        assert further[side].is_unique
        assert not set(further[side].map(normal_form)) & set(others[side].map(normal_form))
    pd.testing.assert_frame_equal(
        sentences.held_out(suite), sentences.held_out(dataclasses.replace(suite, further=None))
    )


# --- a suite of one's own ---

CHECKPOINTS = "\ncheckpoints: [60, 250, 950, 1000]"


def changed(tmp_path: Path, *changes: tuple[str, str], name: str = "toy", file: str = "my.yaml") -> Path:
    """A copy of a shipped file in which pieces of text are replaced."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / file
    path.write_text(text, encoding="utf-8")
    return path


def line_of(path: Path, text: str) -> int:
    return next(n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1) if text in line)


def test_a_copy_is_the_same_suite_under_the_name_of_its_file(tmp_path):
    assert read_suite(changed(tmp_path)) == dataclasses.replace(TOY, name="my")
    named = changed(tmp_path, ("corpus:\n", "name: mine\ncorpus:\n"), file="étude à moi.yaml")
    assert read_suite(named).name == "mine"


def test_a_corpus_on_disk_is_found_absolute_beside_the_file_and_in_the_data_folder(tmp_path, monkeypatch):
    folder = tmp_path / "mes données"
    folder.mkdir()
    rows = [(f"phrase numéro {n}", f"sentence number {n}") for n in range(60)]
    (folder / "fra.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in rows[:40]))
    (folder / "test.fr").write_text("".join(f"{source}\n" for source, _ in rows[30:]))
    (folder / "test.en").write_text("".join(f"{target}\n" for _, target in rows[30:]))
    section = """corpus:
  kind: files
  train: {{fra: {}}}
held_out: {{language: fra, file: {{source: {}/test.fr, target: {}/test.en}}, sentences: 5, seed: 1}}
further: {{file: {{source: {}/test.fr, target: {}/test.en}}, sentences: 12, seed: 2, checkpoints: [1000]}}
"""
    text = (
        (FOLDER / "toy.yaml")
        .read_text(encoding="utf-8")
        .replace("languages: [ora]\n        seeds", "languages: [fra]\n        seeds")
    )
    start, end = text.index("corpus:"), text.index("vocabulary:")
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path))
    frames = []
    for place in (str(folder), "mes données", "$ADDENDS_DATA/mes données"):
        told = section.format(f"{place}/fra.tsv", *[place] * 4)
        (tmp_path / "my.yaml").write_text(text[:start] + told + text[end:], encoding="utf-8")
        suite = read_suite(tmp_path / "my.yaml")
        run = suite.runs[0]
        assert run.name == "fra-i1-o1"
        frames.append((sentences.held_out(suite), sentences.further(suite), sentences.training_pairs(suite, run)))
    held_out, further, pairs = frames[0]
    assert (len(held_out), len(further)) == (5, 12)
    assert set(held_out["source"]) <= {source for source, _ in rows[30:]}
    assert set(further["source"]) <= {source for source, _ in rows[40:]} - set(held_out["source"])
    assert set(pairs["source"]) == {source for source, _ in rows[:40]} - set(held_out["source"])
    for again in frames[1:]:
        for one, other in zip(frames[0], again, strict=True):
            pd.testing.assert_frame_equal(one, other)


def test_a_corpus_that_was_changed_is_read_anew(tmp_path):
    suite = read_suite("european")
    file = tmp_path / "x.tsv"
    sample = dataclasses.replace(
        suite.held_out, file=dataclasses.replace(suite.held_out.file, source=str(file)), sentences=2
    )
    suite = dataclasses.replace(suite, held_out=sample)
    file.write_text("un\tone\ndeux\ttwo\n")
    assert sentences.held_out(suite)["source"].tolist() == ["un", "deux"]
    file.write_text("trois\tthree\nquatre\tfour\n")
    assert sentences.held_out(suite)["source"].tolist() == ["trois", "quatre"]


RUNS = "      - languages: [ora]\n        seeds: [1, 2, 3] "
WRONG = {
    "unknown key": ("own_tokens: 48", "own_token: 48", "own_token", "no such key is known. Allowed here: name, corpus"),
    "unknown key inside": (
        "  heads: 4",
        "  head: 4",
        "recipe.head",
        "no such key .*layers, dim, heads.*Did you mean 'heads'",
    ),
    "unknown key of a kind": (
        "  pairs: 20000",
        "  pair: 20000",
        "corpus.pair",
        "Allowed here: kind, languages, pairs, seed",
    ),
    "missing key": ("  dim: 64\n", "", "recipe", "the key 'dim' is missing"),
    "doubled key": ("  dim: 64\n", "  dim: 64\n  dim: 65\n", None, "the key 'dim' is given twice, first on line"),
    "kind": ("kind: made-up", "kind: made up", "corpus", "the kind is 'made-up' or 'files', given is 'made up'"),
    "no number": ("  dim: 64", "  dim: many", "recipe.dim", "given is 'many'; input should be a valid integer"),
    "seed too large": (
        "seeds: [1, 2, 3]",
        f"seeds: [1, {2**32}]",
        "blocks.independent.runs[0].seeds[1]",
        "given is 4294967296; input should be less than 4294967296",
    ),
    "number too long": ("  dim: 64", f"  dim: {'9' * 5000}", None, "a number of 5000 digits"),
    "a word for a mapping": ("corpus:", "corpus: ora\nname:", "corpus", "given is 'ora'; keys with values are wanted"),
    "a number in quotes": ("  dim: 64", "  dim: '64'", "recipe.dim", "given is '64'"),
    "yes": ("byte_fallback: false", "byte_fallback: no", "vocabulary.byte_fallback", "given is 'no'; .*boolean"),
    "below zero": ("  heads: 4", "  heads: -4", "recipe.heads", "given is -4; .*greater than or equal to 1"),
    "not finite": ("4e-3", ".inf", "recipe.peak_learning_rate", "given is '.inf'"),
    "heads": ("  heads: 4", "  heads: 5", "recipe", "dim=64 is no multiple of heads=5"),
    "seed": (
        "seeds: [1, 2, 3]",
        "seeds: [1, 2, 1]",
        "blocks.independent.runs[0].seeds[2]",
        "the seed 1 is given twice",
    ),
    "language": (
        RUNS,
        RUNS.replace("ora", "uri"),
        "blocks.independent.runs[0].languages[0]",
        "given is 'uri', .*Allowed: ora",
    ),
    "made-up language": (
        "languages: [ora]       #",
        "languages: [fra] #",
        "corpus.languages[0]",
        "given is 'fra'; .*'ora', 'ore'",
    ),
    "held-out language": ("  language: ora", "  language: kip", "held_out.language", "given is 'kip', .*Allowed: ora"),
    "sentence step": (
        "sentence_checkpoints: [60,",
        "sentence_checkpoints: [61,",
        "blocks.independent.sentence_checkpoints[0]",
        r"given is 61, which is no checkpoint. Allowed: \[60, 250, 950, 1000\]",
    ),
    "own step": (
        "own_checkpoints: [60,",
        "own_checkpoints: [61,",
        "blocks.independent.own_checkpoints[0]",
        "given is 61, which is not among the block's sentence_checkpoints",
    ),
    "kept state": (
        "keep_states: [0, 250,",
        "keep_states: [0, 251,",
        "keep_states[1]",
        "given is 251, which is no checkpoint",
    ),
    "checkpoints": (
        CHECKPOINTS,
        "\ncheckpoints: [60, 950, 250, 1000]",
        "checkpoints",
        "each step once and ascending is wanted",
    ),
    "no checkpoints": (
        CHECKPOINTS,
        "\ncheckpoints: {from: 1, to: 2}",
        "checkpoints",
        "a list of steps is wanted, or {first",
    ),
    "spacing": (CHECKPOINTS, "\ncheckpoints: {first: 10, last: 10, count: 3}", "checkpoints", "first < last is wanted"),
    "own tokens": ("own_tokens: 48", "own_tokens: 96", "own_tokens", "given is 96; at most 95 are possible"),
    "seeds and factorial": (
        "        seeds: [1, 2, 3]",
        "        factorial: {starts: [1], courses: [1]}\n        seeds: [1]",
        "blocks.independent.runs[0]",
        "one of the keys seeds, factorial and other_masks .*here are seeds, factorial",
    ),
    "no languages": (RUNS, "      - seeds: [1]", "blocks.independent.runs[0]", "the key 'languages' is missing"),
    "masks of no run": (
        RUNS,
        "      - other_masks: {ora-i9-o9: 5}\n",
        "blocks.independent.runs[0].other_masks.ora-i9-o9",
        "no run above has this name",
    ),
    "run twice": (
        "blocks:\n",
        "blocks:\n  first: {runs: [{languages: [ora], seeds: [1]}], sentence_checkpoints: [60]}\n",
        "blocks.independent.runs[0]",
        "the run 'ora-i1-o1' stands above already",
    ),
    "seed of made-up sentences": (
        "  sentences: 100",
        "  sentences: 100\n  seed: 3",
        "held_out.seed",
        "leave this key out",
    ),
    "file that is missing": (
        "  kind: made-up",
        "  kind: files\n  train: {fra: gone.tsv}\n#",
        "corpus.train.fra",
        "there is no file 'gone.tsv', looked for as .*gone.tsv",
    ),
    "block name": ("  independent:", "  a/b:", "blocks.a/b", "a name of letters"),
    "no YAML": ("  dim: 64", "  dim: [64", None, "no YAML: "),
    "tag": ("  dim: 64", "  dim: !!python/name:os.system ''", None, "the tag .* is not known"),
    "two documents": ("vocabulary: ", "---\nvocabulary: ", None, "no YAML: "),
    "a list for a mapping": ("recipe:  ", "recipe: []\nname:", "recipe", "given is \\[\\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_a_file_is_named_by_file_line_and_key(tmp_path, case):
    old, new, key, message = WRONG[case]
    path = changed(tmp_path, (old, new))
    if case == "file that is missing":
        text = (
            path.read_text()
            .replace("  languages: [ora]       #", "#")
            .replace("  pairs: 20000", "#")
            .replace("  seed: 2023", "#")
        )
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_suite(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert re.search(r"line \d+", said), said
    if key is not None:
        assert f", {key}: " in said, said
        last = [part for part in re.split(r"[.\[\]]", key) if part and not part.isdigit()][-1]
        (line,) = re.findall(rf"line (\d+), {re.escape(key)}: ", said)
        assert last in path.read_text(encoding="utf-8").splitlines()[int(line) - 1] or key.endswith("runs[0]")


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_lines(tmp_path):
    path = changed(tmp_path, ("seeds: [1, 2, 3]", "seeds: [1, 1]"), ("  language: ora", "  language: uri"))
    with pytest.raises(InputError) as caught:
        read_suite(path)
    first, second, third = str(caught.value).splitlines()
    assert first == f"{path}: 2 things are wrong."
    assert second.strip().startswith(f"line {line_of(path, 'language: uri')}, held_out.language: given is 'uri'")
    assert third.strip().startswith(f"line {line_of(path, 'seeds:')}, blocks.independent.runs[0].seeds[1]: the seed 1")


@pytest.mark.parametrize("text", ["", "# nothing but words\n", "\n\n"])
def test_an_empty_file_is_refused(tmp_path, text):
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(InputError, match=r"my\.yaml is empty\. Copy a suite that is shipped"):
        read_suite(tmp_path / "my.yaml")


def test_what_is_no_mapping_no_text_or_not_there_is_refused(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(InputError, match=r"my\.yaml, line 1: given is \['a', 'b'\]"):
        read_suite(path)
    path.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(DataError, match=r"my\.yaml is not UTF-8"):
        read_suite(path)
    with pytest.raises(DataError, match=r"gone\.yaml cannot be read"):
        read_suite(tmp_path / "gone.yaml")
    with pytest.raises(
        InputError, match=r"SUITE='latin' is not one of \['european', 'toy', 'toy_factorial'\], and no file"
    ):
        read_suite("latin")


def test_an_alias_inside_of_itself_ends(tmp_path):
    (tmp_path / "my.yaml").write_text("blocks: &a\n  one: *a\n")
    with pytest.raises(InputError, match=r"line 1: an alias"):
        read_suite(tmp_path / "my.yaml")


def test_yaml_reads_as_it_looks(tmp_path):
    """``no`` is a language's code, ``4e-3`` a number, ``010`` ten: YAML 1.1 would have false, a text, and eight."""
    path = changed(tmp_path, ("  seed: 2023 ", "  seed: 010 "), (RUNS, "      - languages: [no]\n        seeds: [1] "))
    with pytest.raises(InputError, match=r"languages\[0\]: given is 'no', of which the corpus has no data"):
        read_suite(path)
    suite = read_suite(changed(tmp_path, ("  seed: 2023 ", "  seed: 010 ")))
    assert suite.corpus.seed == 10
    assert suite.recipe.peak_learning_rate == 4e-3


def test_a_corpus_of_the_data_folder_is_looked_for_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path))
    suite = read_suite("european")
    line = line_of(FOLDER / "european.yaml", "corpora/test/fra-eng.tsv")
    with pytest.raises(
        DataError, match=rf"european\.yaml, line {line}, held_out\.file: .*test/fra-eng\.tsv is missing"
    ):
        sentences.held_out(suite)
    line = line_of(FOLDER / "european.yaml", "fra: ")
    with pytest.raises(
        DataError, match=rf"european\.yaml, line {line}, corpus\.train\.fra: .*train/fra-eng\.tsv is missing"
    ):
        sentences.training_pairs(suite, suite.run("fra-i1-o1"))


def test_more_sentences_than_a_file_holds_are_refused_by_line(tmp_path, monkeypatch):
    for name in ("train", "test"):
        (tmp_path / "corpora" / name).mkdir(parents=True)
        for language in ("fra", "deu", "pol", "bul", "cmn"):
            (tmp_path / "corpora" / name / f"{language}-eng.tsv").write_text("un\tone\n")
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"european\.yaml, line \d+, held_out\.file: count=300: between 1 and 1 pairs"):
        sentences.held_out(read_suite("european"))


# --- suites that are made in Python ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"blocks": (dataclasses.replace(BLOCK, sentence_checkpoints=(7,), own_checkpoints=()),)},
            r"sentence_checkpoints of 'independent'=\(7,\): \[7\] are no checkpoints",
        ),
        ({"keep_states": (0, 251)}, r"keep_states=\(251,\): \[251\] are no checkpoints"),
        (
            {"blocks": (dataclasses.replace(BLOCK, runs=BLOCK.runs[:1] * 2),)},
            "Two runs of the suite 'toy' share a name",
        ),
        ({"blocks": (BLOCK, dataclasses.replace(BLOCK, runs=()))}, "Two blocks of the suite 'toy' share a name"),
        ({"own_tokens": 96}, "own_tokens=96: between 1 and 95"),
        ({"own_tokens": 0}, "own_tokens=0"),
        ({"recipe": None}, "either recipe and vocabulary are given"),
        ({"name": "a/b"}, "suite='a/b': a name of letters"),
    ],
)
def test_suites_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TOY, **change)


@pytest.mark.parametrize("name", ["a/b", "../a", "", ".", "..", "a b", "a\\b"])
def test_a_name_that_no_file_can_bear_is_refused(name):
    with pytest.raises(InputError, match=f"block={re.escape(repr(name))}: a name of letters"):
        Block(name, (), sentence_checkpoints=())
    with pytest.raises(InputError, match=f"run={re.escape(repr(name))}: a name of letters"):
        Run(name, Condition(("ora",)), Seeds(1, 1, 1))


def test_own_output_is_measured_where_the_reference_is():
    with pytest.raises(InputError, match=r"block='b': own_checkpoints=\(1, 2\) names \[2\]"):
        Block("b", (), sentence_checkpoints=(1,), own_checkpoints=(1, 2))


def test_a_checkpoint_that_is_trained_is_in_the_work_folder(tmp_path):
    source = TOY.source_of(TOY.runs[0], 950, tmp_path)
    assert source == (tmp_path / "toy" / "ora-i1-o1" / "checkpoint-950", None)
    assert TOY.source_of(TOY.runs[0], 0, tmp_path)[0].name == "checkpoint-0"
    with pytest.raises(InputError, match=r"The run 'ora-i1-o1' of the suite 'toy': step=7 is not one of \(0, 60, 250"):
        TOY.source_of(TOY.runs[0], 7, tmp_path)


def test_a_suites_vocabulary_is_that_of_its_corpus(tmp_path):
    small = dataclasses.replace(TOY, corpus=MadeUpCorpus(("ora",), 200, 1), vocabulary=Vocabulary(80, 1.0, False))
    sentences.tokenizer(small, tmp_path / "vocabulary")
    sentences.tokenizer(small, tmp_path / "vocabulary")
    for change in (
        {"corpus": MadeUpCorpus(("ora", "uri"), 200, 1)},
        {"vocabulary": Vocabulary(80, 0.9, False)},
        {"held_out": Sample("ora", 7)},
    ):
        with pytest.raises(InputError, match="holds a vocabulary that was trained with other "):
            sentences.tokenizer(dataclasses.replace(small, **change), tmp_path / "vocabulary")


def test_a_run_that_asks_for_more_pairs_than_there_are_is_named(tmp_path):
    suite = dataclasses.replace(TOY, corpus=MadeUpCorpus(("ora",), 200, 1))
    with pytest.raises(InputError, match=r"The run 'many' of the suite 'toy': pairs=500: between 1 and "):
        sentences.training_pairs(suite, Run("many", Condition(("ora",), 500), Seeds(1, 1, 1)))
