"""The table of the known programs, with the patterns for their progress. Pure.

`matching.Profile` describes the patterns. If a program has several profiles, the first one whose
`when` matches its arguments is used.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from .matching import Profile

__all__ = ["PROFILES", "profile_for", "profile_named"]

_SIZE = r"[\d.,]+ ?[kKMGTP]?i?(?:B|ytes)?"
_GIT_PROGRESS = (
    r"^(?:remote: )?(?P<phase>[A-Z][a-z ]+):\s+(?P<percent>\d+)% \((?P<done>\d+)/(?P<total>\d+)\)"
)
_SEVERAL_DOWNLOADS = (
    r"(?:^| )-{1,2}(?:r|i|m|p|Z|input-file|recursive|mirror|page-requisites|force-sequential)\b"
)
_RESTIC_CHECKED = (
    r"^\[[\d:]+\] (?P<percent>[\d.]+)%(?: +(?P<done>\d+) / (?P<total>\d+) (?P<phase>[a-z ]+\w))?"
)

PROFILES: tuple[Profile, ...] = (
    Profile(
        name="ffmpeg",
        commands=("ffmpeg",),
        lines=(
            r"^Duration: (?P<total>\d[\d:.]+), start",
            r"\btime=(?P<done>\d\d+:[\d:.]+)",
            r"^out_time=(?P<done>\d\d+:[\d:.]+)",
        ),
        arguments=(
            r"(?:^| )-ss (?P<skip>[\d:.]+)(?= )(?!.* -(?:t|to) )",
            r"(?:^| )-t (?P<total>[\d:.]+)(?= )",
        ),
        no_total=r"setpts|atempo|rubberband|trim|concat|loop|select=|framestep|xfade|[at]pad\b|"
        r"(?:^| )-(?:to|sseof|[avd]?frames(?::\w+)?|shortest|fs|itsscale|itsoffset|"
        r"loop|ignore_loop|r \S+ (?:-\w+ \S+ )*-i) ",
        unit="s",
    ),
    Profile(
        name="handbrake",
        commands=("HandBrakeCLI",),
        lines=(
            r"^Encoding: task (?P<item>\d+) of (?P<items>\d+), (?P<percent>[\d.]+) %",
            r'^"State": "(?:(?P<unsure>SCANNING|MUXING|SEARCHING)|(?P<sure>WORKING))"',
            r'^"Pass": (?P<item>\d+)',
            r'^"PassCount": (?P<items>\d+)',
            r'^"Progress": (?P<fraction>[\d.]+)',
        ),
    ),
    Profile(
        name="rsync-whole",
        commands=("rsync",),
        when=r"progress2",
        lines=(
            r"ir-chk=(?P<unsure>\d)",  # the list of files is not complete, nor the total
            r"^[\d,.]+\w? (?P<percent>\d+)% .*to-chk=(?P<sure>\d)",
            r"^[\d,.]+\w? (?P<percent>\d+)% ",
        ),
    ),
    Profile(
        name="rsync",
        commands=("rsync",),
        lines=(r"\bto-chk=(?P<left>\d+)/(?P<total>\d+)",),
        unit="files",
    ),
    Profile(
        name="rclone",
        commands=("rclone",),
        lines=(rf"Transferred: (?P<done>{_SIZE}) / (?P<total>{_SIZE}), (?P<percent>\d+)%, .*ETA",),
        unit="bytes",
    ),
    Profile(
        name="restic",
        commands=("restic",),
        when=r"--read-data",
        lines=(_RESTIC_CHECKED,),
        phases={"snapshots": (0, 0.1), "packs": (0.1, 0.99)},
    ),
    Profile(
        name="restic",
        commands=("restic",),
        when=r"(?:^| )(?:backup|restore)\b",
        lines=(r'"message_type":"status".*"percent_done":(?P<fraction>[\d.e-]+)', _RESTIC_CHECKED),
    ),
    Profile(name="restic", commands=("restic",), lines=(_RESTIC_CHECKED,), whole=False),
    Profile(
        name="borg",
        commands=("borg", "borgmatic"),
        lines=(
            r" O .* C .* D (?P<done>\d+) N\b",
            r'"nfiles": (?P<done>\d+)',
            r'"current": (?P<done>\d+), "total": (?P<total>[1-9]\d*)',
            r"^(?P<percent>[\d.]+)% ",
            r"^(?P<phase>[A-Z][a-z ]+[a-z])(?: [\d.]+s?)? (?P<percent>[\d.]+)%",
        ),
    ),
    Profile(
        name="git",
        commands=("git",),
        when=r"^(?:-\S+ (?:\S+ )?)*(?:clone|fetch|pull|remote|submodule)\b",
        lines=(_GIT_PROGRESS,),
        phases={
            "Counting objects": (0, 0.04),
            "Compressing objects": (0.04, 0.1),
            "Receiving objects": (0.1, 0.8),
            "Resolving deltas": (0.8, 0.95),
            "Updating files": (0.95, 0.99),
        },
    ),
    Profile(
        name="git",
        commands=("git",),
        when=r"^(?:-\S+ (?:\S+ )?)*(?:push|gc|repack|bundle)\b",
        lines=(_GIT_PROGRESS,),
        phases={
            "Counting objects": (0, 0.05),
            "Compressing objects": (0.05, 0.3),
            "Writing objects": (0.3, 0.9),
            "Resolving deltas": (0.9, 0.99),
        },
    ),
    Profile(name="git", commands=("git",), lines=(_GIT_PROGRESS,), whole=False),
    Profile(
        name="curl",
        commands=("curl",),
        only_stderr=True,
        each=r"^(?:https?|ftps?|sftp|scp)://",
        lines=(
            r"^(?P<percent>\d+) [1-9][\d.]*[kMGTP]? \d+ [\d.]+[kMGTP]? \d+ [\d.]+[kMGTP]? ",
            r"^[#=O-]+ +(?P<percent>[\d.]+)%",
        ),
    ),
    Profile(
        name="wget-many",
        commands=("wget", "wget2"),
        only_stderr=True,
        when=_SEVERAL_DOWNLOADS,
        lines=(r"\.+ +(?P<percent>\d+)% +\S", r"(?P<percent>\d+)%\["),
        whole=False,
    ),
    Profile(
        name="wget",
        commands=("wget", "wget2"),
        only_stderr=True,
        each=r"^(?:https?|ftps?)://",
        lines=(r"\.* +(?P<percent>\d+)% +[\d.]+[KMGT]?[ =]", r"(?P<percent>\d+)%\["),
    ),
    Profile(
        name="aria2-many",
        commands=("aria2c",),
        when=_SEVERAL_DOWNLOADS + r"|\.torrent|\.metalink|\.meta4",
        lines=(rf"\[#\w+ (?P<done>{_SIZE})/(?P<total>{_SIZE})\((?P<percent>\d+)%\)",),
        whole=False,
        unit="bytes",
    ),
    Profile(
        name="aria2",
        commands=("aria2c",),
        lines=(rf"^\[#\w+ (?P<done>{_SIZE})/(?P<total>{_SIZE})\((?P<percent>\d+)%\)",),
        unit="bytes",
    ),
    Profile(
        name="yt-dlp",
        commands=("yt-dlp", "youtube-dl"),
        each=r"^(?:https?://|yt\w*:)",
        lines=(
            r"^\[download\] Downloading (?:item|video) (?P<item>\d+) of (?P<items>\d+)",
            r"^\[download\] (?P<percent>[\d.]+)% of",
        ),
    ),
    Profile(
        name="pip",
        commands=("pip", "pipx"),
        lines=(
            r"^Downloading (?P<phase>\S+) \(",
            r"(?P<done>[\d.]+)/(?P<total>[\d.]+) [kMGT]?B ",
            r"^Progress (?P<done>\d+) of (?P<total>\d+)",
        ),
        whole=False,
    ),
    Profile(
        name="docker",
        commands=("docker", "podman", "nerdctl"),
        when=r"\bpull\b",
        lines=(
            r"^(?P<of>[0-9a-f]{12}): (?:Pulling fs layer|Waiting|Downloading|Verifying|Extracting)",
            r"^(?P<one>(?P<of>[0-9a-f]{12})): (?:Pull complete|Already exists)",
        ),
        unit="layers",
    ),
    Profile(
        name="docker-build",
        commands=("docker", "podman", "buildah"),
        when=r"\bbuild\b",
        lines=(r"^(?:Step|STEP) (?P<done>\d+)/(?P<total>\d+) ?:",),
        unit="steps",
    ),
    Profile(
        name="aws",
        commands=("aws",),
        lines=(rf"^Completed (?P<done>{_SIZE})/(?P<total>{_SIZE}) \([^~]*remaining",),
        unit="bytes",
    ),
    Profile(
        name="apt",
        commands=("apt-get", "apt"),
        lines=(r"^(?P<phase>Progress): \[ *(?P<percent>\d+)%\]",),
        phases={"Progress": (0, 0.99)},
    ),
    Profile(
        name="tar",
        commands=("tar", "bsdtar", "gtar"),
        only_stderr=True,
        lines=(r"[Cc]heckpoint (?P<done>\d+)",),
        unit="records",
    ),
    Profile(
        name="xz",
        commands=("xz", "unxz", "lzma"),
        only_stderr=True,
        lines=(
            r"\((?P<item>\d+)/(?P<items>\d+)\)$",
            r"^(?P<percent>[\d.,]+) % .* / .* = [\d.>]",
        ),
    ),
    Profile(
        name="zstd",
        commands=("zstd", "zstdmt", "unzstd"),
        only_stderr=True,
        lines=(rf"(?:Read|Consumed) ?: ?(?P<done>{_SIZE}) / (?P<total>{_SIZE})",),
        unit="bytes",
    ),
    Profile(
        name="7z",
        commands=("7z", "7za", "7zr", "7zz"),
        lines=(r"^(?P<percent>\d+)%(?: |$)",),
    ),
    Profile(
        name="ninja", commands=("ninja", "samu"), lines=(r"^\[(?P<done>\d+)/(?P<total>\d+)\] ",)
    ),
    Profile(
        name="make",
        commands=("make", "gmake", "cmake"),
        lines=(r"^\[ *(?P<percent>\d+)%\] ", r"^\[(?P<done>\d+)/(?P<total>\d+)\] "),
        generic=True,
    ),
    Profile(
        name="pytest",
        commands=("pytest", "py.test"),
        lines=(
            r"\[ *(?P<percent>\d+)%\]$",
            r" \[ *(?P<done>\d+)/(?P<total>\d+)\]$",
            r"^\[gw\d+\] \[ *(?P<percent>\d+)%\]",
        ),
    ),
    Profile(
        name="tqdm",
        lines=(
            r"^(?:(?P<phase>.*?): )?(?P<percent>\d+)%\|.*\| "
            rf"(?P<done>{_SIZE})/(?P<total>{_SIZE}) \[",
        ),
    ),
    Profile(
        name="pv-count",
        commands=("pv",),
        only_stderr=True,
        when=r"(?=(?:.* )?-(?:\w*n|-numeric))(?:.* )?-(?:\w*b|-bytes)",
        lines=(r"^(?P<done>\d+)$",),
    ),
    Profile(
        name="pv",
        commands=("pv",),
        only_stderr=True,
        lines=(r"(?P<percent>\d+)%(?: ETA|$| )", r"^(?P<percent>\d{1,3})$"),
    ),
    Profile(
        name="dd",
        commands=("dd",),
        lines=(r"^(?P<done>\d+) bytes ",),
        only_stderr=True,
        unit="bytes",
    ),
    Profile(
        name="imagemagick",
        commands=("convert", "magick", "mogrify", "composite", "montage"),
        only_stderr=True,
        lines=(r"^(?P<phase>[\w /]+)\[.*\]: (?P<done>\d+) of (?P<total>\d+), \d+% complete",),
        whole=False,
    ),
    Profile(
        name="blender",
        commands=("blender",),
        when=r"(?:^| )(?:-f|--render-frame) \d+(?= |$)",
        lines=(r"^Fra:\d+ .*(?:Sample|Rendered|Tile|Rendering) (?P<done>\d+) ?/ ?(?P<total>\d+)",),
    ),
    Profile(
        name="blender-animation",
        commands=("blender",),
        lines=(r"^Fra:(?P<done>\d+) ",),
        unit="frames",
    ),
)

_BEFORE_A_COMMAND = {
    "env", "nice", "ionice", "time", "timeout", "sudo", "nohup", "stdbuf", "doas", "chrt",
    "taskset", "setsid", "unbuffer", "caffeinate", "uv", "uvx", "poetry", "pdm", "pipenv", "exec",
}  # fmt: skip
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh"}
_OPERATORS = re.compile(r"[|;&<>`$()]")


def profile_named(name: str) -> Profile | None:
    """Returns the profile with this name (for `--profile`); None if there is none."""
    return next((profile for profile in PROFILES if profile.name == name), None)


def profile_for(command: Sequence[str]) -> tuple[Profile | None, list[str]]:
    """Returns the profile of the program that `command` runs (None if it is unknown), and its
    arguments."""
    program, arguments = _program(list(command))
    text = " ".join(arguments)
    for profile in PROFILES:
        if program in profile.commands and re.search(profile.when, text):
            return profile, arguments
    return None, arguments


def _program(words: list[str]) -> tuple[str, list[str]]:
    """Returns the name of the program that does the work, and its arguments."""
    while words:
        name = os.path.basename(words.pop(0))
        name = re.sub(r"(?:\.exe|(?<=python)[\d.]+|(?<=pip)[\d.]+)$", "", name)
        if name in _BEFORE_A_COMMAND:
            while words and (words[0].startswith("-") or "=" in words[0] or _is_value(words[0])):
                words.pop(0)
            continue
        if name == "python" and words[:1] == ["-m"] and len(words) > 1:
            words.pop(0)
            continue
        if name in _SHELLS and words[:1] and re.fullmatch(r"-\w*c", words[0]) and len(words) > 1:
            if _OPERATORS.search(words[1]):
                return "", []  # several programs
            try:
                words = shlex.split(words[1])
            except ValueError:
                return "", []
            continue
        return name, words
    return "", []


def _is_value(word: str) -> bool:
    return word == "run" or bool(re.fullmatch(r"[\d.]+[smhd]?", word))
