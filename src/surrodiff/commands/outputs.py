"""Commands that write what people read: tables, figures, claims, the summary."""

from surrodiff.commands.given import parameters, results_folder
from surrodiff.errors import UserError
from surrodiff.planning import plan, recipes


def write_output(args):
    """Write the output that the command line names and print where it lies."""
    output = getattr(args, "output", args.command)
    made = plan.build(parameters(args))
    known = {"table": made.tables, "figure": made.figures}.get(args.command, [output])
    if output not in known:
        raise UserError(f"there is no {args.command} {output!r}; there are {', '.join(known)}")
    # Only what is asked for: matplotlib alone takes longer to import than a table to write.
    match args.command:
        case "table":
            from surrodiff.report.tables import write

            where = f"tables/{output}"
        case "figure":
            from surrodiff.report.figures import write

            where = f"figures/{output}"
        case "claims":
            from surrodiff.report.tables import write_claims as write

            where = "claims.csv"
        case "summary":
            from surrodiff.report.summary import write

            where = "summary"
    write(recipes.recipe(made, output), results_folder(args))
    print(results_folder(args) / where)
