"""Five clinics train a quantum classifier together.

Run: qflsec flower run examples/flower --nodes 5 --set stack=median --set liar=2
"""
