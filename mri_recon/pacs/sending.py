"""Send instances one after another, and try again what may succeed later."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mri_recon.errors import ConfigError, FormatError, TransferError
from mri_recon.pacs.instances import Instance
from mri_recon.pacs.outcome import Outcome
from mri_recon.pacs.store import DicomConnection
from mri_recon.pacs.stow import StowConnection
from mri_recon.pacs.targets import StowTarget, Target

__all__ = ["Retries", "echo", "send"]


@dataclass(frozen=True)
class Retries:
    """Say how often and when to try again.

    The wait before the n-th repetition is `first * 2**(n - 1)` seconds, at most `longest`, or what the other side asks
    for, if that is more.

    Attributes:
        most: largest number of repetitions of one instance.
        first: seconds before the first one.
        longest: longest wait in seconds.
        sleep: waits; may raise to stop.
    """

    most: int = 3
    first: float = 1.0
    longest: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        """Refuse impossible numbers.

        Raises:
            ConfigError: a negative number.
        """
        if self.most < 0 or self.first < 0 or self.longest < 0:
            raise ConfigError(f"expected 0 or more repetitions and seconds, got {self.most}: give --retries 0 for none")

    def wait(self, number: int, asked: float | None) -> None:
        """Wait before the repetition of a number, from 1."""
        self.sleep(max(min(self.first * 2.0 ** min(number - 1, 60), self.longest), asked or 0.0))


class Connection(Protocol):
    """An open connection to a target."""

    def store(self, instance: Instance) -> Outcome:
        """Send one instance."""
        ...

    def echo(self) -> str:
        """Ask whether the other side answers."""
        ...

    def close(self) -> None:
        """Close the connection in order."""
        ...


def send(
    target: Target,
    instances: Sequence[Instance],
    *,
    retries: Retries | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Store instances at a target, in order.

    A lost connection is opened again, and a full or busy target is asked again later. An instance that is refused does
    not keep the others from being sent. What was stored before is stored again under the same identifiers, which
    changes nothing at the target: to repeat a call is safe.

    Args:
        target: where they go.
        instances: what goes.
        retries: how often and when to try again; None for the default.
        on_outcome: called with each outcome, in order; may raise to stop.

    Returns:
        One outcome for each instance.

    Raises:
        TransferError: the target cannot be reached or refuses to talk, before it answered to the first instance.
    """
    plan = retries or Retries()
    outcomes: list[Outcome] = []
    connection: Connection | None = None

    def told(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(outcome)

    try:
        for place, instance in enumerate(instances):
            attempt = 0
            while True:
                attempt += 1
                try:
                    if connection is None:
                        connection = _open(target, instances[place:])
                    outcome = connection.store(instance)
                except FormatError as error:  # the file is gone; the others may be there
                    outcome = Outcome(instance, "failed", str(error))
                except TransferError as error:
                    if connection is not None:
                        connection.close()
                        connection = None
                    if error.later and attempt <= plan.most:
                        plan.wait(attempt, error.wait)
                        continue
                    if not outcomes:
                        raise
                    for left in instances[place:]:
                        told(Outcome(left, "unsent", str(error), later=error.later))
                    return outcomes
                if outcome.later and attempt <= plan.most:
                    plan.wait(attempt, outcome.wait)
                    continue
                told(outcome)
                break
    finally:
        if connection is not None:
            connection.close()
    return outcomes


def echo(target: Target) -> str:
    """Ask a target whether it answers: C-ECHO, or a search for one study (QIDO-RS). Nothing is stored.

    Returns:
        One sentence with its answer.

    Raises:
        TransferError: it cannot be reached, or refuses.
    """
    connection = _open(target, ())
    try:
        return connection.echo()
    finally:
        connection.close()


def _open(target: Target, instances: Sequence[Instance]) -> Connection:
    return StowConnection(target) if isinstance(target, StowTarget) else DicomConnection(target, instances)
