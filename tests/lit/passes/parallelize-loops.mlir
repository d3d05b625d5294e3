// RUN: gossamer-opt %s --gossamer-parallelize-loops | FileCheck %s

// A row of the result is touched by its own iteration only: proved.
// CHECK-LABEL: func @rows
// CHECK: scf.parallel
func.func @rows(%n: index, %pos: memref<?xindex>, %crd: memref<?xindex>, %x: memref<?xf32>, %y: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    %i1 = arith.addi %i, %c1 : index
    %lo = memref.load %pos[%i] : memref<?xindex>
    %hi = memref.load %pos[%i1] : memref<?xindex>
    // CHECK: scf.for
    scf.for %p = %lo to %hi step %c1 {
      %j = memref.load %crd[%p] : memref<?xindex>
      %a = memref.load %x[%j] : memref<?xf32>
      %b = memref.load %y[%i] : memref<?xf32>
      %s = arith.addf %a, %b : f32
      memref.store %s, %y[%i] : memref<?xf32>
    }
  }
  return
}

// By columns: iterations add to the same rows.
// CHECK-LABEL: func @scatter
// CHECK-NOT: scf.parallel
func.func @scatter(%n: index, %pos: memref<?xindex>, %crd: memref<?xindex>, %x: memref<?xf32>, %y: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %j = %c0 to %n step %c1 {
    %j1 = arith.addi %j, %c1 : index
    %lo = memref.load %pos[%j] : memref<?xindex>
    %hi = memref.load %pos[%j1] : memref<?xindex>
    scf.for %p = %lo to %hi step %c1 {
      %i = memref.load %crd[%p] : memref<?xindex>
      %a = memref.load %x[%j] : memref<?xf32>
      %b = memref.load %y[%i] : memref<?xf32>
      %s = arith.addf %a, %b : f32
      memref.store %s, %y[%i] : memref<?xf32>
    }
  }
  return
}

// Reads what another iteration writes.
// CHECK-LABEL: func @neighbour
// CHECK-NOT: scf.parallel
func.func @neighbour(%n: index, %y: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c1 to %n step %c1 {
    %h = arith.subi %i, %c1 : index
    %a = memref.load %y[%h] : memref<?xf32>
    memref.store %a, %y[%i] : memref<?xf32>
  }
  return
}

// The same index, but in another dimension: y[i, 0] and y[0, i].
// CHECK-LABEL: func @dimensions
// CHECK-NOT: scf.parallel
func.func @dimensions(%n: index, %y: memref<?x?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    %a = memref.load %y[%c0, %i] : memref<?x?xf32>
    memref.store %a, %y[%i, %c0] : memref<?x?xf32>
  }
  return
}

// A view made in an inner loop is memory from outside, all the same.
// CHECK-LABEL: func @view
// CHECK-NOT: scf.parallel
func.func @view(%n: index, %y: memref<?xf32>, %x: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    scf.for %k = %c0 to %n step %c1 {
      %v = memref.subview %y[%k] [1] [1] : memref<?xf32> to memref<1xf32, strided<[1], offset: ?>>
      %a = memref.load %v[%c0] : memref<1xf32, strided<[1], offset: ?>>
      %b = memref.load %x[%i] : memref<?xf32>
      %s = arith.addf %a, %b : f32
      memref.store %s, %v[%c0] : memref<1xf32, strided<[1], offset: ?>>
    }
  }
  return
}

// Two views of one buffer may overlap; a sum that is carried is no loop of its own
// iterations; what may do anything may do this.
// CHECK-LABEL: func @others
// CHECK-NOT: scf.parallel
func.func @others(%n: index, %y: memref<16xf32>) -> f32 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %left = memref.subview %y[0] [8] [1] : memref<16xf32> to memref<8xf32, strided<[1]>>
  %right = memref.subview %y[4] [8] [1] : memref<16xf32> to memref<8xf32, strided<[1], offset: 4>>
  scf.for %i = %c0 to %n step %c1 {
    %a = memref.load %left[%i] : memref<8xf32, strided<[1]>>
    memref.store %a, %right[%i] : memref<8xf32, strided<[1], offset: 4>>
  }
  %sum = scf.for %i = %c0 to %n step %c1 iter_args(%s = %zero) -> (f32) {
    %a = memref.load %y[%i] : memref<16xf32>
    %t = arith.addf %a, %s : f32
    scf.yield %t : f32
  }
  scf.for %i = %c0 to %n step %c1 {
    func.call @anything(%y) : (memref<16xf32>) -> ()
  }
  return %sum : f32
}
func.func private @anything(memref<16xf32>)

// What a region calls in parts stays serial.
// CHECK-LABEL: func private @part
// CHECK-NOT: scf.parallel
func.func private @part(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.for %i = %c0 to %n step %c1 {
    memref.store %zero, %x[%i] : memref<?xf32>
  }
  return
}
