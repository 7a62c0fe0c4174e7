"""Demo data that comes with the install: synthetic clips of faces in the on-disk layouts of DFEW, AFEW and FERV39k."""

from dfer.demo.casting import ODDITIES
from dfer.demo.generation import DemoSummary, generate

__all__ = ["ODDITIES", "DemoSummary", "generate"]
