// RUN: gossamer-opt %s --split-input-file -verify-diagnostics | FileCheck %s

// An argument on the pattern of an earlier one.

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @shared
// CHECK-SAME: tensor<?x?xf64, #{{.*}}> {gossamer.pattern = 0 : i64}
func.func @shared(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf64, #CSR> {gossamer.pattern = 0}) {
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// expected-error @+1 {{gossamer.pattern of argument 0 must be the number of an earlier argument, is 1}}
func.func @later(%a: tensor<?x?xf32, #CSR> {gossamer.pattern = 1}, %b: tensor<?x?xf32, #CSR>) {
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// expected-error @+1 {{gossamer.pattern of argument 1 must be the number of an earlier argument, is "a"}}
func.func @name(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSR> {gossamer.pattern = "a"}) {
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// expected-error @+1 {{gossamer.pattern of argument 1 takes two sparse tensors}}
func.func @dense(%a: tensor<?x?xf32>, %b: tensor<?x?xf32, #CSR> {gossamer.pattern = 0}) {
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
// expected-error @+1 {{gossamer.pattern of argument 1 must name an argument that is stored and shaped alike}}
func.func @storage(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSC> {gossamer.pattern = 0}) {
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// expected-error @+1 {{gossamer.pattern of argument 2 must name the argument that brings the pattern, and 1 has it of another}}
func.func @chain(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSR> {gossamer.pattern = 0},
                 %c: tensor<?x?xf32, #CSR> {gossamer.pattern = 1}) {
  return
}
