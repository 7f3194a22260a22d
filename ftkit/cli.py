"""The command line `ftkit tour · doctor · fetch · run · predict`, thin as paper: a verb calls a public function."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ftkit.findings import FtkitError

#: What the first lesson needs.
FIRST_LESSON = ("minilm", "icd10cm")


def _tour(arguments: argparse.Namespace) -> None:
    """run the first lesson from start to end; write its page and figures to build/"""
    tools = Path(__file__).resolve().parents[1] / "tools"
    if not (tools / "lessons.py").is_file():
        raise FtkitError("FT001", "The lessons, and what runs them, are in a clone of ftkit, not in the package.")
    sys.path.append(str(tools))
    importlib.import_module("lessons").tour()


def _doctor(arguments: argparse.Namespace) -> None:
    """say what this machine can do: cores, memory, versions, fastest dtype"""
    from ftkit.doctor import check_machine

    print(check_machine(network=arguments.network))


def _fetch(arguments: argparse.Namespace) -> None:
    """bring pinned models and data into the cache"""
    from ftkit import sources

    sources.fetch_all(tuple(sources.catalog()["files"]) if arguments.all else tuple(arguments.names) or FIRST_LESSON)
    print(sources.status())


def _run(arguments: argparse.Namespace) -> None:
    """carry out a recipe; several processes share it under `accelerate launch`"""
    from ftkit import training
    from ftkit.record import Recipe

    recipe = Recipe.read(arguments.recipe)
    run = training.fit(*recipe.load(), recipe.plan, out=arguments.out, resume=arguments.resume, track=arguments.track)
    if int(os.environ.get("RANK", 0)) == 0:
        print(run.summary())


def _predict(arguments: argparse.Namespace) -> None:
    """answer the texts of a file by a saved run, as CSV on the standard output"""
    from ftkit import bundle

    bundle.load(arguments.run).answer(arguments.file, text=arguments.text).to_csv(sys.stdout, index=False)


VERBS = {"tour": _tour, "doctor": _doctor, "fetch": _fetch, "run": _run, "predict": _predict}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status: 0 done, 1 an error ftkit can explain, 2 a command it does not know.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after `ftkit`; by default those of this process.
    """
    parser = argparse.ArgumentParser(prog="ftkit", description="A pretrained model, your data, and a plan.")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB", dest="verb")
    _, doctor, fetch, run, predict = (verbs.add_parser(name, help=verb.__doc__) for name, verb in VERBS.items())
    doctor.add_argument("--network", action="store_true", help="also find out whether the Hub can be reached")
    fetch.add_argument("names", nargs="*", metavar="NAME", help=f"sets to fetch (default: {' '.join(FIRST_LESSON)})")
    fetch.add_argument("--all", action="store_true", help="fetch every pinned set")
    run.add_argument("recipe", help="a TOML file, as Recipe.save writes it")
    run.add_argument("--out", metavar="DIR", help="a folder for checkpoints and for the run")
    run.add_argument("--resume", action="store_true", help="go on from the checkpoint in DIR, if there is one")
    run.add_argument("--track", action="append", default=[], metavar="NAME", help="tell a tracker, such as tensorboard")
    predict.add_argument("run", metavar="DIR", help="a saved run, as `ftkit run --out DIR` leaves it")
    predict.add_argument("file", help="a table of texts: CSV, Excel, JSON, Parquet")
    predict.add_argument("--text", metavar="COLUMN", help="the column of the texts, where it is not named like it")
    arguments = parser.parse_args(argv)
    try:
        VERBS[arguments.verb](arguments)
    except FtkitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
