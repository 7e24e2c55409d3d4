"""What is said of the default of `egs` is what its tables of single seeds give."""

from __future__ import annotations

import re
import statistics

from tests.pages import Shown, Table, numbers, table, text

DEFAULT = "docs/default.md"
SEED = re.compile(r"\d+")


class TestDefault:
    confirmed = table(DEFAULT, "median")
    scored = table(DEFAULT, "mean ± sd")

    def by_seed(self, found: Table, row: str) -> list[float]:
        return [
            numbers(found.rows[row][place])[0].value for place, head in enumerate(found.heads) if SEED.fullmatch(head)
        ]

    def test_the_collapsed_cell_in_exchange_for_the_next(self) -> None:
        values = self.by_seed(self.confirmed, "`official`")
        mended = [79.58 if value == min(values) else value for value in values]
        assert f"has 79.58 and lifts its mean to {statistics.fmean(mended):.2f}" in text(DEFAULT)

    def test_the_flat_start_is_that_of_the_table_above(self) -> None:
        assert self.by_seed(self.confirmed, "`entropy`")[:10] == self.by_seed(
            self.scored, "flat (`egs_flat`, as above)"
        )

    def test_the_worst_is_better_than_the_best_of_a_flat_start(self) -> None:
        worst = min(self.by_seed(self.scored, "`egs`"))
        assert worst > max(self.by_seed(self.scored, "flat (`egs_flat`, as above)"))
        assert f"true accuracy on average, the worst {worst:.1f}" in text("README.md")

    def test_other_pages_say_the_same(self) -> None:
        shown = self.scored.entry("`egs`", "mean ± sd")[0]
        assert f"the cell that is kept has {shown.value + 1e-9:.1f} % true accuracy on average" in text("README.md")
        for row in ("`egs`", "`egs_prior_alone`"):
            assert self.scored.rows[row][self.scored.heads.index("mean ± sd")] in text("docs/which.md")
        before = statistics.fmean(self.by_seed(self.confirmed, "`entropy`"))
        (said,) = re.findall(r"It was (\d+\.\d) before alpha started", text("README.md"))
        assert Shown.of(said).is_rounded(before, given=2)
        size = self.scored.rows["`egs`"][self.scored.heads.index("to cells of its size")]
        assert size in text("README.md")
        assert size in text("docs/which.md")
