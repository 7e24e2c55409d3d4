"""Ensemble Gumbel-Softmax as layers of networks: an activation that gives codes, and a pooling by them."""

from datanas.nn.activation import EnsembleGumbelSoftmax as EnsembleGumbelSoftmax
from datanas.nn.pooling import EnsemblePooling as EnsemblePooling
