"""The measured claims: ``python -m benchmarks`` runs everything itself and prints one table of ratios."""
