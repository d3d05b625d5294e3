// mask * (a @ b.T), which stays sparse: values go straight into the caller's array, rows over threads.
// RUN: gossamer-opt %s --gossamer-raise --gossamer-lower-cpu | FileCheck %s
// RUN: gossamer-opt %s --gossamer-raise --gossamer-lower-cpu | FileCheck %s --check-prefix=LEFT

// CHECK: module attributes {gossamer.signature = "
// CHECK-SAME: \22results\22:[{\22dtype\22:\22f64\22,\22kind\22:\22sparse\22,\22pattern_of\22:0,
// CHECK-DAG: llvm.call @gs_parallel_for
// CHECK-DAG: llvm.func @gs_entry(%{{.*}}: !llvm.ptr)

// LEFT-NOT: alloc(
// LEFT-NOT: memcpy
// LEFT-NOT: memrefCopy
// LEFT-NOT: builtin.unrealized_conversion_cast
// LEFT-NOT: {{^ *(%[^=]* = )?"?(tensor|memref|linalg|scf|vector|math|arith|func|cf|gossamer|sparse_tensor|bufferization)\.}}

#product = {indexing_maps = [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (j, k)>, affine_map<(i, j, k) -> (i, j)>],
            iterator_types = ["parallel", "parallel", "reduction"]}
#two = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
        iterator_types = ["parallel", "parallel"]}
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 64, crdWidth = 64 }>

func.func @main(%s: tensor<?x?xf64, #CSR> {gossamer.fill = 0.0 : f64}, %a: tensor<?x?xf64>, %b: tensor<?x?xf64>) -> tensor<?x?xf64, #CSR> {
  %sd = gossamer.convert %s {fill = 0.0 : f64} : tensor<?x?xf64, #CSR> to tensor<?x?xf64>
  %zero = arith.constant 0.0 : f64
  %c0 = arith.constant 0 : index
  %m = tensor.dim %a, %c0 : tensor<?x?xf64>
  %n = tensor.dim %b, %c0 : tensor<?x?xf64>
  %e = tensor.empty(%m, %n) : tensor<?x?xf64>
  %f = linalg.fill ins(%zero : f64) outs(%e : tensor<?x?xf64>) -> tensor<?x?xf64>
  %0 = linalg.generic #product ins(%a, %b : tensor<?x?xf64>, tensor<?x?xf64>) outs(%f : tensor<?x?xf64>) {
  ^bb0(%x: f64, %y: f64, %o: f64):
    %p = arith.mulf %x, %y : f64
    %q = arith.addf %p, %o : f64
    linalg.yield %q : f64
  } -> tensor<?x?xf64>
  %1 = linalg.generic #two ins(%sd, %0 : tensor<?x?xf64>, tensor<?x?xf64>) outs(%e : tensor<?x?xf64>) {
  ^bb0(%x: f64, %y: f64, %o: f64):
    %p = arith.mulf %x, %y : f64
    linalg.yield %p : f64
  } -> tensor<?x?xf64>
  %r = gossamer.sample %1, %s : tensor<?x?xf64>, tensor<?x?xf64, #CSR> -> tensor<?x?xf64, #CSR>
  return %r : tensor<?x?xf64, #CSR>
}
