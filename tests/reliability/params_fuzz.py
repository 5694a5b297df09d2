"""params.yaml with the studies in it, damaged: accepted, or refused in lines that name the file and the
key, and nothing else."""

import re
import tempfile
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import yaml
from workflow.project import ROOT

from reliability.commands import complaint, output
from reliability.findings import Finding, Report
from reliability.limits import Ended, limited
from reliability.params_mutations import NAMED, mutated
from reliability.projects import PRESET, project
from surrodiff.config import params
from surrodiff.planning import plan

SECONDS = 20.0
LONGEST_LINE = 600
STUDIES = ("calibration", "likelihood", "table_4_1", "table_4_5")  # of every kind of row
UNPRINTABLE = {"Cc", "Cf", "Cs"}  # control characters, those that turn the text around, surrogates


def original() -> bytes:
    """params.yaml with its comments, cut to the preset `test` and the one that it is a difference from, and studies."""
    text = re.sub(r"(?m)^preset: \w+", f"preset: {PRESET}", (ROOT / "params.yaml").read_text())
    head, *presets = re.split(r"(?m)^(?=  \w+:\n)", text[text.index("\npresets:") :])
    kept = [preset for preset in presets if preset.startswith((f"  {params.BASE}:", f"  {PRESET}:"))]
    text = text[: text.index("\npresets:")] + head + "".join(kept) + "studies:\n"
    for name in STUDIES:
        study = (ROOT / params.STUDIES / f"{name}.yaml").read_text()
        text += f"  {name}:\n" + textwrap.indent(study, "    ")
    return text.encode()


def _planned(path: Path) -> int:
    """How many runs a file asks for."""
    return len(plan.build(params.load(path)).runs)


def check(case: int, what: str, path: Path) -> tuple[Ended, list[Finding]]:
    """Read a file and plan its runs; whatever is neither accepted nor refused clearly is a finding."""
    ended = limited(lambda: _planned(path), SECONDS)
    match ended.how:
        case "returned":
            kind, seen = "accepted with a key that stands twice", repeated_keys(path)
        case "refused":
            kind, seen = "refused unclearly", [repr(line) for line in unclear(str(ended.value), path)]
        case how:
            kind, seen = f"{how} in {ended.where}", [str(ended.value)]
    return ended, [Finding(case, kind, what, text) for text in seen]


def repeated_keys(path: Path) -> list[str]:
    """Keys that stand twice in one block of a YAML file, of which all but the last would silently not count."""
    nodes, repeated, seen = [yaml.compose(path.read_bytes(), yaml.SafeLoader)], [], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # aliases
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            repeated += [key for key, count in keys.items() if count > 1]
            nodes += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
    return repeated


def unclear(message: str, path: Path) -> list[str]:
    """The lines of a refusal that are too long, cannot be printed, or do not name the file (or the folder of the
    studies, where the file has none)."""
    lines = message.split("\n")
    return [
        line[:LONGEST_LINE]
        for line in lines
        if not line.startswith((f"{path}: ", f"{path.parent / params.STUDIES}: "))
        or len(line) > LONGEST_LINE
        or UNPRINTABLE & {*map(unicodedata.category, line)}
    ]


def fuzz(cases: Iterable[int], seed: int, real: int) -> Report:
    """Run cases; so many of the accepted ones, those with names first, go through the real workflow too."""
    report, accepted, text = Report(), [], original()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for case in cases:
            mutation, damaged = mutated(seed, case, text)
            path = Path(folder) / "params.yaml"
            path.write_bytes(damaged)
            ended, findings = check(case, mutation.__name__, path)
            report.add({"returned": "accepted"}.get(ended.how, ended.how), findings)
            if ended.how == "returned" and damaged != text:
                accepted.append(case)
        named = [case for case in accepted if mutated(seed, case, text)[0] in NAMED]
        for case in [*named, *(case for case in accepted if case not in named)][:real]:
            mutation, damaged = mutated(seed, case, text)
            case_findings = run_for_real(case, mutation.__name__, damaged, Path(folder) / f"case {case}", case in named)
            report.add("through the real workflow", case_findings)
    return report


def run_for_real(case: int, what: str, damaged: bytes, folder: Path, named: bool) -> list[Finding]:
    """An accepted file in the real workflow: it may refuse in a line, and writes only below the results folder."""
    copy = project(folder / "project", {})
    (copy.path / "params.yaml").write_bytes(damaged)
    preset = params.load(copy.path / "params.yaml").preset
    before = outside(folder, preset)
    arguments = ["snakemake", "--cores", "1", "data"] if named else ["surrodiff.cli", "models"]
    findings = []
    for command in (["snakemake", "--dry-run", "--cores", "1"], arguments):
        how = complaint(*output(copy, command))
        if how:
            findings.append(Finding(case, f"accepted, then {how[0]} of {' '.join(command)}", what, how[1]))
    new = sorted(outside(folder, preset) - before)
    return findings + [Finding(case, "written outside the results folder", what, ", ".join(new))] * bool(new)


def outside(folder: Path, preset: str) -> set[str]:
    """All files of a case's folder but those that its project may write."""
    allowed = [Path("project/results", preset), Path("project/.snakemake"), Path("project/results")]
    files = [path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {
        str(file) for file in files if not any(file.is_relative_to(part) for part in allowed[:2]) and file != allowed[2]
    }
