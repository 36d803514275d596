"""The examples that the repository ships, as the README uses them."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.service import ROOT, Service

_ORDERS = ROOT / "examples" / "data" / "orders.csv"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service with the example's handler for all tests here: they share nothing but the process."""
    service = Service(tmp_path_factory.mktemp("examples"), GOFER_HANDLERS=ROOT / "examples" / "csv_report.py")
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.kill()


def _report(service: Service, **payload: object) -> dict[str, Any]:
    """Submit a report that must complete; return its result."""
    job = service.wait_for_end(service.submit("csv_report", payload)["id"])
    assert job["status"] == "completed", job
    result: dict[str, Any] = job["result"]
    return result


def _failure(service: Service, **payload: object) -> str:
    """Submit a report that must fail for good at the first attempt; return the reason."""
    job = service.wait_for_end(service.submit("csv_report", payload)["id"])
    assert (job["status"], job["attempt"], job["error"]["type"]) == ("failed", 1, "Fail"), job
    message: str = job["error"]["message"]
    return message


def test_it_reports_on_the_shipped_file_by_group(service: Service) -> None:
    with _ORDERS.open(newline="") as file:
        orders = list(csv.DictReader(file))
    north = [float(order["amount"]) for order in orders if order["region"] == "north" and order["amount"]]

    report = _report(service, path="orders.csv", column="amount", group_by="region")

    assert report["rows"] == len(orders)
    assert report["columns"] == list(orders[0])
    assert report["empty"] == 2
    assert list(report["groups"]) == ["east", "north", "south", "west"]
    assert report["groups"]["north"] == {
        "count": len(north),
        "sum": pytest.approx(sum(north)),
        "mean": pytest.approx(sum(north) / len(north)),
        "min": min(north),
        "max": max(north),
    }
    assert sum(group["count"] for group in report["groups"].values()) == report["total"]["count"]


def test_it_reports_progress_and_logs_what_it_left_out(service: Service) -> None:
    job = service.wait_for_end(service.submit("csv_report", {"path": "orders.csv", "column": "amount"})["id"])

    lines = service.get(f"/jobs/{job['id']}/logs").json["lines"]
    assert job["progress"] == {"fraction": 1.0, "message": "200 rows"}
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert lines[1]["message"] == "2 rows have no amount and are left out"


def test_rows_may_come_with_the_payload(service: Service) -> None:
    report = _report(service, csv="\ufeffprice\r\n0.1\r\n0.2\r\n\r\n", column="price")

    assert report["total"] == {"count": 2, "sum": 0.3, "mean": 0.15, "min": 0.1, "max": 0.2}
    assert report["groups"] == {}


def test_a_quoted_value_may_hold_line_breaks_and_commas(service: Service) -> None:
    report = _report(service, csv='who,n\n"a,\nb",1\n"a,\nb",2\n', column="n", group_by="who")

    assert report["groups"]["a,\nb"]["sum"] == 3


def test_no_rows_make_an_empty_report(service: Service) -> None:
    report = _report(service, csv="n\n", column="n")

    assert report["rows"] == 0
    assert report["total"] == {"count": 0, "sum": 0.0, "mean": None, "min": None, "max": None}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no column 'n'; the columns are none"),
        ("a,b\n1,2\n", "there is no column 'n'; the columns are a, b"),
        ("n\n1\ntwo\n", "line 3: 'two' in column 'n' is not a number"),
        ("n\nnan\n", "line 2: 'nan' in column 'n' is not a number"),
        ("n\nsNaN\n", "line 2: 'sNaN' in column 'n' is not a number"),
        ("n\n1e999\n", "line 2: '1e999' in column 'n' is not a number"),
        ("n,m\n1\n", "line 2 has 1 values, but there are 2 columns"),
        ('n\n"1"2\n', "line 2 is not valid CSV"),
        ('n\n"1\n', "is not valid CSV"),
    ],
)
def test_bad_data_fails_the_job_with_the_reason(service: Service, text: str, reason: str) -> None:
    assert reason in _failure(service, csv=text, column="n")


def test_too_many_groups_fail_the_job(service: Service) -> None:
    text = "id,n\n" + "".join(f"{n},1\n" for n in range(1001))

    assert "1,000 groups" in _failure(service, csv=text, column="n", group_by="id")


def test_a_file_that_is_not_there_fails_the_job(service: Service) -> None:
    assert _failure(service, path="nothing.csv", column="n") == "there is no file 'nothing.csv'"


@pytest.mark.parametrize(
    "payload",
    [
        {"column": "n"},
        {"column": "n", "csv": "n\n", "path": "orders.csv"},
        {"column": "n", "path": "../csv_report.py"},
        {"column": "n", "path": "/etc/passwd"},
        {"column": "n", "path": "a/../../csv_report.py"},
        {"column": "n", "path": ""},
        {"column": "n", "path": "a\0b"},
        {"column": 1, "csv": "n\n"},
        {"column": "n", "csv": "n\n", "colour": "red"},
    ],
)
def test_a_payload_that_makes_no_sense_is_refused_at_once(service: Service, payload: object) -> None:
    answer = service.post("/jobs", {"type": "csv_report", "payload": payload})

    assert answer.status == 422
    assert answer.json["errors"][0]["path"].startswith("payload")


def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret.csv").write_text("n\n1\n")
    (tmp_path / "allowed" / "link.csv").symlink_to(tmp_path / "secret.csv")
    service = Service(tmp_path, GOFER_HANDLERS=ROOT / "examples" / "csv_report.py", CSV_REPORT_DIR=tmp_path / "allowed")
    try:
        service.wait_until_ready()
        assert _failure(service, path="link.csv", column="n") == "there is no file 'link.csv'"
    finally:
        service.kill()
