"""Meta-learning for cold-start recommendation, in functional JAX."""
