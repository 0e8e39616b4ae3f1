"""Folders and archives of several files: the frameworks judge each part."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same, leaf

import generated
import portackpt
from portackpt import plugins
from portackpt.bytesource import InMemory
from portackpt.checkpoint import Checkpoint
from portackpt.dtypes import UINT8
from portackpt.errors import InputError, RefusedError, UnknownFormatError, UsageError
from portackpt.plugins import Probe
from portackpt.spelling import spell
from portackpt.tensor import Tensor, contiguous, from_array
from portackpt.tree import tensors, walk
from portackpt_containers import unpacking
from portackpt_containers.directory import FORMAT
from portackpt_containers.kinds import kind_of
from portackpt_containers.packing import renames

DATA = Path(__file__).parents[2] / "data/directory"
REAL = Path(__file__).parents[3] / "../shared/data/real"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")


def write(tree: Any, path: Path, **about: Any) -> Path:
    checkpoint = Checkpoint(tree, about.pop("format", "pytorch"), **about)
    FORMAT.write(checkpoint, path, overwrite=False, step=None, progress=lambda count: None)
    return path


def convert(source: Path, target: Path) -> Path:
    FORMAT.write(FORMAT.open(source), target, overwrite=False, step=None,
                 progress=lambda count: None)  # fmt: skip
    return target


def parts(path: Path) -> dict[str, str]:
    return {name: part["format"] for name, part in FORMAT.open(path).details["parts"].items()}


@pytest.fixture
def trained() -> Any:
    """(torch, a model, its optimizer and schedule after a step)."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    return torch, model, optimizer, schedule


@pytest.fixture
def trainer(tmp_path: Path, trained: Any) -> Path:
    """A folder as the Trainer of Hugging Face writes it."""
    torch, model, optimizer, schedule = trained
    reference = pytest.importorskip("safetensors.torch")
    folder = tmp_path / "run" / "checkpoint-7"
    folder.mkdir(parents=True)
    reference.save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    torch.save(schedule.state_dict(), folder / "scheduler.pt")
    torch.save(
        {"cpu": torch.get_rng_state(), "python": (3, (1, 2), None)}, folder / "rng_state.pth"
    )
    (folder / "trainer_state.json").write_text('{\n  "epoch": NaN,\n  "global_step": 7\n}\n')
    (folder / "config.json").write_text("{}")
    (folder / "spiece.model").write_bytes(bytes(range(256)))
    return folder


def assert_equal_torch(torch: Any, a: Path, b: Path) -> None:
    """torch finds the same in both files."""
    left, right = (torch.load(path, weights_only=True) for path in (a, b))
    assert_equal(torch, left, right)


def assert_equal(torch: Any, left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_equal(torch, left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(torch, one, other)
    else:
        assert repr(left) == repr(right)


def test_it_reads_and_writes_a_trainer_folder(trainer: Path, tmp_path: Path, trained: Any) -> None:
    torch = trained[0]
    assert plugins.detect(trainer) is FORMAT
    opened = FORMAT.open(trainer)
    assert (opened.details["kind"], opened.framework, opened.step) == (
        "huggingface-trainer",
        "pytorch",
        7,
    )
    assert parts(trainer) == {
        "config.json": "text",
        "model.safetensors": "safetensors",
        "optimizer.pt": "pytorch",
        "rng_state.pth": "pytorch",
        "scheduler.pt": "pytorch",
        "spiece.model": "bytes",
        "trainer_state.json": "text",
    }
    again = convert(trainer, tmp_path / "again")
    assert {path.name for path in again.iterdir()} == set(opened.tree)
    for name in ("config.json", "model.safetensors", "spiece.model", "trainer_state.json"):
        assert (again / name).read_bytes() == (trainer / name).read_bytes()
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert_equal_torch(torch, trainer / name, again / name)


def test_it_goes_through_the_neutral_format(trainer: Path, tmp_path: Path, trained: Any) -> None:
    there = portackpt.convert(trainer, tmp_path / "neutral", to="portackpt")
    back = portackpt.convert(tmp_path / "neutral", tmp_path / "back", to="directory")
    assert (there.verdict, back.verdict) == ("exact", "exact")
    assert_same(FORMAT.open(tmp_path / "back").tree, FORMAT.open(trainer).tree)
    assert parts(tmp_path / "back") == parts(trainer)
    assert portackpt.diff(trainer, tmp_path / "back").equal


def test_it_finds_the_steps_of_a_run(trainer: Path, tmp_path: Path) -> None:
    run = trainer.parent
    for step in (3, 20):
        convert(trainer, run / f"checkpoint-{step}")
        (run / f"checkpoint-{step}/trainer_state.json").write_text(
            json.dumps({"global_step": step})
        )
    (run / "checkpoint-99").mkdir()  # nothing in it yet
    assert plugins.detect(run) is FORMAT
    assert FORMAT.steps(run) == (3, 7, 20)
    assert (FORMAT.open(run).step, FORMAT.open(run, step=3).step) == (20, 3)
    with pytest.raises(UsageError, match="there is no step 4; steps are 3, 7, 20"):
        FORMAT.open(run, step=4)
    with pytest.raises(UsageError, match="this is one checkpoint"):
        FORMAT.open(trainer, step=4)


def test_it_reads_an_accelerate_folder(tmp_path: Path, trained: Any) -> None:
    torch, model, optimizer, schedule = trained
    folder = tmp_path / "state"
    folder.mkdir()
    pytest.importorskip("safetensors.torch").save_file(
        model.state_dict(), folder / "model.safetensors"
    )
    torch.save(optimizer.state_dict(), folder / "optimizer.bin")
    torch.save(schedule.state_dict(), folder / "scheduler.bin")
    drawn: Any = np.random.get_state()
    torch.save({"step": 3, "numpy": drawn}, folder / "random_states_0.pkl")
    torch.save({"own": torch.ones(2)}, folder / "custom_checkpoint_0.pkl")
    assert plugins.detect(folder) is FORMAT
    assert FORMAT.open(folder).details["kind"] == "accelerate"
    again = convert(folder, tmp_path / "again")
    assert_same(FORMAT.open(again).tree, FORMAT.open(folder).tree)
    state = torch.load(again / "random_states_0.pkl", weights_only=False)
    assert np.array_equal(state["numpy"][1], drawn[1])


def test_it_reads_sharded_weights_of_pytorch(tmp_path: Path, trained: Any) -> None:
    torch, model = trained[:2]
    weights = model.state_dict()
    names = sorted(weights)
    shards = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    folder = tmp_path / "model"
    folder.mkdir()
    for shard, held in shards.items():
        torch.save({name: weights[name] for name in held}, folder / shard)
    index = {
        "metadata": {},
        "weight_map": {n: shard for shard, held in shards.items() for n in held},
    }
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert plugins.detect(folder) is FORMAT
    tree = FORMAT.open(folder).tree
    assert sorted(name for shard in shards for name in tree[shard]) == names
    again = convert(folder, tmp_path / "again")
    for shard in shards:
        assert_equal_torch(torch, folder / shard, again / shard)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_it_reads_dcp_among_other_files(tmp_path: Path, trained: Any) -> None:
    torch, model, optimizer, _ = trained
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    folder = tmp_path / "checkpoint-9"
    for place in (folder, folder / "pytorch_model_fsdp_0"):
        dcp.save({"model": model.state_dict()}, checkpoint_id=place, no_dist=True)
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text('{"global_step": 9}')
    assert plugins.detect(folder) is FORMAT
    assert parts(folder) == {
        ".": "dcp",
        "optimizer.pt": "pytorch",
        "pytorch_model_fsdp_0": "dcp",
        "trainer_state.json": "text",
    }
    again = convert(folder, tmp_path / "again")
    assert_same(FORMAT.open(again).tree, FORMAT.open(folder).tree)
    assert not any("left out" in note for note in FORMAT.open(folder).notes)
    for place in (again, again / "pytorch_model_fsdp_0"):
        state = {"model": {k: torch.zeros_like(v) for k, v in model.state_dict().items()}}
        dcp.load(state, checkpoint_id=place, no_dist=True)
        assert_equal(torch, state["model"], dict(model.state_dict()))


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_it_reads_and_writes_archives(tmp_path: Path, trained: Any, suffix: str) -> None:
    torch, model, optimizer, _ = trained
    folder = tmp_path / "policy"
    folder.mkdir()
    torch.save(model.state_dict(), folder / "policy.pth")
    torch.save(optimizer.state_dict(), folder / "policy.optimizer.pth")
    (folder / "data").write_text('{"num_timesteps": 2048}')
    (folder / "_stable_baselines3_version").write_text("2.4.0")
    path = convert(folder, tmp_path / f"policy{suffix}")
    assert plugins.detect(path) is FORMAT
    opened = FORMAT.open(path)
    assert (opened.details["kind"], opened.details["archive"], opened.step) == (
        "stable-baselines3",
        suffix[1:],
        2048,
    )
    assert_same(opened.tree, FORMAT.open(folder).tree)
    assert path.read_bytes() == convert(path, tmp_path / f"again{suffix}").read_bytes()
    unpacked = tmp_path / "unpacked"
    if suffix == ".zip":
        with zipfile.ZipFile(path) as file:
            file.extractall(unpacked)
    else:
        with tarfile.open(path) as archive:
            archive.extractall(unpacked, filter="data")
    for name in ("policy.pth", "policy.optimizer.pth"):
        assert_equal_torch(torch, folder / name, unpacked / name)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_it_removes_what_it_unpacked_with_the_last_tensor(
    tmp_path: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch, model = trained[:2]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    torch.save(model.state_dict(), tmp_path / "policy.pth")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(tmp_path / "policy.pth", "policy.pth")
        file.writestr("data", "{}")
    tree: Any = FORMAT.open(tmp_path / "a.zip").tree
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    weight = tree["policy.pth"].entries["0.weight"]
    tree = None
    assert np.array_equal(weight.read(), model.state_dict()["0.weight"].numpy())
    weight = None
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "step", "weight"),
    [
        ("run/checkpoint-5", "huggingface-trainer", 5, ("model.safetensors", "weight")),
        ("run", "huggingface-trainer", 5, ("model.safetensors", "weight")),
        ("policy.zip", "stable-baselines3", 64, ("policy.pth", "weight")),
        ("ep1.tar.gz", "composer", None, ("composer_states.pt", "weight")),
    ],
)
def test_it_reads_stored_containers(
    tmp_path: Path, name: str, kind: str, step: int | None, weight: tuple[str, str]
) -> None:
    path = DATA / name
    assert plugins.detect(path) is FORMAT
    opened = FORMAT.open(path)
    assert (opened.details["kind"], opened.step, opened.framework) == (kind, step, "pytorch")
    part = opened.tree[weight[0]]
    found = (part if isinstance(part, dict) else part.entries)[weight[1]]
    assert (found.shape, found.dtype.name) == ((2, 3), "float32")
    assert np.isfinite(found.read()).all()
    again = convert(path, tmp_path / f"again{''.join(path.suffixes)}")
    assert_same(FORMAT.open(again).tree, opened.tree)


@real
def test_it_knows_the_real_containers(tmp_path: Path) -> None:
    expected = {
        "hf-trainer/octavio_results": ("huggingface-trainer", 3),
        "hf-trainer/octavio_results/checkpoint-1": ("huggingface-trainer", 1),
        "rl-zip/sb3_frozenlakeplus/ppo_frozenlakeplus.zip": ("stable-baselines3", 10240),
        "torch-train/composer_ep1_gz0/rank_0/first/ep1.tar.gz": ("composer", None),
        "torch-train/composer_ep1_gz0/rank_0/second/ep2.tar.gz": ("composer", None),
        "torch-legacy/allennlp_simple_tagger_full": ("allennlp", None),
        "torch-legacy/allennlp_tmpout_den": ("allennlp", None),
        "torch-legacy/allennlp_basic_classifier/model.tar.gz": ("allennlp", None),
        "hf-safetensors/darts_tiny_hf/chronos2/tiny_chronos2": ("huggingface-model", None),
        "torch-dcp/megatron_lionrock_ckpt": ("megatron", None),
    }
    for name, (kind, step) in expected.items():
        assert FORMAT.recognize(Probe(REAL / name)), name
        opened = FORMAT.open(REAL / name)
        assert (opened.details["kind"], opened.step) == (kind, step), name
        assert any(isinstance(part, dict) or hasattr(part, "entries")
                   for part in opened.tree.values()), name  # fmt: skip


@real
def test_it_writes_real_containers_back_equal(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    folder = REAL / "hf-trainer/octavio_results/checkpoint-3"
    again = convert(folder, tmp_path / "trainer")
    for name in ("model.safetensors", "trainer_state.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    for name in ("optimizer.pt", "scheduler.pt"):
        assert_equal_torch(torch, folder / name, again / name)
    source = REAL / "rl-zip/sb3_frozenlakeplus/ppo_frozenlakeplus.zip"
    with zipfile.ZipFile(source) as a, zipfile.ZipFile(convert(source, tmp_path / "p.zip")) as b:
        assert sorted(a.namelist()) == sorted(b.namelist())
        for name in a.namelist():
            if not name.endswith(".pth"):
                assert a.read(name) == b.read(name)
                continue
            left, right = (torch.load(io.BytesIO(f.read(name)), weights_only=True) for f in (a, b))
            assert_equal(torch, left, right)
    source = REAL / "torch-train/composer_ep1_gz0/rank_0/first/ep1.tar.gz"
    found, expected = (
        [leaf(tensor) for _, tensor in tensors(FORMAT.open(path).tree)]
        for path in (convert(source, tmp_path / "c.tar.gz"), source)
    )
    assert found == expected


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["trainer_state.json"], "huggingface-trainer"),
        (["random_states_0.pkl", "model.safetensors"], "accelerate"),
        (["data", "policy.pth", "pytorch_variables.pth"], "stable-baselines3"),
        (["composer_states.pt"], "composer"),
        (["model_state_epoch_1.th", "training_state_epoch_1.th"], "allennlp"),
        (["weights.th", "config.json", "vocabulary"], "allennlp"),
        ([".metadata", "__0_0.distcp", "common.pt"], "megatron"),
        ([".metadata", "__0_0.distcp", "extra.bin"], "torch-dcp"),
        ([".metadata", "__0_0.distcp"], "files"),
        (["mp_rank_00", "mp_rank_01"], "megatron"),
        (["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], "deepspeed"),
        (["config.json", "model.safetensors"], "huggingface-model"),
        (["config.json", "model-00001-of-00002.safetensors"], "huggingface-model"),
        (["config.json", "metadata.json", "model.weights.h5"], "keras"),
        (["big.weights.json", "big_00000.weights.h5", "big_00001.weights.h5"], "keras"),
        (["model.pt", "optimizer.pt"], "training"),
        (["epoch1.pt", "epoch2.pt"], "files"),
        (["optimizer.pt"], "files"),
        (["model.safetensors.index.json", "model-00001-of-00001.safetensors"], "files"),
        (["manifest.json", "state.msgpack"], "files"),
        (["checkpoint", "ckpt-1.index", "ckpt-1.data-00000-of-00001"], "files"),
        (["README.md", "train.py"], "files"),
    ],
)
def test_it_tells_kinds_by_names(names: list[str], kind: str) -> None:
    assert kind_of(names) == kind


def test_it_leaves_other_folders_alone(tmp_path: Path) -> None:
    for name in ("epoch1.pt", "epoch2.pt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "README.md").write_text("about")
    assert not FORMAT.recognize(Probe(tmp_path))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "config.json").write_text("{}")
    assert not FORMAT.recognize(Probe(tmp_path / "notes"))
    with pytest.raises(UnknownFormatError, match="no format knows a file of this folder"):
        FORMAT.open(tmp_path / "notes")
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(b"text" * 999)
    assert not FORMAT.recognize(Probe(tmp_path / "a.gz"))
    assert not FORMAT.recognize(Probe(tmp_path / "nothing"))


def test_it_names_the_part_that_is_damaged(trainer: Path) -> None:
    whole = (trainer / "optimizer.pt").read_bytes()
    (trainer / "optimizer.pt").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"optimizer\.pt"):
        FORMAT.open(trainer)


def test_it_reads_nothing_outside_the_folder(trainer: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (trainer / "notes.txt").symlink_to(secret)
    with pytest.raises(RefusedError, match="which is no file of this folder"):
        FORMAT.open(trainer)
    (trainer / "notes.txt").unlink()
    (trainer / "best.safetensors").symlink_to("model.safetensors")
    assert "best.safetensors" in FORMAT.open(trainer).tree


def test_it_reads_a_snapshot_of_the_hugging_face_cache(trainer: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub/blobs", tmp_path / "hub/snapshots/0123abcd"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(trainer.iterdir())):
        blob = blobs / f"{number:040x}"
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{blob.name}")
    assert plugins.detect(snapshot) is FORMAT
    assert_same(FORMAT.open(snapshot).tree, FORMAT.open(trainer).tree)


def tar(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with tarfile.open(path, "w:gz", format=options.pop("format", tarfile.GNU_FORMAT)) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in options.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\b", "con\x01"])
def test_it_unpacks_no_name_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    path = tar(tmp_path / "a.tar.gz", {"composer_states.pt": b"", name: b"x"})
    with pytest.raises(RefusedError, match="leads out of the archive"):
        FORMAT.open(path)


def test_it_unpacks_no_links(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        path = tar(tmp_path / "a.tar.gz", {"x": b""}, type=kind, linkname="/etc/passwd")
        with pytest.raises(RefusedError, match="is a link, a device or a sparse file"):
            FORMAT.open(path)


def test_it_unpacks_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "SMALL", 1 << 20)
    path = tar(tmp_path / "a.tar.gz", {"composer_states.pt": bytes(4 << 20)})
    with pytest.raises(RefusedError, match="would expand to more than"):
        FORMAT.open(path)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_it_reads_every_spelling_of_tar(tmp_path: Path, format: int) -> None:
    long = "/".join(["folder"] * 30) + "/" + "n" * 60
    names = ["config.json", "größe.txt"] + ([long] if format != tarfile.USTAR_FORMAT else [])
    members = {name: b"text " + name.encode() for name in names}
    members["weights.th"] = b"\x93NUMPY"
    path = tar(tmp_path / "a.tar.gz", members, format=format)
    unpacked = unpacking.unpack(path)
    for name, data in members.items():
        assert (unpacked.folder.path / name).read_bytes() == data


def test_it_finds_every_flip_and_cut_of_a_packed_archive(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.gz", {"composer_states.pt": bytes(range(256)) * 4})
    whole = path.read_bytes()
    for position in range(10, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            unpacked = unpacking.unpack(path)
        except InputError:
            continue
        found = (unpacked.folder.path / "composer_states.pt").read_bytes()
        assert found == bytes(range(256)) * 4
    for length in range(20, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            unpacking.unpack(path)


def test_it_writes_parts_that_were_never_files(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tree = {
        "model.safetensors": {"w": from_array(np.arange(3.0))},
        "optimizer.pt": {"state": {0: {"step": from_array(np.array(1))}}, "lr": 0.5},
        "notes": "text",
        "raw.bin": contiguous(UINT8, (3,), InMemory(b"\0\1\2")),
    }
    path = write(tree, tmp_path / "a")
    assert torch.load(path / "optimizer.pt", weights_only=True)["lr"] == 0.5
    assert (path / "notes").read_text() == "text"
    assert (path / "raw.bin").read_bytes() == b"\0\1\2"
    assert isinstance(FORMAT.open(path).tree["model.safetensors"]["w"], Tensor)


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(generated.names, st.dictionaries(generated.keys, generated.trees(),
                                                        max_size=2), max_size=3))  # fmt: skip
def test_it_writes_any_trees_as_parts(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    assert FORMAT.vocabulary is not None
    fitting = spell(tree, FORMAT.vocabulary).tree
    if not any(isinstance(part, dict) for part in fitting.values()):
        return
    place = tmp_path_factory.mktemp("parts") / "a"
    found = FORMAT.open(write(fitting, place)).tree
    assert set(found) == set(fitting)
    for name, part in fitting.items():
        expected, again = dict(walk(part)), dict(walk(found[name]))
        assert list(again) == list(expected)
        for path, value in expected.items():
            if isinstance(value, Tensor):
                assert leaf(again[path]) == leaf(value), path
            else:
                assert repr(again[path]) == repr(value), path


def test_it_keeps_much_text_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portackpt_containers.reading.ALL_TEXTS", 10)
    tree = {"a.safetensors": {"w": from_array(np.arange(3.0))}, "b": "123456", "c": "123456"}
    found = FORMAT.open(write(tree, tmp_path / "a")).tree
    assert found["b"] == "123456"
    assert isinstance(found["c"], Tensor)
    assert found["c"].read().tobytes() == b"123456"


def test_it_gives_parts_names_of_files() -> None:
    assert renames({"a": 1, "a/b": 2, "": 3, "..": 4, "ok.pt": 5, ".": 6}) == {
        "a": ("a_", "other parts lie in a folder of the name"),
        "": ("part", "no name of a file"),
        "..": ("part_", "no name of a file"),
    }


def test_it_leaves_nothing_behind_when_a_part_fails(tmp_path: Path) -> None:
    with pytest.raises(portackpt.errors.PortackptError):
        write({"a.bin": "text", "x/../y": "text"}, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
