# RUN: %python %s kept > %t.kept.mlir && FileCheck %s --check-prefix=KEPT < %t.kept.mlir
# RUN: %gossamer-opt %t.kept.mlir --gossamer-raise --gossamer-lower-cpu | FileCheck %s --check-prefix=LOWERED
# RUN: %python %s transposed > %t.transposed.mlir && FileCheck %s --check-prefix=SORT < %t.transposed.mlir
# RUN: %gossamer-opt %t.transposed.mlir --gossamer-raise --gossamer-lower-cpu | FileCheck %s --check-prefix=LOWERED
# RUN: %python %s blocks | FileCheck %s --check-prefix=MARK
"""The texts of conversion kernels, and that they become functions of a range for threads."""

import sys

import gossamer as gs
from gossamer.conversion import exchange, flat, strided
from gossamer.conversion.nodes import Outline

# Counting: 64 elements at a time become the bits of a word. Only bits, whatever the dtype.
# KEPT: func.func private @phase_0(%part: index, %numbers: memref<?xi64>, %keep: memref<?xi32>,
# KEPT-SAME: %pos1: memref<?xi32>, %crd1: memref<?xi32>, %state: memref<?xi64>
# KEPT: vector.load %keep[%{{.*}}] : memref<?xi32>, vector<64xi32>
# KEPT: arith.cmpi ne, {{.*}} : vector<64xi32>
# KEPT: vector.bitcast {{.*}} : vector<64xi1> to vector<1xi64>
# KEPT: math.ctpop
# KEPT-NOT: memref.store {{.*}}, %crd1
# Filling: a loop over the bits that are set.
# KEPT: func.func private @phase_1
# KEPT: scf.while
# KEPT: math.cttz
# KEPT: memref.store {{.*}}, %pos1
# KEPT: memref.store {{.*}}, %crd1
# KEPT: memref.store {{.*}}, %values
# Parts run in parallel; step 0 counts, step 1 fills.
# KEPT: func.func @main({{.*}}) attributes {gossamer.results = [-1, -1, -1, -1, -1, -1, -1]}
# KEPT: scf.parallel
# KEPT-NEXT: func.call @phase_0
# KEPT: scf.parallel
# KEPT-NEXT: func.call @phase_1

# LOWERED-DAG: llvm.func @gs_parallel_for
# LOWERED-DAG: llvm.func @gs_entry
# LOWERED-DAG: llvm.func {{.*}}@main_parallel_0{{.*}}llvm.noalias

# A counting sort: every part counts its entries by column, one scan, every part puts them in their places.
# SORT: func.func private @phase_0(%part: index
# SORT: memref.store {{.*}}, %places
# SORT: func.func private @phase_1(%numbers
# SORT: memref.store {{.*}}, %pos
# SORT: func.func private @phase_2(%part: index
# SORT: memref.store {{.*}}, %crd
# SORT: memref.store {{.*}}, %gather

# A row of a block is a vector.
# MARK: vector.load %dense[%{{.*}}] : memref<?xi16>, vector<8xi16>
# MARK: vector.reduction <or>
# MARK: memref.store {{.*}}, %mask

KERNELS = {
    "kept": lambda: flat._kernel(Outline.of(gs.CSR), "i32", "i32", "i32", False),
    "transposed": lambda: exchange._sorter(gs.CSR, ("i32", "i32"), gs.CSC, "i32"),
    "blocks": lambda: strided._mark(gs.BSR(8), (0, 2, 1, 3), True, "i16"),
}
print(KERNELS[sys.argv[1]]().text)
