from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datanas.core.errors import ConfigError, DataError, OutOfMemoryError
from datanas.core.settings import validate
from datanas.data.decode import memory
from datanas.data.sets.ptb import Ptb
from datanas.data.sets.text import Text
from datanas.data.sets.wikitext2 import WikiText2
from datanas.data.types.corpus import EOS, TextData

CONTENT = {"train": b"a b c\n", "valid": b"b a\n", "test": b"c\n"}
NAMES = ("train.txt", "valid.txt", "test.txt")


def load(root: Path, **settings: Any) -> TextData:
    return Text(Text.Config(root=root, **settings)).load()


def write(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(names, CONTENT.values(), strict=True):
        (folder / name).write_bytes(content)
    return folder


def pack(file: Path, names: tuple[str, ...] = NAMES, others: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in zip(names, CONTENT.values(), strict=True):
            archive.writestr(name, content)
        for name in others:
            archive.writestr(name, b"other\n")
    return file


def assert_is_written_text(data: TextData) -> None:
    assert data.vocabulary == ("a", "b", "c", EOS)
    assert [part.tolist() for part in (data.train, data.valid, data.test)] == [[0, 1, 2, 3], [1, 0, 3], [2, 3]]


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("corpus-train.txt", "corpus-val.txt", "corpus-test.txt"),
        ("de_train.txt", "de_validation.txt", "de_test.txt"),
        ("Train.TXT", "Dev.TXT", "Test.TXT"),
    ],
)
def test_a_file_is_known_by_the_part_in_its_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert_is_written_text(load(write(tmp_path, names)))


def test_other_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("README.txt", "training.txt", "train.md", "train", ".train.txt", "._train.txt", "train-test.txt"):
        (tmp_path / name).write_text("other\n")
    assert_is_written_text(load(tmp_path))


def test_the_only_folder_in_root_is_looked_into(tmp_path: Path) -> None:
    write(tmp_path / "corpus-1.0")
    (tmp_path / "README.txt").write_text("other\n")
    (tmp_path / "__MACOSX").mkdir()
    assert_is_written_text(load(tmp_path))


def test_one_of_two_folders_is_not_guessed(tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two")
    with pytest.raises(DataError, match=r"no train text; found no files; expected a file such as train\.txt"):
        load(tmp_path)


@pytest.mark.parametrize("inside", ["", "corpus/", "a/b/c/"])
def test_an_archive_is_read_wherever_its_texts_lie(tmp_path: Path, inside: str) -> None:
    names = tuple(inside + name for name in NAMES)
    file = pack(tmp_path / "corpus.zip", names, ("README.txt", "__MACOSX/._train.txt", "__MACOSX/train.txt"))
    assert_is_written_text(load(file))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("packed", [False, True])
def test_the_settings_choose_among_files(tmp_path: Path, packed: bool) -> None:
    names = ("en/train.txt", "en/valid.txt", "en/part3")
    if packed:
        root = pack(tmp_path / "corpus.zip", names, ("de/train.txt",))
    else:
        root = write(tmp_path / "en", ("train.txt", "valid.txt", "part3")).parent
        write(tmp_path / "de")
    assert_is_written_text(load(root, train="en/train.txt", valid="en/valid.txt", test="en/part3"))


def test_a_chosen_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file dev\.txt \(data\.valid\); found test\.txt, train\.txt, valid\.txt$"):
        load(write(tmp_path), valid="dev.txt")


def test_a_missing_part_is_named_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "valid.txt").rename(tmp_path / "heldout.txt")
    with pytest.raises(DataError, match=r"no valid text; found heldout\.txt, test\.txt, train\.txt; ") as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"text {tmp_path}: ")
    assert str(caught.value).endswith("or --data.name text --data.valid FILE")


def test_several_files_for_a_part_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "dev.txt").write_text("other\n")
    with pytest.raises(DataError, match=r"several valid texts: dev\.txt, valid\.txt; choose one by "):
        load(tmp_path)


def test_a_long_list_of_files_is_cut(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:02}.txt").write_text("other\n")
    with pytest.raises(DataError, match=r"found 00\.txt, .*, 07\.txt and 4 more;"):
        load(tmp_path)


def test_nothing_at_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^text .*absent: no such file or folder$"):
        load(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b"a b c\n", b"PK\x03\x04 cut short", b"\x1f\x8b\x08 a tarball"])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "corpus.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"^text .*corpus\.zip: neither a folder nor a \.zip archive"):
        load(tmp_path / "corpus.zip")


def test_another_archive_is_told_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "corpus.tar").write_bytes(b"a b c\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "corpus.tar")
    wanted = "give the folder of three files, such as train.txt, valid.txt and test.txt, or a .zip archive of them"
    assert str(caught.value).endswith(f"{wanted}; unpack any other archive")


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    file = pack(tmp_path / "corpus.zip")
    content = file.read_bytes()
    start = content.index(b"valid.txt") + len("valid.txt")
    file.write_bytes(content[:start] + bytes(3) + content[start + 3 :])
    with pytest.raises(DataError, match=r"^text .*corpus\.zip: valid\.txt: cannot be read"):
        load(file)


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    file = pack(tmp_path / "corpus.zip")
    content = bytearray(file.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 8 : entry + 10] = struct.pack("<H", 1)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"corpus\.zip: train\.txt: is encrypted; unpack the archive"):
        load(file)


@pytest.mark.parametrize("packed", [False, True])
def test_a_fault_in_a_text_begins_with_its_file(tmp_path: Path, packed: bool) -> None:
    if packed:
        root = tmp_path / "corpus.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for name, content in zip(NAMES, (b"a\n", b"\xff\n", b"a\n"), strict=True):
                archive.writestr(name, content)
        begin = f"text {root}: valid.txt: "
    else:
        root = write(tmp_path)
        (root / "valid.txt").write_bytes(b"\xff\n")
        begin = f"text {root / 'valid.txt'}: "
    with pytest.raises(DataError, match="is not UTF-8, the byte 0xff at offset 0") as caught:
        load(root)
    assert str(caught.value).startswith(begin)


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_that_does_not_fit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    root = pack(tmp_path / "corpus.zip") if packed else write(tmp_path)
    monkeypatch.setattr(memory, "available_memory", lambda: 20)
    with pytest.raises(OutOfMemoryError, match=r"its words need .* give a smaller text"):
        load(root)


def test_the_vocabulary_is_limited_as_asked(tmp_path: Path) -> None:
    data = load(write(tmp_path), max_vocabulary=3)
    assert data.vocabulary == ("a", EOS, "<unk>")
    assert data.unknown == {"train": 2, "valid": 1, "test": 1}


def test_a_vocabulary_without_a_word_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.max_vocabulary: must be at least 3, got 2"):
        validate(Text.Config, {"root": ".", "max_vocabulary": 2}, "data")


@pytest.fixture
def small_ptb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], TextData]:
    """Reads the text above as if it were the published one."""
    monkeypatch.setattr("datanas.data.sets.ptb.VOCABULARY", 4)
    return lambda root: Ptb(Ptb.Config(root=root)).load()


PTB_NAMES = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")


@pytest.mark.parametrize("inside", ["", "ptb", "penn", "data", "simple-examples/data"])
@pytest.mark.parametrize("names", [NAMES, PTB_NAMES])
def test_ptb_is_found_in_the_usual_folders(
    tmp_path: Path, small_ptb: Callable[[Path], TextData], inside: str, names: tuple[str, ...]
) -> None:
    write(tmp_path / inside, names)
    (tmp_path / "other").mkdir(exist_ok=True)
    assert_is_written_text(small_ptb(tmp_path))


def test_ptb_prefers_its_published_names(tmp_path: Path, small_ptb: Callable[[Path], TextData]) -> None:
    write(tmp_path / "data", PTB_NAMES)
    (tmp_path / "data" / "ptb.char.train.txt").write_text("o t h e r\n")
    assert_is_written_text(small_ptb(tmp_path))


@pytest.mark.parametrize("itself", [False, True])
def test_ptb_is_found_packed(tmp_path: Path, small_ptb: Callable[[Path], TextData], itself: bool) -> None:
    file = pack(tmp_path / "ptb.zip", PTB_NAMES)
    assert_is_written_text(small_ptb(file if itself else tmp_path))


@pytest.mark.parametrize("place", ["wikitext-2-v1.zip", "wikitext2.zip", "wikitext-2"])
def test_wikitext2_is_found_under_its_usual_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr("datanas.data.sets.wikitext2.VOCABULARY", 4)
    names = ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens")
    if place.endswith(".zip"):
        pack(tmp_path / place, tuple(f"wikitext-2/{name}" for name in names))
    else:
        write(tmp_path / place, names)
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert_is_written_text(WikiText2(WikiText2.Config(root=tmp_path)).load())


@pytest.mark.parametrize(("dataset", "words"), [(Ptb, "10,000"), (WikiText2, "33,278")])
def test_another_text_is_not_taken_for_the_published_one(tmp_path: Path, dataset: Any, words: str) -> None:
    with pytest.raises(
        DataError, match=f"has 4 words but .* published text {words}; .* set --data.name text"
    ) as caught:
        dataset(dataset.Config(root=write(tmp_path))).load()
    assert str(caught.value).startswith(f"{dataset.Config.model_fields['name'].default} {tmp_path}: ")


@pytest.mark.parametrize(("dataset", "file"), [(Ptb, "ptb.train.txt"), (WikiText2, "wiki.train.tokens")])
def test_where_a_published_text_was_looked_for_is_told(tmp_path: Path, dataset: Any, file: str) -> None:
    with pytest.raises(DataError, match=f"no text found; looked for {file} in {tmp_path}, {tmp_path}/"):
        dataset(dataset.Config(root=tmp_path)).load()


def test_parts_are_named_in_any_case_and_usual_spelling(tmp_path: Path) -> None:
    assert_is_written_text(load(write(tmp_path, ("Training.txt", "Validation.TXT", "my-TestSet.txt"))))


def test_the_usual_name_goes_before_another_spelling(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (write(tmp_path) / "training.txt").write_text("other\n")
    assert_is_written_text(load(tmp_path))
    assert "read train.txt as the train text, not training.txt" in caplog.text


def test_a_single_file_is_parted_by_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "novel.txt"
    file.write_text("".join(f"word{number % 3} and\n" for number in range(20)))
    data = Text(Text.Config(root=file)).load()
    assert [len(part) for part in (data.train, data.valid, data.test)] == [48, 6, 6]
    file.write_text("one line\n" * 9)
    with pytest.raises(DataError, match="9 lines are too few to part"):
        Text(Text.Config(root=file)).load()


@pytest.mark.parametrize("name", ["test.txt", "wiki.valid.tokens"])
def test_a_single_file_that_is_named_for_another_part_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a b c\n" * 20)
    with pytest.raises(DataError, match=r"is by its name the (test|valid) text alone; give the folder"):
        load(tmp_path / name)


def test_a_single_file_is_not_read_in_place_of_those_beside_it_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train.txt").write_text("a b c\n" * 20)
    load(tmp_path / "train.txt")
    assert "beside it" not in caplog.text
    (tmp_path / "valid.txt").write_text("a b c\n")
    load(tmp_path / "train.txt")
    assert "valid.txt beside it is not read" in caplog.text


def test_parts_cannot_be_chosen_in_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a b c\n" * 20)
    with pytest.raises(DataError, match=r"data.test names a file in a folder, and root is a single file"):
        load(tmp_path / "mine.txt", test="other.txt")
