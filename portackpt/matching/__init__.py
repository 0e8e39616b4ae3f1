"""Which name of one program is which of another: mapping files, and proposals for them."""

from portackpt.matching.mapping import Mapping
from portackpt.matching.resolution import Assignment, Resolution
from portackpt.matching.rules import Rule

__all__ = ["Assignment", "Mapping", "Resolution", "Rule"]
