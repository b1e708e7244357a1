"""The outer update, and the recipes."""
