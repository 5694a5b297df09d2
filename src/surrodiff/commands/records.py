"""Commands about what DVC records and shows."""

from surrodiff.config import params


def record(args):
    """Record the finished results of the selected preset."""
    from surrodiff.dvc import recording

    recording.record(params.load())
    print(
        "recorded; now commit dvc.lock, params.yaml, and the tables, figures and summary under results/ with git; then "
        "`dvc push --all-commits` ships it (without that option only the selected preset's)"
    )


def prune(args):
    """List, and with `--delete` delete, runs that no preset asks for."""
    from surrodiff.dvc import recording

    leftovers = recording.leftovers(params.load())
    kept = [leftover for leftover in leftovers if not args.delete or not (leftover.recorded or args.force)]
    for leftover in leftovers:
        state = "recorded" if leftover.recorded else "not recorded"
        outcome = "" if leftover in kept else ", deleted"
        if leftover not in kept:
            leftover.delete()
        print(f"{leftover.size / 1e6:12.2f} MB  {leftover.paths[0]}  ({state} in a commit{outcome})")
    total, freed = (
        sum(leftover.size for leftover in part) / 1e6
        for part in (leftovers, [entry for entry in leftovers if entry not in kept])
    )
    print(f"{total:12.2f} MB in {len(leftovers)} runs that nothing asks for, {freed:.2f} MB deleted")
    if args.delete and kept:
        print("kept what no commit has recorded: see `surrodiff record`, or add --force")


def write_plots_page(args):
    """Write the page that `dvc plots` fills and print where it lies."""
    from surrodiff.dvc import plots_page

    plots_page.write()
    print(plots_page.PAGE)
