//===- FinishKernels.cpp - functions that a GPU can be asked for ----------===//

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "passes/GpuLanes.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_FINISHKERNELS
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// Numbers of 64 bits lie where all of one can be moved at once; MLIR's own
/// data layout says half of that of integers, and they would be moved by
/// halves.
void alignWords(LLVM::LLVMFuncOp kernel) {
  constexpr uint64_t bytes = 8;
  kernel.walk([&](Operation *op) {
    if (auto load = dyn_cast<LLVM::LoadOp>(op);
        load && load.getType().isInteger(64))
      load.setAlignment(bytes);
    if (auto store = dyn_cast<LLVM::StoreOp>(op);
        store && store.getValue().getType().isInteger(64))
      store.setAlignment(bytes);
  });
}

struct FinishKernels : gossamer::impl::FinishKernelsBase<FinishKernels> {
  void runOnOperation() override {
    OpBuilder b(&getContext());
    getOperation().walk([&](LLVM::LLVMFuncOp function) {
      auto size = function->getAttrOfType<IntegerAttr>("gossamer.kernel");
      if (!size)
        return;
      function->removeAttr("gossamer.kernel");
      function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(),
                        b.getUnitAttr());
      function->setAttr(
          NVVM::NVVMDialect::getReqntidAttrName(),
          b.getDenseI32ArrayAttr({static_cast<int32_t>(size.getInt())}));
      if (auto resident = function->removeAttr(residentAttrName))
        function->setAttr(
            NVVM::NVVMDialect::getMinctasmAttrName(),
            b.getI32IntegerAttr(cast<IntegerAttr>(resident).getInt()));
      for (auto [n, type] : llvm::enumerate(function.getArgumentTypes()))
        if (isa<LLVM::LLVMPointerType>(type) &&
            !function.removeArgAttr(n, followsAttrName))
          function.setArgAttr(n, LLVM::LLVMDialect::getNoAliasAttrName(),
                              b.getUnitAttr());
      alignWords(function);
    });
    for (auto function : getOperation().getOps<LLVM::LLVMFuncOp>())
      if (!function.isExternal() && function.getName() != "gs_entry")
        function.setLinkage(LLVM::Linkage::Internal);
  }
};

} // namespace
