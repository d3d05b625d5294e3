//===- SetFastMath.cpp - what the back end may do with sums ---------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_SETFASTMATH
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

static bool isCarriedByLoop(Value value) {
  auto arg = dyn_cast<BlockArgument>(value);
  return arg && isa<scf::ForOp>(arg.getOwner()->getParentOp()) &&
         arg.getArgNumber() > 0;
}

namespace {

struct SetFastMath : gossamer::impl::SetFastMathBase<SetFastMath> {
  void runOnOperation() override {
    getOperation().walk([](arith::ArithFastMathInterface op) {
      // Casts carry no flags.
      arith::FastMathFlagsAttr known = op.getFastMathFlagsAttr();
      if (!known || known.getValue() != arith::FastMathFlags::none)
        return;
      auto flags = arith::FastMathFlags::contract;
      // A sum over stored entries has no order that anyone could rely on.
      if (auto add = dyn_cast<arith::AddFOp>(op.getOperation()))
        if (isCarriedByLoop(add.getLhs()) || isCarriedByLoop(add.getRhs()))
          flags =
              flags | arith::FastMathFlags::reassoc | arith::FastMathFlags::nsz;
      op->setAttr(op.getFastMathAttrName(),
                  arith::FastMathFlagsAttr::get(op->getContext(), flags));
    });
  }
};

} // namespace
