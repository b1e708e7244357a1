"""Networks, one architecture a file."""

from metajax.models.linen import from_linen
from metajax.models.rating_network import RatingNetwork, start_bias, start_identity

__all__ = ["RatingNetwork", "from_linen", "start_bias", "start_identity"]
