"""What is shown to a gateway that asks: a token, or what the file of one has now.

Whoever renews the token in a file puts the new one in its place; so the file is read
whenever it is to be shown, and one without a good token may have one soon.
"""

from __future__ import annotations

import os
from os import PathLike

from .limits import MAX_TOKEN
from .publisher import Token, Unreachable

__all__ = ["check_token", "newest_token", "token_of_environment"]


def token_of_environment() -> Token:
    """`GATEWAY_TOKEN`, or else the file that `GATEWAY_TOKEN_FILE` names; None without either."""
    token = os.environ.get("GATEWAY_TOKEN")
    path = os.environ.get("GATEWAY_TOKEN_FILE")
    if token or not path:
        return token or None
    from pathlib import Path  # few need it, and it takes its time

    return Path(path)


def check_token(token: Token) -> None:
    """Raise ValueError or TypeError if it is none. What a file has is not looked at."""
    if isinstance(token, str):
        _check_text(token)
    elif token is not None and not isinstance(token, PathLike):
        raise TypeError(f"token must be a str or a path, not {type(token).__name__}")


def newest_token(token: Token) -> str | None:
    """The token to show now. Raises `Unreachable` if its file has none, as it soon may."""
    if not isinstance(token, PathLike):
        return token
    try:
        with open(token, "rb") as file:  # no text file, whose codec would be imported here
            text = file.read(MAX_TOKEN).strip().decode("ascii")
        _check_text(text)
    except (OSError, ValueError) as error:
        raise Unreachable(f"no token in {token}: {error}") from error
    if not text:
        raise Unreachable(f"no token in {token}: it is empty")
    return text


def _check_text(token: str) -> None:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token must be printable ASCII without spaces")
