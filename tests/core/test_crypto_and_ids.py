"""Secrets at rest, and keys that sort by time."""

import pytest
from cryptography.exceptions import InvalidTag

from core.crypto import decrypt, encrypt
from core.ids import parse_uuid, uuid7


def test_a_secret_is_bound_to_its_row_and_key(settings: pytest.FixtureRequest) -> None:
    sealed = encrypt("sk-secret", context="tenant:row")
    assert b"secret" not in sealed
    assert sealed != encrypt("sk-secret", context="tenant:row")
    assert decrypt(sealed, context="tenant:row") == "sk-secret"
    with pytest.raises(InvalidTag):
        decrypt(sealed, context="tenant:other")
    settings.MASTER_KEY = "another-key-of-at-least-32-characters"
    with pytest.raises(InvalidTag):
        decrypt(sealed, context="tenant:row")


def test_ids_are_uuid7_in_order() -> None:
    ids = [uuid7() for _ in range(20_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {(id.version, id.variant) for id in ids} == {(7, "specified in RFC 4122")}


@pytest.mark.parametrize(
    "text", ["", "x", "{01a1fbe8-3d9c-74ff-8b0e-cbad83f34b1f}", "01a1fbe83d9c74ff8b0ecbad83f34b1f", None]
)
def test_only_the_canonical_form_is_an_id(text: str | None) -> None:
    assert parse_uuid(text) is None
    assert parse_uuid("01A1FBE8-3d9c-74ff-8b0e-cbad83f34b1f") is not None
