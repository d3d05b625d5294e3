// RUN: gossamer-opt %s --gossamer-round-halves | FileCheck %s

// In integer arithmetic: no processor's instruction, no function of the compiler's library.
// CHECK-LABEL: func @single
// CHECK-NOT: arith.truncf
// CHECK: arith.bitcast %{{.*}} : f32 to i32
// CHECK: arith.trunci %{{.*}} : i32 to i16
// CHECK: arith.bitcast %{{.*}} : i16 to bf16
// CHECK: return
func.func @single(%x: f32) -> bf16 {
  %0 = arith.truncf %x : f32 to bf16
  return %0 : bf16
}

// As PyTorch, from f64 through f32; vectors too.
// CHECK-LABEL: func @double
// CHECK: %[[S:.*]] = arith.truncf %{{.*}} : vector<4xf64> to vector<4xf32>
// CHECK: arith.truncf %[[S]] : vector<4xf32> to vector<4xf16>
func.func @double(%x: vector<4xf64>) -> vector<4xf16> {
  %0 = arith.truncf %x : vector<4xf64> to vector<4xf16>
  return %0 : vector<4xf16>
}

// f16 has instructions.
// CHECK-LABEL: func @stays
// CHECK: arith.truncf %{{.*}} : f32 to f16
func.func @stays(%x: f32) -> f16 {
  %0 = arith.truncf %x : f32 to f16
  return %0 : f16
}
