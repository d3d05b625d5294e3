// RUN: gossamer-opt %s --gossamer-set-fast-math | FileCheck %s

// Contraction everywhere; only a sum that a loop carries may change its order.
// CHECK-LABEL: func @sum
func.func @sum(%n: index, %x: memref<?xf32>, %y: f32) -> f32 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  // CHECK: scf.for %[[I:.*]] = {{.*}} iter_args(%[[S:.*]] =
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%s = %zero) -> (f32) {
    %a = memref.load %x[%i] : memref<?xf32>
    // CHECK: %[[P:.*]] = arith.mulf %{{.*}}, %{{.*}} fastmath<contract>
    %p = arith.mulf %a, %y : f32
    // CHECK: %[[Q:.*]] = arith.addf %[[P]], %{{.*}} fastmath<contract>
    %q = arith.addf %p, %a : f32
    // CHECK: arith.addf %[[Q]], %[[S]] fastmath<reassoc,nsz,contract>
    %t = arith.addf %q, %s : f32
    scf.yield %t : f32
  }
  // CHECK: math.exp %{{.*}} fastmath<contract>
  %e = math.exp %r : f32
  // CHECK: arith.maximumf %{{.*}}, %{{.*}} fastmath<contract>
  %m = arith.maximumf %e, %y : f32
  return %m : f32
}

// A maximum that is carried is no sum; flags that are there stay.
// CHECK-LABEL: func @others
func.func @others(%n: index, %x: memref<?xf32>) -> f32 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %r = scf.for %i = %c0 to %n step %c1 iter_args(%s = %zero) -> (f32) {
    %a = memref.load %x[%i] : memref<?xf32>
    // CHECK: arith.maximumf %{{.*}}, %{{.*}} fastmath<contract>
    %t = arith.maximumf %a, %s : f32
    scf.yield %t : f32
  }
  // CHECK: arith.divf %{{.*}}, %{{.*}} fastmath<arcp>
  %d = arith.divf %r, %r fastmath<arcp> : f32
  return %d : f32
}
