"""What is read from the text of a compiled GPU program, and what is a fault in it."""

import dataclasses

import pytest

from gpu_compile import faults
from gpu_program import CARDS, Facts

PROGRAM = """HloModule jit_fuse

%fused_slice (param_0.1: f32[4,1024,256]) -> f32[1024,256] {
  %param_0.1 = f32[4,1024,256]{2,1,0} parameter(0)
  %slice.1 = f32[1,1024,256]{2,1,0} slice(%param_0.1), slice={[0:1], [0:1024], [0:256]}
  ROOT %bitcast.9 = f32[1024,256]{1,0} bitcast(%slice.1)
}

%add_computation (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

ENTRY %main.5 (p.0: f32[4,1024,256], p.1: f32[32,3,3,32]) -> f32[1024,256] {
  %p.0 = f32[4,1024,256]{2,1,0} parameter(0)
  %p.1 = f32[32,3,3,32]{3,2,1,0} parameter(1)
  %loop_slice_fusion = f32[1024,256]{1,0} fusion(%p.0), kind=kLoop, calls=%fused_slice, metadata={op_name="a)b"}
  %bitcast.1 = f32[1,32,256,32]{3,2,1,0} bitcast(%loop_slice_fusion)
  %cudnn-conv.1 = (f32[1,32,256,32]{3,2,1,0}, u8[0]{0}) custom-call(%bitcast.1, %p.1), window={size=3x3 pad=1_1x1_1}, \
custom_call_target="__cudnn$convForward"
  %get-tuple-element.1 = f32[1,32,256,32]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  %fft.1 = c64[1,32,256,17]{3,2,1,0} fft(%get-tuple-element.1), fft_type=RFFT, fft_length={256,32}
  %all-reduce-start = f32[1024,256]{1,0} all-reduce-start(%loop_slice_fusion), to_apply=%add_computation
  %all-reduce-done = f32[1024,256]{1,0} all-reduce-done(%all-reduce-start)
  ROOT %copy.1 = f32[1024,256]{0,1} copy(%all-reduce-done)
}
"""
MIB = 2**20


@pytest.fixture(scope="module")
def facts():
    return Facts.read(PROGRAM, temporary=5, donated=True)


def test_launches_are_counted_by_kind(facts):
    assert (facts.launches, facts.fusions, facts.convolutions, facts.transforms) == (5, 1, 1, 1)
    assert (facts.moves, facts.reductions, facts.windows, facts.temporary) == (1, 1, (3,), 5)


def test_traffic_is_what_is_read_and_written(facts):
    sliced, convolved = 2 * MIB, MIB + 4 * 32 * 9 * 32 + 0
    spectrum = 8 * 32 * 256 * 17
    # The fusion reads only a slice; a two-dimensional transform passes twice.
    copied, reduced = 2 * MIB, 2 * MIB
    assert facts.traffic == sliced + convolved + MIB + 2 * (MIB + spectrum) + copied + reduced
    assert facts.bound("h100") == facts.traffic / CARDS["h100"].bandwidth


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"windows": (3, 7, 128)}, "gives cuDNN a window of 128 pixels"),
        ({"donated": False}, "does not write the new state over the old one"),
        ({"launches": 5000}, "has 5000 launches, more than"),
        ({"reductions": 74}, "has 74 all-reduces, more than"),
    ],
)
def test_what_gpus_would_be_slow_with_is_a_fault(facts, fields, fault):
    assert faults("step paper", facts) == []
    (found,) = faults("step paper", dataclasses.replace(facts, **fields))
    assert fault in found


@pytest.mark.parametrize("kind", ["while", "all-gather-start", "outfeed", "convolution"])
def test_operations_that_do_not_belong_there_are_a_fault(kind):
    text = PROGRAM.replace("copy(%all-reduce-done)", f"{kind}(%all-reduce-done)")
    assert faults("step paper", Facts.read(text, 0, True)) == [f"has {kind}"]


def test_cards_are_described_as_xla_reads_them():
    text = CARDS["a100"].target()
    for line in ("core_count: 108", "cuda_compute_capability { major: 8 minor: 0 }", 'platform_name: "CUDA"'):
        assert line in text
