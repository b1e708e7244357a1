"""How to adapt to one user, one rule a file."""

from metajax.adaptation.adjoints import first_order, reverse
from metajax.adaptation.gradient_steps import gradient_steps
from metajax.adaptation.no_steps import no_steps
from metajax.adaptation.partition import combine, everything, matching, partition, paths

__all__ = [
    "combine",
    "everything",
    "first_order",
    "gradient_steps",
    "matching",
    "no_steps",
    "partition",
    "paths",
    "reverse",
]
