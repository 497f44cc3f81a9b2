"""Output of real programs, as they printed it, played back in pieces cut at random.

Captured with ffmpeg 5.1, HandBrake 1.6, rsync 3.5, rclone 1.60, restic 0.14, borg 1.2, git 2.39,
curl 7.88, GNU Wget 1.21, aria2 1.36, yt-dlp, pip, GNU tar 1.34, xz 5.4, zstd 1.5, 7-Zip, ninja
1.11, GNU Make 4.3 with CMake 3.25, pytest 9, tqdm 4.67, pv 1.6, dd, ImageMagick 6.9 and rich;
paths and names are replaced. Formats of docker, aws and Blender are those that their
documentation and sources show: they could not be run here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.run.profiles import PROFILES, profile_for
from gateway.cli.run.progress import Phase
from gateway.cli.run.reader import Reader

CAPTURED = Path(__file__).parent / "captured"

# The command; the names of the phases that are shown; the percentage at the end, None if it is
# unknown; the last count.
SHOWN: dict[str, tuple[str, list[str | None], float | None, tuple[float, float | None] | None]] = {
    "ffmpeg": ("ffmpeg -y -i in.mp4 out.mp4", [None], 100, (40, 40)),
    "ffmpeg-part": ("ffmpeg -ss 10 -i in.mp4 -t 10 out.mp4", [None], 100, (10, 10)),
    "ffmpeg-live": ("ffmpeg -f lavfi -i x -t 20 out.mp4", [None], 99.4, (19.88, 20)),
    "ffmpeg-progress": ("ffmpeg -i in.mp4 -progress - out.mp4", [None], None, (40.007982, None)),
    "handbrake": ("HandBrakeCLI -i a -o b", ["1 of 2", "2 of 2"], 100, None),
    "handbrake-json": ("HandBrakeCLI --json -i a -o b", [None], 99.9, None),
    "rsync-P": ("rsync -aP a/ b/", [None], 100, (51, 51)),
    "rsync-progress2": ("rsync -a --info=progress2 a/ b/", [None], 100, None),
    "rsync-progress2-many": ("rsync -a --info=progress2 a/ b/", [None], 100, None),
    "rclone-P": ("rclone copy -P a b", [None], 100, (84000375, 84000375)),
    "rclone-log": ("rclone copy -v a b", [None], 100, (84000375, 84000375)),
    "restic-backup": ("restic backup a", [], None, None),
    "restic-backup-json": ("restic backup --json a", [None], 100, None),
    "restic-rebuild-index": ("restic rebuild-index", ["files deleted"], None, (1, 1)),
    "restic-check": ("restic check --read-data", ["packs"], 99, (6, 6)),
    "borg-create": ("borg create --progress r::a b", [None], None, (0, None)),
    "borg-create-json": ("borg create --progress --log-json r::a b", [None], None, (0, None)),
    "borg-check": (
        "borg check --progress --verify-data r",
        ["Checking segments", "Verifying data", "Checking archives"],
        None,
        None,
    ),
    "borg-extract": ("borg extract --progress r::a", [None], 100, None),
    "git-clone": (
        "git clone --progress x",
        ["Counting objects", "Compressing objects", "Receiving objects", "Resolving deltas"],
        95,
        (580, 580),
    ),
    "git-push": (
        "git -C repo push --progress",
        ["Counting objects", "Compressing objects", "Writing objects", "Resolving deltas"],
        99,
        (580, 580),
    ),
    "git-fsck": ("git fsck --progress", ["Checking objects"], None, (1320, 1320)),
    "curl-table": ("curl -o a http://h/a", [None], 100, None),
    "curl-bar": ("curl -# -o a http://h/a", [None], 100, None),
    "curl-two": ("curl http://h/a http://h/b", ["1 of 2", "2 of 2"], 100, None),
    "curl-no-length": ("curl http://h/a", [], None, None),
    "wget-three": (
        "wget http://h/a http://h/b http://h/c",
        ["1 of 3", "2 of 3", "3 of 3"],
        100,
        None,
    ),
    "wget-terminal": ("wget http://h/a http://h/b", ["1 of 2", "2 of 2"], 100, None),
    "wget-no-length": ("wget http://h/a", [], None, None),
    "aria2": ("aria2c http://h/a", [None], 52, (1572864, 3145728)),
    "aria2-two": ("aria2c -Z http://h/a http://h/b", [None], None, (1572864, 3145728)),
    "yt-dlp": ("yt-dlp http://h/a", [None], 100, None),
    "yt-dlp-two": ("yt-dlp -o x http://h/a http://h/b", ["1 of 2", "2 of 2"], 100, None),
    "pip": (
        "python -m pip install numpy",
        ["numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"],
        None,
        (16.9, 16.9),
    ),
    "apt-get": ("apt-get -s install tree", [], None, None),
    "tar-checkpoint": ("tar cf a --checkpoint=1000 b", [None], None, (8000, None)),
    "xz": ("xz -v -9 a", [None], 100, None),
    "zstd": ("zstd -v a", [], None, None),
    "zstd-default": ("zstd a", [None], 48.1, (28835840, 59978547)),
    "7z": ("7z a -bsp1 a.7z b", [None], 99, None),
    "7z-terminal": ("7z t a.7z", [None], 0, None),
    "ninja": ("ninja -C b", [None], 100, (27, 27)),
    "ninja-terminal": ("ninja -C b", [None], 100, (27, 27)),
    "make": ("make -j4", [None], 100, None),
    "pytest": ("python -m pytest -q", [None], 100, None),
    "pytest-v": ("pytest -v", [None], 100, None),
    "pytest-count": ("pytest", [None], 100, (200, 200)),
    "pytest-xdist": ("pytest -v -n 2", [None], 100, None),
    "pv": ("pv a", [None], 100, None),
    "pv-n": ("pv -n a", [None], 100, None),
    "pv-lines": ("pv -nbl a", [None], None, (80, None)),
    "dd": ("dd if=a of=b status=progress", [None], None, (117964800000, None)),
    "convert": (
        "convert -monitor a b",
        [
            "load image",
            "Morphology/Image",
            "Morphology/Image 3",
            "save image",
        ],
        None,
        (1499, 1500),
    ),
    # No profile: read like the output of an unknown program.
    "tqdm-one": ("python encode.py", ["encode"], 100, (200, 200)),
    "tqdm-repeated": ("python a.py", ["epoch 1", "epoch 2", "epoch 3"], None, (60, 60)),
    "tqdm-bare": ("python a.py", [None, "stage 2", "stage 3"], None, (60, 60)),
    "tqdm-nested": ("python a.py", ["all"], 100, (4, 4)),
    "tqdm-nested-terminal": ("python a.py", ["all"], 100, (4, 4)),
    "tqdm-positions": ("python a.py", ["outer"], 100, (5, 5)),
    "tqdm-bytes": ("python a.py", [None], 100, (40_000_000, 40_000_000)),
    "rich": ("python a.py", ["Working"], 100, None),
    "df": ("df -h", [], None, None),
}


def play(data: bytes, command: str | None, cuts: list[int] | None = None) -> list[Phase]:
    """Returns the phases as they are shown, one after the other."""
    profile, arguments = profile_for(command.split()) if command else (None, [])
    reader, phases, start = Reader(profile, arguments), list[Phase](), 0
    for end in sorted({*(cuts or range(0, len(data), 50)), len(data)}):
        phase = reader.feed(data[start:end]).phase
        start = end
        if phase is not None:
            phases.append(phase)
    phase = reader.read_unfinished_line().phase
    return [*phases, phase] if phase is not None else phases


def holds_what_is_promised(shown: list[Phase]) -> None:
    reached, unknown = 0.0, False
    for phase in shown:
        assert phase.done is None or phase.total is None or 0 <= phase.done <= phase.total
        if phase.overall is None:
            unknown = True
        else:
            assert not unknown, "a percentage that was given up came back"
            assert phase.overall >= reached
            reached = phase.overall


def test_every_captured_output_is_tested() -> None:
    assert {path.stem for path in CAPTURED.glob("*.txt")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_progress_of_a_known_program_is_shown(name: str) -> None:
    command, names, percent, count = SHOWN[name]
    phases = play((CAPTURED / f"{name}.txt").read_bytes(), command)
    holds_what_is_promised(phases)
    assert list(dict.fromkeys(phase.name for phase in phases)) == names
    if not phases:
        return
    last_phase = phases[-1]
    assert (None if last_phase.overall is None else round(100 * last_phase.overall, 1)) == percent
    assert (last_phase.done, last_phase.total) == (count or (None, None))


@pytest.mark.parametrize("name", SHOWN)
def test_without_a_profile_no_wrong_progress_is_shown(name: str) -> None:
    holds_what_is_promised(play((CAPTURED / f"{name}.txt").read_bytes(), None))


@pytest.mark.parametrize("name", ["ffmpeg", "ffmpeg-part", "curl-table", "zstd", "df", "dd"])
def test_without_a_profile_these_programs_show_no_progress(name: str) -> None:
    assert play((CAPTURED / f"{name}.txt").read_bytes(), None) == []


@given(st.sampled_from(sorted(SHOWN)), st.data())
@settings(max_examples=150, deadline=None)
def test_the_size_of_output_pieces_does_not_matter(name: str, data: st.DataObject) -> None:
    command, _, _, _ = SHOWN[name]
    output = (CAPTURED / f"{name}.txt").read_bytes()
    cuts = data.draw(st.lists(st.integers(0, len(output)), max_size=200))
    pieces = play(output, command, cuts)
    holds_what_is_promised(pieces)
    assert pieces[-1:] == play(output, command, [])[-1:]


def test_profiles_are_chosen_by_program_name() -> None:
    for command, name in {
        "/usr/bin/ffmpeg -i a b": "ffmpeg",
        "nice -n 5 rsync -a x y": "rsync",
        "env A=1 timeout 10m git clone x": "git",
        "python3 -m pip install x": "pip",
        "pip3.11 install x": "pip",
        "sudo docker pull x": "docker",
    }.items():
        profile, _ = profile_for(command.split())
        assert profile is not None
        assert profile.name == name
    assert profile_for(["sh", "-c", "ffmpeg -i a b"])[0] is PROFILES[0]
    assert profile_for(["sh", "-c", "ffmpeg -i a b; rsync a b"])[0] is None
    assert profile_for(["unknown"])[0] is None


def lines(command: str, *texts: str) -> list[Phase]:
    return play("".join(f"{text}\n" for text in texts).encode(), command)


def test_docker_layers_are_counted() -> None:
    layers = ["a" * 12, "b" * 12, "c" * 12, "d" * 12]
    shown = lines(
        "docker pull x",
        "latest: Pulling from library/x",
        f"{layers[0]}: Already exists",
        *(f"{layer}: Pulling fs layer" for layer in layers[1:]),
        f"{layers[2]}: Downloading [==>       ]  1.2MB/30MB",
        f"{layers[1]}: Pull complete",
        f"{layers[2]}: Pull complete",
        f"{layers[2]}: Pull complete",
        f"{layers[3]}: Pull complete",
        "Digest: sha256:0123",
    )
    assert [(phase.done, phase.total) for phase in shown][-3:] == [(2, 4), (3, 4), (4, 4)]


def test_aws_shows_no_progress_while_it_counts() -> None:
    shown = lines(
        "aws s3 sync a s3://b",
        "Completed 1.0 MiB/~2.0 MiB (1.0 MiB/s) with ~3 file(s) remaining (calculating...)",
        "Completed 2.0 MiB/8.0 MiB (1.0 MiB/s) with 3 file(s) remaining",
        "Completed 8.0 MiB/8.0 MiB (1.0 MiB/s) with 1 file(s) remaining",
    )
    assert [(phase.done, phase.total) for phase in shown] == [(2**21, 2**23), (2**23, 2**23)]


def test_apt_shows_what_dpkg_does_and_not_that_it_reads_lists() -> None:
    shown = lines(
        "apt-get install x",
        "Reading package lists... 100%",
        "12% [1 x 12.3 kB/100 kB 12%]",
        "(Reading database ... 100%",
        "Progress: [ 20%] [####............]",
    )
    assert [phase.overall for phase in shown] == [0.2 * 0.99]


def test_blender_with_one_or_many_frames() -> None:
    sample = "Fra:1 Mem:8.71M (Peak 9.09M) | Time:00:00.5 | Mem:0M | Scene, View | Sample 32/128"
    assert lines("blender -b a.blend -f 1", sample)[-1].overall == 0.25
    assert lines("blender -b a.blend -a", sample)[-1].overall is None


@pytest.mark.parametrize(
    "arguments",
    [
        "-i a -vf setpts=2*PTS b",
        "-i a -af rubberband=tempo=2 b",
        "-i a -to 20 b",
        "-i a -fs 20M b",
        "-itsscale 2 -i a b",
        "-itsoffset 5 -i a b",
        "-r 12 -f image2 -i a b",
        "-i a -frames:v 10 b",
        "-stream_loop 3 -i a b",
        "-i a -i b -shortest c",
    ],
)
def test_ffmpeg_with_arguments_that_change_the_length_shows_no_percentage(arguments: str) -> None:
    texts = ("  Duration: 00:00:40.00, start: 0.0", "frame=1 time=00:00:10.00 bitrate=1")
    assert lines(f"ffmpeg {arguments}", *texts)[-1].overall is None


def test_ffmpeg_with_several_inputs() -> None:
    texts = ("  Duration: 00:00:40.00, start: 0.0", "frame=1 time=00:00:10.00 bitrate=1")
    for arguments in ("-i a b", "-i a -r 25 b", "-re -i a -b:v 1M b"):
        assert lines(f"ffmpeg {arguments}", *texts)[-1].overall == 0.25
    assert (
        lines("ffmpeg -i a -i b c", texts[0], texts[0].replace("40", "50"), texts[1])[-1].overall
        is None
    )
