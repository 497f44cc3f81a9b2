"""`gateway token` and `gateway revoke`: make a token, and revoke one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from ..config import settings
from .client_options import gateway_options
from .options import REFUSED, WRONG, configured, exit_for_setting, give_up, needs_server, set_by
from .terminal import echo

if TYPE_CHECKING:
    from ..worker.publisher import Token

__all__ = ["revoke", "token"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
REVOKE_WITHIN = 10.0  # seconds


def duration(context: click.Context, parameter: click.Parameter, text: str) -> float:
    """Seconds in a text such as `90`, `10m`, `12h`, `30d`."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter("must be like 90s, 10m, 12h or 30d", context, parameter)
    return float(int(match[1]) * _UNITS[match[2]])


@click.command()
@configured
@click.option("--watch", multiple=True, metavar="PATTERN", help="Jobs the token may watch.")
@click.option("--publish", multiple=True, metavar="PATTERN", help="Jobs the token may publish.")
@click.option("--control", multiple=True, metavar="PATTERN", help="Jobs that may be cancelled.")
@click.option("--revoke", is_flag=True, help="The token may revoke others.")
@click.option("--ttl", default="10m", show_default=True, callback=duration, metavar="TIME")
@click.option("--subject", metavar="TEXT", help="Subject (sub).")
@click.option("--id", "token_id", metavar="TEXT", help="Id (jti) by which it can be revoked.")
@set_by(settings.KEYS)
@set_by(settings.SECRET)
@set_by(settings.AUDIENCE)
def token(*, ttl: float, keys: tuple[str, ...], secret: str | None, **claims: Any) -> None:
    """Make a token and print it.

    A pattern is a job id, or the beginning of one followed by *. The token is signed with the
    first key that can sign.

    \b
    gateway token --watch 'user:7:*' --ttl 10m            for a page
    gateway token --publish '*' --ttl 30d                 for workers: PROGRESS_GATEWAY_TOKEN
    """
    needs_server()
    import time

    from ..auth.key_sources import KeySources
    from ..auth.tokens import sign_token
    from ..model.errors import InvalidInput, InvalidSettings

    try:
        key_sources = KeySources(keys, secret=secret)
        key_sources.load()
    except InvalidSettings as error:
        exit_for_setting(error)
    key = next((key for key in key_sources.keys if key.private is not None), None)
    if key is None:
        give_up(
            "no key to sign with: set --keys (PROGRESS_GATEWAY_KEYS) or PROGRESS_GATEWAY_SECRET",
            code=WRONG,
        )
    if not any(claims[name] for name in ("watch", "publish", "control", "revoke")):
        give_up("the token allows nothing: set --watch or --publish", code=WRONG)
    try:
        click.echo(sign_token(key, now=time.time(), ttl=ttl, **claims))
    except InvalidInput as error:
        give_up(str(error), code=WRONG)


@click.command()
@click.argument("revoked", metavar="TOKEN|ID")
@gateway_options
def revoke(revoked: str, *, url: str, token: Token) -> None:
    """Revoke a token. Connections that use it are closed within one second.

    Give the token itself, or its id. To revoke another token than your own, authenticate with
    one that was made with --revoke (--token, --token-file).
    """
    import json
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from ..worker.publisher import Unreachable
    from ..worker.token import newest_token

    try:
        own = newest_token(token)
    except Unreachable as error:
        give_up(str(error), code=REFUSED)
    asked, shown = _what(revoked, own=own)
    request = Request(  # noqa: S310 - the setting is an http(s) URL
        f"{url.rstrip('/')}/api/revocations",
        json.dumps(asked).encode(),
        {"authorization": f"Bearer {shown}", "content-type": "application/json"},
    )
    try:
        with urlopen(request, timeout=REVOKE_WITHIN) as answer:  # noqa: S310 - likewise
            echo(f"revoked {json.load(answer)['id']}")
    except HTTPError as error:
        detail = _detail(error.read())
        give_up(f"the gateway refuses: {error.code} {detail}", code=1)
    except OSError as error:
        give_up(f"the gateway at {url} does not answer: {error}", code=REFUSED)


def _what(revoked: str, *, own: str | None) -> tuple[dict[str, Any], str]:
    """What is to be revoked, and the token to show for it."""
    if revoked.count(".") != 2:
        if own is None:
            give_up(
                "to revoke by id, set --token (PROGRESS_GATEWAY_TOKEN) to one that may", code=WRONG
            )
        return {"id": revoked}, own
    needs_server()
    import jwt

    try:
        claims = jwt.decode(revoked, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        give_up(f"not a token: {error}", code=WRONG)
    if not isinstance(claims.get("jti"), str):
        give_up("this token has no id (jti): it cannot be revoked", code=WRONG)
    asked = {"id": claims["jti"]}
    if isinstance(claims.get("exp"), int | float):
        asked["until"] = claims["exp"] + 60  # the leeway of the gateway's clock, and more
    return asked, own or revoked


def _detail(body: bytes) -> str:
    import json

    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return "(it is not a gateway)"
