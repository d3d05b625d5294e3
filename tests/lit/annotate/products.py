# RUN: %python %s | FileCheck %s
# ruff: noqa: E501
"""Products with a sparse operand: one generic each, whatever PyTorch calls them, with their epilogue."""

import torch
from frontend import show

import gossamer as gs


# CHECK-LABEL: // linear
# CHECK-DAG: #[[X:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>
# CHECK-DAG: #[[W:.*]] = affine_map<(d0, d1, d2, d3) -> (d2, d3)>
# CHECK-DAG: #[[Y:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>
# CHECK-DAG: #[[BSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 16 : dense, d1 floordiv 16 : compressed, d0 mod 16 : dense, d1 mod 16 : dense)
# CHECK: func.func @main({{.*}}: tensor<?x?x?xf32>, %[[W_ARG:.*]]: tensor<?x?xf32, #[[BSR]]> {gossamer.fill = 0.000000e+00 : f32}, {{.*}}) -> tensor<?x?x?xf32>
# CHECK:   %[[DENSE:.*]] = "gossamer.convert"(%[[W_ARG]])
# CHECK:   linalg.generic {indexing_maps = [#[[X]], #[[W]], #[[Y]]]
# CHECK-SAME: "parallel", "parallel", "parallel", "reduction"
# CHECK:   arith.addf
# CHECK:   math.erf
# CHECK:   return
def linear(x, w, b):
    return torch.nn.functional.gelu(torch.nn.functional.linear(x, w, b))


show(linear, (2, 5, 32), (64, 32), (64,), w=gs.BSR(16))


# CHECK-LABEL: // einsum
# CHECK-DAG: #[[A:.*]] = affine_map<(d0, d1, d2, d3) -> (d1, d3)>
# CHECK-DAG: #[[X:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d3, d2)>
# CHECK: indexing_maps = [#[[A]], #[[X]], #{{.*}}]
def einsum(a, x):
    return torch.einsum("ij,bjk->bik", a, x)


show(einsum, (6, 4), (3, 4, 5), a=gs.CSR)


# A result that keeps the pattern goes out through gossamer.sample.
# CHECK-LABEL: // sampled
# CHECK: func.func @main(%[[M:.*]]: tensor<?x?xf32, #[[CSR:.*]]> {{.*}}) -> tensor<?x?xf32, #[[CSR]]>
# CHECK: %[[R:.*]] = "gossamer.sample"(%{{.*}}, %[[M]]) : (tensor<?x?xf32>, tensor<?x?xf32, #[[CSR]]>) -> tensor<?x?xf32, #[[CSR]]>
# CHECK: return %[[R]]
def sampled(m, a, b):
    return m * (a @ b)


show(sampled, (6, 5), (6, 4), (4, 5), m=gs.CSR)


# Half precision is summed in f32 and rounded once.
# CHECK-LABEL: // half
# CHECK: linalg.fill ins({{.*}} : f32)
# CHECK: arith.extf {{.*}} : f16 to f32
# CHECK: arith.addf {{.*}} : f32
# CHECK: arith.truncf {{.*}} : f32 to f16
def half(a, x):
    return a @ x


show(half, (torch.float16, (6, 5)), (torch.float16, (5, 4)), a=gs.CSR)


# CHECK-LABEL: // transposed
# CHECK-DAG: #[[A:.*]] = affine_map<(d0, d1, d2) -> (d2, d0)>
# CHECK: indexing_maps = [#[[A]],
# CHECK-NOT: linalg.transpose
# CHECK: return
def transposed(a, x):
    return a.mT @ x


show(transposed, (6, 5), (6, 4), a=gs.CSR)


# The stage before: the same, dense.
# CHECK-LABEL: // imported
# CHECK-NOT: sparse_tensor
# CHECK: linalg.generic
# CHECK-NOT: gossamer
def imported(a, x):
    return a @ x


show(imported, (6, 5), (5, 4), a=gs.CSR, stage="import")
