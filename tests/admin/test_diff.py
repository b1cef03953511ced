from core.admin.diff import changes


def test_one_row_per_changed_path() -> None:
    before = {"name": "a", "config": {"steps": 8, "on": True, "gone": None}, "toolsets": ["x"], "rows": [{"n": 1}]}
    after = {"name": "a", "config": {"steps": 3, "on": False}, "toolsets": ["x", "y"], "rows": [{"n": 2}, {"n": 3}]}
    found = {change.path: (change.before, change.after) for change in changes(before, after)}
    assert found == {
        "config.steps": ("<del>8</del>", "<ins>3</ins>"),
        "config.on": ("<del>yes</del>", "<ins>no</ins>"),
        "config.gone": ("<del>none</del>", ""),
        "toolsets": ("<del>x</del>", "<ins>x, y</ins>"),
        "rows[0].n": ("<del>1</del>", "<ins>2</ins>"),
        "rows[1].n": ("", "<ins>3</ins>"),
    }


def test_long_text_is_compared_word_by_word() -> None:
    text = "Be short and kind, and always ask for the order number."
    (change,) = changes({"text": text}, {"text": text.replace("short", "brief")})
    assert change.before.startswith("Be <del>short</del> and kind")
    assert change.after.startswith("Be <ins>brief</ins> and kind")


def test_markup_in_values_is_text() -> None:
    evil = "<script>alert(1)</script>"
    (short,) = changes({"x": evil}, {"x": ""})
    (long,) = changes({"x": evil * 3}, {"x": evil * 2 + " more"})
    for html in (short.before, long.before, long.after):
        assert "<script>" not in html
        assert "&lt;script&gt;" in html


def test_nothing_differs() -> None:
    assert changes(None, None) == []
    assert changes({"a": {}}, {"a": {}}) == []
    assert changes({"a": [1]}, {"a": [1]}) == []


def test_a_new_document() -> None:
    assert [change.path for change in changes(None, {"a": 1, "b": {"c": 2}})] == ["a", "b.c"]
