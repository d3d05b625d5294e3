// RUN: gossamer-opt %s --gossamer-raise-attention -canonicalize | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#qk = {indexing_maps = [affine_map<(i, j, d) -> (i, d)>, affine_map<(i, j, d) -> (j, d)>, affine_map<(i, j, d) -> (i, j)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#pv = {indexing_maps = [affine_map<(i, e, j) -> (i, j)>, affine_map<(i, e, j) -> (j, e)>, affine_map<(i, e, j) -> (i, e)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#one = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
#two = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
        iterator_types = ["parallel", "parallel"]}
#row = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>], iterator_types = ["parallel", "reduction"]}
#per_row = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>, affine_map<(i, j) -> (i, j)>],
            iterator_types = ["parallel", "parallel"]}

// CHECK-DAG: #[[ID:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d2)>
// CHECK-DAG: #[[JD:.*]] = affine_map<(d0, d1, d2, d3) -> (d1, d2)>
// CHECK-DAG: #[[JE:.*]] = affine_map<(d0, d1, d2, d3) -> (d1, d3)>
// CHECK-DAG: #[[IJ:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d1)>
// CHECK-DAG: #[[IE:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d3)>
// CHECK-DAG: #[[J:.*]] = affine_map<(d0, d1, d2, d3) -> (d1)>

// softmax((q k^T * scale).masked_fill(~mask, -inf)) v. The masking constant is a
// tensor, as torch's where() has it; -1e9 would do as well.
// CHECK-LABEL: func @masked_fill
// CHECK-SAME: %[[Q:.*]]: tensor<8x4xf32>, %[[K:.*]]: tensor<9x4xf32>, %[[V:.*]]: tensor<9x5xf32>, %[[M:.*]]: tensor<8x9xi1,
func.func @masked_fill(%q: tensor<8x4xf32>, %k: tensor<9x4xf32>, %v: tensor<9x5xf32>,
                       %m: tensor<8x9xi1, #CSR>) -> tensor<8x5xf32> {
  %zero = arith.constant 0.0 : f32
  %scale = arith.constant 0.5 : f32
  %true = arith.constant true
  %lowest = arith.constant dense<0xFF800000> : tensor<f32>
  %e = tensor.empty() : tensor<8x9xf32>
  %eb = tensor.empty() : tensor<8x9xi1>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x9xf32>) -> tensor<8x9xf32>
  %0 = linalg.generic #qk ins(%q, %k : tensor<8x4xf32>, tensor<9x4xf32>) outs(%f : tensor<8x9xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x9xf32>
  %1 = linalg.generic #one ins(%0 : tensor<8x9xf32>) outs(%e : tensor<8x9xf32>) {
  ^bb0(%a: f32, %o: f32):
    %x = arith.mulf %a, %scale : f32
    linalg.yield %x : f32
  } -> tensor<8x9xf32>
  %md = gossamer.convert %m {fill = false} : tensor<8x9xi1, #CSR> to tensor<8x9xi1>
  %2 = linalg.generic #one ins(%md : tensor<8x9xi1>) outs(%eb : tensor<8x9xi1>) {
  ^bb0(%a: i1, %o: i1):
    %x = arith.xori %a, %true : i1
    linalg.yield %x : i1
  } -> tensor<8x9xi1>
  %3 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> ()>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
                       iterator_types = ["parallel", "parallel"]}
      ins(%2, %lowest, %1 : tensor<8x9xi1>, tensor<f32>, tensor<8x9xf32>) outs(%e : tensor<8x9xf32>) {
  ^bb0(%a: i1, %b: f32, %c: f32, %o: f32):
    %x = arith.select %a, %b, %c : f32
    linalg.yield %x : f32
  } -> tensor<8x9xf32>
  %p = linalg.softmax dimension(1) ins(%3 : tensor<8x9xf32>) outs(%e : tensor<8x9xf32>) -> tensor<8x9xf32>
  %eo = tensor.empty() : tensor<8x5xf32>
  %fo = linalg.fill ins(%zero : f32) outs(%eo : tensor<8x5xf32>) -> tensor<8x5xf32>
  // CHECK-DAG: %[[LOWEST:.*]] = arith.constant 0xFF800000 : f32
  // CHECK-DAG: %[[HALF:.*]] = arith.constant 5.000000e-01 : f32
  // CHECK: %[[E:.*]] = tensor.empty() : tensor<8x5xf32>
  // CHECK-NOT: linalg
  // CHECK: %[[R:.*]] = gossamer.attention ins(%[[Q]], %[[K]], %[[V]], %[[M]] :
  // CHECK-SAME: outs(%[[E]] : tensor<8x5xf32>)
  // CHECK-SAME: maps [#[[ID]], #[[JD]], #[[JE]], #[[IJ]], #[[IE]]] {
  // CHECK-NEXT: ^bb0(%[[S:.*]]: f32, %[[B:.*]]: i1):
  // CHECK-NEXT: %[[SCALED:.*]] = arith.mulf %[[S]], %[[HALF]] : f32
  // CHECK-NEXT: %[[X:.*]] = arith.select %[[B]], %[[SCALED]], %[[LOWEST]] : f32
  // CHECK: gossamer.yield %[[X]]
  // CHECK: return %[[R]]
  %r = linalg.generic #pv ins(%p, %v : tensor<8x9xf32>, tensor<9x5xf32>) outs(%fo : tensor<8x5xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x5xf32>
  return %r : tensor<8x5xf32>
}

// An additive mask (what it does not store is -inf), with a bias per key and a
// soft cap on the scores, under a softmax that is spelt out.
// CHECK-LABEL: func @spelt_out
// CHECK-SAME: %[[Q:.*]]: tensor<?x?xf32>, %[[K:.*]]: tensor<?x?xf32>, %[[V:.*]]: tensor<?x?xf32>, %[[M:[^:]*]]: tensor<?x?xf32, #{{[^:]*}}, %[[BIAS:[^:]*]]: tensor<?xf32>,
func.func @spelt_out(%q: tensor<?x?xf32>, %k: tensor<?x?xf32>, %v: tensor<?x?xf32>,
                     %m: tensor<?x?xf32, #CSR>, %bias: tensor<?xf32>,
                     %e: tensor<?x?xf32>, %er: tensor<?xf32>, %eo: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %lowest = arith.constant -3.40282347E+38 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  %0 = linalg.generic #qk ins(%q, %k : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %o, %x : f32
    linalg.yield %y : f32
  } -> tensor<?x?xf32>
  %md = gossamer.convert %m {fill = 0xFF800000 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %1 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
                       iterator_types = ["parallel", "parallel"]}
      ins(%0, %bias, %md : tensor<?x?xf32>, tensor<?xf32>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %o: f32):
    %x = arith.addf %a, %b : f32
    %y = math.tanh %x : f32
    %z = arith.addf %y, %c : f32
    linalg.yield %z : f32
  } -> tensor<?x?xf32>
  %fm = linalg.fill ins(%lowest : f32) outs(%er : tensor<?xf32>) -> tensor<?xf32>
  %max = linalg.generic #row ins(%1 : tensor<?x?xf32>) outs(%fm : tensor<?xf32>) {
  ^bb0(%a: f32, %o: f32):
    %x = arith.maximumf %a, %o : f32
    linalg.yield %x : f32
  } -> tensor<?xf32>
  %2 = linalg.generic #per_row ins(%1, %max : tensor<?x?xf32>, tensor<?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.subf %a, %b : f32
    linalg.yield %x : f32
  } -> tensor<?x?xf32>
  %3 = linalg.generic #one ins(%2 : tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%a: f32, %o: f32):
    %x = math.exp %a : f32
    linalg.yield %x : f32
  } -> tensor<?x?xf32>
  %fs = linalg.fill ins(%zero : f32) outs(%er : tensor<?xf32>) -> tensor<?xf32>
  %sum = linalg.generic #row ins(%3 : tensor<?x?xf32>) outs(%fs : tensor<?xf32>) {
  ^bb0(%a: f32, %o: f32):
    %x = arith.addf %a, %o : f32
    linalg.yield %x : f32
  } -> tensor<?xf32>
  %p = linalg.generic #per_row ins(%3, %sum : tensor<?x?xf32>, tensor<?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.divf %a, %b : f32
    linalg.yield %x : f32
  } -> tensor<?x?xf32>
  %fo = linalg.fill ins(%zero : f32) outs(%eo : tensor<?x?xf32>) -> tensor<?x?xf32>
  // CHECK-NOT: linalg
  // CHECK: gossamer.attention ins(%[[Q]], %[[K]], %[[V]], %[[M]] :
  // CHECK-SAME: with(%[[BIAS]] : tensor<?xf32>)
  // CHECK-SAME: maps [#[[ID]], #[[JD]], #[[JE]], #[[IJ]], #[[J]], #[[IE]]]
  // CHECK-NEXT: ^bb0(%[[S:.*]]: f32, %[[B:.*]]: f32, %[[X:.*]]: f32):
  // CHECK-NEXT: %[[BIASED:.*]] = arith.addf %[[S]], %[[X]]
  // CHECK-NEXT: %[[CAPPED:.*]] = math.tanh %[[BIASED]]
  // CHECK-NEXT: %[[MASKED:.*]] = arith.addf %[[CAPPED]], %[[B]]
  // CHECK-NEXT: gossamer.yield %[[MASKED]]
  %r = linalg.generic #pv ins(%p, %v : tensor<?x?xf32>, tensor<?x?xf32>) outs(%fo : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<?x?xf32>
  return %r : tensor<?x?xf32>
}
