"""Failures and their causes: real texts of frameworks and systems, and how processes end."""

import signal
from dataclasses import fields

import pytest

from homespun.causes import CAUSES, Against, Cause
from homespun.errors import CATALOG, Code
from peer.diagnosis import FailureFacts, diagnose
from peer.failure_texts import TEXTS

GIB = 2**30
RAN = "Node 3 (MatMul) failed on cuda:0: "

TEXTS_AND_CAUSES = [
    # torch
    ("CUDA out of memory. Tried to allocate 10.01 GiB (GPU 0; 14.75 GiB total capacity; 10.12 GiB "
     "already allocated; 4.39 GiB free; 10.22 GiB reserved in total by PyTorch)",
     Cause.DEVICE_MEMORY),
    ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB of "
     "which 1.13 GiB is free.", Cause.DEVICE_MEMORY),
    ("HIP out of memory. Tried to allocate 256.00 MiB (GPU 0; 7.98 GiB total capacity",
     Cause.DEVICE_MEMORY),
    ("MPS backend out of memory (MPS allocated: 8.88 GB, other allocations: 1.10 MB, max allowed: "
     "9.07 GB).", Cause.DEVICE_MEMORY),
    ("CUDA error: out of memory", Cause.DEVICE_MEMORY),
    ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
     Cause.DEVICE_MEMORY),
    ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
     Cause.DEVICE_MEMORY),
    ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", Cause.DEVICE_MEMORY),
    ("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
     "you tried to allocate 4611686018427387904 bytes. Error code 12 (Cannot allocate memory)",
     Cause.DEVICE_MEMORY),
    ("[enforce fail at alloc_cpu.cpp:72] data. DefaultCPUAllocator: not enough memory: you tried "
     "to allocate 188743680 bytes.", Cause.DEVICE_MEMORY),
    ("[WinError 1455] The paging file is too small for this operation to complete. Error loading "
     "\"C:\\lib\\torch\\lib\\cublas64_12.dll\" or one of its dependencies.", Cause.DEVICE_MEMORY),
    ("CUDA error: an illegal memory access was encountered", Cause.DEVICE_FAULT),
    ("CUDA error: misaligned address", Cause.DEVICE_FAULT),
    ("CUDA error: unspecified launch failure", Cause.DEVICE_FAULT),
    ("CUDA error: uncorrectable ECC error encountered", Cause.DEVICE_FAULT),
    ("CUDA error: the launch timed out and was terminated", Cause.DEVICE_FAULT),
    ("CUDA error: all CUDA-capable devices are busy or unavailable", Cause.DEVICE_FAULT),
    ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", Cause.DEVICE_FAULT),
    ("CUDA error: invalid device ordinal", Cause.DEVICE_FAULT),
    ("CUDA error: unknown error", Cause.DEVICE_FAULT),
    ("CUDA unknown error - this may be due to an incorrectly set up environment",
     Cause.DEVICE_FAULT),
    ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", Cause.DEVICE_FAULT),
    ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n "
     "k, &alpha, a, lda, b, ldb, &beta, c, ldc)`", Cause.DEVICE_FAULT),
    ("merge_sort: failed to synchronize: cudaErrorIllegalAddress: an illegal memory access was "
     "encountered", Cause.DEVICE_FAULT),
    ("Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system "
     "to recover this GPU", Cause.DEVICE_FAULT),
    ("NVRM: Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off the bus.", Cause.DEVICE_FAULT),
    ("Memory access fault by GPU node-1 (Agent handle: 0x55) on address 0x7f00. Reason: Page not "
     "present or supervisor privilege.", Cause.DEVICE_FAULT),
    ("CUDA error: device-side assert triggered", Cause.JOB),
    ("index out of range in self", Cause.JOB),
    ("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)", Cause.JOB),
    ("CUDA error: no kernel image is available for execution on the device", Cause.DEVICE_FAULT),
    ("CUDA driver version is insufficient for CUDA runtime version", Cause.DEVICE_FAULT),
    ("Found no NVIDIA driver on your system.", Cause.DEVICE_FAULT),
    ("Torch not compiled with CUDA enabled", Cause.DEVICE_FAULT),
    ("Failed to initialize NVML: Driver/library version mismatch", Cause.DEVICE_FAULT),
    ("libcudnn.so.9: cannot open shared object file: No such file or directory",
     Cause.DEVICE_FAULT),
    ("DLL load failed while importing _C: The specified module could not be found.",
     Cause.DEVICE_FAULT),
    # XLA
    ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7406166528 bytes.",
     Cause.DEVICE_MEMORY),
    ("Resource exhausted: Out of memory while trying to allocate 12582912 bytes.",
     Cause.DEVICE_MEMORY),
    ("INTERNAL: Failed to execute XLA Runtime executable: run time error: custom call "
     "'xla.gpu.func.launch' failed: Failed to launch CUDA kernel: fusion_1560: "
     "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered.", Cause.DEVICE_FAULT),
    ("INTERNAL: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure", Cause.DEVICE_FAULT),
    ("FAILED_PRECONDITION: No visible GPU devices; CUDA_ERROR_NO_DEVICE: no CUDA-capable device is "
     "detected", Cause.DEVICE_FAULT),
    # ONNX Runtime
    ("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
     "Conv node. Status Message: bfc_arena.cc:376 onnxruntime::BFCArena::AllocateRawInternal "
     "Failed to allocate memory for requested buffer of size 643840", Cause.DEVICE_MEMORY),
    ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while running "
     "Gather node. Status Message: indices element out of data bounds, idx=9 must be within the "
     "inclusive range [-4,3]", Cause.JOB),
    ("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
     Cause.DEVICE_FAULT),
    # systems
    ("[Errno 28] No space left on device: '/home/a/blobs/x.part'", Cause.DISK),
    ("[WinError 112] There is not enough space on the disk", Cause.DISK),
    ("[Errno 122] Disk quota exceeded", Cause.DISK),
    ("[Errno 5] Input/output error", Cause.DISK),
    ("[Errno 30] Read-only file system: '/data/blobs'", Cause.DISK),
    ("[Errno 12] Cannot allocate memory", Cause.DEVICE_MEMORY),
    ("Unable to allocate 184. MiB for an array with shape (64, 26, 26, 3, 371) and data type "
     "float32", Cause.DEVICE_MEMORY),
    ("std::bad_alloc", Cause.DEVICE_MEMORY),
    ("[Errno 24] Too many open files", Cause.SOFTWARE),
    ("[Errno 104] Connection reset by peer", Cause.NETWORK),
    ("[WinError 10054] An existing connection was forcibly closed by the remote host",
     Cause.NETWORK),
    ("failed to connect to all addresses; last error: UNKNOWN: ipv4:192.168.1.7:41001: Failed to "
     "connect to remote host: connect: No route to host (113)", Cause.NETWORK),
    ("[Errno -3] Temporary failure in name resolution", Cause.NETWORK),
    ("Ssl handshake failed: certificate verify failed: certificate is not yet valid", Cause.CLOCK),
]


@pytest.mark.parametrize(
    ("text", "cause"), TEXTS_AND_CAUSES, ids=[text[:40] for text, _ in TEXTS_AND_CAUSES])
def test_a_text_of_a_framework_or_system(text, cause):
    found = diagnose(FailureFacts(code=Code.EXECUTOR_FAILED, message=RAN + text))
    assert found.cause is cause
    assert found.against is CAUSES[cause].against
    assert found.evidence[1:30].strip() in RAN + text, "it quotes what was said"
    assert found.remedy


def test_every_group_of_texts_is_tried():
    hit = {index for text, _ in TEXTS_AND_CAUSES
           for index, group in enumerate(TEXTS) if group.pattern.search(text)}
    assert hit == set(range(len(TEXTS)))


@pytest.mark.parametrize("code", list(CATALOG))
def test_every_code_has_a_cause_even_without_a_text(code):
    assert diagnose(FailureFacts(code=code, message="")).cause in CAUSES


def ended(status, **known):
    facts = {"memory_available_bytes": 8 * GIB, "memory_total_bytes": 16 * GIB, "oom_kills": 0}
    return diagnose(FailureFacts(
        code=Code.EXECUTOR_DIED, message=f"the executor process ended with status {status}",
        exit_status=status, **(facts | known)))


def test_killed_by_somebody():
    found = ended(-9)
    assert found.cause is Cause.KILLED
    assert found.evidence == (
        "the executor process ended with SIGKILL; 8.00 GiB of 16.0 GiB of the machine's memory "
        "were available, and the system counted none ended for memory")


def test_killed_where_the_system_counts_nothing():
    found = ended(-9, oom_kills=None)
    assert found.cause is Cause.KILLED
    assert "counted" not in found.evidence


@pytest.mark.parametrize("known", [
    {"oom_kills": 1}, {"oom_kills": None, "memory_available_bytes": GIB // 2},
])
def test_killed_for_memory(known):
    assert ended(-9, **known).cause is Cause.DEVICE_MEMORY


@pytest.mark.parametrize(("status", "cause"), [
    (-signal.SIGTERM, Cause.KILLED), (-signal.SIGINT, Cause.KILLED),
    (-signal.SIGSEGV, Cause.SOFTWARE), (-signal.SIGABRT, Cause.SOFTWARE),
    (-signal.SIGILL, Cause.SOFTWARE), (128 + 9, Cause.KILLED), (128 + 15, Cause.KILLED),
    (0, Cause.SOFTWARE), (1, Cause.SOFTWARE), (-64, Cause.SOFTWARE),
    (0xC0000005, Cause.SOFTWARE), (0xC0000017, Cause.DEVICE_MEMORY),
    (0xC000012D, Cause.DEVICE_MEMORY), (0xC000013A, Cause.KILLED), (0xC0000006, Cause.DISK),
])
def test_how_a_process_ended(status, cause):
    assert ended(status).cause is cause


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="a signal of POSIX")
@pytest.mark.parametrize(("free", "cause"), [(0, Cause.DISK), (GIB, Cause.SOFTWARE)])
def test_a_mapped_file_on_a_full_disk(free, cause):
    assert ended(-signal.SIGBUS, disk_free_bytes=free).cause is cause


def test_a_broken_link_is_the_link_s():
    found = diagnose(FailureFacts(
        code=Code.UNREACHABLE, message="the link from a to b broke: gone", blamed_peer="b"))
    assert (found.cause, found.against) == (Cause.NETWORK, Against.LINK)
    assert "b" in found.evidence


def test_a_neighbour_that_sends_nonsense_is_no_link_s():
    found = diagnose(FailureFacts(
        code=Code.INVALID_ARGUMENT, message="segment 1 was sent what it refuses", blamed_peer="b"))
    assert (found.cause, found.against) == (Cause.SOFTWARE, Against.JOB)


def test_a_clock_that_jumped_explains_what_took_too_long():
    facts = {"code": Code.STALLED, "message": "waited 120 s", "blamed_peer": "b"}
    assert diagnose(FailureFacts(**facts, clock_jump_s=3_600.0)).cause is Cause.CLOCK
    assert "back by 1h 00m" in diagnose(FailureFacts(**facts, clock_jump_s=-3_600.0)).evidence
    assert diagnose(FailureFacts(**facts, clock_jump_s=0.2)).cause is Cause.NETWORK


def test_a_clock_that_jumped_explains_no_failed_kernel():
    found = diagnose(FailureFacts(
        code=Code.EXECUTOR_FAILED, message="CUDA error: misaligned address", clock_jump_s=3_600.0))
    assert found.cause is Cause.DEVICE_FAULT


def test_the_job_s_own_fault_stays_the_job_s():
    found = diagnose(FailureFacts(
        code=Code.LOSS_NOT_FINITE, message="the loss is nan; No space left on device"))
    assert (found.cause, found.against) == (Cause.JOB, Against.JOB)


def test_a_full_disk_says_how_full():
    found = diagnose(FailureFacts(
        code=Code.DISK_FULL, message="No space left on device", disk_free_bytes=4_096))
    assert found.cause is Cause.DISK
    assert found.evidence.endswith("4.00 KiB are free on the disk")


def test_evidence_is_short_and_cannot_steer_a_terminal():
    found = diagnose(FailureFacts(
        code=Code.EXECUTOR_FAILED, message="\x1b[31m" * 500 + "No space left on device" * 500))
    assert found.cause is Cause.DISK
    assert found.evidence.isprintable()
    assert len(found.evidence) < 300


def test_every_cause_is_counted_against_somebody():
    assert set(CAUSES) == set(Cause)
    assert {info.against for info in CAUSES.values()} == set(Against)


def test_facts_that_are_not_known_need_not_be_given():
    assert {field.name for field in fields(FailureFacts)} >= {"oom_kills", "clock_jump_s"}
    assert diagnose(FailureFacts(code="A_NEW_CODE", message="x")).cause is Cause.SOFTWARE
