"""The `modelport` command: the table of its commands, and how errors leave it."""

import sys
from importlib import import_module

import typer

from modelport.errors import ModelportError

app = typer.Typer(
    name="modelport",
    help="Any model becomes a running, OpenAI-compatible service with one command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere, shows the traceback of an error.",
)

COMMANDS = (
    *("run", "serve", "host", "services", "plan", "endpoint", "tao", "chat", "top"),
    *("keys", "teams", "budgets", "aliases", "usage", "workspaces", "experiments"),
    *("config", "doctor"),
)
for _module in COMMANDS:
    import_module(f"modelport.cli.{_module}").add_to(app)


def main() -> None:
    """Run the command line. One sentence on stderr and exit 1 for an error, 2 for wrong usage, 130 for Ctrl-C."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) != len(sys.argv) - 1
    try:
        code = app(arguments, standalone_mode=True)
    except ModelportError as error:
        if debug:
            raise
        sys.stderr.write(f"modelport: {error.message}\n")
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        sys.stderr.close()
        code = 0
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(f"modelport: something went wrong inside ({type(error).__name__}); --debug shows where.\n")
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
