"""Parse every module of the standard library and count the nodes of its syntax tree.

It has four phases: read the sources; parse them and count; write each again from its tree, which
should parse to the same tree (without the tests, which are long); compile.
"""

from __future__ import annotations

import ast
import marshal
from collections import Counter

from gateway import Job

from .installation import modules
from .worker import start

Sources = dict[str, bytes]


def main() -> None:
    """Runs as a job."""
    with start(message="Looking for modules") as job:
        sources_found = modules()
        sources: Sources = {}
        with job.phase("Read", share=0.02, total=len(sources_found), unit="modules"):
            for file in job.track(sources_found):
                sources[file.name] = file.path.read_bytes()
        with job.phase("Parse and count", share=0.5, total=len(sources_found), unit="modules"):
            nodes = count_nodes(sources, job)
        without_tests = [name for name in sources if "test" not in name]
        with job.phase(
            "Write anew and compare", share=0.3, total=len(without_tests), unit="modules"
        ):
            rewrite(sources, without_tests, job)
        with job.phase("Compile", total=len(sources), unit="modules"):
            size = compile_all(sources, job)
        (kind, count), *_ = nodes.most_common(1)
        job.update(
            message=f"{nodes.total():,} nodes in {len(sources):,} modules, {count:,} of them "
            f"{kind}; {size / 1e6:.1f} MB of bytecode"
        )


def count_nodes(sources: Sources, job: Job) -> Counter[str]:
    """Returns the number of nodes of each kind. Drops sources that cannot be parsed: the library
    has invalid files for its own tests."""
    nodes: Counter[str] = Counter()
    for name in job.track(list(sources)):
        try:
            tree = ast.parse(sources[name])
        except (SyntaxError, ValueError):
            del sources[name]
            continue
        inside = Counter(
            type(node).__name__ for node in ast.walk(tree) if not isinstance(node, ast.expr_context)
        )
        nodes.update(inside)
        job.update(message=f"{name}: {inside.total():,} nodes")
    return nodes


def rewrite(sources: Sources, names: list[str], job: Job) -> None:
    """Writes each module from its tree, and parses it again: the tree should be the same."""
    for name in job.track(names):
        tree = ast.parse(sources[name])
        again = ast.parse(ast.unparse(tree))
        before, after = (sum(1 for _ in ast.walk(root)) for root in (tree, again))
        job.update(message=f"{name}: {'the same' if before == after else 'not quite the same'}")


def compile_all(sources: Sources, job: Job) -> int:
    """Returns the size of the bytecode of all modules."""
    size = 0
    for name in job.track(list(sources)):
        job.update(message=name)
        try:
            code = compile(sources[name], name, "exec", dont_inherit=True)
        except SyntaxError:
            continue  # it can be parsed but not compiled: another invalid file for tests
        size += len(marshal.dumps(code))
    return size


if __name__ == "__main__":
    main()
