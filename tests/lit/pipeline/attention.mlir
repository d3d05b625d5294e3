// From the annotated region to the LLVM dialect: no tensor of rows x columns, nothing left of a dialect above LLVM.
// RUN: gossamer-opt %s --gossamer-raise | FileCheck %s --check-prefix=RAISED
// RUN: gossamer-opt %s --gossamer-raise --gossamer-lower-cpu | FileCheck %s
// RUN: gossamer-opt %s --gossamer-raise --gossamer-lower-cpu | FileCheck %s --check-prefix=LEFT

// RAISED-LABEL: func.func @main
// RAISED: %[[E:.*]] = tensor.empty
// RAISED-NOT: tensor.empty
// RAISED-NOT: linalg
// RAISED: gossamer.attention
// RAISED: return

// CHECK: module attributes {gossamer.signature = "{\22args\22:[
// CHECK-SAME: \22op\22:\22gossamer.attention\22,\22road\22:\22general\22
// CHECK-DAG: llvm.func @gs_parallel_for(i64, i64, i64, !llvm.ptr, !llvm.ptr)
// CHECK-DAG: llvm.func internal @main({{.*}}: !llvm.ptr {llvm.noalias}
// CHECK-DAG: llvm.func internal @main_parallel_0({{.*}}: !llvm.ptr {llvm.noalias}
// CHECK-DAG: llvm.call @gs_parallel_for
// CHECK-DAG: llvm.func @gs_entry(%{{.*}}: !llvm.ptr)
// CHECK-DAG: llvm.fadd {{.*}} {fastmathFlags = #llvm.fastmath<nsz, contract, reassoc>}

// LEFT-NOT: @aligned_alloc
// LEFT-NOT: builtin.unrealized_conversion_cast
// LEFT-NOT: {{^ *(%[^=]* = )?"?(tensor|memref|linalg|scf|vector|math|arith|func|cf|gossamer|sparse_tensor|bufferization)\.}}

#qk = {indexing_maps = [affine_map<(b, h, i, j, d) -> (b, h, i, d)>, affine_map<(b, h, i, j, d) -> (b, h, j, d)>, affine_map<(b, h, i, j, d) -> (b, h, i, j)>],
       iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction"]}
#pv = {indexing_maps = [affine_map<(b, h, i, e, j) -> (b, h, i, j)>, affine_map<(b, h, i, e, j) -> (b, h, j, e)>, affine_map<(b, h, i, e, j) -> (b, h, i, e)>],
       iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction"]}
#masked = {indexing_maps = [affine_map<(b, h, i, j) -> (0, 0, i, j)>, affine_map<(b, h, i, j) -> (b, h, i, j)>, affine_map<(b, h, i, j) -> (b, h, i, j)>],
           iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
#CSR = #sparse_tensor.encoding<{ map = (d0, d1, d2, d3) -> (d0 : dense, d1 : dense, d2 : dense, d3 : compressed), posWidth = 64, crdWidth = 64 }>

func.func @main(%q: tensor<?x?x?x?xf32>, %k: tensor<?x?x?x?xf32>, %v: tensor<?x?x?x?xf32>,
                %m: tensor<1x1x?x?xi1, #CSR> {gossamer.fill = false}) -> tensor<?x?x?x?xf32> {
  %md = gossamer.convert %m {fill = false} : tensor<1x1x?x?xi1, #CSR> to tensor<1x1x?x?xi1>
  %zero = arith.constant 0.0 : f32
  %lowest = arith.constant 0xFF800000 : f32
  %c3 = arith.constant 3 : index
  %c2 = arith.constant 2 : index
  %c1 = arith.constant 1 : index
  %c0 = arith.constant 0 : index
  %b = tensor.dim %q, %c0 : tensor<?x?x?x?xf32>
  %h = tensor.dim %q, %c1 : tensor<?x?x?x?xf32>
  %i = tensor.dim %q, %c2 : tensor<?x?x?x?xf32>
  %j = tensor.dim %k, %c2 : tensor<?x?x?x?xf32>
  %n = tensor.dim %v, %c3 : tensor<?x?x?x?xf32>
  %e = tensor.empty(%b, %h, %i, %j) : tensor<?x?x?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?x?x?xf32>) -> tensor<?x?x?x?xf32>
  %0 = linalg.generic #qk ins(%q, %k : tensor<?x?x?x?xf32>, tensor<?x?x?x?xf32>) outs(%f : tensor<?x?x?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?x?x?xf32>
  %1 = linalg.generic #masked ins(%md, %0 : tensor<1x1x?x?xi1>, tensor<?x?x?x?xf32>) outs(%e : tensor<?x?x?x?xf32>) {
  ^bb0(%x: i1, %y: f32, %o: f32):
    %s = arith.select %x, %y, %lowest : f32
    linalg.yield %s : f32
  } -> tensor<?x?x?x?xf32>
  %p = linalg.softmax dimension(3) ins(%1 : tensor<?x?x?x?xf32>) outs(%e : tensor<?x?x?x?xf32>) -> tensor<?x?x?x?xf32>
  %eo = tensor.empty(%b, %h, %i, %n) : tensor<?x?x?x?xf32>
  %fo = linalg.fill ins(%zero : f32) outs(%eo : tensor<?x?x?x?xf32>) -> tensor<?x?x?x?xf32>
  %r = linalg.generic #pv ins(%p, %v : tensor<?x?x?x?xf32>, tensor<?x?x?x?xf32>) outs(%fo : tensor<?x?x?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %z = arith.mulf %x, %y : f32
    %s = arith.addf %z, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?x?x?xf32>
  return %r : tensor<?x?x?x?xf32>
}
