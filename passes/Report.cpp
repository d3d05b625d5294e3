//===- Report.cpp - what the compiler says of itself ----------------------===//

#include "passes/Report.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

using namespace mlir;

void gossamer::report(Operation *op, StringRef name, Road road,
                      const Twine &why) {
  auto function = op->getParentOfType<func::FuncOp>();
  Builder builder(op->getContext());
  SmallVector<Attribute> lines;
  if (auto known = function->getAttrOfType<ArrayAttr>("gossamer.report"))
    llvm::append_range(lines, known);
  StringRef roadName = road == Road::General ? "general" : "dense";
  lines.push_back(builder.getDictionaryAttr(
      {builder.getNamedAttr("op", builder.getStringAttr(name)),
       builder.getNamedAttr("road", builder.getStringAttr(roadName)),
       builder.getNamedAttr("why", builder.getStringAttr(why))}));
  function->setAttr("gossamer.report", builder.getArrayAttr(lines));
}

void gossamer::reportRefusal(Operation *op, StringRef wanted,
                             const Twine &why) {
  op->emitRemark() << "not raised to " << wanted << ": " << why;
  report(op, op->getName().getStringRef(), Road::Dense,
         "no " + wanted + ": " + why);
}
