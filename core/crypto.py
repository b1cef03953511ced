"""Secrets at rest: AES-256-GCM under a master key, bound to the row that holds them."""

import hashlib
import os
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

_VERSION = b"\x01"
_NONCE = 12


@lru_cache(maxsize=4)
def _cipher(master_key: str) -> AESGCM:
    return AESGCM(hashlib.sha256(master_key.encode()).digest())


def encrypt(secret: str, *, context: str) -> bytes:
    """Encrypt; the same `context` (tenant and row) must be given to decrypt, so a copied value is useless elsewhere."""
    nonce = os.urandom(_NONCE)
    return _VERSION + nonce + _cipher(settings.MASTER_KEY).encrypt(nonce, secret.encode(), context.encode())


def decrypt(stored: bytes, *, context: str) -> str:
    """Raises `cryptography.exceptions.InvalidTag` when the key or the context is another."""
    stored = bytes(stored)
    nonce, sealed = stored[1 : 1 + _NONCE], stored[1 + _NONCE :]
    return _cipher(settings.MASTER_KEY).decrypt(nonce, sealed, context.encode()).decode()
