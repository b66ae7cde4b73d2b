import errno
import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import treering.training
from treering._errors import UserError
from treering.training import checkpoint as checkpoints
from treering.training import fit, restore
from treering.training.checkpoint import Position, copies, copy_into, load, save, tensors_of

IDENTITY = {"seed": 0}


def write(folder, value: float, step: int) -> None:
    save(folder, {"a": torch.full((3,), value)}, IDENTITY, Position(step=step))


def tensor_file(folder) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def rewrite(folder, **changes) -> None:
    path = folder / checkpoints.FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_tensors_and_position_come_back_exactly(tmp_path):
    tensors = {
        "f": torch.randn(3, 2, dtype=torch.float64),
        "strided": torch.randn(4, 3).t(),
        "scalar": torch.tensor(7.0),
        "bytes": torch.get_rng_state(),
        "none": torch.zeros(0, 2),
        "complex": torch.randn(2, dtype=torch.complex64),
    }
    position = Position(step=12, losses=0.1 + 0.2, tokens=2**60, seconds={"data": 1 / 3})
    save(tmp_path, tensors, IDENTITY, position)
    header, loaded = load(tmp_path)
    assert header.position == position
    assert header.identity == IDENTITY
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_any_safetensors_reader_opens_the_file_and_the_hash_is_its_sha256(tmp_path):
    write(tmp_path, 2.0, 1)
    path = tensor_file(tmp_path)
    assert load_file(path)["a"].tolist() == [2.0, 2.0, 2.0]
    content = json.loads((tmp_path / "checkpoint.json").read_text())
    assert content["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert content["file"] == path.name


def test_nothing_is_ever_unpickled():
    package = Path(treering.training.__file__).parent
    sources = {path: path.read_text() for path in package.glob("*.py")}
    assert len(sources) > 5
    for path, text in sources.items():
        assert not re.search(r"pickle\.|import pickle|torch\.(load|save)\(|np\.load", text), path


def test_only_the_newest_pair_is_left(tmp_path, files):
    for step in range(3):
        write(tmp_path, float(step), step)
        (tmp_path / ".checkpoint-0-abc.safetensors.77.part").write_bytes(b"killed while writing")
    write(tmp_path, 3.0, 3)
    assert files(tmp_path) == [tensor_file(tmp_path).name, "checkpoint.json"]
    assert load(tmp_path).tensors["a"].tolist() == [3.0] * 3


@pytest.mark.parametrize("failing", ["safetensors", "json"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_crash_between_or_in_the_writes_leaves_the_older_pair(
    tmp_path, monkeypatch, files, failing, error
):
    write(tmp_path, 1.0, 1)
    before = files(tmp_path)
    original = Path.replace

    def replace(self, target):
        if Path(target).suffix == "." + failing:
            raise error
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises((KeyboardInterrupt, UserError)) as caught:
            write(tmp_path, 2.0, 2)
    if isinstance(error, OSError):
        assert re.search(r"cannot write .*: No space left; free some space", str(caught.value))
    assert files(tmp_path) == before
    assert load(tmp_path).tensors["a"].tolist() == [1.0] * 3
    write(tmp_path, 2.0, 2)
    assert load(tmp_path).header.position.step == 2


def test_a_process_killed_between_the_writes_leaves_the_older_pair(tmp_path, monkeypatch):
    """Killed, nothing tidies up: the new tensor file stays, unnamed, until the next save."""
    write(tmp_path, 1.0, 1)
    (tmp_path / "checkpoint-2-0123456789ab.safetensors").write_bytes(b"whole, but not named yet")
    assert load(tmp_path).tensors["a"].tolist() == [1.0] * 3
    write(tmp_path, 2.0, 2)
    assert load(tmp_path).tensors["a"].tolist() == [2.0] * 3
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_an_older_file_that_cannot_be_removed(tmp_path, monkeypatch):
    write(tmp_path, 1.0, 1)

    def unlink(self, missing_ok=False):
        if self.suffix == ".safetensors":
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(UserError, match=r"cannot remove .*: Permission denied; make the folder"):
        write(tmp_path, 2.0, 2)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged: its SHA-256"),
        (lambda path: path.write_bytes(b""), r"is damaged: .*\(0 bytes read\)"),
        (lambda path: path.write_bytes(b"\0" + path.read_bytes()[1:]), "is damaged: its SHA-256"),
        (lambda path: path.unlink(), "names checkpoint-1-.*, which is missing"),
    ],
)
def test_a_damaged_tensor_file_is_named(tmp_path, damage, text):
    write(tmp_path, 1.0, 1)
    damage(tensor_file(tmp_path))
    with pytest.raises(UserError, match=f"{text}.*; delete the folder to start over"):
        load(tmp_path)


def test_a_foreign_tensor_file_with_the_right_hash(tmp_path):
    write(tmp_path, 1.0, 1)
    path = tensor_file(tmp_path)
    path.write_bytes(b"x" * 100)
    rewrite(tmp_path, sha256=hashlib.sha256(b"x" * 100).hexdigest())
    with pytest.raises(UserError, match=r"is not a safetensors file: .*; delete the folder"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "checkpoint.json is damaged: not JSON; delete the folder to start over"),
        (b'{"format": "treer', "is damaged: not JSON"),
        (b"\xff\xfe\x00", "is damaged: not JSON"),
        (b"[" * 100_000, "is damaged: not JSON"),
        (b"[1, 2]", "is not a treering checkpoint; choose another folder"),
        (b'{"step": 3}', "is not a treering checkpoint; choose another folder"),
        (b'{"format": "treering checkpoint", "version": 1}', "has checkpoint version 1"),
        (b'{"format": "treering checkpoint", "version": 2}', "is damaged: file: Field required"),
    ],
)
def test_a_damaged_or_foreign_json_is_named(tmp_path, content, text):
    (tmp_path / checkpoints.FILE_NAME).write_bytes(content)
    with pytest.raises(UserError, match=text) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"file": "../elsewhere.safetensors"}, "file: .*must be a file of the same folder"),
        ({"position": {"step": "many"}}, "position.step: Input should be a valid integer"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"shared": {"b": "c"}}, "b shares c, which .* does not hold"),
    ],
)
def test_a_json_of_impossible_content_is_named(tmp_path, changes, text):
    write(tmp_path, 1.0, 1)
    rewrite(tmp_path, **changes)
    with pytest.raises(UserError, match=f"is damaged: {text}.*; delete the folder"):
        load(tmp_path)


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint in .*: checkpoint.json is missing; give"):
        restore(nn.Linear(1, 1), tmp_path / "nowhere")


def test_a_file_in_the_place_of_a_folder(tmp_path, parity, tagger, small, blank):
    taken = tmp_path / "taken"
    taken.write_text("a letter")
    with pytest.raises(UserError, match=r"cannot read .*taken.*: Not a directory"):
        fit(tagger(parity), parity, small(), folder=taken, seed=0, record=blank(parity))
    assert taken.read_text() == "a letter"


def test_a_read_only_folder_is_known_before_training(
    tmp_path, parity, tagger, small, blank, monkeypatch, files
):
    original = Path.open

    def refuse(self, mode="r", *rest, **options):
        if "w" in mode:
            raise PermissionError(errno.EROFS, "Read-only file system")
        return original(self, mode, *rest, **options)

    model = tagger(parity)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"cannot write .*: Read-only file system"):
        fit(model, parity, small(), folder=tmp_path, seed=0, record=blank(parity))
    assert model.calls == 0
    assert files(tmp_path) == []


def test_a_disk_that_fills_up_leaves_a_run_to_go_on_from(
    tmp_path, parity, tagger, small, blank, monkeypatch, hook
):
    settings = small(checkpoint_every=5)
    whole, cut = tagger(parity, 0.3), tagger(parity, 0.3)
    fit(whole, parity, settings, folder=tmp_path / "whole", seed=0, record=blank(parity))
    original = Path.replace
    folder = tmp_path / "cut"

    def replace(self, target):
        if Path(target).name.startswith("checkpoint-10-"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(UserError, match="No space left on device"):
            fit(cut, parity, settings, folder=folder, seed=0, record=blank(parity))
    assert load(folder).header.position.step == 5
    again = tagger(parity, 0.3, seed=8)
    fit(again, parity, settings, folder=folder, seed=0, record=blank(parity))
    for mine, theirs in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_record_without_its_checkpoint_is_refused(tmp_path, parity, tagger, small, blank):
    arguments = {"folder": tmp_path, "seed": 0, "record": blank(parity)}
    fit(tagger(parity), parity, small(steps=1), **arguments)
    (tmp_path / checkpoints.FILE_NAME).unlink()
    with pytest.raises(UserError, match=r"record\.json but its checkpoint\.json is missing"):
        fit(tagger(parity), parity, small(steps=1), **arguments)


def test_a_checkpoint_without_its_record_goes_on(tmp_path, parity, tagger, small, blank):
    arguments = {"folder": tmp_path, "seed": 0, "record": blank(parity)}
    first = fit(tagger(parity), parity, small(steps=2), **arguments)
    (tmp_path / "record.json").unlink()
    second = fit(tagger(parity), parity, small(steps=2), **arguments)
    assert second.evaluation == first.evaluation
    assert second.learning == first.learning


class Tied(nn.Module):
    """One matrix as embedding and as head, and one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 3)
        self.mix = nn.Linear(3, 3)
        self.again = self.mix
        self.head = nn.Linear(3, 3, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, inputs, lengths=None, output_length=1):
        state = self.again(self.mix(self.embedding(inputs)).tanh()).tanh().cumsum(1)
        return self.head(state[:, -output_length:])


def test_shared_parameters_are_written_once_and_stay_shared(tmp_path, reverse, small, blank, hook):
    def stop(step):
        if step == 3:
            raise RuntimeError("stop")

    torch.manual_seed(0)
    whole = Tied()
    settings = small(steps=5, checkpoint_every=1, validation_every=2, select="best validation")
    arguments = {"seed": 0, "record": blank(reverse)}
    fit(whole, reverse, settings, folder=tmp_path / "whole", **arguments)

    torch.manual_seed(0)
    folder = tmp_path / "cut"
    with pytest.raises(RuntimeError, match="stop"):
        fit(Tied(), reverse, settings, folder=folder, progress=hook(stop), **arguments)
    names = set(load_file(tensor_file(folder)))
    assert {"model.embedding.weight", "model.mix.weight", "best.mix.bias"} <= names
    assert not names & {"model.head.weight", "model.again.weight", "best.again.bias"}
    _, tensors = load(folder)
    assert tensors["model.head.weight"] is tensors["model.embedding.weight"]
    assert tensors["best.again.weight"] is tensors["best.mix.weight"]

    resumed = Tied()
    fit(resumed, reverse, settings, folder=folder, **arguments)
    assert resumed.head.weight is resumed.embedding.weight
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor)


def test_copies_keep_sharing_and_nothing_else():
    model = Tied()
    tensors = tensors_of(model, "best")
    copied = copies(tensors)
    assert copied["best.head.weight"] is copied["best.embedding.weight"]
    with torch.no_grad():
        model.mix.weight.add_(1)
    assert torch.equal(copied["best.mix.weight"] + 1, model.mix.weight)


def test_views_of_one_memory_are_written_each_for_itself(tmp_path):
    memory = torch.arange(6.0)
    save(tmp_path, {"a": memory[:4], "b": memory[2:]}, IDENTITY, Position())
    _, tensors = load(tmp_path)
    assert tensors["a"].tolist() == [0, 1, 2, 3]
    assert tensors["b"].tolist() == [2, 3, 4, 5]


def test_a_difference_is_found_before_anything_is_copied(tmp_path):
    target = {"a": torch.zeros(2), "b": torch.zeros(2)}
    source = {"a": torch.ones(2), "b": torch.ones(3)}
    with pytest.raises(UserError, match=r"b is float32 \(3,\) there, float32 \(2,\) here"):
        copy_into(target, source, tmp_path)
    assert target["a"].tolist() == [0, 0]


def test_state_that_is_no_tensor_is_refused(tmp_path, parity, small, blank, files):
    class Odd(Tied):
        def get_extra_state(self):
            return {"step": 3}

        def set_extra_state(self, state):
            raise AssertionError("never called")

    with pytest.raises(UserError, match=r"Odd keeps _extra_state as dict, .* \(register_buffer\)"):
        fit(Odd(), parity, small(), folder=tmp_path, seed=0, record=blank(parity))
    assert files(tmp_path) == []
