// F.linear with a weight in blocks, bias and activation: one product, its block rows spread over threads, its
// epilogue on the way out, nothing left of a dialect above LLVM.
// RUN: gossamer-opt %s --gossamer-raise --gossamer-lower-cpu | FileCheck %s
// RUN: gossamer-opt %s --gossamer-raise --gossamer-lower-cpu | FileCheck %s --check-prefix=LEFT

// CHECK: module attributes {gossamer.signature = "
// CHECK-SAME: d0 floordiv 32 : dense
// CHECK-DAG: llvm.func internal @main_parallel_0({{.*}}: !llvm.ptr {llvm.noalias}
// CHECK-DAG: llvm.call @gs_parallel_for
// CHECK-DAG: llvm.func @gs_entry(%{{.*}}: !llvm.ptr)
// One parallel loop for few tokens, one for many: epilogue and product are in each.
// CHECK-NOT: main_parallel_2

// LEFT-NOT: @tanhf
// LEFT-NOT: builtin.unrealized_conversion_cast
// LEFT-NOT: {{^ *(%[^=]* = )?"?(tensor|memref|linalg|scf|vector|math|arith|func|cf|gossamer|sparse_tensor|bufferization)\.}}

#linear = {indexing_maps = [affine_map<(b, t, o, k) -> (b, t, k)>, affine_map<(b, t, o, k) -> (o, k)>, affine_map<(b, t, o, k) -> (b, t, o)>],
           iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
#biased = {indexing_maps = [affine_map<(b, t, o) -> (b, t, o)>, affine_map<(b, t, o) -> (o)>, affine_map<(b, t, o) -> (b, t, o)>],
           iterator_types = ["parallel", "parallel", "parallel"]}
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 32 : dense, d1 floordiv 32 : compressed, d0 mod 32 : dense, d1 mod 32 : dense), posWidth = 64, crdWidth = 64 }>

func.func @main(%x: tensor<?x?x128xf32>, %w: tensor<512x128xf32, #BSR> {gossamer.fill = 0.0 : f32}, %bias: tensor<512xf32>) -> tensor<?x?x512xf32> {
  %wd = gossamer.convert %w {fill = 0.0 : f32} : tensor<512x128xf32, #BSR> to tensor<512x128xf32>
  %zero = arith.constant 0.0 : f32
  %c1 = arith.constant 1 : index
  %c0 = arith.constant 0 : index
  %b = tensor.dim %x, %c0 : tensor<?x?x128xf32>
  %t = tensor.dim %x, %c1 : tensor<?x?x128xf32>
  %e = tensor.empty(%b, %t) : tensor<?x?x512xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?x512xf32>) -> tensor<?x?x512xf32>
  %0 = linalg.generic #linear ins(%x, %wd : tensor<?x?x128xf32>, tensor<512x128xf32>) outs(%f : tensor<?x?x512xf32>) {
  ^bb0(%a: f32, %c: f32, %o: f32):
    %p = arith.mulf %a, %c : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?x512xf32>
  %1 = linalg.generic #biased ins(%0, %bias : tensor<?x?x512xf32>, tensor<512xf32>) outs(%e : tensor<?x?x512xf32>) {
  ^bb0(%a: f32, %c: f32, %o: f32):
    %s = arith.addf %a, %c : f32
    %y = math.tanh %s : f32
    linalg.yield %y : f32
  } -> tensor<?x?x512xf32>
  return %1 : tensor<?x?x512xf32>
}
