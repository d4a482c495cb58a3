"""A first study for a table or a folder of images: what `rung3 init` writes."""

from rung3.study.drafting.proposal import Proposal, propose

__all__ = ["Proposal", "propose"]
