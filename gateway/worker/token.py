"""The token for the gateway: a text, or the content of a file.

Another program may replace the token in a file at any time. So the file is read for each request,
and a file without a valid token counts as a temporary error.
"""

from __future__ import annotations

import os
from os import PathLike

from .limits import MAX_TOKEN_LENGTH
from .publisher import Token, Unreachable

__all__ = ["check_token", "newest_token", "token_from_environment"]


def token_from_environment() -> Token:
    """Returns `PROGRESS_GATEWAY_TOKEN`, or the path in `PROGRESS_GATEWAY_TOKEN_FILE`, or None."""
    token = os.environ.get("PROGRESS_GATEWAY_TOKEN")
    path = os.environ.get("PROGRESS_GATEWAY_TOKEN_FILE")
    if token or not path:
        return token or None
    from pathlib import Path  # seldom needed, and slow to import

    return Path(path)


def check_token(token: Token) -> None:
    """Raises ValueError or TypeError if this is not a token. A file's content is not checked."""
    if isinstance(token, str):
        _check_characters(token)
    elif token is not None and not isinstance(token, PathLike):
        raise TypeError(f"token must be a str or a path, not {type(token).__name__}")


def newest_token(token: Token) -> str | None:
    """Returns the current token. Raises `Unreachable` if its file contains none, because another
    program may write one soon."""
    if not isinstance(token, PathLike):
        return token
    try:
        with open(token, "rb") as file:  # binary, because a text file would import its codec here
            text = file.read(MAX_TOKEN_LENGTH).strip().decode("ascii")
        _check_characters(text)
    except (OSError, ValueError) as error:
        raise Unreachable(f"no token in {token}: {error}") from error
    if not text:
        raise Unreachable(f"no token in {token}: it is empty")
    return text


def _check_characters(token: str) -> None:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token must be printable ASCII without spaces")
