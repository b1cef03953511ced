"""Tables as CSV: what a spreadsheet must not calculate, and what it must."""

from core.csv_response import CsvResponse


def test_text_is_guarded_and_numbers_stay() -> None:
    rows = [("=1+1", "-1.5", "-2"), ("-1+1", "-", "+1"), ("@x", -3, None)]
    sent = CsvResponse("a.csv", ("one", "two", "three"), rows)
    assert b"".join(iter(sent)).decode().split("\r\n")[1:-1] == ["'=1+1,-1.5,-2", "'-1+1,'-,'+1", "'@x,-3,"]
