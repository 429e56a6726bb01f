"""A random world around a real broker core: peers that train, stand by, die, lie and come back.

Peers do what the core commands: they load segments, take steps only as far as their neighbours'
logs serve them, give snapshots to holders, and report in order until acknowledged. `Chaos.run`
adds faults and nonsense, `Chaos.calm` stops both. To repeat a failure:

    python -m tests.properties.broker_world SEED EVENTS

prints the hash of all commands and the digest of the state.
"""
