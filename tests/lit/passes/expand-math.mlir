// RUN: gossamer-opt %s --gossamer-expand-math | FileCheck %s

// CHECK-LABEL: func @single
// CHECK-NOT: math.exp
// CHECK-NOT: math.tanh
// CHECK-NOT: math.erf
// CHECK: math.fma
// CHECK: return
func.func @single(%x: f32) -> (f32, f32, f32) {
  %0 = math.exp %x : f32
  %1 = math.tanh %x : f32
  %2 = math.erf %x : f32
  return %0, %1, %2 : f32, f32, f32
}

// A vector is expanded as its elements are.
// CHECK-LABEL: func @lanes
// CHECK-NOT: math.exp
// CHECK: math.fma {{.*}} : vector<16xf32>
func.func @lanes(%x: vector<16xf32>) -> vector<16xf32> {
  %0 = math.exp %x : vector<16xf32>
  return %0 : vector<16xf32>
}

// No polynomial: libm's, later.
// CHECK-LABEL: func @double
// CHECK: math.exp %{{.*}} : f64
func.func @double(%x: f64) -> f64 {
  %0 = math.exp %x : f64
  return %0 : f64
}

// Half turns are taken off in f64; of what is too large for that, number by
// number, libm knows the sine.
// CHECK-LABEL: func @angles
// CHECK: arith.extf %{{.*}} : vector<4xf32> to vector<4xf64>
// CHECK: vector.reduction <or>
// CHECK: scf.if
// CHECK-COUNT-4: math.sin %{{.*}} : f64
// CHECK: else
// CHECK: math.floor %{{.*}} : vector<4xf64>
// CHECK: math.fma %{{.*}} : vector<4xf64>
// CHECK: arith.truncf %{{.*}} : vector<4xf64> to vector<4xf32>
// CHECK-NOT: math.sin
// CHECK: return
func.func @angles(%x: vector<4xf32>) -> vector<4xf32> {
  %0 = math.sin %x : vector<4xf32>
  return %0 : vector<4xf32>
}
