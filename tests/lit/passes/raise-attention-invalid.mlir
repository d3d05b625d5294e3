// Refusals of the raising: said, and the program left as it is.
// RUN: gossamer-opt %s --gossamer-raise-attention -verify-diagnostics -split-input-file -o %t
// RUN: FileCheck %s < %t

// CHECK-NOT: = gossamer.attention

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#qk = {indexing_maps = [affine_map<(i, j, d) -> (i, d)>, affine_map<(i, j, d) -> (j, d)>, affine_map<(i, j, d) -> (i, j)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#pv = {indexing_maps = [affine_map<(i, e, j) -> (i, j)>, affine_map<(i, e, j) -> (j, e)>, affine_map<(i, e, j) -> (i, e)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#two = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
        iterator_types = ["parallel", "parallel"]}

func.func @unstored_is_zero(%q: tensor<8x8xf32>, %m: tensor<8x8xf32, #CSR>, %e: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  %0 = linalg.generic #qk ins(%q, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %md = gossamer.convert %m {fill = 0.0 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  %1 = linalg.generic #two ins(%0, %md : tensor<8x8xf32>, tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.addf %a, %b : f32
    linalg.yield %x : f32
  } -> tensor<8x8xf32>
  %p = linalg.softmax dimension(1) ins(%1 : tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  // expected-remark @+1 {{not raised to gossamer.attention: entries that the mask does not store are not -inf}}
  %r = linalg.generic #pv ins(%p, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  return %r : tensor<8x8xf32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#qk = {indexing_maps = [affine_map<(i, j, d) -> (i, d)>, affine_map<(i, j, d) -> (j, d)>, affine_map<(i, j, d) -> (i, j)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#pv = {indexing_maps = [affine_map<(i, e, j) -> (i, j)>, affine_map<(i, e, j) -> (j, e)>, affine_map<(i, e, j) -> (i, e)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#three = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
          iterator_types = ["parallel", "parallel"]}

func.func @two_masks(%q: tensor<8x8xf32>, %m: tensor<8x8xf32, #CSR>, %n: tensor<8x8xf32, #CSR>, %e: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  %0 = linalg.generic #qk ins(%q, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %md = gossamer.convert %m {fill = 0xFF800000 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  %nd = gossamer.convert %n {fill = 0xFF800000 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  %1 = linalg.generic #three ins(%0, %md, %nd : tensor<8x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %o: f32):
    %x = arith.addf %a, %b : f32
    %y = arith.addf %x, %c : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %p = linalg.softmax dimension(1) ins(%1 : tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  // expected-remark @+1 {{more than one sparse tensor in the scores}}
  %r = linalg.generic #pv ins(%p, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  return %r : tensor<8x8xf32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#qk = {indexing_maps = [affine_map<(i, j, d) -> (i, d)>, affine_map<(i, j, d) -> (j, d)>, affine_map<(i, j, d) -> (i, j)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#pv = {indexing_maps = [affine_map<(i, e, j) -> (i, j)>, affine_map<(i, e, j) -> (j, e)>, affine_map<(i, e, j) -> (i, e)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#three = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
          iterator_types = ["parallel", "parallel"]}

func.func @two_products(%q: tensor<8x8xf32>, %k: tensor<8x8xf32>, %m: tensor<8x8xf32, #CSR>, %e: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  %0 = linalg.generic #qk ins(%q, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %1 = linalg.generic #qk ins(%q, %k : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %md = gossamer.convert %m {fill = 0xFF800000 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  %2 = linalg.generic #three ins(%0, %1, %md : tensor<8x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %o: f32):
    %x = arith.addf %a, %b : f32
    %y = arith.addf %x, %c : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %p = linalg.softmax dimension(1) ins(%2 : tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  // expected-remark @+1 {{more than one product in the scores}}
  %r = linalg.generic #pv ins(%p, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  return %r : tensor<8x8xf32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#pv = {indexing_maps = [affine_map<(i, e, j) -> (i, j)>, affine_map<(i, e, j) -> (j, e)>, affine_map<(i, e, j) -> (i, e)>],
       iterator_types = ["parallel", "parallel", "reduction"]}

func.func @no_product(%v: tensor<8x8xf32>, %m: tensor<8x8xf32, #CSR>, %e: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  %md = gossamer.convert %m {fill = 0xFF800000 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  %p = linalg.softmax dimension(1) ins(%md : tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  // expected-remark @+1 {{no product of queries and keys in the scores}}
  %r = linalg.generic #pv ins(%p, %v : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  return %r : tensor<8x8xf32>
}

// -----

// The mask's storage cannot be turned here, nor the keys' without a copy.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#qk = {indexing_maps = [affine_map<(i, j, d) -> (i, d)>, affine_map<(i, j, d) -> (j, d)>, affine_map<(i, j, d) -> (i, j)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#qkt = {indexing_maps = [affine_map<(i, j, d) -> (i, d)>, affine_map<(i, j, d) -> (d, j)>, affine_map<(i, j, d) -> (i, j)>],
        iterator_types = ["parallel", "parallel", "reduction"]}
#pv = {indexing_maps = [affine_map<(i, e, j) -> (i, j)>, affine_map<(i, e, j) -> (j, e)>, affine_map<(i, e, j) -> (i, e)>],
       iterator_types = ["parallel", "parallel", "reduction"]}
#two = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
        iterator_types = ["parallel", "parallel"]}
#turned = {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j, i)>, affine_map<(i, j) -> (i, j)>],
           iterator_types = ["parallel", "parallel"]}

func.func @transposed(%q: tensor<8x8xf32>, %m: tensor<8x8xf32, #CSR>, %e: tensor<8x8xf32>) -> (tensor<8x8xf32>, tensor<8x8xf32>) {
  %zero = arith.constant 0.0 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  %md = gossamer.convert %m {fill = 0xFF800000 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  %0 = linalg.generic #qk ins(%q, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %1 = linalg.generic #turned ins(%0, %md : tensor<8x8xf32>, tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.addf %a, %b : f32
    linalg.yield %x : f32
  } -> tensor<8x8xf32>
  %p = linalg.softmax dimension(1) ins(%1 : tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  // expected-remark @+1 {{the last dimensions of the mask are not queries and keys}}
  %r = linalg.generic #pv ins(%p, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %2 = linalg.generic #qkt ins(%q, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  %3 = linalg.generic #two ins(%2, %md : tensor<8x8xf32>, tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.addf %a, %b : f32
    linalg.yield %x : f32
  } -> tensor<8x8xf32>
  %p2 = linalg.softmax dimension(1) ins(%3 : tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) -> tensor<8x8xf32>
  // expected-remark @+1 {{the last dimension of the keys is not the one that is summed}}
  %r2 = linalg.generic #pv ins(%p2, %q : tensor<8x8xf32>, tensor<8x8xf32>) outs(%f : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<8x8xf32>
  return %r, %r2 : tensor<8x8xf32>, tensor<8x8xf32>
}
