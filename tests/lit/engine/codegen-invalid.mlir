// RUN: not gossamer-opt %s --split-input-file --gossamer-codegen 2>&1 | FileCheck %s
// RUN: not gossamer-opt %s --gossamer-codegen=cpu=z80 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: not gossamer-opt %s --gossamer-codegen="cpu=x86-64 features=+warp" 2>&1 | FileCheck %s --check-prefix=FEATURE

// CPU: error: unknown processor 'z80' for x86_64
// FEATURE: error: unknown processor feature '+warp' for x86_64

// What is not in the LLVM dialect has no translation.
// CHECK: error: cannot be converted to LLVM IR
func.func @not_lowered() {
  return
}

// -----

// CHECK: error: LLVM: {{.*}} invalid instruction mnemonic 'nonsense'
llvm.func @not_assembled(%x: i32) {
  llvm.inline_asm has_side_effects "nonsense $0", "r" %x : (i32) -> ()
  llvm.return
}
