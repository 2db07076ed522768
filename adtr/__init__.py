"""ADTR Bench: a reproducible benchmark of "ADTR: Anomaly Detection Transformer with Feature Reconstruction".

The modules, in the order in which data meets them: config, datasets, images, backbones, features,
model, losses, methods, train, metrics, score, tables, figures, report, cli. Imports follow that order only.
"""

__version__ = "0.1.0"
