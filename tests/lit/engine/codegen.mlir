// Code generation as a pass leaves the module alone.
// RUN: gossamer-opt %s --gossamer-codegen | FileCheck %s
// RUN: gossamer-opt %s --gossamer-codegen="cpu=x86-64-v3 features=+avx2" | FileCheck %s

// CHECK-LABEL: llvm.func @add
// CHECK: llvm.add
llvm.func @add(%a: i64, %b: i64) -> i64 {
  %sum = llvm.add %a, %b : i64
  llvm.return %sum : i64
}
