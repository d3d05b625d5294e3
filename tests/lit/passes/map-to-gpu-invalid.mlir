// RUN: not gossamer-opt %s --gossamer-map-to-gpu 2>&1 | FileCheck %s

// CHECK: error: {{.*}}gives a number that the host needs
func.func @size_on_the_device(%p: memref<?xindex>, %x: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.load %p[%c0] : memref<?xindex>
  %t = memref.alloc(%n) : memref<?xf32>
  scf.parallel (%i) = (%c0) to (%c1) step (%c1) {
    %v = memref.load %t[%i] : memref<?xf32>
    memref.store %v, %x[%i] : memref<?xf32>
  }
  return
}
