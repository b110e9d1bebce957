"""Accuracy at every time step, energy models, figures, report."""
