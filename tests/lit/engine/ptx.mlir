// RUN: gossamer-opt %s --gossamer-raise --gossamer-lower-gpu --gossamer-codegen="chip=sm_90a print-ptx=true" -o %t | FileCheck %s --check-prefixes=CHECK,HOPPER
// RUN: gossamer-opt %s --gossamer-raise --gossamer-lower-gpu --gossamer-codegen="chip=sm_80 print-ptx=true" -o %t | FileCheck %s --check-prefixes=CHECK,AMPERE
// RUN: not gossamer-opt %s --gossamer-raise --gossamer-lower-gpu --gossamer-codegen=chip=sm_9 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not gossamer-opt %s --gossamer-raise --gossamer-lower-gpu --gossamer-codegen=chip=sm_70 2>&1 | FileCheck %s --check-prefix=OLD

// A product of a CSR matrix: eight entries at once, through the read-only path,
// 16 bytes of the dense operand each; registers for as many blocks as are to be
// resident. On sm_90 and newer, the kernel of rows begins while the one of
// pieces is running; what that has stored is read behind the wait, and not
// through the read-only path.
// HOPPER: .target sm_90a
// AMPERE: .target sm_80
// CHECK: .entry kernel_0
// CHECK: .reqntid 128
// CHECK-NEXT: .minnctapersm 8
// HOPPER: griddepcontrol.launch_dependents;
// CHECK-COUNT-8: ld.global.nc.v4.b32
// CHECK: st.global.v4.b32
// CHECK: .entry kernel_1
// CHECK-COUNT-8: ld.global.nc.v4.b32
// HOPPER: griddepcontrol.wait;
// HOPPER: ld.global.v4.b32
// HOPPER: griddepcontrol.wait;
// AMPERE-NOT: griddepcontrol
// CHECK: .entry kernel_2
// UNKNOWN: error: unknown chip 'sm_9' for nvptx64
// OLD: error: chip 'sm_70' is older than sm_80
#map = affine_map<(d0, d1, d2) -> (d0, d2)>
#map1 = affine_map<(d0, d1, d2) -> (d2, d1)>
#map2 = affine_map<(d0, d1, d2) -> (d0, d1)>
#sparse = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
module {
  func.func @main(%a: tensor<?x?xf32, #sparse> {gossamer.fill = 0.0 : f32}, %b: tensor<?x?xf32>) -> tensor<?x?xf32> {
    %0 = "gossamer.convert"(%a) {fill = 0.0 : f32} : (tensor<?x?xf32, #sparse>) -> tensor<?x?xf32>
    %cst = arith.constant 0.0 : f32
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %m = tensor.dim %0, %c0 : tensor<?x?xf32>
    %n = tensor.dim %b, %c1 : tensor<?x?xf32>
    %e = tensor.empty(%m, %n) : tensor<?x?xf32>
    %f = linalg.fill ins(%cst : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
    %r = linalg.matmul ins(%0, %b : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) -> tensor<?x?xf32>
    return %r : tensor<?x?xf32>
  }
}
