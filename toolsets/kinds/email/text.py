"""Text of hostile mails: whatever the bytes are, the answer is text, in time linear to their length."""

import binascii
import codecs
import quopri
import re
import unicodedata

MAX_HEADER = 2000  # characters of one header that are looked at
# Python has codecs that are no charsets, and some (punycode, idna) take quadratic time.
_CHARSET = re.compile(
    r"(utf[-_]?(8|16|32)([-_]?[lb]e)?|us-ascii|ascii|latin-?1|iso[-_]?8859[-_]\d{1,2}|(windows|cp|ibm)[-_]?\d{3,4}"
    r"|koi8[-_][rut]|mac[-_a-z]{0,12}|gb2312|gbk|gb18030|hz-gb-2312|big5([-_]?hkscs)?|euc[-_](jp|kr)|ks_c_5601-1987"
    r"|iso-2022-(jp|kr)[-_a-z0-9]{0,6}|shift[-_]?jis|sjis|tis-620)",
    re.IGNORECASE,
)
# Control characters, and characters that show nothing or turn text around: soft hyphen, zero-width ones, marks of
# direction, tags. The joiners that emoji and Indic scripts need stay.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_BREAK = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]*)\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)\s+(?==\?)")


def single_line(text: str) -> str:
    """Raises ValueError for what must not stand in a header: control characters, line breaks, turned text."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text) or _UNSEEN.search(text):
        raise ValueError("must be one line without control or invisible characters")
    return text


def plain_text(text: str) -> str:
    """Raises ValueError for control characters other than line breaks and tabs."""
    if any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\r\n\t" for character in text):
        raise ValueError("must not hold control characters other than line breaks and tabs")
    return text


def without_transfer_encoding(data: bytes, encoding: str) -> bytes:
    """Lenient: characters that do not belong there, and a lost end, are left out."""
    match encoding.lower():
        case "base64":
            digits = _NOT_BASE64.sub(b"", data)
            if len(digits) % 4 == 1:
                digits = digits[:-1]
            return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
        case "quoted-printable":
            return quopri.decodestring(data)
    return data


def decoded(data: bytes, charset: str) -> str:
    """An unknown charset is read as UTF-8; bytes that do not fit become U+FFFD."""
    try:
        codec = codecs.lookup(charset) if _CHARSET.fullmatch(charset) else None
        return data.decode(codec.name if codec else "utf-8", "replace")
    except (LookupError, UnicodeError):
        return data.decode("utf-8", "replace")


def clean(text: str) -> str:
    """Text with plain line breaks and without what nobody sees."""
    return _UNSEEN.sub("", _BREAK.sub("\n", text))


def header_text(raw: bytes) -> str:
    """A header's value as one line, its encoded words (RFC 2047) decoded."""
    text = raw[:MAX_HEADER].decode("utf-8", "replace")
    text = _WORD.sub(_decoded_word, _BETWEEN_WORDS.sub(r"\1", text))
    return " ".join(clean(text).split())


def _decoded_word(word: re.Match[str]) -> str:
    charset, kind, text = word.groups()
    data = text.encode("ascii", "replace")
    data = without_transfer_encoding(data, "base64") if kind in "bB" else quopri.decodestring(data, header=True)
    return decoded(data, charset.partition("*")[0])  # RFC 2231: charset*language
