"""Published cells by name, as their authors' genotypes or the usual transcriptions give them.

Each carries in `Architecture.source` its paper, the table of DATA (Zhang et al., TPAMI 2020) that compares it, the
repository that publishes its genotype and what to know before citing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from datanas.codes.architecture import Architecture


@dataclass(frozen=True)
class _Published:
    paper: str
    table: str
    origin: str
    note: str
    aliases: tuple[str, ...]
    genotype: str


_DATA = (
    "X. Zhang, J. Chang, Y. Guo, G. Meng, S. Xiang, Z. Lin, C. Pan: DATA: Differentiable ArchiTecture Approximation "
    "With Distribution Guided Sampling. TPAMI 2020"
)
_DARTS = "H. Liu, K. Simonyan, Y. Yang: DARTS: Differentiable Architecture Search. ICLR 2019"
_SNAS = "S. Xie, H. Zheng, C. Liu, L. Lin: SNAS: Stochastic Neural Architecture Search. ICLR 2019"
_GDAS = "X. Dong, Y. Yang: Searching for a Robust Neural Architecture in Four GPU Hours. CVPR 2019"
_NASNET = (
    "B. Zoph, V. Vasudevan, J. Shlens, Q. V. Le: Learning Transferable Architectures for Scalable Image Recognition. "
    "CVPR 2018"
)
_AMOEBANET = "E. Real et al.: Regularized Evolution for Image Classifier Architecture Search. AAAI 2019"
_PNAS = "C. Liu et al.: Progressive Neural Architecture Search. ECCV 2018"
_ENAS = (
    "H. Pham, M. Y. Guan, B. Zoph, Q. V. Le, J. Dean: Efficient Neural Architecture Search via Parameter Sharing. "
    "ICML 2018"
)


_CELLS = {
    "data_m4": _Published(
        paper=_DATA,
        table="Table 1, M = 4",
        origin="published later by the paper's authors",
        note="not the cell of Table 1: at C = 36 with 20 cells it has 3.894 M parameters and 608 M multiply-adds, the "
        "paper prints 2.84 M and 443 M",
        aliases=("data (M=4)",),
        genotype="""Genotype(
            normal=[
                [('skip_connect', 0), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1)],
                [('skip_connect', 2), ('skip_connect', 1), ('sep_conv_3x3', 2)],
                [('sep_conv_5x5', 3), ('skip_connect', 3)],
                [('skip_connect', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 2)],
            ],
            normal_concat=range(2, 6),
            reduce=[
                [('skip_connect', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 1)],
                [('sep_conv_5x5', 0), ('dil_conv_5x5', 2), ('skip_connect', 1)],
                [('max_pool_3x3', 0), ('skip_connect', 2)],
                [('dil_conv_3x3', 1), ('dil_conv_5x5', 1), ('skip_connect', 3)],
            ],
            reduce_concat=range(2, 6),
        )""",
    ),
    "data_m7": _Published(
        paper=_DATA,
        table="Table 1, M = 7",
        origin="published later by the paper's authors",
        note="at C = 36 with 20 cells it has 3.410 M parameters and 517 M multiply-adds, the paper prints 3.4 M and "
        "528 M",
        aliases=("data (M=7)",),
        genotype="""Genotype(
            normal=[
                [('skip_connect', 0), ('sep_conv_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 1)],
                [('skip_connect', 0), ('sep_conv_3x3', 2), ('skip_connect', 1)],
                [('skip_connect', 0), ('dil_conv_3x3', 3), ('skip_connect', 2)],
                [('skip_connect', 1), ('sep_conv_3x3', 2), ('skip_connect', 2)],
            ],
            normal_concat=range(2, 6),
            reduce=[
                [('sep_conv_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 1)],
                [('sep_conv_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_3x3', 2)],
                [
                    ('dil_conv_3x3', 1), ('skip_connect', 2), ('dil_conv_3x3', 2), ('sep_conv_3x3', 2),
                    ('dil_conv_3x3', 3),
                ],
                [('skip_connect', 0), ('sep_conv_3x3', 0)],
            ],
            reduce_concat=range(2, 6),
        )""",
    ),
    "darts_v1": _Published(
        paper=_DARTS,
        table="Table 1, DARTS (1-th order)",
        origin="github.com/quark0/darts, cnn/genotypes.py",
        note="first-order search on CIFAR-10",
        aliases=("darts_1st", "darts_first_order"),
        genotype="""Genotype(
            normal=[
                ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
                ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2),
            ],
            normal_concat=[2, 3, 4, 5],
            reduce=[
                ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
                ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0),
            ],
            reduce_concat=[2, 3, 4, 5],
        )""",
    ),
    "darts_v2": _Published(
        paper=_DARTS,
        table="Table 1, DARTS (2-th order)",
        origin="github.com/quark0/darts, cnn/genotypes.py",
        note="second-order search on CIFAR-10; at C = 36 with 20 cells 3,349,342 parameters and 528.4 M multiply-adds",
        aliases=("darts", "darts_2nd", "darts_second_order"),
        genotype="""Genotype(
            normal=[
                ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
                ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2),
            ],
            normal_concat=[2, 3, 4, 5],
            reduce=[
                ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
                ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1),
            ],
            reduce_concat=[2, 3, 4, 5],
        )""",
    ),
    "snas_mild": _Published(
        paper=_SNAS,
        table="Table 1, SNAS+mild",
        origin="github.com/SNAS-Series/SNAS-Series, SNAS/genotypes.py",
        note="searched with the mild resource constraint",
        aliases=("snas",),
        genotype="""Genotype(
            normal=[
                ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 1),
                ('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('sep_conv_3x3', 1),
            ],
            normal_concat=range(2, 6),
            reduce=[
                ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2),
                ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('dil_conv_5x5', 2),
            ],
            reduce_concat=range(2, 6),
        )""",
    ),
    "gdas": _Published(
        paper=_GDAS,
        table="Table 1, GDAS",
        origin="github.com/D-X-Y/AutoDL-Projects, xautodl/nas_infer_model/DXYs/genotypes.py",
        note="GDAS_V1 there: normal and reduction cell searched together",
        aliases=("gdas_v1",),
        genotype="""Genotype(
            normal=[
                ('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('sep_conv_5x5', 2),
                ('sep_conv_3x3', 3), ('skip_connect', 0), ('sep_conv_5x5', 4), ('sep_conv_3x3', 3),
            ],
            normal_concat=[2, 3, 4, 5],
            reduce=[
                ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('sep_conv_5x5', 2), ('sep_conv_5x5', 1),
                ('dil_conv_5x5', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_5x5', 1),
            ],
            reduce_concat=[2, 3, 4, 5],
        )""",
    ),
    "nasnet_a": _Published(
        paper=_NASNET,
        table="Table 1, NASNet-A",
        origin="github.com/quark0/darts, cnn/genotypes.py",
        note="transcribed by the authors of DARTS; node 5 of the normal cell pools input 0 twice",
        aliases=("nasnet",),
        genotype="""Genotype(
            normal=[
                ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),
                ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0),
                ('sep_conv_3x3', 1), ('skip_connect', 1),
            ],
            normal_concat=[2, 3, 4, 5, 6],
            reduce=[
                ('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0),
                ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2),
                ('sep_conv_3x3', 2), ('max_pool_3x3', 1),
            ],
            reduce_concat=[4, 5, 6],
        )""",
    ),
    "amoebanet_a": _Published(
        paper=_AMOEBANET,
        table="Table 1, AmoebaNet-A",
        origin="github.com/quark0/darts, cnn/genotypes.py",
        note="transcribed by the authors of DARTS",
        aliases=("amoebanet",),
        genotype="""Genotype(
            normal=[
                ('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),
                ('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1),
                ('skip_connect', 0), ('avg_pool_3x3', 1),
            ],
            normal_concat=[4, 5, 6],
            reduce=[
                ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2),
                ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1),
                ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5),
            ],
            reduce_concat=[3, 4, 6],
        )""",
    ),
    "pnas": _Published(
        paper=_PNAS,
        table="Table 1, PNAS",
        origin="github.com/chenxi116/PNASNet.pytorch, genotypes.py",
        note="one cell serves as normal and as reduction cell",
        aliases=("pnasnet", "pnasnet_5"),
        genotype="""Genotype(
            normal=[
                ('sep_conv_5x5', 0), ('max_pool_3x3', 0), ('sep_conv_7x7', 1), ('max_pool_3x3', 1),
                ('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 4), ('max_pool_3x3', 1),
                ('sep_conv_3x3', 0), ('skip_connect', 1),
            ],
            normal_concat=[2, 3, 4, 5, 6],
            reduce=[
                ('sep_conv_5x5', 0), ('max_pool_3x3', 0), ('sep_conv_7x7', 1), ('max_pool_3x3', 1),
                ('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 4), ('max_pool_3x3', 1),
                ('sep_conv_3x3', 0), ('skip_connect', 1),
            ],
            reduce_concat=[2, 3, 4, 5, 6],
        )""",
    ),
    "enas_rnn": _Published(
        paper=_ENAS,
        table="Table 7, ENAS",
        origin="github.com/quark0/darts, rnn/genotypes.py",
        note="transcribed by the authors of DARTS; recurrent cell for PTB with 11 nodes after the input, DARTS has 8",
        aliases=("enas_recurrent",),
        genotype="""Genotype(
            recurrent=[
                ('tanh', 0), ('tanh', 1), ('relu', 1), ('tanh', 3), ('tanh', 3), ('relu', 3), ('relu', 4), ('relu', 7),
                ('relu', 8), ('relu', 8), ('relu', 8),
            ],
            concat=[2, 5, 6, 9, 10, 11],
        )""",
    ),
    "darts_v1_rnn": _Published(
        paper=_DARTS,
        table="Table 7, DARTS (1-th order)",
        origin="github.com/quark0/darts, rnn/genotypes.py",
        note="first-order search on PTB",
        aliases=("darts_1st_rnn", "darts_v1_recurrent"),
        genotype="""Genotype(
            recurrent=[
                ('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3), ('relu', 4), ('identity', 1), ('relu', 5),
                ('relu', 1),
            ],
            concat=range(1, 9),
        )""",
    ),
    "darts_v2_rnn": _Published(
        paper=_DARTS,
        table="Table 7, DARTS (2-th order)",
        origin="github.com/quark0/darts, rnn/genotypes.py",
        note="second-order search on PTB",
        aliases=("darts_rnn", "darts_2nd_rnn", "darts_v2_recurrent"),
        genotype="""Genotype(
            recurrent=[
                ('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5), ('tanh', 3),
                ('relu', 5),
            ],
            concat=range(1, 9),
        )""",
    ),
}


def architectures() -> list[str]:
    """The names of the published cells, sorted.

    >>> architectures()[:3]
    ['amoebanet_a', 'darts_v1', 'darts_v1_rnn']
    """
    return sorted(_CELLS)


def published(name: str) -> Architecture | None:
    """The published cell `name`; case and punctuation do not matter ("DARTS-V2"), common other names are known."""
    for known, spelling in _spellings():
        if letters(spelling) == letters(name):
            cell = _CELLS[known]
            source = {"name": known, "paper": cell.paper, "table": cell.table, "origin": cell.origin, "note": cell.note}
            return replace(Architecture.from_genotype(cell.genotype), source=source)
    return None


def _spellings() -> Iterator[tuple[str, str]]:
    for known, cell in _CELLS.items():
        yield known, known
        for alias in cell.aliases:
            yield known, alias


def letters(name: str) -> str:
    """What is left of a name where case and punctuation do not matter."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
