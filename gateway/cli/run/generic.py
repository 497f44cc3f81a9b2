"""Finds the progress in a line of an unknown program. Pure.

    37%  37.5 %  37,5%  37％  ٣٧٪                    a percentage, up to 100
    12/40  3 / 12  1,200/4,000  5 of 10  3 out of 10  a count, if it is not above its total
    12.5MB/40.0MB  12.5/40.0 MB  900K of 2M           a count of bytes
    {"percent_done": 0.45}  {"done": 3, "total": 9}   the same in JSON

These do not count: signed or longer numbers (`-5%`, `250%`, `5%20`), parts of paths, addresses
and words (`a/1/2`, `http://x/1/2`, `10.0.0.1/24`, `::1/128`, `v1/2`), dates (`2024/11`,
`24/11/05`, `11/2024`, `11/24 10:31:02`), versions (`57. 28.100 / 57. 28.100`), numbers with another
meaning (`accuracy: 93%`, `SAR=1/1`, `2% packet loss`, `63% /mnt`), and several percentages in one
line.

A percentage and a count with the same value (as in tqdm's bars) are one progress. If they differ, a
percentage after a count is that of the item (`file 3/10: 45%` is 24.5 %).

A line is *sure*, and its progress is shown at once, if the place of the number or a word beside it
shows that it is progress. Otherwise the number must rise first. Every pattern takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...model.constants import MAX_NUMBER
from .line_progress import LineProgress, quantity

__all__ = ["label_of", "parse_line"]

_NOT_BEFORE = r"(?<![\w.…/\\+\-%~^])(?<!\d[,:])"
_NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,16})(?:\.\d{1,16})?"
_UNIT = r"(?: ?(?:[kKMGTP]i?)?(?:B|bytes)|[kKMGTP]i?)?\b"
_PERCENT = re.compile(rf"{_NOT_BEFORE}(\d{{1,3}}(?:\.\d{{1,16}}|,\d{{1,2}})?) ?%(?![\w%])")
_COUNT = re.compile(
    rf"{_NOT_BEFORE}(?P<done>{_NUMBER}|\d{{1,16}},\d{{1,2}})(?P<done_unit>{_UNIT})"
    r"(?:/| / | (?:out )?of )"
    rf"(?P<total>{_NUMBER}|\d{{1,16}},\d{{1,2}})(?P<total_unit>{_UNIT})"
    r"(?![\w/\\%…\-]|[.,:]\d| /)"
)
_TO_ASCII = str.maketrans(
    dict(zip("０１２３４５６７８９", "0123456789", strict=True))
    | dict(zip("٠١٢٣٤٥٦٧٨٩", "0123456789", strict=True))
    | dict(zip("۰۱۲۳۴۵۶۷۸۹", "0123456789", strict=True))
    | {"％": "%", "﹪": "%", "٪": "%", "／": "/", "⁄": "/", "∕": "/", "٫": ".", "٬": ","}
)
_CONTEXT_LENGTH = 40
"""The number of characters before and after a number that decide its meaning."""

_OTHER_MEANINGS = (
    r"loss|acc|accuracy|precision|recall|f1|auc|map|iou|coverage|covered|cpu|gpu|mem|memory|ram|"
    r"swap|disk|usage|use|used|util\w*|free|full|aspect|ratio|sar|dar|par|version|confidence|"
    r"errors?|rate|similarity|compress\w*|deflated|stored|saved|savings?|reduc\w*|batter\w*|"
    r"volume|load|capacity|quality|scores?|grade|rating|rank|threshold|opacity|zoom|brightness|"
    r"discount|hits?|miss\w*|fail\w*|pass|passed|passing|skip\w*|warnings?|probability|lr|alpha|"
    r"beta|weight|intra|inter|direct|overhead|humidity|match|identical|change|growth|result|"
    r"results|dropped?|lost|occupied|cached|utiliz\w*|sampl\w*|fps|speed|idle|busy|wait|iowait"
)
_OTHER_MEANING_BEFORE = re.compile(rf"(?<![^\W_])(?:{_OTHER_MEANINGS})[\s:=(\[<>~≈|'\"-]*\Z", re.I)
_OTHER_MEANING_AFTER = re.compile(
    rf"(?:[)\]]?,? (?:of (?:the )?)?(?:packet )?(?:{_OTHER_MEANINGS}|packet|cores?|faster|slower|"
    r"smaller|larger|bigger|less|more|better|worse|decrease|increase|off|optimized)\b"
    r"| of [^\W\d]| ?/\S?| \([^)]*=>| ?[-=]+>| = | ?--)",
    re.I,
)
_RATIO_BEFORE = re.compile(r"(?:=>|->|\w=)\s*\Z")
_PROGRESS_WORDS = (
    r"progress|done|complete[d]?|finished|processed|epochs?|steps?|files?|stages?|tasks?|frames?|"
    r"batch(?:es)?|pages?|rows?|items?|chunks?|blocks?|phases?|iter\w*|rounds?|records?|objects?|"
    r"layers?|images?|lines?|entries|packages?|executed|\w{2,}ing|\w{2,}ed"
)
_SURE_BEFORE = re.compile(
    rf"(?:\A[\[(<|\s]*|(?<![^\W_])(?:{_PROGRESS_WORDS})[\s:=([#-]*|[#=>█━▏▎▍▌▋▊▉─|.*-][\]|]?\s*)\Z",
    re.I,
)
_SURE_LABEL = re.compile(r"(?!us|dur|remain|accord|pend|warn)\w{2,}ing\b", re.I)
_SURE_AFTER = re.compile(rf"[)\]]?,? ?(?:{_PROGRESS_WORDS})\b|\s*\|", re.I)
_CLOSED = re.compile(r"[%\s]*[)\]]")
_LABEL_OF_ADDRESS = re.compile(r"(?:\A|[\s(\[{,;])(?!localhost:)[A-Za-z]+:\Z")
_REMAINING_COUNT = re.compile(r"(?:to|ir)-chk=\Z")
_TIME_OF_DAY = re.compile(r"\s+\d\d:\d\d:\d\d")
_NAME_END = re.compile(r"(?:\[[^\w\]]*\]|[\s:=(\[{|<#>█━─▏▎▍▌▋▊▉.•·…,;*-])+\Z")
_NAME_START = re.compile(
    r"\A(?:\[?\d{2,4}[-/.:]\d\d[-/.:T]?[\d:.,+Z -]*\]?\s*|\[[^\]]*\]\s*|[^\w]+)+"
)
_MAX_NAME_LENGTH = 60

_JSON_PERCENT = re.compile(
    r'"(?P<key>percent_?done|percent(?:age)?|pct|progress|fraction)" ?: ?"?'
    r'(?P<value>\d{1,16}(?:\.\d{1,20})?)(?:"|%|(?=[\s,}\]]))',
    re.I,
)
_JSON_DONE = re.compile(
    r'"(?:done|current|completed|processed|finished)" ?: ?(\d{1,16})[,\s}]', re.I
)
_JSON_TOTAL = re.compile(r'"total" ?: ?(\d{1,16})[,\s}]', re.I)


def parse_line(text: str) -> LineProgress | None:
    """Returns the progress in one line; None if there is none. `text` must be the result of
    `lines.plain_text`."""
    if not text.isascii():
        text = text.translate(_TO_ASCII)
    if text.startswith("{"):
        return _parse_json(text)
    percents = [*_percents(text)] if "%" in text else []
    counts = [*_counts(text)] if "/" in text or " of " in text else []
    if len({match[1] for match in percents}) > 1:
        percents = []  # a table, or statistics
    if not percents and not counts:
        return None
    percent = percents[-1] if percents else None
    percentage = _percentage(percent) if percent else None
    count = (
        counts[-1]
        if counts and _done_and_total(counts[-1])[1] == _done_and_total(counts[0])[1]
        else None
    )
    if counts and count is None:
        count = counts[0]  # later counts are of items inside it
    first = min((m for m in (percent, count) if m is not None), key=re.Match.start)
    label = label_of(text[: first.start()])
    sure = _is_sure(first, text) or bool(_SURE_LABEL.match(label))
    if count is None:
        return LineProgress(label=label, percent=percentage, is_sure=sure)
    done, total = _done_and_total(count)
    if percentage is None or percent is None:
        return LineProgress(label=label, done=done, total=total, is_sure=sure)
    if abs(percentage - 100 * done / total) <= 1.5:
        return LineProgress(label=label, done=done, total=total, percent=percentage, is_sure=sure)
    if percent.start() < count.start():
        return LineProgress(label=label, percent=percentage, is_sure=sure)
    if not 1 <= done <= total or done != int(done):
        return None
    return LineProgress(label=label, percent=percentage, item=(int(done), int(total)), is_sure=sure)


def label_of(text: str) -> str:
    """Returns the name of a phase, from the text before its number; empty if there is none."""
    name = _NAME_END.sub("", _NAME_START.sub("", text[-2 * _MAX_NAME_LENGTH :]))
    return name[-_MAX_NAME_LENGTH:] if re.search(r"[^\W\d_]{2}", name) else ""


def _percents(text: str) -> Iterator[re.Match[str]]:
    for match in _PERCENT.finditer(text):
        if _percentage(match) <= 100 and not _has_other_meaning(match, text):
            yield match


def _counts(text: str) -> Iterator[re.Match[str]]:
    for match in _COUNT.finditer(text):
        done, total = _done_and_total(match)
        if 0 <= done <= total <= MAX_NUMBER and total > 0 and not _is_not_a_count(match, text):
            yield match


def _percentage(match: re.Match[str]) -> float:
    return float(match[1].replace(",", "."))


def _done_and_total(match: re.Match[str]) -> tuple[float, float]:
    """Returns done and total; `-1, -1` if they are not numbers."""
    done_unit, total_unit = match["done_unit"], match["total_unit"]
    done = quantity(match["done"] + (done_unit or total_unit))
    total = quantity(match["total"] + total_unit)
    return (-1, -1) if done is None or total is None else (done, total)


def _is_not_a_count(match: re.Match[str], text: str) -> bool:
    start, unit = match.start(), match["done_unit"] or match["total_unit"]
    if _REMAINING_COUNT.search(text, max(0, start - _CONTEXT_LENGTH), start) or _has_other_meaning(
        match, text
    ):
        return True
    if text.endswith(":", 0, start):
        # `Epoch:3/40` but neither `host.org:80/443` nor `::1/128`.
        return not _LABEL_OF_ADDRESS.search(text, max(0, start - _CONTEXT_LENGTH), start)
    if unit or " of " in match[0]:
        return False
    if "." in match[0]:
        return True  # versions and measures; a count has no fractions
    done, total = _done_and_total(match)
    if 1 <= done <= 12 and 1900 <= total <= 2100 and not text.endswith(("[", "("), 0, start):
        return True  # a month of a year
    day = 1 <= done <= 31 and 1 <= total <= 31
    return day and start == 0 and bool(_TIME_OF_DAY.match(text, match.end()))


def _has_other_meaning(match: re.Match[str], text: str) -> bool:
    before = text[max(0, match.start() - _CONTEXT_LENGTH) : match.start()]
    return bool(
        _OTHER_MEANING_BEFORE.search(before)
        or (_RATIO_BEFORE.search(before) and not before.rstrip().endswith(_BAR_ENDS))
        or _OTHER_MEANING_AFTER.match(text, match.end())
    )


_BAR_ENDS = ("progress=", "done=")


def _is_sure(match: re.Match[str], text: str) -> bool:
    before = text[max(0, match.start() - _CONTEXT_LENGTH) : match.start()]
    if _SURE_BEFORE.search(before) or _SURE_AFTER.match(text, match.end()):
        return True
    return before.endswith(("[", "(", "[ ", "( ")) and bool(_CLOSED.match(text, match.end()))


def _parse_json(text: str) -> LineProgress | None:
    done, total = _JSON_DONE.search(text), _JSON_TOTAL.search(text)
    if done and total and 0 <= int(done[1]) <= int(total[1]) <= MAX_NUMBER and int(total[1]):
        return LineProgress(done=int(done[1]), total=int(total[1]))
    match = _JSON_PERCENT.search(text)
    if match is None:
        return None
    value = float(match["value"])
    share = match["key"].lower().replace("_", "") in ("percentdone", "progress", "fraction")
    if share and value <= 1:
        if value == 1 and "." not in match["value"] and match["key"] == "progress":
            return None  # 1 may mean 1 % or 100 %
        value *= 100
    return LineProgress(percent=value) if value <= 100 else None
