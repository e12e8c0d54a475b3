"""A sum goes through a norm: the terms' images sum to the norm's own output, and only C gets means and biases."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from addends.decomposition.norms import Norm, check_centering
from addends.errors import InputError

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


def test_an_unknown_centering_is_refused():
    with pytest.raises(InputError, match=r"centering='none' is not one of \('constant', 'own'\)"):
        check_centering("none")
