"""How to adapt to one user, one rule a file."""
