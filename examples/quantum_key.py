"""A key by BB84 over 10 km of simulated fibre, and what a listener does to it.

Run it: python examples/quantum_key.py
"""

from __future__ import annotations

from dataclasses import replace

from qflsec.attacks.channel import InterceptResend
from qflsec.protocols.bb84 import BB84Config, FibreChannel, run_bb84
from qflsec.protocols.bb84.run_config import agree

config = BB84Config(source="single-photon", pulses=3_000_000, expected=FibreChannel(distance_km=10))
plan = agree(config)  # block sizes, tolerance and key length are agreed on before the first pulse
for attack in (None, InterceptResend(fraction=0.3)):
    result = run_bb84(config, seed=1, plan=plan, attack=attack)
    test = result.qber
    print(f"{attack or 'nobody listens'}: error rate {test.rate:.4f} [{test.low:.4f}, {test.high:.4f}]")
    if result.abort_reason is None:
        print(f"  {result.key_length:,} bits, within {result.key.config.eps_sec} of a secret key")
    else:
        print(f"  no key: {result.abort_reason}")
short = replace(config, pulses=1_000_000)
print(f"a third of the pulses gives {run_bb84(short, seed=1).key_length:,} bits: short blocks cost more")
