"""The fast execution of cells: which gates run, batch norm taken apart, sums of nodes, recurrent steps."""
