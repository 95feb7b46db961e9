"""Assemble the command `mri-recon`: its own verbs, those of plug-ins, and the end of every verb."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mri_recon.cli import sending, verbs
from mri_recon.cli.demo import demo
from mri_recon.cli.endings import end
from mri_recon.cli.messages import PROGRAM, warn
from mri_recon.cli.plug_ins import load_verb, plug_ins, verb_stub

__all__ = ["PROGRAM", "CommandGroup", "build_app"]


class CommandGroup(TyperGroup):
    """Group the verbs, and turn each expected error of any verb into one line and exit status 2.

    A plug-in's verb is imported when it is run. Until then a stub replaces it, with a help line read from the plug-in's
    source.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._plug_ins, self._ignored = plug_ins(taken=self.commands)
        for entry in self._plug_ins.values():
            self.add_command(verb_stub(entry, help_line=False))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a verb by name; for a plug-in its stub, with the help line."""
        if cmd_name in self._plug_ins:
            return verb_stub(self._plug_ins[cmd_name])
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the verb named in `args`; return its name, the verb and its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in self._plug_ins:
            command = load_verb(self._plug_ins[name])
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; an exception becomes one line on stderr and an exit status."""
        for message in self._ignored:
            warn(message)
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            _end(error)

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command; a failure before a verb runs (a help text on a full disk) ends as a failing verb does."""
        try:
            return super().main(*args, **settings)
        except SystemExit as ending:
            if isinstance(ending.__context__, BrokenPipeError):  # Rich and Typer turn it into status 1
                end(ending.__context__)
            raise
        except Exception as error:
            _end(error)


def _end(error: BaseException) -> NoReturn:
    if isinstance(error, typer.Abort) or hasattr(error, "exit_code"):  # from the parser: usage errors, exits
        raise error
    end(error)


def build_app() -> typer.Typer:
    """Build the command with its own verbs and those of the entry-point group."""
    app = typer.Typer(
        name=PROGRAM,
        cls=CommandGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Accelerated MRI reconstruction: undersampled k-space in, images out. Research only, not for diagnosis.",
    )
    app.callback()(_start)
    for verb in (
        verbs.info,
        verbs.reconstruct,
        verbs.compare,
        verbs.replay,
        verbs.convert,
        verbs.methods,
        sending.send,
        demo,
    ):
        app.command(verb.__name__)(verb)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def _start(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass
