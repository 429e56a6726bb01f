"""What an error's page says beyond its meaning and remedy: where it comes from, where to look.

Read by `scripts/errors_doc.py`. Hand-written Markdown, links as from `docs/errors/`; every code has
a note.
"""

from __future__ import annotations

from collections.abc import Mapping

from homespun.errors import Code

NOTES: Mapping[Code, str] = {
    Code.UNSUPPORTED_OP: """\
Raised on your machine, while a model becomes a graph: nothing was sent. The message names the
node, where it stands in the model, and the nearest way round. The closed list is on [its own
page](../operators.md); what each executor runs of it is in [coverage](../coverage.md).""",
    Code.INVALID_GRAPH: """\
Raised by the checks that every graph passes, on your machine and again at the broker. A model
that was exported by the front ends and is refused here is a defect worth reporting; a graph of
your own is to be corrected at the node that the message names.""",
    Code.EXPORT_FAILED: """\
The framework's own exporter gave up; its reason is in the message. Usual ones: a branch that
depends on a tensor's value, a shape that does, or a library call that the exporter cannot trace.
[Front ends](../frontends.md) says what each can carry.""",
    Code.INVALID_JOB: """\
The description was understood and is impossible: a batch that the microbatches do not divide, a
column whose shape the model does not take, an optimizer for an inference. The message names the
field and what would be accepted. `homespun plan` finds most of these without sending
anything.""",
    Code.INVALID_ARGUMENT: """\
One value, of an option, a function's argument or a setting, is outside what is accepted. The
message says which values are; `--help` of the command does too.""",
    Code.LIMIT_EXCEEDED: """\
Everything that comes from outside has a limit: sizes of graphs, numbers of parameters, bytes of
blobs. The message says what was asked for and what is allowed. The quota of the broker's blob
store is `blob_quota_bytes` in [`broker.json`](../operations.md#settings).""",
    Code.CANNOT_PLACE: """\
The planner found no set of live peers that can hold and run the job, and said what was missing:
bytes of memory, an operator, a dtype. `homespun plan` says the same beforehand, for each peer,
and with what change it would fit ([plans](../plan.md)). Peers that are paused or outside their
hours do not count: `broker peers` shows what each may be given.""",
    Code.PEER_LOST: """\
A running job goes on when a backup takes the segment over, so this ends a job only where nobody
could: no backup had a snapshot, and all who kept one are gone
([takeover](../adr/0026-takeover.md)). `broker timeline JOB` shows who held what, `broker backups`
which segments are not covered.""",
    Code.LOSS_NOT_FINITE: """\
The computation itself left the numbers: several peers came to the same value, so no device is to
blame. The message names the step and the tensor. Look at the rows of that step, lower the
learning rate, or set `clip_norm`.""",
    Code.NOT_FINITE: """\
A peer passed on a value that it should have found wrong itself: its check, or its memory, failed.
It is counted against that peer, and another takes the segment over where one can.""",
    Code.STALLED: """\
A segment waits for one tensor at most as long as the broker's policy says (`stall_timeout_ms`,
longer if steps take minutes). The message names who waited for whom. `peer netcheck` on both
machines says whether they can reach each other.""",
    Code.EXECUTOR_DIED: """\
Each segment is computed in a process of its own, so that its end does not take the peer along.
The peer looks at how it ended and names a [cause](../errors.md#causes): the system's
out-of-memory killer, a fault of the driver, somebody's `kill`. The segment moves to a backup
where there is one.""",
    Code.EXECUTOR_FAILED: """\
The framework raised an error while it computed. The message has the node, the peer and the
framework's words. If it is the job's own doing, every peer will come to it; if one device's, the
segment moves.""",
    Code.OUT_OF_MEMORY: """\
The device, or the number that its owner set with `peer set memory`, was used up. The planner
keeps to what is offered, so look first for other programs on that device. For the job: more
microbatches, or recomputation.""",
    Code.DISK_FULL: """\
Nothing is lost: what was stored stays, and transfers go on from where they were. On the broker,
see [a full disk](../operations.md#disk-full); on a peer, `peer set cache` and `peer set
snapshots` say how much it may keep.""",
    Code.DIGEST_MISMATCH: """\
Every blob is named by its BLAKE3 digest and checked wherever it arrives. One mismatch may be a
broken transfer; the same blob failing again points at a disk or at memory of the machine
named.""",
    Code.WRONG_KEY: """\
A key is used up once somebody has joined with it, unless it was made with `--reusable`, and it is
for one role: `peer` or `submitter`. `broker keys list` shows the operator which there are.""",
    Code.KEY_EXPIRED: """\
Keys expire, after an hour unless made with another `--expires`. The operator makes a new one with
`broker keys create`.""",
    Code.CERTIFICATE_EXPIRED: """\
Certificates live a day and are renewed by whatever uses them at two thirds of that. One that
expired while its machine was off is renewed when it is next used, for 90 days unless the operator
set another time (`renew_expired_within_s`). Past that, or where the clock is wrong: the message has
both times. Then join again with a new key and `--replace`, which makes a new identity.""",
    Code.UNTRUSTED_BROKER: """\
A key carries the fingerprint of the authority that made it, and the secret in it is sent only to
a broker that proves to have that authority. This one did not: a wrong address, another network, a
broker that was made anew, or somebody in between.""",
    Code.NOT_AUTHENTICATED: """\
The certificate shown is none of this network's. It happens when a broker was made anew, or when
two networks are mixed up: join this one with a key of its own, in a directory of its own.""",
    Code.NOT_ALLOWED: """\
The role comes from the certificate and decides what may be called ([table of
services](../protocol.md#services)); a submitter sees their own jobs only. It also says that an
operator has banned this member, or that the system refused a file or a service.""",
    Code.NOT_FOUND: """\
No job, peer, key or file is called that. Ids may be shortened to any beginning that is unique;
`homespun jobs`, `broker peers` and `broker keys list` show what there is.""",
    Code.CONFLICT: """\
What was asked for does not fit the state of the thing: a result of a job that has not ended, an
identity where there is one already, an id that fits several. The message says what state it is
in.""",
    Code.STALE_TOKEN: """\
A lease carries a number that only grows. Whoever lost a segment and comes back with the old
number is refused, so that no step counts twice. It appears in logs, seldom to people.""",
    Code.CANCELLED: """\
The submitter or an operator ended the job; `broker audit` says who and why. Its peers have let go
of it, and there is no result.""",
    Code.INCOMPATIBLE_VERSION: """\
Both sides say which protocol versions they speak; these two have none in common. The broker has
to be at least as new as who calls it ([upgrade](../operations.md#upgrade)).""",
    Code.UNREACHABLE: """\
No connection came about. In turn: does the broker run (`broker serve`), is the address right, is
the port open (7700, and 7701 for joining), does a firewall stand between? `peer netcheck` looks
at each from a peer's side.""",
    Code.TIMED_OUT: """\
Every wait has a deadline; this one was over. What was asked for may still happen: a job goes on,
a peer still hands over. The message says what was waited for.""",
    Code.OVERLOADED: """\
The broker bounds what may wait for it, and asks to come back in a moment; clients do so by
themselves until their own deadline. If it lasts, see [a broker that is
slow](../operations.md#brokerdown).""",
    Code.BAD_CONFIGURATION: """\
A settings file, a directory or an identity cannot be used, and starting again would not help:
service managers are told not to restart after exit code 78. The message names the file and what
is wrong.""",
    Code.SHADOWED_MODULE: """\
Homespun's packages are called `homespun`, `broker`, `peer`, `dag`, `ir` and `sim`. A file of
yours called `peer.py` would be imported in place of one of them; the message names the file and
ways round it.""",
    Code.INTERNAL: """\
A defect of ours, or a state that should not be. `HOMESPUN_TRACEBACK=1` before the command shows
where. `peer bundle` collects what a report needs, without secrets.""",
}
