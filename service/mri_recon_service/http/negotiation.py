"""Choose the representation that an `Accept` header asks for."""

from __future__ import annotations

from collections.abc import Sequence

from mri_recon_service.problems import Problem

__all__ = ["choose"]


def choose(accept: str | None, offers: Sequence[str]) -> str:
    """Choose the offer with the largest weight, by RFC 9110: the most specific matching range gives an offer's weight.

    Args:
        accept: the header; None or empty takes the first offer.
        offers: media types, the preferred one first.

    Raises:
        Problem: not-acceptable.
    """
    if not accept or not accept.strip():
        return offers[0]
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    weights = {offer: _weight(offer, ranges) for offer in offers}
    best = max(offers, key=lambda offer: weights[offer])  # the first of equals
    if weights[best] <= 0:
        raise Problem(
            "not-acceptable",
            f"expected Accept to allow one of {', '.join(offers)}, got {accept[:100]!a}: ask for one of them",
            valid=list(offers),
        )
    return best


def _parse(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return name, weight if 0 <= weight <= 1 else 0.0


def _weight(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    for wanted in (offer, f"{offer.split('/')[0]}/*", "*/*"):
        for name, weight in ranges:
            if name == wanted:
                return weight
    return 0.0
