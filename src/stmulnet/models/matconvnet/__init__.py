"""The authors' MatConvNet files (.mat): read, understood from their content alone, written.

``file`` reads and writes what MATLAB saves; ``infer`` finds the network that a list of layers describes; ``match``
holds every layer against that network; ``importer`` and ``exporter`` join these steps.
"""

from stmulnet.models.matconvnet.exporter import export_mat
from stmulnet.models.matconvnet.importer import import_mat

__all__ = ["export_mat", "import_mat"]
