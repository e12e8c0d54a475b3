"""The released result files: their pins, their reading into tables, and what the tables must reproduce."""

import functools
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from addends import tables as schemas
from addends.errors import DataError, InputError
from addends.replication import released, released_analyses, released_tables
from tests.replication.miniature import real

RUNS = list(released.RUNS)
CHECKPOINTS = (1000, 2000, 3000)
LAYERS = range(3)


# ---- Made-up files in the released formats -----------------------------------------------------------------------


def wide_rows(rng, terms, empty):
    """Rows (func, layer_idx, a number a term) of one item. At layer 0 only the first term's vector is not zero."""
    rows = []
    for layer in LAYERS:
        importance = rng.dirichlet(np.ones(len(terms)))
        norm_ratio = rng.uniform(0.2, 2, len(terms))
        cosine = importance / norm_ratio
        distance = rng.uniform(5, 20, len(terms))
        if layer == 0:
            one = np.eye(len(terms))[terms.index("I" if "I" in terms else "T")]
            importance, norm_ratio = one, one
            cosine, distance = np.where(one == 0, empty, one), 19 * (1 - one)
        for func, values in zip(
            ("spim", "norm_ratio", "cosine", "l2"), (importance, norm_ratio, cosine, distance), strict=True
        ):
            rows.append({"layer_idx": layer, "func": func} | dict(zip(terms, values, strict=True)))
    return rows


def make_trajectory(rng, terms, with_index):
    rows = [row | {"checkpoint": step} for step in CHECKPOINTS for row in wide_rows(rng, terms, empty=0.0)]
    frame = pd.DataFrame(rows).rename(columns={term: f"mean {term}" for term in terms})
    for term in terms:
        frame[f"std {term}"] = 0.125
    return frame.reset_index() if with_index else frame


def make_items(rng, terms, spelling):
    texts = [("Общее.", "Shared."), (f"Своё {spelling}.", "Own.")]
    items = [(step, *text, f"hyp {step}", step / 4000) for step in CHECKPOINTS[:2] for text in texts]
    rows = []
    for step, source, target, hypothesis, comet in items:
        for row in wide_rows(rng, terms, empty=np.nan):
            about = {"seed": spelling, "ckpt": step, "src": source, "tgt": target, "hyp": hypothesis}
            rows.append(row | about | {"comet_score": comet})
    return pd.DataFrame(rows)


def make_scores(metric):
    spelled = [run.replace("-s", "_s") if run.startswith("rus") else run for run in RUNS]
    score = {"bleu": 0.25, "chrf": 50.5, "comet": 0.75}[metric]
    frame = pd.DataFrame([("gen", name, step, score) for name in spelled for step in CHECKPOINTS])
    if metric != "bleu":
        stray = [("gen", "rus-eng_s0", step, np.nan if metric == "chrf" else 0.26) for step in (4000, 9000)]
        frame = pd.concat([frame, pd.DataFrame(stray)])
    return frame.set_axis(["infer_style", "model", "checkpoint", "score"], axis=1).sample(frac=1, random_state=0)


def make_correlations(rng, terms, russian):
    frame = pd.DataFrame([(layer, func) for func in released.INDICATOR_NAMES for layer in (1, 2)])
    frame = frame.set_axis(["layer_idx", "func"], axis=1)
    for run in (*russian, "sla", "ine", "mul", "rus_allseeds"):
        for term in ("".join(terms) + "_L1norm", *terms):
            frame[f"{term} {run} mean"], frame[f"{term} {run} stdv"] = rng.uniform(-1, 1, (2, len(frame)))
    return frame


def make_distances(terms, spelled, swap):
    rows = []
    for i, one in enumerate(spelled):
        for j, two in enumerate(spelled[i + 1 :], start=i + 1):
            for func in released.INDICATOR_NAMES:
                for term in terms:
                    pair = (two, one) if swap else (one, two)
                    rows.append((*pair, func, term, None, *(100 * i + 10 * j + layer for layer in range(1, 7))))
    return pd.DataFrame(rows, columns=["model1", "model2", "metric", "component", *(f"layer{n}" for n in range(7))])


def make_released():
    """All 53 files, tiny: a dict from name to frame."""
    rng = np.random.default_rng(20231207)
    frames = {f"results/{metric}-scores2.csv": make_scores(metric) for metric in schemas.METRICS}
    seeds = dict(zip(RUNS, ("rus-eng", "rus-eng_s1989", "rus-eng_s20232", *RUNS[3:]), strict=True))
    short = [run.removeprefix("rus-eng-").removesuffix("-eng") for run in RUNS]
    counted = ["rus-eng s1", "rus-eng s2", "rus-eng s3", *RUNS[3:]]
    frames["results/DTWdistances-res-gen_multilingual.csv"] = make_distances("ISTFC", counted, swap=True)
    for method, by in released.METHOD_NAMES.items():
        terms = released.TERMS[by]
        middle, dot = {"sublayer": ("", ""), "token": ("-oh-schuler", ".oh-schuler")}[by]
        for run in RUNS:
            for target in ("gen", "no-gen"):
                frame = make_trajectory(rng, terms, with_index=(middle, target, run) == ("", "no-gen", RUNS[0]))
                frames[f"results/decomps{middle}/{target}/res{middle}-{target}.{run}.csv"] = frame
            name = run.replace("-s", "_s") if run.startswith("rus") else run
            items = make_items(rng, terms, seeds[run])
            frames[f"results/sentence-level/res-sentence-level.{name}{dot}.csv"] = items
        for metric in schemas.METRICS:
            frame = make_correlations(rng, terms, ("s0", "s1", "s2"))
            frames[f"results/Spearmancorrelations-{metric}_{method}.csv"] = frame.reset_index(names="")
        frame = make_correlations(rng, terms, ("rus _s0", "rus _s1", "rus _s2"))
        frames[f"results/sentence-level/Spearmancorrelations-comet_{method}-exp2.csv"] = frame.reset_index(names="")
        for suffix in ("", "_normalized"):
            frame = make_distances(terms, [f"{name}-eng" for name in short], swap=False)
            frames[f"results/DTWdistances-res-gen_multilingual-{method}{suffix}.csv"] = frame
    rows = [
        (layer, func, "S", layer / 10, 0.5, step) for layer in LAYERS for func in ("spim", "l2") for step in CHECKPOINTS
    ]
    agreement = pd.DataFrame(rows, columns=["layer_idx", "func", "term", "rho", "pval", "checkpoint"])
    frames["results/corr/no-gen/res-no-gen-correl-s1-s2.csv"] = agreement
    return frames


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A folder that holds published/, and the pins of its files."""
    root = tmp_path_factory.mktemp("data")
    pins = {}
    for name, frame in make_released().items():
        path = root / "published" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
        pins[name] = released.Pin(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    return root, pins


@pytest.fixture
def data(made_up, monkeypatch):
    root, pins = made_up
    monkeypatch.setenv("ADDENDS_DATA", str(root))
    monkeypatch.setattr(released, "pins", lambda: pins)
    return root / "published"


# ---- Tables from made-up files -----------------------------------------------------------------------------------


def test_made_up_files_have_the_released_names(made_up):
    assert sorted(made_up[1]) == sorted(released.pins())


@pytest.mark.filterwarnings("ignore:Left out")
def test_every_table_is_valid_with_unique_keys_and_known_runs(data):
    for name, frame in released_tables.tables().items():
        pd.testing.assert_frame_equal(schemas.validate(frame, name), frame)
        assert len(frame) > 0
        assert not frame.duplicated(schemas.key(name)).any()
        if "run" in frame:
            assert set(frame["run"]) == set(RUNS)


@pytest.mark.filterwarnings("ignore:Left out")
def test_the_tables_can_be_written_and_read_like_those_of_any_suite(data, tmp_path):
    for name, frame in released_tables.tables().items():
        schemas.write(frame, tmp_path / f"{name}.parquet", name)
        pd.testing.assert_frame_equal(schemas.read_suite(tmp_path, name), frame)


@pytest.mark.parametrize("table", ["measurements", "trajectories"])
def test_importance_sums_to_one_over_terms(data, table):
    frame = getattr(released_tables, table)()
    key = [name for name in schemas.key(table) if name != "term"]
    np.testing.assert_allclose(frame.groupby(key)["importance"].sum(), 1, atol=1e-6)


@pytest.mark.parametrize("table", ["measurements", "trajectories"])
def test_the_cosine_is_missing_exactly_where_the_vector_is_zero(data, table):
    frame = getattr(released_tables, table)()
    zero = frame["norm_ratio"] == 0
    assert zero.any()
    assert (frame["cosine"].isna() == zero).all()
    assert frame[["importance", "norm_ratio", "distance"]].notna().all(axis=None)


def test_trajectories_hold_the_cells_of_the_files(data):
    frame = released_tables.trajectories().set_index(schemas.key("trajectories"))
    assert len(frame) == len(RUNS) * len(CHECKPOINTS) * 2 * len(LAYERS) * (5 + 3)
    file = pd.read_csv(data / "results/decomps-oh-schuler/no-gen/res-oh-schuler-no-gen.rus-eng-s1.csv")
    wide = file[(file["layer_idx"] == 2) & (file["checkpoint"] == 2000)].set_index("func")
    cell = frame.loc[("rus-eng-s1", 2000, "reference", 2, "token", "T")]
    for func, indicator in released.INDICATOR_NAMES.items():
        assert cell[indicator] == pytest.approx(wide.loc[func, "mean T"], rel=1e-6)


def test_standard_deviations_come_in_the_same_cells(data):
    mean, std = released_tables.trajectories(), released_tables.trajectories("std")
    key = schemas.key("trajectories")
    pd.testing.assert_frame_equal(mean[key], std[key])
    assert (std["importance"] == 0.125).all()
    assert (std["cosine"].isna() == mean["cosine"].isna()).all()
    with pytest.raises(InputError, match="'median' is not one of"):
        released_tables.trajectories("median")


def test_stray_scores_are_left_out_loudly_and_returned_on_request(data):
    with pytest.warns(UserWarning, match="Left out 4 released scores .*2 chrf of rus-eng-s0, 2 comet of rus-eng-s0"):
        quality = released_tables.quality()
    stray = released_tables.stray_scores()
    assert len(quality) == len(RUNS) * len(CHECKPOINTS) * 3
    assert len(quality) + len(stray) == sum(len(make_scores(metric)) for metric in schemas.METRICS)
    assert sorted(stray["checkpoint"].unique()) == [4000, 9000]
    assert (released_tables.runs()["steps"] == 3000).all()


@pytest.mark.filterwarnings("ignore:Left out")
def test_bleu_and_chrf_are_in_points(data):
    scores = released_tables.quality().groupby("metric")["score"].unique()
    assert scores["bleu"] == pytest.approx([25.0])
    assert scores["chrf"] == pytest.approx([50.5])
    assert scores["comet"] == pytest.approx([0.75])


def test_sentences_are_ids_of_their_sources(data):
    sentences, items = released_tables.sentences(), released_tables.measurements()
    shared = hashlib.sha256("Общее.".encode()).hexdigest()[:12]
    assert len(sentences) == 1 + len(RUNS)
    assert items.groupby("sentence")["run"].nunique()[shared] == len(RUNS)
    assert sentences["sentence"].str.fullmatch("[0-9a-f]{12}").all()
    assert set(items["sentence"]) == set(released_tables.translations()["sentence"]) == set(sentences["sentence"])


def test_places_are_those_of_the_files_and_not_of_the_tables(data):
    places, items = released_tables.places(), released_tables.measurements()
    key = ["run", "checkpoint", "sentence"]
    assert not places.duplicated(key).any()
    assert len(places.merge(items[key].drop_duplicates(), on=key)) == len(places) == 6 * 4
    for run, rows in places.groupby("run"):
        name = run.replace("-s", "_s") if run.startswith("rus") else run
        file = pd.read_csv(data / f"results/sentence-level/res-sentence-level.{name}.csv")
        order = file[["ckpt", "src"]].drop_duplicates()
        ids = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in order["src"]]
        found = rows.sort_values("place")
        assert found["place"].tolist() == [0, 1, 2, 3]
        assert found["sentence"].tolist() == ids
        assert found["checkpoint"].tolist() == order["ckpt"].tolist()


def test_files_of_the_two_methods_in_different_order_are_refused(data, monkeypatch):
    whole = released_tables._sentence_level
    monkeypatch.setattr(released_tables, "_sentence_level", lambda by: whole(by).iloc[:: 1 if by == "token" else -1])
    with pytest.raises(DataError, match="same items in the same order"):
        released_tables.places()


def test_correlations_hold_the_cells_of_the_files(data):
    frame = released_analyses.correlations().set_index(["level", "metric", "by", "run", "layer", "indicator", "term"])
    file = pd.read_csv(data / "results/sentence-level/Spearmancorrelations-comet_oh-schuler-exp2.csv")
    row = file[(file["layer_idx"] == 2) & (file["func"] == "spim")].iloc[0]
    for run, column in {"rus-eng-s1": "S rus _s1", "rus-eng": "S rus_allseeds"}.items():
        cell = frame.loc[("sentence", "comet", "token", run, 2, "importance", "S")]
        assert cell["mean"] == row[f"{column} mean"]
        assert cell["std"] == row[f"{column} stdv"]
    assert set(frame.index.get_level_values("term")) == {"L1", *"ISTFC"}
    assert len(frame) == 4 * 7 * 8 * (6 + 4)


def test_distances_of_all_files_agree_on_the_names_of_pairs(data):
    frame = released_analyses.distances()
    assert set(zip(frame["run"], frame["other"], strict=True)) == {
        (a, b) for i, a in enumerate(RUNS) for b in RUNS[i + 1 :]
    }
    spread = frame.groupby(["run", "other", "layer"])["distance"].agg(["min", "max"]).dropna()
    assert (spread["min"] == spread["max"]).all()  # the made-up files differ in spelling and order of runs only
    assert len(spread) == 15 * 6
    assert frame.loc[frame["layer"] == 0, "distance"].isna().all()


def test_agreement_names_its_two_runs(data):
    frame = released_analyses.agreement()
    assert (frame[["run", "other"]].drop_duplicates().to_numpy() == [["rus-eng-s1", "rus-eng-s2"]]).all()
    np.testing.assert_allclose(frame["rho_tokens"], frame["layer"] / 10)


def test_every_spelling_of_a_run_leads_to_it_and_others_are_refused():
    for run, others in released.RUNS.items():
        assert {released.run_of(spelling) for spelling in (run, *others)} == {run}
    with pytest.raises(DataError, match="'rus-eng_s7' is no known spelling"):
        released.run_of("rus-eng_s7")


def test_the_room_needs_no_torch_and_its_extra_only_where_it_is_used(tmp_path):
    """Stored tables are read, and the page on them is made, where nothing of the extra is installed."""
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "dtaidistance", "pooch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from addends import replication
from addends.replication import distances, released
from tests.replication import miniature
assert not replication.available()
assert len(replication.closeness(replication.read("data/published_results"))) == 10
for use in (lambda: released.fetch("a"), lambda: distances.distances(miniature.trajectories(), "own")):
    try:
        use()
    except ImportError as error:
        print(error)
"""
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if name != "ADDENDS_DATA"}
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    install = "which is not installed. Install it with pip install 'addends[replication]'."
    assert found.stdout.splitlines() == [
        f"Reading the released files needs pooch, {install}",
        f"Dynamic time warping needs dtaidistance, {install}",
    ]


# ---- Files: missing, altered, downloaded -------------------------------------------------------------------------

BLEU = "results/bleu-scores2.csv"


@pytest.fixture
def one_file(tmp_path, monkeypatch):
    """One pinned file in a folder the user named."""
    path = tmp_path / "data" / "published" / BLEU
    path.parent.mkdir(parents=True)
    path.write_text("as released\n")
    pin = released.Pin(hashlib.sha256(b"as released\n").hexdigest(), 12)
    monkeypatch.setattr(released, "pins", lambda: {BLEU: pin})
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path / "data"))
    return path, pin


def test_an_intact_file_is_returned(one_file):
    assert released.fetch(BLEU) == one_file[0]


def test_a_missing_file_is_named_with_its_checksum_and_remedy(one_file):
    path, pin = one_file
    path.unlink()
    with pytest.raises(DataError) as caught:
        released.fetch(BLEU)
    for part in (str(path), pin.sha256, "12 bytes", "no file", "Restore it", released.COMMIT, "unset ADDENDS_DATA"):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"as Released\n", b"as rel", b""], ids=["altered", "cut short", "empty"])
def test_an_altered_file_is_refused_with_both_checksums_and_left_alone(one_file, content):
    path, pin = one_file
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        released.fetch(BLEU)
    found = hashlib.sha256(content).hexdigest()
    for part in (str(path), pin.sha256, found, f"{len(content)} bytes", "Restore it", "unset ADDENDS_DATA"):
        assert part in str(caught.value)
    assert path.read_bytes() == content


def test_a_table_of_an_altered_file_is_refused(data, tmp_path, monkeypatch):
    copy = tmp_path / "published" / BLEU
    copy.parent.mkdir(parents=True)
    copy.write_text((data / BLEU).read_text().replace("0.25", "0.26"))
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"bleu-scores2\.csv is not the released file"):
        released_tables.runs()


def test_an_unknown_name_and_a_wrong_folder_are_refused(one_file, monkeypatch):
    with pytest.raises(InputError, match=r"name='bleu' is none of the 1 released files"):
        released.fetch("bleu")
    monkeypatch.setenv("ADDENDS_DATA", "/no/such/folder")
    with pytest.raises(DataError, match="ADDENDS_DATA='/no/such/folder' is no folder"):
        released.fetch(BLEU)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        self.server.requested.append(self.path)


@pytest.fixture
def server(one_file, tmp_path, monkeypatch):
    """A local server of the one file at /second/ (nothing is at /first/), and an empty cache."""
    path, pin = one_file
    site = tmp_path / "site" / "second" / BLEU
    site.parent.mkdir(parents=True)
    path.rename(site)
    handler = functools.partial(Handler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.requested = []
        address = f"http://127.0.0.1:{running.server_port}"
        monkeypatch.setattr(released, "BASE_URLS", (f"{address}/first/", f"{address}/second/"))
        monkeypatch.setattr(released, "RETRIES", 0)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.delenv("ADDENDS_DATA")
        monkeypatch.setenv("ADDENDS_CACHE", str(tmp_path / "cache"))
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running, site, pin
        running.shutdown()


def cached(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once_from_the_first_place_that_has_it(server, tmp_path):
    running, _, _ = server
    path = released.fetch(BLEU)
    assert path.read_text() == "as released\n"
    assert cached(tmp_path) == [path]
    assert {request.split("/")[1] for request in running.requested} >= {"second"}
    running.requested.clear()
    assert released.fetch(BLEU) == path
    assert running.requested == []


def test_the_commit_comes_first_and_the_newest_state_last():
    """Neither is trusted, see the next test; the order says which is asked for."""
    assert [url.rstrip("/").rsplit("/", 1)[1] for url in released.BASE_URLS] == [released.COMMIT, "HEAD"]
    page = " ".join(released.__doc__.split())
    assert "What is pinned is each file" in page
    assert "an address, not a guarantee" in page


@pytest.mark.parametrize("altered", ["first", "second"])
def test_a_place_that_gives_another_file_is_passed_over_or_refused(server, tmp_path, altered):
    _, site, pin = server
    if altered == "first":
        first = tmp_path / "site" / "first" / BLEU
        first.parent.mkdir(parents=True)
        first.write_text("of another time\n")
        assert released.fetch(BLEU).read_text() == "as released\n"
        return
    site.write_text("a later state\n")
    with pytest.raises(DataError, match=f"could not be downloaded(?s:.)*{pin.sha256}"):
        released.fetch(BLEU)
    assert cached(tmp_path) == []


def test_a_folder_without_published_does_not_stand_in_the_way_of_a_download(server, tmp_path, monkeypatch):
    (tmp_path / "corpora_only" / "corpora").mkdir(parents=True)
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path / "corpora_only"))
    assert released.fetch(BLEU).read_text() == "as released\n"


def test_a_download_with_another_checksum_is_refused_and_not_kept(server, tmp_path):
    _, site, pin = server
    site.write_text("something else\n")
    with pytest.raises(DataError) as caught:
        released.fetch(BLEU)
    for part in (BLEU, pin.sha256, hashlib.sha256(b"something else\n").hexdigest(), "set ADDENDS_DATA"):
        assert part in str(caught.value)
    assert cached(tmp_path) == []


def test_an_altered_file_in_the_cache_is_not_overwritten(server):
    path = released.fetch(BLEU)
    path.write_text("my own notes\n")
    with pytest.raises(DataError, match="Delete it; the next call downloads it again"):
        released.fetch(BLEU)
    assert path.read_text() == "my own notes\n"
    path.unlink()
    assert released.fetch(BLEU).read_text() == "as released\n"


def test_without_a_network_the_error_says_what_to_do(server, tmp_path, monkeypatch):
    running, _, _ = server
    monkeypatch.setattr(released, "BASE_URLS", (f"http://127.0.0.1:{running.server_port}/first/",))
    with pytest.raises(DataError, match=r"(?s)could not be downloaded.*404.*Check the network.*set ADDENDS_DATA"):
        released.fetch(BLEU)
    assert cached(tmp_path) == []


# ---- The released files themselves -------------------------------------------------------------------------------


def test_the_pins_are_well_formed():
    pins = released.pins()
    lines = Path(released.__file__).with_name("checksums.txt").read_text(encoding="utf-8").splitlines()
    assert len(pins) == 53 == sum(not line.startswith("#") for line in lines if line)  # no name occurs twice
    assert len({pin.sha256 for pin in pins.values()}) == 53
    assert all(re.fullmatch("[0-9a-f]{64}", pin.sha256) and pin.size > 0 for pin in pins.values())
    assert all(url.startswith("https://") and url.endswith("/") for url in released.BASE_URLS)


@pytest.fixture(scope="module")
def trajectories():
    return released_tables.trajectories()


@pytest.fixture(scope="module")
def quality():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return released_tables.quality()


def rank_correlation(one, two):
    return one.corr(two, method="spearman")


@real
def test_every_released_file_has_its_pinned_checksum():
    for name in released.pins():
        released.fetch(name)


@real
def test_counts_of_the_released_tables(trajectories, quality):
    steps = released_tables.runs().set_index("run")["steps"]
    last = dict(zip(RUNS, (585_000, 595_000, 605_000, 639_000, 604_000, 590_000), strict=True))
    assert steps.to_dict() == last
    checkpoints = sum(last.values()) // 1000
    assert len(trajectories) == checkpoints * 2 * 7 * (5 + 3) == 405_216
    assert len(quality) == checkpoints * 3
    missing = quality[quality["score"].isna()]
    assert missing[["run", "checkpoint", "metric"]].to_numpy().tolist() == [["rus-eng-s0", 489_000, "chrf"]]
    stray = released_tables.stray_scores()
    assert stray["metric"].value_counts().to_dict() == {"chrf": 22, "comet": 22}
    assert set(stray["run"]) == {"rus-eng-s0"}
    first = quality.query("run == 'rus-eng-s0' and metric == 'comet' and checkpoint == 1000")["score"].item()
    assert stray["score"].max() < first


@real
def test_released_importance_sums_to_one_and_zero_vectors_have_no_cosine(trajectories):
    sums = trajectories.groupby(["run", "checkpoint", "target", "layer", "by"])["importance"].sum()
    np.testing.assert_allclose(sums, 1, atol=2e-6)
    zero = trajectories["norm_ratio"] == 0
    assert set(trajectories.loc[zero, "layer"]) == {0}
    assert (trajectories["cosine"].isna() == zero).all()


@real
def test_released_sentence_level_items():
    items, scores, sentences = (
        released_tables.measurements(),
        released_tables.translations(),
        released_tables.sentences(),
    )
    assert len(items) == 6 * 400 * 7 * (5 + 3)
    assert (scores.groupby("run").size() == 400).all()
    assert (
        released_tables.places().groupby("run")["place"].agg(sorted).map(lambda place: place == [*range(400)])
    ).all()
    assert (scores.groupby("run")["checkpoint"].nunique() == 10).all()
    assert scores["comet"].notna().all()
    assert len(sentences) == scores["sentence"].nunique() == 2242
    # Both methods measured the same items.
    pairs = items.groupby(["run", "checkpoint", "sentence"])["by"].nunique()
    assert len(pairs) == 2400
    assert (pairs == 2).all()
    sums = items.groupby(["run", "checkpoint", "sentence", "layer", "by"])["importance"].sum()
    np.testing.assert_allclose(sums, 1, atol=5e-6)
    # Pooled over checkpoints, importance of S and COMET rise together (.29); within them they hardly do (.08).
    last = items.query("run == 'rus-eng-s0' and by == 'sublayer' and layer == 6 and term == 'S'")
    both = last.merge(scores, on=["run", "checkpoint", "sentence"])
    within = [rank_correlation(cell["importance"], cell["comet"]) for _, cell in both.groupby("checkpoint")]
    assert rank_correlation(both["importance"], both["comet"]) == pytest.approx(0.29, abs=0.005)
    assert np.mean(within) == pytest.approx(0.08, abs=0.005)


@real
@pytest.mark.parametrize(
    ("indicator", "term", "true", "theirs"), [("importance", "S", -0.70, 0.70), ("norm_ratio", "T", 0.74, -0.74)]
)
def test_signs_of_the_released_correlations_are_reversed(trajectories, quality, indicator, term, true, theirs):
    """Over all pairs of every second checkpoint, not a sample of them: layer 6, own output, rus-eng-s0, BLEU."""
    cells = trajectories.query("run == 'rus-eng-s0' and target == 'own' and by == 'sublayer' and layer == 6")
    series = cells[cells["term"] == term].set_index("checkpoint")[indicator]
    bleu = quality.query("run == 'rus-eng-s0' and metric == 'bleu'").set_index("checkpoint")["score"]
    assert series.index.equals(bleu.index)
    earlier, later = np.triu_indices(len(bleu[::2]), 1)
    values = series.to_numpy()[::2], bleu.to_numpy()[::2]
    differences = [pd.Series(value[later] - value[earlier]) for value in values]
    assert rank_correlation(*differences) == pytest.approx(true, abs=0.02)
    row = released_analyses.correlations().query(
        "level == 'checkpoint' and metric == 'bleu' and by == 'sublayer' and run == 'rus-eng-s0' "
        "and layer == 6 and indicator == @indicator and term == @term"
    )
    assert row["mean"].item() == pytest.approx(theirs, abs=0.01)


@real
@pytest.mark.parametrize(("by", "first"), [("sublayer", "I"), ("token", "S")])
@pytest.mark.parametrize("level", ["checkpoint", "sentence"])
def test_pooled_correlations_of_the_first_term_average_the_sum_over_terms_in(by, first, level):
    frame = released_analyses.correlations().query("level == @level and by == @by")
    means = frame.pivot_table("mean", ["metric", "layer", "indicator"], ["term", "run"])
    russian = RUNS[:3]
    for term in released.TERMS[by]:
        columns = [(term, run) for run in russian] + [("L1", run) for run in russian if term == first]
        np.testing.assert_allclose(means[columns].mean(axis=1), means[term, "rus-eng"], atol=1e-9)
    if (level, by) == ("checkpoint", "sublayer"):
        cell = means.loc[("bleu", 6, "cosine")]
        assert cell["I", "rus-eng"] == pytest.approx(0.451, abs=5e-4)
        assert cell[[("I", run) for run in russian]].mean() == pytest.approx(0.330, abs=5e-4)


@real
def test_agreement_of_two_seeds_falls_with_training():
    frame = released_analyses.agreement().query("layer == 6 and indicator == 'cosine' and term == 'S'")
    rho = frame.set_index("checkpoint")["rho_tokens"]
    assert rho[10_000] == pytest.approx(0.85, abs=0.005)
    assert rho[595_000] == pytest.approx(0.39, abs=0.005)
    assert rho.index.max() == 595_000


@real
def test_released_distances_are_those_of_fifteen_pairs():
    frame = released_analyses.distances()
    assert len(frame.drop_duplicates(["run", "other"])) == 15
    assert len(frame) == (3 * 300 + 2 * 180) * 7
    rest = frame[frame["layer"] > 0]
    assert rest["distance"].notna().all()
    assert (rest[rest["version"] != "normalized"]["distance"] >= 0).all()
    normalized = rest[rest["version"] == "normalized"]
    spread = normalized.groupby(["by", "run", "other", "indicator", "term"])["distance"].agg(["min", "max"])
    assert (spread["min"] == spread["max"]).all()
    # The older file, its Russian runs counted from 1, is close to the later one under the names given here.
    both = rest.pivot_table("distance", ["by", "run", "other", "indicator", "term", "layer"], "version").dropna()
    assert np.log(both["first"] / both["final"]).abs().median() < 0.03
