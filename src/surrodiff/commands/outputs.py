"""Commands that write what people read: tables, figures, claims, the summary."""

from surrodiff.commands.given import parameters, results_folder
from surrodiff.errors import UserError
from surrodiff.planning import recipes
from surrodiff.planning.measures import CONFIGS
from surrodiff.planning.plan import build as build_plan


def _refuse_group(args):
    """Raise UserError where what is of a preset's own groups would be replaced by that of another one."""
    if args.group and args.command in ("claims", "summary", "resolve"):
        raise UserError(f"--group: {args.command} is of the groups that the preset names; change its `groups` instead")


def write_output(args):
    """Write the output that the command line names and print where it lies."""
    output = getattr(args, "output", args.command)
    _refuse_group(args)
    plan = build_plan(parameters(args))
    known = {"table": plan.tables, "figure": plan.figures}.get(args.command, [output])
    if output not in known:
        raise UserError(f"the preset makes no {args.command} {output!r}; it makes {', '.join(known) or 'none'}")
    # Only what is asked for: matplotlib alone takes longer to import than a table to write.
    match args.command:
        case "table":
            from surrodiff.report.tables import write

            recipe, where = recipes.table(plan, output), f"tables/{output}"
        case "figure":
            from surrodiff.report.figures import write

            recipe, where = recipes.figure(plan, output), f"figures/{output}"
        case "claims":
            from surrodiff.report.tables import write_claims as write

            recipe, where = recipes.claims(plan), "claims.csv"
        case "summary":
            from surrodiff.report.summary import write

            recipe, where = recipes.summary(plan), "summary"
    write(recipe, results_folder(args))
    print(results_folder(args) / where)


def resolve(args):
    """Write what the preset asks for, which DVC's stages depend on, and print where it lies."""
    from surrodiff.store.runs import write_json

    _refuse_group(args)
    path = results_folder(args) / "plan.json"
    write_json(path, recipes.resolved(build_plan(parameters(args))))
    # DVC's outputs, which must be there even where the preset asks for no run of a stage.
    for stage in CONFIGS:
        (path.parent / stage).mkdir(exist_ok=True)
    print(path)
