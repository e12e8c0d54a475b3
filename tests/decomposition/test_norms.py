"""A sum goes through a norm: the terms' images sum to the norm's own output, and only C gets means and biases."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from addends.decomposition.linear import rounding, widened
from addends.decomposition.norms import Norm, form_of
from addends.errors import UnsupportedModelError

CENTERINGS = pytest.mark.parametrize("centering", ["own", "constant"])
C = 2


def terms(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 4, 8, generator=generator, dtype=dtype) + 0.5  # (term, sentence, position, dim)


def record(module, read):
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.linspace(0.5, 1.5, 8))
        return Norm(module, read=read, gave=module(read))


@CENTERINGS
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"elementwise_affine": False}, {"eps": 0.3}])
def test_the_terms_of_a_layer_norm_sum_to_what_it_gave(centering, options):
    vectors = terms()
    before = vectors.clone()
    norm = record(nn.LayerNorm(8, **options).double(), vectors.sum(dim=0))
    with torch.no_grad():
        torch.testing.assert_close(norm.of_sum(vectors, C, centering).sum(dim=0), norm.gave)
    assert torch.equal(vectors, before)


@CENTERINGS
@pytest.mark.parametrize("make", [nn.RMSNorm, T5LayerNorm, LlamaRMSNorm])
def test_the_terms_of_an_rms_norm_sum_to_what_it_gave_and_are_not_centred(centering, make):
    vectors = terms()
    norm = record(make(8).double(), vectors.sum(dim=0))
    with torch.no_grad():
        carried = norm.of_sum(vectors, C, centering)
        torch.testing.assert_close(carried.sum(dim=0), norm.gave, rtol=1e-12, atol=1e-12)
        rms = vectors.sum(dim=0).square().mean(dim=-1, keepdim=True).sqrt()
        expected = torch.linspace(0.5, 1.5, 8, dtype=torch.float64) * vectors / rms
    torch.testing.assert_close(carried, expected, rtol=1e-5, atol=1e-5)


def test_a_zero_entry_of_an_rms_norm_takes_the_formula():
    vectors = terms()
    vectors[:, 0, 0, 3] = torch.tensor([1.0, -1.0, 0.0])
    norm = record(nn.RMSNorm(8).double(), vectors.sum(dim=0))
    with torch.no_grad():
        carried = norm.of_sum(vectors, C, "own")
    assert torch.isfinite(carried).all()
    assert carried[0, 0, 0, 3] > 0.1
    torch.testing.assert_close(carried.sum(dim=0), norm.gave)


def test_where_the_mean_goes():
    vectors = terms()
    norm = record(nn.LayerNorm(8).double(), vectors.sum(dim=0))
    with torch.no_grad():
        own, constant = (norm.of_sum(vectors, C, centering) for centering in ("own", "constant"))
        gain = norm.module.weight / vectors.sum(dim=0).var(dim=-1, correction=0, keepdim=True).add(1e-5).sqrt()
        for term in (0, 1):
            mean = vectors[term].mean(dim=-1, keepdim=True)
            torch.testing.assert_close(own[term], gain * (vectors[term] - mean))
            torch.testing.assert_close(constant[term], gain * vectors[term])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@CENTERINGS
def test_a_norm_in_half_precision_is_carried_in_float32(dtype, centering):
    vectors = terms(torch.float32)
    norm = record(nn.LayerNorm(8).to(dtype), vectors.sum(dim=0).to(dtype))
    norm.read, norm.gave = norm.read.float(), norm.gave.float()  # as they are captured
    with torch.no_grad():
        carried = norm.of_sum(vectors, C, centering)
    assert carried.dtype == torch.float32
    assert (carried.sum(dim=0) - norm.gave).abs().max() < 8 * torch.finfo(dtype).eps


class OwnLayerNorm(nn.Module):
    """A LayerNorm of another class: apex, Liger, Cohere."""

    def __init__(self, dim, eps=1e-5, wide=False):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.eps, self.wide = eps, wide

    def forward(self, x):
        if not self.wide:
            return nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        gave = nn.functional.layer_norm(x.float(), x.shape[-1:], self.weight.float(), self.bias.float(), self.eps)
        return gave.to(x.dtype)


class OnePlus(nn.Module):
    """Gemma's: the gain is 1 + w."""

    def __init__(self, dim):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(dim)), 1e-6

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        scaled = wide * (wide.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return (scaled * (1.0 + self.weight.to(wide.dtype))).to(x.dtype)


@CENTERINGS
@pytest.mark.parametrize("wide", [False, True])
def test_a_layer_norm_of_another_class_is_carried_as_a_layer_norm(centering, wide):
    vectors = terms()
    read = vectors.sum(dim=0)
    plain = record(nn.LayerNorm(8).double(), read)
    norm = record(OwnLayerNorm(8, wide=wide).double(), read)
    with torch.no_grad():
        expected, carried = (each.of_sum(vectors, C, centering) for each in (plain, norm))
    tolerance = 1e-6 if wide else 1e-13
    torch.testing.assert_close(carried, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(carried.sum(dim=0), norm.gave, rtol=1e-13, atol=1e-13)


@CENTERINGS
def test_what_is_more_than_rounding_is_not_taken_for_it(centering):
    """A LayerNorm that goes through float32 leaves its rounding to C, and nothing else that it did in this pass."""
    vectors = terms()
    norm = record(OwnLayerNorm(8, wide=True).double(), vectors.sum(dim=0))
    with torch.no_grad():
        carried = norm.of_sum(vectors, C, centering)
        norm.gave = norm.gave + 1e-3
        again = norm.of_sum(vectors, C, centering)
    torch.testing.assert_close(again, carried, rtol=1e-6, atol=1e-6)


@CENTERINGS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_gain_of_one_plus_the_weight_is_found(centering, dtype):
    vectors = terms(torch.float64 if dtype == torch.float64 else torch.float32)
    norm = record(OnePlus(8).to(dtype), vectors.sum(dim=0).to(dtype))
    norm.read, norm.gave, norm.dtype = widened(norm.read), widened(norm.gave), dtype
    with torch.no_grad():
        carried = norm.of_sum(vectors, C, centering)
    gap = (carried.sum(dim=0) - norm.gave).norm(dim=-1) / norm.gave.norm(dim=-1)
    assert gap.max() <= rounding(dtype)
    rms = norm.read.square().mean(dim=-1, keepdim=True).add(1e-6).sqrt()
    expected = (1 + widened(norm.module.weight.detach())) * vectors / rms
    torch.testing.assert_close(carried, expected, rtol=rounding(dtype), atol=rounding(dtype))


@CENTERINGS
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_norm_without_a_weight_is_carried(centering, centred, dtype):
    class Bare(nn.Module):
        """As OLMo's: through float32, whatever it reads."""

        def forward(self, x):
            function = nn.functional.layer_norm if centred else nn.functional.rms_norm
            return function(x.float(), x.shape[-1:], eps=1e-5).to(x)

    vectors = terms(dtype)
    norm = record(Bare(), vectors.sum(dim=0))
    with torch.no_grad():
        carried = norm.of_sum(vectors, C, centering)
    eps = 32 * torch.finfo(dtype).eps
    torch.testing.assert_close(carried.sum(dim=0), norm.gave, rtol=eps, atol=eps)


def test_an_identity_in_place_of_a_norm_changes_nothing():
    vectors = terms()
    norm = record(nn.Identity(), vectors.sum(dim=0))
    assert torch.equal(norm.of_sum(vectors, C, "own"), vectors)


class HalfGroups(nn.Module):
    """An RMSNorm of each half by itself."""

    def forward(self, x):
        return nn.functional.rms_norm(x.unflatten(-1, (2, -1)), (x.shape[-1] // 2,)).flatten(-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_no_formula_gives_is_refused_by_its_class(dtype):
    read = terms(dtype).sum(dim=0)
    scaled = nn.LayerNorm(8).to(dtype)
    scaled.register_forward_hook(lambda _module, _inputs, output: 1.5 * output)
    louder = nn.RMSNorm(8).to(dtype)
    for module, name in ((HalfGroups(), "HalfGroups"), (scaled, "LayerNorm"), (nn.Tanh(), "Tanh")):
        with pytest.raises(UnsupportedModelError, match=f"A {name} stands where a norm was expected.*off by"):
            form_of(module, read, dtype)
    assert form_of(louder, read, dtype).weight == "weight"
    louder.register_forward_hook(lambda _module, _inputs, output: 1.5 * output)  # known before, and found again
    with pytest.raises(UnsupportedModelError, match="A RMSNorm"):
        form_of(louder, read, dtype)
