"""One round of secure aggregation between real parties: a client drops out, and nobody reads a vector.

Run it: python examples/secure_sum.py
"""

from __future__ import annotations

from qflsec.protocols.secagg import SecAgg
from qflsec.protocols.secagg.one_round import run_round
from qflsec.protocols.secagg.who_sees_what import sights

round_ = run_round(SecAgg(), n_clients=6, n_params=1000, drop=(5,))
print(f"{round_.status} of clients {round_.survivors}, off by at most {round_.max_error:.1e}")
print(f"a client sent {round_.up_bytes:,.0f} bytes and spent {round_.client_ms:.1f} ms")
for sight in sights(round_, 6):
    print(
        f"{sight.observer}: reads {sight.reads or 'no single vector'}; sums of {sorted({k for _, k in sight.sums})}"
    )

too_few = run_round(SecAgg(), n_clients=6, n_params=1000, drop=(1, 2, 3, 4, 5))
print(f"with one client left: {too_few.status}, {too_few.reason}")
