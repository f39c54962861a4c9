"""The command line: the verbs of `duygu.verbs` under one name, and what an error becomes.

Standard output is data, standard error is talk, and with --json the data is JSON. Heavy packages are imported inside
the verbs, so that ``duygu --help`` answers at once. `main` turns every error into an exit code: 0 fine, 1 failure,
2 usage or input, 3 quality gate failed, 130 and 143 interrupted.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence

import click

from duygu import __version__
from duygu.errors import DuyguError, OutOfMemory
from duygu.verbs.audit import audit
from duygu.verbs.bench import bench
from duygu.verbs.compare import compare
from duygu.verbs.demo import demo
from duygu.verbs.doctor import doctor
from duygu.verbs.evaluate import evaluate
from duygu.verbs.models import models
from duygu.verbs.output import say
from duygu.verbs.parity import parity
from duygu.verbs.predict import predict
from duygu.verbs.report import report
from duygu.verbs.split import split
from duygu.verbs.train import train

INTERRUPTED = 130  # 128 + SIGINT, as shells count
FEWER = "give fewer or shorter texts, or a machine with more; duygu doctor says how much is free"
TRACEBACK = "DUYGU_TRACEBACK"  # environment variable: show where an error came from


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="duygu")
def duygu() -> None:
    """Fine-tune a language model into a text classifier, in PyTorch and in JAX, and see what differs.

    DATA is a folder with one sub-folder of .txt files per label, or a CSV, TSV, JSON lines or Parquet table. A model is
    a Hugging Face folder, a name on the hub, or a preset: duygu models lists them.

    \b
    Example:
      duygu demo
      duygu compare texts/ --model tiny --engines torch,jax --out comparison
    """


for verb in (audit, bench, compare, demo, doctor, evaluate, models, parity, predict, report, split, train):
    duygu.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` without ``arguments``) and return the exit code."""
    try:
        code = duygu.main(arguments, "duygu", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    except DuyguError as error:
        _explain(error, str(error))
        return error.exit_code
    except MemoryError as error:
        _explain(error, str(OutOfMemory("out of memory", "the memory of this machine", FEWER)))
        return OutOfMemory.exit_code
    except Exception as error:
        _explain(error, f"unexpected {type(error).__name__}: {error} (where: run again with {TRACEBACK}=1)")
        return 1
    return code if isinstance(code, int) else 0


def _explain(error: Exception, message: str) -> None:
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    say(message)
