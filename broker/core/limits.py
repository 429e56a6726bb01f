"""Every limit of the broker core, each with its reason. Nothing that comes from outside is free."""

from __future__ import annotations

from homespun.pieces import SLOWEST_LINE_BYTES_PER_S

MAX_PEERS = 10_000
"""Records of peers, lost ones included: about 6 KB each, most of it what their executors run."""
MAX_HELD_LEASES = 64
"""Leases that a peer may name when it registers; one is the rule, a few more after an outage."""
MAX_OPERATORS = 512
"""Operators that a peer's executor may name; ONNX has about 200."""
MAX_SLOTS = 32
"""Slots of an operator that an executor may describe; further ones are like the last."""
MAX_DTYPES = 64
"""Dtypes of one slot; ONNX has about 25."""
MAX_KEYS = 10_000
"""Join keys; those that can never be used again make room first."""
MAX_IDENTITIES = 100_000
"""Admitted identities: about 300 bytes each, kept for as long as certificates may be renewed."""
MAX_LINKS = 100_000
"""Measured ordered pairs; the oldest measurement makes room."""
MAX_JOBS = 100_000
"""Jobs ever, as none is forgotten; the journal of an older broker can be put aside."""
MAX_UNFINISHED_JOBS = 1_000
"""Jobs that wait or run: `apply` may look at each of them once, and must stay below 1 ms."""
MAX_UNFINISHED_JOBS_PER_OWNER = 100
"""So that one submitter cannot fill the queue."""

MAX_TEXT = 300
"""Characters of a version, an address, or an id that somebody else chose."""
MAX_NAME = 100
"""Characters of a job's or peer's name: a line of a table."""
MAX_MESSAGE = 2_000
"""Characters of an error message that is kept: a node, a peer, an exception's text."""
RESTORED_TOKENS = 1_000_000_000
"""Tokens that a restore passes over: more than were given out since any copy was made..."""
RESTORED_JOBS = 10_000
"""...and numbers of jobs."""
MAX_REASON = 500
"""Characters of an operator's reason for an action: some sentences."""
MAX_BANNED = 100_000
"""Members that are shut out: as many as were ever let in."""
MAX_TENSOR_NAME = 1_000
"""Characters of a parameter's or column's name: deep module trees make long ones."""

MAX_GRAPH_BYTES = 256 << 20
"""Graphs carry no weights; the largest seen is below 20 MB."""
MAX_BLOB_BYTES = 1 << 40
"""One tensor or dataset column: 1 TiB, far above any disk this is meant for."""
MAX_PARAMETERS = 20_000
"""A 100-layer mixture of experts has about 10,000."""
MAX_COLUMNS = 256
"""Columns over both splits."""
MAX_RANK = 32
"""Axes of a tensor: what numpy and torch can index."""
MAX_STEPS = 10_000_000
"""16 bytes of metrics a step: 160 MB for the longest job."""
MAX_BATCH = 1 << 24
"""Samples of one step."""
MAX_MICROBATCHES = 65_536
"""Tasks of one step and segment."""
MAX_SEGMENTS = 256
"""Peers of one job: the planner's chain search is quadratic in it."""
MAX_SERIALS = 1 << 40
"""Segments of all cuts of one job: more than any job can have had."""
MAX_STEPS_PER_REPORT = 10_000_000
"""A peer that was cut off merges its reports; a job's steps bound it anyway."""

PLANNING_TIMEOUT_MS = 600_000
"""The planner loads and checks the whole graph; ten minutes is far beyond the largest one."""
STALL_STEPS = 20
"""Predicted steps that a wait for one tensor may last: predictions may be wrong by some factor."""
FETCH_BYTES_PER_S = SLOWEST_LINE_BYTES_PER_S
"""Rate at which segments may fetch what they need before it counts as too slow. Who stands still
gives up by itself and says so, so this only has to end some time."""
RELEASE_TIMEOUT_MS = 60_000
"""A revoked segment is gone within seconds; a peer that does not say so is made to reconnect."""
RESULT_OVERHEAD_BYTES = 1 << 20
"""Of a segment's result over its tensors: the header of a safetensors file..."""
RESULT_OVERHEAD_BYTES_PER_TENSOR = 2_048
"""...grows with the names."""

PROBES_PER_JOIN = 8
"""Peers that a newcomer is measured against, in both directions: a probe takes a link a second."""
PROBES_PER_WINDOW = 256
"""Probes over all peers in one window, so that a flapping peer cannot keep everybody measuring."""
PROBE_WINDOW_MS = 60_000
"""Length of that window."""
LINK_FRESH_MS = 3_600_000
"""Age under which a measurement is not repeated: home links change over hours, not seconds."""
TRANSFER_WEIGHT = 0.75
"""Share of real transfers beside a probe: they last longer and are what is planned for."""
TRANSFER_GAIN = 0.5
"""Share of the newest report of transfers beside those before it: one bad minute is halved."""
TRANSFER_CHANGE_MAX = 4.0
"""Factor by which one report may differ from what is known; a link that really changed so much is
believed after a few reports, a lie or a stopped clock is bounded."""
MAX_LATENCY_S = 60.0
"""Slower than this is no link."""
MAX_BANDWIDTH_BYTES_PER_S = 1e13
"""Ten times the fastest accelerator fabric; more is a broken clock."""

STORY_LINES = 32
"""Events that a story remembers."""
STORIES = 2_000
"""Jobs and peers that have a story; the one untouched longest makes room."""
STORY_COMMANDS = 8
"""Commands that one line of a story names."""

EVENT_LOG_LINES = 10_000
"""Lines of the event log that are kept in memory: about 4 MB, and weeks of a home network."""
TIMELINES = 1_000
"""Jobs whose timeline is kept in memory; the one that changed longest ago makes room."""
TIMELINE_SPANS = 2_000
"""Leases of one job that its timeline remembers."""
AUDIT_ENTRIES = 10_000
"""Actions of operators that are kept in memory; the journal has all."""

MAX_SHARDS = 32
"""Shards of one snapshot, parity included."""
MAX_COPY_S = 3_600.0
"""Longest that a segment can say it stood still for a snapshot."""
MAX_GIVING_S = 1e9
"""Longest that giving a snapshot to a holder can have taken: decades."""
MAX_MICROBATCH_S = 86_400.0
"""Slowest microbatch that a peer can report: a day."""
MAX_MICROBATCHES_PER_REPORT = 1 << 40
"""More than the longest job has."""
MAX_HELD_SNAPSHOTS = 1_024
"""Snapshots that a peer may name when it registers: a few for each of its standbys."""
MAX_HELD_STANDBYS = 64
"""Standbys that a peer may name when it registers, and that it is given."""
SNAPSHOT_SPACING_MS = 1_000
"""Least time between two snapshots of a segment, however short its steps are."""
PACE_STEPS = 20
"""Steps that say how long a step takes."""
BACKUPS_PER_SEGMENT = 2
"""Peers that stand by for a segment where the pool has them: one more than is lost at once."""
BACKUP_REST_MS = 30_000
"""Pause of a backup that broke before it is asked again, doubled each time..."""
BACKUP_REST_MAX_MS = 600_000
"""...up to this: what keeps breaking costs its owner a start and a download each time."""
SEGMENT_ATTEMPTS = 3
"""Failures of a segment without progress after which its job fails."""
LINK_GRACE_MS = 15_000
"""Time that two live peers have to find each other again before one of them is replaced."""
FALLBACK_WAIT_MAX_MS = 86_400_000
"""Longest wait for the holder of a lost snapshot, however much work would be done again."""
SLOW_FACTOR = 2.0
"""A segment that is so many times further from its prediction than the others has a sick peer."""
GAIN_MIN = 0.2
"""Share of a slowest segment's time that moving it must save."""
PAYBACK_S = 30.0
"""Seconds that moving a slow segment must save in what is left of the job."""
BRAKE_PEERS = 3
"""Peers that must fall silent together before the broker suspects itself."""
BRAKE_SHARE = 0.5
"""Share of the peers of before that must fall silent together for that."""

DRAIN_MAX_MS = 7 * 86_400_000
"""Longest deadline for emptying a peer."""

PARTIAL_TIMEOUT_MS = 600_000
"""What is left of an ended job is waited for so long: time for a holder to come back..."""
PARTIAL_BYTES_PER_S = 125_000
"""...and for its bytes to cross a line of 1 Mbit/s. No device waits meanwhile."""

USUAL_LIFE_S = 3_600.0
"""Time that a home peer usually stays, where nothing is known: for the time between snapshots."""
