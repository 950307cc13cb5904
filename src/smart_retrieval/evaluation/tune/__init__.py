"""The best readout and scoring for given data, chosen by cross-validation over the queries."""

from .run import tune
from .verdict import print_tune

__all__ = ["print_tune", "tune"]
