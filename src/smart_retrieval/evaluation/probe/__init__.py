"""Whether SMART helps a model on given data, and why: figures, a verdict in words, and a web page."""

from .page import probe_page, write_page
from .run import probe
from .sweep import Sweep
from .verdict import print_probe

__all__ = ["Sweep", "print_probe", "probe", "probe_page", "write_page"]
