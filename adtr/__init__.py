"""ADTR Bench: a reproducible benchmark of "ADTR: Anomaly Detection Transformer with Feature Reconstruction".

The sub-packages, in the order in which data meets them: config, data, features, model, train, methods, evaluate;
predict, for images of one's own; tables, figures, report; cli. Imports follow that order only.

    from adtr import Detector

gives what scores new images with a trained run; PyTorch is imported then, not before.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adtr.predict.detector import Detector as Detector

__version__ = "0.1.0"
__all__ = ["Detector", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Detector":
        from adtr.predict.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
