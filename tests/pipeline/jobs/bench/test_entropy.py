"""Tests of `framevault bench entropy`: that everything is measured, on what it says. Not how fast it is."""

import json

import pytest

from framevault.pipeline.executors.base import count_cpus
from framevault.pipeline.jobs.bench.entropy import EntropyReport, Overhead, measure_entropy
from tests.pipeline.command_line import run_command


@pytest.fixture(scope="module")
def report() -> EntropyReport:
    return measure_entropy(num_frames=3, num_symbols=4000, repeats=1)


def test_coded_and_skipped_symbols_and_flags_are_timed_both_ways(report: EntropyReport) -> None:
    alone = [speed.what for speed in report.speeds if speed.num_threads == 1]

    assert [what.split()[0] for what in alone] == ["encode", "decode"] * 4
    assert alone[0] == "encode symbols"
    assert "% of them skipped" in alone[2]
    assert alone[4:] == ["encode skipped symbols", "decode skipped symbols", "encode flags", "decode flags"]
    assert all(0 < speed.median_per_s <= speed.best_per_s and speed.cpu_ns > 0 for speed in report.speeds)


def test_threads_double_up_to_the_number_of_cores(report: EntropyReport) -> None:
    threads = [speed.num_threads for speed in report.speeds if speed.what == "encode symbols"]

    assert threads == [2**power for power in range(len(threads))]
    assert threads[-1] <= count_cpus() < 2 * threads[-1]


def test_no_stream_is_shorter_than_ideal_or_four_bytes_longer(report: EntropyReport) -> None:
    assert [overhead.streams for overhead in report.overheads] == ["4000 symbols", "500 symbols", "50 symbols"]
    for overhead in report.overheads:
        assert 0 < overhead.mean_over_bytes <= overhead.worst_over_bytes <= 4
        assert overhead.mean_bytes > overhead.mean_over_bytes


def test_the_share_of_the_overhead_is_that_of_the_ideal_length() -> None:
    overhead = Overhead(streams="some", mean_bytes=102, mean_over_bytes=2, worst_over_bytes=3)

    assert overhead.over_percent == pytest.approx(2)


def test_a_filled_cache_starts_faster_than_an_empty_one(report: EntropyReport) -> None:
    (_, cold_s), (_, warm_s) = report.start_up_s

    assert 0 < warm_s < cold_s


def test_the_command_prints_its_tables_as_json() -> None:
    ended = run_command("bench", "entropy", "--frames", "2", "--symbols", "200", "--format", "json")

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["what"] for row in rows if "threads" in row][:2] == ["encode symbols", "decode symbols"]
    assert [row["streams"] for row in rows if "streams" in row] == ["200 symbols", "500 symbols", "50 symbols"]
    assert len([row for row in rows if "seconds" in row]) == 2


def test_wrong_arguments_are_named() -> None:
    for option in ("--frames", "--symbols"):
        ended = run_command("bench", "entropy", option, "0")

        assert (ended.code, option in ended.stderr) == (2, True), ended
