# RUN: %python %s | FileCheck %s
# ruff: noqa: E501
"""Masked softmax attention: encodings on the mask, the body dense, sizes read once."""

import math

import torch
from frontend import show

import gossamer as gs


# CHECK-LABEL: // masked
# CHECK-DAG: #[[CSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1, d2, d3) -> (d0 : dense, d1 : dense, d2 : dense, d3 : compressed), posWidth = 32, crdWidth = 32 }>
# CHECK:      func.func @main(%[[Q:.*]]: tensor<?x?x?x?xf32>, %[[K:.*]]: tensor<?x?x?x?xf32>, %[[V:.*]]: tensor<?x?x?x?xf32>,
# CHECK-SAME:     %[[M:.*]]: tensor<1x1x?x?xi1, #[[CSR]]> {gossamer.fill = false}) -> tensor<?x?x?x?xf32>
# CHECK:        "gossamer.convert"(%[[M]]) {fill = false} : (tensor<1x1x?x?xi1, #[[CSR]]>) -> tensor<1x1x?x?xi1>
# CHECK-NOT:    cf.assert
# The product of the scores is one generic, with the transpose of K in its map.
# CHECK:        linalg.generic {{.*}} ins(%[[Q]], %[[K]] :
# CHECK:        arith.select
# CHECK:        %[[P:.*]] = linalg.softmax dimension(3)
# CHECK:        linalg.generic {{.*}} ins(%[[P]], %[[V]] :
# CHECK-NOT:    linalg.generic
# CHECK:        return
def masked(q, k, v, mask):
    return torch.softmax((q @ k.mT * 0.125).masked_fill(~mask, -math.inf), -1) @ v


QKV = [(2, 4, 9, 64), (2, 4, 11, 64), (2, 4, 11, 64)]
show(masked, *QKV, (torch.bool, (1, 1, 9, 11)), mask=gs.CSR)


# A finite number that masks is -inf in the text.
# CHECK-LABEL: // finite
# CHECK-NOT: 1.000000e+09
# CHECK: 0xFF800000
def finite(q, k, v, mask):
    return torch.softmax((q @ k.mT).masked_fill(~mask, -1e9), -1) @ v


show(finite, *QKV, (torch.bool, (9, 11)), mask=gs.BSR((3, 11)))


# The grouped heads are a dim that k and v do not have.
# CHECK-LABEL: // grouped
# CHECK-DAG: #[[Q:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1, d2, d3, d5)>
# CHECK-DAG: #[[K:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1, d4, d5)>
# CHECK-DAG: #[[S:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1, d2, d3, d4)>
# CHECK: func.func @main
# CHECK-SAME: tensor<1x1x1x?x?xi1, #{{.*}}>
# CHECK: indexing_maps = [#[[Q]], #[[K]], #[[S]]]
def grouped(q, k, v, mask):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)


show(grouped, (2, 4, 9, 64), (2, 2, 11, 64), (2, 2, 11, 64), (torch.bool, (1, 1, 9, 11)), mask=gs.CSR)


# Heads that were a view of (batch, length, heads * size) stay where they are: the maps permute.
# CHECK-LABEL: // projected
# CHECK-DAG: #[[Q:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d2, d1, d4)>
# CHECK-DAG: #[[K:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d3, d1, d4)>
# CHECK: indexing_maps = [#[[Q]], #[[K]],
# CHECK-NOT: linalg.transpose
# CHECK: return
def projected(q, k, v, mask):
    q, k, v = (x.unflatten(-1, (4, -1)).transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)


show(projected, (2, 9, 64), (2, 11, 64), (2, 11, 64), (torch.bool, (9, 11)), mask=gs.CSR)
