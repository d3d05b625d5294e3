// RUN: gossamer-opt %s --gossamer-expand-device-math --split-input-file --verify-diagnostics | FileCheck %s

// CHECK-LABEL: func @known
// CHECK-NOT: math.exp
// CHECK-NOT: math.log
// CHECK-NOT: math.tanh
// CHECK-NOT: math.erf
// CHECK-NOT: math.rsqrt
// CHECK: math.sqrt
func.func @known(%x: f32, %y: f64) -> (f32, f64) {
  %0 = math.exp %x : f32
  %1 = math.tanh %0 : f32
  %2 = math.rsqrt %1 : f32
  %3 = math.exp %y : f64
  %4 = math.log %3 : f64
  %5 = math.erf %4 : f64
  %6 = math.tanh %5 : f64
  return %2, %6 : f32, f64
}

// -----

func.func @unknown(%x: f64) -> f64 {
  // expected-error @below {{math.sin of 'f64' has no code for a GPU yet}}
  %0 = math.sin %x : f64
  return %0 : f64
}
