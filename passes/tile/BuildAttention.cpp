//===- BuildAttention.cpp - tile.attention becomes a program --------------===//

#include "passes/tile/AttentionPlan.h"
#include "passes/tile/BackwardPlan.h"

#include "llvm/ADT/TypeSwitch.h"

namespace gossamer::tile {
#define GEN_PASS_DEF_BUILDATTENTION
#include "passes/tile/TilePasses.h.inc"
} // namespace gossamer::tile

using namespace mlir;
using namespace gossamer::tile;

AttentionPlan::AttentionPlan(AttentionOp op)
    : element(op.getElement()), head(op.getHead()), queries(op.getBlockQ()),
      keys(op.getBlockQ()), block(op.getBlockK()),
      gathered(op.getBlockQ() / op.getBlockK()), consumers(queries / 64),
      listed(op.getListed()), partial(op.getPartial()), causal(op.getCausal()),
      window(op.getWindow()), tail(op.getTail()),
      scored(!op.getScore().empty()) {
  // One warpgroup has so few keys at a time that a second thread block is
  // needed to fill a multiprocessor.
  bool small = consumers == 1;
  blocksPerProcessor = small ? 2 : 1;
  keyStages = small ? 3 : 2;
  valueStages = 2;
  // A producer that gathers many small blocks keeps more rows at hand;
  // consumers with narrow heads can spare the registers.
  bool spare = gathered > (partial ? 1 : 2) || head == 64;
  producerRegisters = spare ? 56 : 40;
  consumerRegisters = (small ? 216 : 232) - (spare ? (small ? 16 : 8) : 0);
}

namespace {

struct BuildAttention
    : gossamer::tile::impl::BuildAttentionBase<BuildAttention> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<Operation *> ops;
    for (Operation &op : *module.getBody())
      if (isa<AttentionOp, AttentionBackwardOp>(op))
        ops.push_back(&op);
    if (ops.empty())
      return;
    if (ops.size() > 1) {
      ops[1]->emitOpError("is the second of this module, which has one entry");
      return signalPassFailure();
    }
    llvm::TypeSwitch<Operation *>(ops.front())
        .Case<AttentionOp, AttentionBackwardOp>([&](auto op) { build(op); });
    ops.front()->erase();
  }

private:
  void build(AttentionOp op) {
    AttentionPlan plan(op);
    std::string name = op.getSymName().str();
    ProgramOp program = buildAttentionProgram(op, plan, name + "_program");
    buildAttentionEntry(op, plan, program);
    sign("tile.attention", /*kernels=*/1);
  }

  void build(AttentionBackwardOp op) {
    BackwardPlan plan(op);
    std::string name = op.getSymName().str();
    ProgramOp queries = buildQueriesProgram(op, plan, name + "_queries");
    ProgramOp keys = buildKeysProgram(op, plan, name + "_keys");
    buildBackwardEntry(op, plan, queries, keys);
    sign("tile.attention_backward", /*kernels=*/2);
  }

  void sign(StringRef op, int kernels) {
    std::string text =
        R"({"entry": "gs_entry", "args": [], "results": [], "kernels": )" +
        std::to_string(kernels) + R"(, "report": [{"op": ")" + op.str() +
        R"(", "road": "fast"}]})";
    getOperation()->setAttr("gossamer.signature",
                            StringAttr::get(&getContext(), text));
  }
};

} // namespace
