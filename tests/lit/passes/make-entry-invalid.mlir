// RUN: gossamer-opt %s --gossamer-make-entry --verify-diagnostics

// expected-error @+1 {{cannot be the entry: its results are not bound to arguments (gossamer-bind-results)}}
func.func @main(%x: memref<?xf32>) {
  return
}
