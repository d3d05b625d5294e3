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
    });
    for (auto function : getOperation().getOps<LLVM::LLVMFuncOp>())
      if (!function.isExternal() && function.getName() != "gs_entry")
        function.setLinkage(LLVM::Linkage::Internal);
  }
};

} // namespace
