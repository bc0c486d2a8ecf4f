"""The fuzz job: that it counts, and that it survives and tells what its children do not survive."""

import json
import sys

import pytest

from tests import fuzz

CRASHING_CHILD = """
import json, os, sys, time
first, number, crash_at, how = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
print("ready", flush=True)
for seed in range(first, first + number):
    if seed == crash_at:
        os.abort() if how == "crash" else time.sleep(100)
    print(json.dumps(["raw", "decoded"]), flush=True)
"""


def test_a_short_run_decodes_all_its_cases(capfd: pytest.CaptureFixture[str]) -> None:
    exit_code = fuzz.main(["--first", "500", "--number", "40"])

    out = capfd.readouterr().out
    assert exit_code == 0, out
    assert "seeds 500 to 539: 40 streams" in out
    assert "seeds that failed: none" in out
    counts = [int(line.split()[0]) for line in out.splitlines() if line.startswith(" ")]
    assert sum(counts) == 40


@pytest.mark.parametrize(("how", "told"), [("crash", "CHILD ended with -6"), ("hang", "CHILD hung")])
def test_a_child_that_does_not_survive_a_case_is_told_and_followed_by_another(
    how: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(seeds: range) -> list[str]:
        return [sys.executable, "-c", CRASHING_CHILD, str(seeds.start), str(len(seeds)), "7", how]

    monkeypatch.setattr(fuzz, "_child_command", command)
    monkeypatch.setattr(fuzz, "LONGEST_CASE_S", 2.0)

    exit_code = fuzz.main(["--number", "10"])

    out = capsys.readouterr().out
    assert exit_code == 1
    assert f"seed 7: {told}" in out
    assert "       9  raw          decoded" in out
    assert "seeds that failed: 7" in out


def test_an_error_that_is_no_bitstream_error_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(seeds: range) -> list[str]:
        return [json.dumps(["toy", "FAILED: Traceback (most recent call last):\nIndexError: 3"]) for _ in seeds]

    monkeypatch.setattr(fuzz, "_child_lines", lines)

    assert fuzz.main(["--number", "1", "--first", "12"]) == 1
    assert "seed 12: FAILED: Traceback (most recent call last):\nIndexError: 3" in capsys.readouterr().out
