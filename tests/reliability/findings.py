"""What a fuzzing run found, and its report."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """A case that ended as none should: `kind` is how (and where), `what` the damage, `detail` what was seen."""

    case: int
    kind: str
    what: str
    detail: str

    def __str__(self) -> str:
        return f"case {self.case}: {self.kind}: {self.what}: {self.detail}"


@dataclass
class Report:
    """How many cases ended how, and the findings among them."""

    outcomes: Counter = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, outcome: str, findings: list[Finding]):
        """Count a case and print its findings."""
        self.outcomes[outcome] += 1
        self.findings += findings
        for finding in findings:
            print(finding, flush=True)

    def summary(self) -> str:
        """The outcomes, and each kind of finding once with its cases."""
        kinds = defaultdict(list)
        for finding in self.findings:
            kinds[finding.kind].append(finding.case)
        lines = [f"{count:6d} {outcome}" for outcome, count in self.outcomes.most_common()]
        lines += [f"{len(cases):6d} FOUND {kind}: cases {_listed(cases)}" for kind, cases in sorted(kinds.items())]
        return "\n".join(lines)


def _listed(cases: list[int]) -> str:
    return ", ".join(map(str, cases[:10])) + (", ..." if len(cases) > 10 else "")
