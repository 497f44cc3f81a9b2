"""The grammar of job ids, for every language.

    id       =  segment *("/" segment)      1 to 200 characters in all
    segment  =  1*(A-Z a-z 0-9 _ . : @ -)   but neither "." nor ".."

`:` names and `/` nests. A segment is never empty, `.` or `..`, because URL parsers (browsers,
curl, most HTTP libraries) resolve those before they send a request, so such an id in a path
would name another job.

The Lua and JavaScript copies are generated from `CHARACTERS` and `JOB_ID`, and from `MAX_JOB_ID` in
`constants.py`.
"""

from __future__ import annotations

import re
from typing import Final

from .constants import MAX_JOB_ID, MAX_PART, MAX_VERB
from .errors import InvalidInput

__all__ = [
    "CHARACTERS",
    "JOB_ID",
    "JOB_ID_RULE",
    "PART",
    "VERB",
    "check_job_id",
    "is_earlier_try",
    "is_job_id",
    "is_job_id_prefix",
    "is_part",
    "job_id",
]

CHARACTERS: Final = "A-Za-z0-9_.:@-"
"""The characters of a segment, as the inside of a character class."""
_NO_DOT = CHARACTERS.replace(".", "")
# Up to two dots and then another character, or three dots and more: no look-ahead, so that every
# dialect of regular expressions understands it, and it cannot backtrack.
_SEGMENT = rf"(?:\.{{0,2}}[{_NO_DOT}][{CHARACTERS}]*|\.{{3}}[{CHARACTERS}]*)"
JOB_ID: Final = rf"{_SEGMENT}(?:/{_SEGMENT})*"
"""A job id of any length, as a regular expression for a whole text; see `MAX_JOB_ID`."""
JOB_ID_RULE: Final = (
    f"1-{MAX_JOB_ID} characters of A-Z a-z 0-9 _ . : / @ -, no part between slashes empty, . or .."
)
"""The grammar in words, for error messages."""

_JOB_ID = re.compile(JOB_ID)
_DIGEST = 5  # bytes: 10 characters
PART: Final = f"[/{CHARACTERS}]{{1,{MAX_PART}}}"
"""The name of a part of a job (docs/protocol.md, Parts), as a regular expression."""
_PART = re.compile(PART)
VERB: Final = f"[a-z][a-z0-9_-]{{0,{MAX_VERB - 1}}}"
"""The verb of a request to a job: `cancel`, `pause`, or one of the application's own."""
_PREFIX = re.compile(rf"(?:{_SEGMENT}/)*[{CHARACTERS}]*")


_TRY = re.compile("([^#]+)#([0-9]{1,9})(?:~[^#]*)?")


def is_earlier_try(run: str | None, of: str | None) -> bool:
    """Returns whether both runs are tries with the same name, `NAME#NUMBER` or `NAME#NUMBER~…`, and
    `run` has the lower number."""
    first, second = _TRY.fullmatch(run or ""), _TRY.fullmatch(of or "")
    return bool(first and second and first[1] == second[1] and int(first[2]) < int(second[2]))


def is_job_id(text: object) -> bool:
    """Returns whether `text` is a job id."""
    return isinstance(text, str) and len(text) <= MAX_JOB_ID and _JOB_ID.fullmatch(text) is not None


def is_job_id_prefix(text: str) -> bool:
    """Returns whether a job id can begin with `text`."""
    return len(text) <= MAX_JOB_ID and _PREFIX.fullmatch(text) is not None


def is_part(text: str) -> bool:
    """Returns whether `text` may name a part of a job."""
    return _PART.fullmatch(text) is not None


def check_job_id(job: object, *, field: str = "job") -> str:
    """Returns `job` if it is a job id.

    Raises:
        InvalidInput: `job` is not a job id; the code is `invalid_job`.
    """
    if isinstance(job, str) and is_job_id(job):
        return job
    raise InvalidInput(f"{field} is not a job id: {JOB_ID_RULE}", code="invalid_job", field=field)


def job_id(text: str) -> str:
    """Returns a job id made of any text: a file's name, a title, an address.

    A job id is returned as it is. In any other text the characters that an id must not have are
    replaced (accents are dropped, others become `-`), and a short digest of the text is added, so
    that different texts have different ids. The same text always gives the same id.

    Args:
        text: Any text, also an empty one.
    """
    if is_job_id(text):
        return text
    # Imported here, so that a worker that makes no id does not load them.
    from hashlib import blake2b
    from unicodedata import normalize

    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).hexdigest()
    plain = re.sub("[\u0300-\u036f]", "", normalize("NFKD", text))
    words = re.sub(f"[^{CHARACTERS}]+", "-", plain)[: MAX_JOB_ID - 2 * _DIGEST - 1]
    return f"{words.strip('-')}-{digest}".lstrip("-")
