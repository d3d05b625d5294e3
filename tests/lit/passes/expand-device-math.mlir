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

// CHECK-LABEL: func @angles
// CHECK-NOT: math.{{sin|cos|tan|atan|atan2|asin|acos}}{{ }}
// Large numbers are multiplied by bits of 2 / pi.
// CHECK: scf.if
// CHECK: arith.mului_extended
func.func @angles(%x: f64, %y: f64) -> f64 {
  %0 = math.sin %x : f64
  %1 = math.cos %0 : f64
  %2 = math.tan %1 : f64
  %3 = math.atan2 %2, %y : f64
  %4 = math.atan %3 : f64
  %5 = math.asin %4 : f64
  %6 = math.acos %5 : f64
  return %6 : f64
}

// -----

// CHECK-LABEL: func @powers
// CHECK-NOT: math.{{exp|log|cbrt}}
func.func @powers(%x: f64, %y: f32) -> (f64, f32) {
  %0 = math.exp2 %x : f64
  %1 = math.expm1 %0 : f64
  %2 = math.log2 %1 : f64
  %3 = math.log10 %2 : f64
  %4 = math.log1p %3 : f64
  %5 = math.cbrt %4 : f64
  %6 = math.exp2 %y : f32
  %7 = math.log10 %6 : f32
  %8 = math.tan %7 : f32
  return %5, %8 : f64, f32
}

// -----

// Of f32, what MLIR's polynomials lose digits of is computed in f64; of sin, the
// angle alone.
// CHECK-LABEL: func @single
// CHECK-NOT: math.{{sinh|powf|atan|sin}}
// CHECK: arith.extf
// CHECK: arith.truncf %{{.*}} : f64 to f32
func.func @single(%x: f32, %y: f32) -> f32 {
  %0 = math.sinh %x : f32
  %1 = math.powf %0, %y : f32
  %2 = math.atan %1 : f32
  %3 = math.sin %2 : f32
  return %3 : f32
}

// -----

// Number by number.
// CHECK-LABEL: func @vectors
// CHECK: vector.extract %{{.*}}[0]
// CHECK: vector.extract %{{.*}}[1]
// CHECK: vector.from_elements
// CHECK-NOT: math.{{sin|tan}}
func.func @vectors(%x: vector<2xf64>) -> vector<2xf64> {
  %0 = math.sin %x : vector<2xf64>
  %1 = math.tanh %0 : vector<2xf64>
  return %1 : vector<2xf64>
}

// -----

func.func @unknown(%x: f64) -> f64 {
  // expected-error @below {{math.erfc of 'f64' has no code for a GPU yet}}
  %0 = math.erfc %x : f64
  return %0 : f64
}
