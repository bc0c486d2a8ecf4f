"""Job files and options: who wins, and what an error says."""

from pathlib import Path

import pytest

from framevault.configs.loading import ConfigError, load_job
from framevault.configs.run import CompressJob

GIVEN = {"inputs": ("a.mp4",), "vault": "v"}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def error_of(path: Path | None, **overrides: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_job(CompressJob, path, overrides={**GIVEN, **overrides})
    return str(caught.value)


def test_options_alone_make_a_job() -> None:
    job = load_job(CompressJob, None, overrides={**GIVEN, "quality": 7})

    assert (job.inputs, job.vault, job.quality) == (("a.mp4",), "v", 7)


def test_a_file_alone_makes_a_job(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "inputs: [a.mp4, b]\nvault: v\nfps: 5\nlimits:\n  wall_s: 10\n")

    job = load_job(CompressJob, path, overrides={})

    assert (job.inputs, job.fps, job.limits.wall_s) == (("a.mp4", "b"), 5.0, 10.0)


def test_an_option_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "quality: 2\nfps: 5\n")

    job = load_job(CompressJob, path, overrides={**GIVEN, "quality": 7, "fps": None})

    assert (job.quality, job.fps) == (7, 5.0)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "# nothing\n")

    assert load_job(CompressJob, path, overrides=GIVEN) == load_job(CompressJob, None, overrides=GIVEN)


def test_an_unknown_key_names_the_file_and_the_close_one(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "qualty: 4\n")

    assert error_of(path) == f"{path}: qualty: unknown key; did you mean quality or face_quality?"


def test_an_unknown_key_far_from_all_lists_them(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "xyzzy: 4\n")

    assert f"{path}: xyzzy: unknown key; expected one of batch_size, codec, device" in error_of(path)


def test_an_unknown_nested_key_names_its_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "limits: {max_pixel: 3}\n")

    assert error_of(path) == f"{path}: limits.max_pixel: unknown key; did you mean max_pixels?"


def test_a_wrong_value_names_file_key_expectation_and_value(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "quality: 9\n")

    assert error_of(path) == f"{path}: quality: should be less than or equal to 8, got 9"


def test_a_wrong_option_names_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "quality: 3\n")

    assert error_of(path, codec="h264") == "command line: codec: should be one of dicm, dicm+hsc, hsc, raw, got 'h264'"


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "quality: 9\nfps: x\n")

    assert [line.split(": ")[1] for line in error_of(path).splitlines()] == ["quality", "fps"]


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "job.yaml", "vault: v\n")

    with pytest.raises(ConfigError) as caught:
        load_job(CompressJob, path, overrides={})

    assert str(caught.value) == f"{path}: inputs: missing"


def test_keys_that_contradict_are_told() -> None:
    assert error_of(None, ray_address="auto") == "command line: ray_address is for executor: ray"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n- b\n", "expected a mapping of keys to values, got list"),
        ("1: 2\n", "expected a mapping of keys to values, got dict"),
        ("quality: [\n", "expected YAML"),
        ("quality: 1\nquality: 2\n", "key 'quality' stands twice"),
        ("codec: !!python/name:os.system\n", "expected YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path / "job.yaml", text)

    message = error_of(path)

    assert message.startswith(f"{path}: ")
    assert told in message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"quality: \xff\n")

    assert error_of(path) == f"{path}: expected UTF-8 text, got byte 0xff"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"

    assert error_of(path) == f"{path}: can't be read: No such file or directory"
