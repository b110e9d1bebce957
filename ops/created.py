"""Rows of the table: numbers, shapes, tensors made of them, and what only the dispatcher names."""

import torch

from . import batch
from .writing import (
    BINARY,
    CREATE,
    NOTHING,
    PART,
    RANDOM_REMEDY,
    REFUSED,
    SIZE,
    UNKNOWN_REMEDY,
    rows,
)

# ---- numbers, shapes and tensors made of them ------------------------------------------------------
NUMBERS = [
    *rows(
        CREATE,
        "zeros ones full empty arange linspace eye ones_like empty_like new_zeros new_ones new_full "
        "new_empty tensor=as_tensor,asarray,scalar_tensor new_tensor "
        "tril_indices triu_indices",
        spikes=NOTHING,
        batch=batch.kept,
    ),
    *rows(
        CREATE,
        "zeros_like",
        augmented=("zero_", torch.zeros_like),
        spikes=NOTHING,
        batch=batch.kept,
    ),
    *rows(
        CREATE,
        "full_like",
        augmented=("fill_", torch.full_like),
        spikes=NOTHING,
        batch=batch.kept,
    ),
    *rows(
        SIZE,
        "size=dim,ndimension,numel,nelement,len,__len__ getattr "
        "number=sym_int,sym_float,sym_max,sym_min,sym_not,is_,is_not,not_,truth,slice,index,"
        "isinstance,is_floating_point,is_complex,is_contiguous,get_device,element_size,stride,Size "
        "assertion=_assert,_assert_async,_assert_scalar",
        batch=batch.kept,
    ),
    *rows(
        REFUSED,
        "random=rand,randn,randint,randperm,rand_like,randn_like,randint_like,multinomial,"
        "normal,poisson,gumbel_softmax,uniform,exponential,log_normal,cauchy,geometric",
        remedy=RANDOM_REMEDY,
    ),
]

# ---- what only PyTorch's dispatcher names ----------------------------------------------------------
DISPATCHED = [
    *rows(REFUSED, "bernoulli", spikes=BINARY, remedy=RANDOM_REMEDY),
    *rows(
        REFUSED,
        "aten::nearest@upsample_nearest1d,upsample_nearest2d,upsample_nearest3d,"
        "_upsample_nearest_exact1d,_upsample_nearest_exact2d",
        "resampling",
        spikes=PART,
        remedy=UNKNOWN_REMEDY,
    ),
    *rows(REFUSED, "aten::sampler@grid_sampler_2d", "resampling", remedy=UNKNOWN_REMEDY),
    *rows(
        REFUSED,
        "aten::moves@as_strided,copy,fill,zero,index_copy,index_put,masked_scatter,scatter,"
        "select_scatter,slice_scatter,unsafe_index",
        spikes=PART,
        remedy=UNKNOWN_REMEDY,
    ),
    *rows(
        REFUSED,
        "aten::bookkeeping@_has_compatible_shallow_copy_type,_local_scalar_dense,_pin_memory,"
        "_nested_tensor_from_mask,cos_,embedding,empty_strided,new_empty_strided,equal,fft_fftfreq,"
        "is_pinned,is_same_size,item,lift_fresh_copy,narrow_copy,nonzero,record_stream,"
        "resize,set,set_,sym_size",
        remedy=UNKNOWN_REMEDY,
    ),
]
